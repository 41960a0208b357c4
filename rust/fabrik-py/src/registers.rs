//! What is read out of a replica. Values become Python objects when they are asked for.

use std::sync::Arc;

use fabrik_merge::{HeadView, RegisterView};
use fabrik_op::{Fence, RawSegment};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::door::{detached, lock};
use crate::draft::read_fence;
use crate::replica::Replica;
use crate::value;

/// `(receipt, epoch, claim_id)`.
pub type PyFence<'py> = (u64, u64, Bound<'py, PyBytes>);

/// The values that were counted, with their counts; and those that were not.
pub type PyTally<'py> = (Vec<(Option<Bound<'py, PyAny>>, u64)>, Vec<PyBelow<'py>>);

/// An item, its value, the fence of that, and the item's claim.
pub type PyBelow<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyAny>>, Option<PyFence<'py>>, Bound<'py, PyAny>);

pub fn show_fence<'py>(py: Python<'py>, fence: &Fence) -> PyFence<'py> {
    (fence.receipt, fence.epoch, PyBytes::new(py, &fence.claim_id))
}

#[pyfunction]
pub fn fence_beats(item: &[u8], fence: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (fence, other) = (read_fence(fence)?, read_fence(other)?);
    Ok(fabrik_merge::Replica::fence_beats(item, fence.as_ref(), other.as_ref()))
}

/// The end of a branch of a log.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Head(pub HeadView);

#[pymethods]
impl Head {
    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.author)
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    #[getter]
    fn branch(&self) -> u32 {
        self.0.branch
    }

    #[getter]
    fn base(&self) -> Option<(u32, u64)> {
        self.0.base.map(|base| (base.branch, base.seq))
    }

    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn head<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.head)
    }

    #[getter]
    fn clock(&self) -> u64 {
        self.0.clock
    }
}

/// The winning write of one register.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Register(pub RegisterView);

#[pymethods]
impl Register {
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        value::decode(py, &self.0.value)
    }

    #[getter]
    fn fence<'py>(&self, py: Python<'py>) -> Option<PyFence<'py>> {
        self.0.fence.as_ref().map(|fence| show_fence(py, fence))
    }

    #[getter]
    fn lamport(&self) -> u64 {
        self.0.lamport
    }

    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.digest)
    }

    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.author)
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms
    }
}

/// One write of one op to an id.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Touch(pub fabrik_merge::Touch);

#[pymethods]
impl Touch {
    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.author)
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    #[getter]
    fn seq(&self) -> u64 {
        self.0.seq
    }

    #[getter]
    fn lamport(&self) -> u64 {
        self.0.lamport
    }

    #[getter]
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms
    }

    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.digest)
    }

    #[getter]
    fn kind(&self) -> u64 {
        self.0.kind
    }

    #[getter]
    fn field(&self) -> u64 {
        self.0.field
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        value::decode(py, &self.0.value)
    }

    #[getter]
    fn fence<'py>(&self, py: Python<'py>) -> Option<PyFence<'py>> {
        self.0.fence.as_ref().map(|fence| show_fence(py, fence))
    }
}

fn raw(segment: &PyBackedBytes) -> RawSegment {
    RawSegment(Arc::from(&segment[..]))
}

/// Every write to an id in stored segments.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
pub fn history(py: Python<'_>, segments: Vec<PyBackedBytes>, id: &[u8]) -> PyResult<Vec<Touch>> {
    let touches = detached(py, || Ok(fabrik_merge::history(segments.iter().map(raw), id)?))?;
    Ok(touches.into_iter().map(Touch).collect())
}

/// Those that have effect by what a replica holds now.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
pub fn effects(py: Python<'_>, replica: &Replica, segments: Vec<PyBackedBytes>, id: &[u8]) -> PyResult<Vec<Touch>> {
    let touches = detached(py, || Ok(lock(&replica.inner)?.effects(segments.iter().map(raw), id)?))?;
    Ok(touches.into_iter().map(Touch).collect())
}
