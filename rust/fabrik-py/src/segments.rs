//! Segments on their way into the replica.

use std::sync::Arc;

use fabrik_op::hash::short;
use fabrik_op::{SegmentSpan, VerifiedSegment};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::door::{Failure, detached};

/// `(author, epoch, first_seq, last_seq)` of a stored segment.
#[pyfunction]
pub fn segment_span<'py>(py: Python<'py>, data: &[u8]) -> PyResult<(Bound<'py, PyBytes>, u64, u64, u64)> {
    let span = SegmentSpan::read(data).map_err(Failure::from)?;
    Ok((PyBytes::new(py, &span.author), span.epoch, span.first_seq, span.last_seq))
}

/// Joins neighbouring segments of one log.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
pub fn coalesce(py: Python<'_>, segments: Vec<PyBackedBytes>, max_bytes: usize) -> PyResult<Bound<'_, PyList>> {
    let joined = detached(py, || {
        let segments: Vec<Arc<[u8]>> = segments.iter().map(|segment| Arc::from(&segment[..])).collect();
        Ok(fabrik_op::coalesce(&segments, max_bytes)?)
    })?;
    PyList::new(py, joined.iter().map(|data| PyBytes::new(py, data)))
}

/// A segment whose bytes are canonical and whose signature verifies.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Verified(pub VerifiedSegment);

#[pymethods]
impl Verified {
    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.author())
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.0.first_seq()
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.0.last_seq()
    }

    #[getter]
    fn ops(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("Verified({}.. epoch {} seq {}..{})", short(self.0.author()), self.0.epoch(), self.0.first_seq(), self.0.last_seq())
    }
}

/// A verified segment cut to what is new and fitting exactly behind an op that we hold.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Chained(pub fabrik_merge::Chained);

#[pymethods]
impl Chained {
    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.author())
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.0.first_seq()
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.0.last_seq()
    }

    #[getter]
    fn ops(&self) -> usize {
        self.0.len()
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
    fn prev<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.prev())
    }

    #[getter]
    fn head<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.head())
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.data())
    }

    #[getter]
    fn digests<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let digests: Vec<_> = self.0.ops().map(|op| PyBytes::new(py, op.digest)).collect();
        PyList::new(py, digests)
    }

    fn __repr__(&self) -> String {
        let chained = &self.0;
        format!(
            "Chained({}.. epoch {} branch {} seq {}..{})",
            short(chained.author()),
            chained.epoch(),
            chained.branch,
            chained.first_seq(),
            chained.last_seq()
        )
    }
}
