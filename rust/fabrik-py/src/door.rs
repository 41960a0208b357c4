//! The one door between Python and the core: release, panic guard, locks, error map.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};

use fabrik_op::Refused;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    Refused(Refused),
    /// A broken invariant of ours.
    Internal(String),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| raise(py, &failure))
    }
}

/// Runs `work` without the interpreter. A panic becomes `Internal`.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Failure> + Send) -> PyResult<T> {
    py.detach(|| guarded(work)).map_err(|failure| raise(py, &failure))
}

/// Runs a short `work` on what `mutex` holds. Lets go of the interpreter only when another thread is at it: letting go
/// and coming back may cost a switch interval, which is more than most reads.
pub fn locked<T: Send, R: Send>(py: Python<'_>, mutex: &Mutex<R>, work: impl FnOnce(&mut R) -> T + Send) -> PyResult<T> {
    match mutex.try_lock() {
        Ok(mut free) => guarded(|| Ok(work(&mut free))).map_err(|failure| raise(py, &failure)),
        Err(_) => detached(py, || Ok(work(&mut *lock(mutex)?))),
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Failure::Internal(format!("the core panicked: {}", panic_text(panic.as_ref())))))
}

/// Locks what a panic may have left half changed: afterwards every call fails.
pub fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>, Failure> {
    mutex.lock().map_err(|_| Failure::Internal("the core panicked in an earlier call; restart the node".to_owned()))
}

/// An `InvalidOp` with this message.
pub fn invalid(message: impl Into<String>) -> PyErr {
    Failure::Refused(Refused::invalid(message)).into()
}

/// `bytes` as an array, or `InvalidOp` naming `what`.
pub fn fixed<const N: usize>(bytes: &[u8], what: &str) -> PyResult<[u8; N]> {
    <[u8; N]>::try_from(bytes).map_err(|_| invalid(format!("{what} must be {N} bytes, got {}", bytes.len())))
}

/// The error map: which class of `fabrik_node.errors` a failure is.
fn raise(py: Python<'_>, failure: &Failure) -> PyErr {
    static INVALID_OP: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static BAD_SIGNATURE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static BAD_GENESIS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static AUTH: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static INTERNAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (cell, name, message) = match failure {
        Failure::Refused(refused @ Refused::Invalid(_)) => (&INVALID_OP, "InvalidOp", refused.to_string()),
        Failure::Refused(refused @ Refused::Signature(_)) => (&BAD_SIGNATURE, "BadSignature", refused.to_string()),
        Failure::Refused(refused @ Refused::Genesis(_)) => (&BAD_GENESIS, "BadGenesis", refused.to_string()),
        Failure::Refused(refused @ Refused::Authority(_)) => (&AUTH, "AuthError", refused.to_string()),
        Failure::Internal(message) => (&INTERNAL, "Internal", message.clone()),
    };
    match cell.import(py, "fabrik_node.errors", name) {
        Ok(class) => PyErr::from_type(class.clone(), (message,)),
        Err(missing) => missing,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
