//! Keys, the genesis record and ephemeral messages.

use fabrik_op::Refused;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::door::{Failure, detached, fixed};
use crate::value;

/// Strict, cofactorless Ed25519.
#[pyfunction]
pub fn verify(py: Python<'_>, public: &[u8], message: &[u8], signature: &[u8]) -> PyResult<()> {
    detached(py, || {
        let wrong = |what: &str| Refused::Signature(format!("{what} has the wrong length"));
        let public = public.try_into().map_err(|_| wrong("the public key"))?;
        let signature = signature.try_into().map_err(|_| wrong("the signature"))?;
        Ok(fabrik_op::verify_strict(&public, message, &signature)?)
    })
}

/// The mesh id of a genesis record.
#[pyfunction]
pub fn mesh_id<'py>(py: Python<'py>, genesis: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let decoded = detached(py, || Ok(fabrik_op::Genesis::decode(genesis)?))?;
    Ok(PyBytes::new(py, &decoded.mesh_id))
}

/// A genesis record.
#[pyfunction]
#[pyo3(signature = (admin, name, nonce, created_ms, recovery = None, next = None))]
pub fn genesis_encode<'py>(
    py: Python<'py>,
    admin: &[u8],
    name: &str,
    nonce: &[u8],
    created_ms: u64,
    recovery: Option<&[u8]>,
    next: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    let data = detached(py, || {
        let wrong = |what: &str| Refused::Genesis(format!("genesis record: {what} has the wrong length"));
        let admin = admin.try_into().map_err(|_| wrong("the admin key"))?;
        let nonce: [u8; 16] = nonce.try_into().map_err(|_| wrong("the nonce"))?;
        let recovery: Option<[u8; 32]> = recovery.map(TryInto::try_into).transpose().map_err(|_| wrong("the recovery key"))?;
        let next: Option<[u8; 32]> = next.map(TryInto::try_into).transpose().map_err(|_| wrong("the commitment to the next key"))?;
        let terms = fabrik_op::GenesisTerms { name, nonce: &nonce, created_ms, recovery: recovery.as_ref(), next: next.as_ref() };
        Ok(fabrik_op::encode_genesis_with(&admin, &terms)?)
    })?;
    Ok(PyBytes::new(py, &data))
}

/// The commitment to a key that will follow another one.
#[pyfunction]
pub fn next_key<'py>(py: Python<'py>, public: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &fabrik_op::hash::next_key(&fixed(public, "a public key")?)))
}

/// `(author, counter, payload)` of a message whose signature verifies.
#[pyfunction]
#[allow(clippy::type_complexity)] // The tuple is the documented result.
pub fn ephemeral_verify<'py>(py: Python<'py>, mesh_id: &[u8], message: &[u8]) -> PyResult<(Bound<'py, PyBytes>, u64, Bound<'py, PyAny>)> {
    let mesh_id = fixed(mesh_id, "a mesh id")?;
    let ephemeral = detached(py, || Ok(fabrik_op::verify_ephemeral(&mesh_id, message)?))?;
    Ok((PyBytes::new(py, &ephemeral.author), ephemeral.counter, value::decode(py, ephemeral.payload)?))
}

/// A decoded genesis record.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Genesis(fabrik_op::Genesis);

#[pymethods]
impl Genesis {
    #[staticmethod]
    fn decode(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        detached(py, || Ok(Self(fabrik_op::Genesis::decode(data)?)))
    }

    #[getter]
    fn mesh_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.mesh_id)
    }

    #[getter]
    fn admin<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.admin)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn created_ms(&self) -> u64 {
        self.0.created_ms
    }

    #[getter]
    fn recovery<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.recovery.map(|key| PyBytes::new(py, &key))
    }

    #[getter]
    fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.next.map(|digest| PyBytes::new(py, &digest))
    }
}

/// An Ed25519 key pair.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct SigningKey(pub fabrik_op::SigningKey);

#[pymethods]
impl SigningKey {
    #[staticmethod]
    fn from_seed(seed: &[u8]) -> PyResult<Self> {
        Ok(Self(fabrik_op::SigningKey::from_seed(&fixed(seed, "a seed")?)))
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }

    fn sign<'py>(&self, py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let signature = detached(py, || Ok(self.0.sign(message)))?;
        Ok(PyBytes::new(py, &signature))
    }

    fn ephemeral<'py>(&self, py: Python<'py>, mesh_id: &[u8], counter: u64, payload: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyBytes>> {
        let mesh_id = fixed(mesh_id, "a mesh id")?;
        let payload = value::encode(payload.as_any())?;
        let message = detached(py, || fabrik_op::sign_ephemeral(&self.0, &mesh_id, counter, &payload).map_err(Failure::from))?;
        Ok(PyBytes::new(py, &message))
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }

    #[allow(clippy::unused_self)] // Python calls it as a method.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a signing key is never pickled"))
    }
}
