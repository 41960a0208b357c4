//! Segments on their way into the replica.

use fabrik_merge::ChainOutcome;
use fabrik_op::hash::short;
use fabrik_op::{ChainedSegment, SegmentSpan, VerifiedSegment};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::door::Failure;

/// `(author, epoch, first_seq, last_seq)` of a stored segment.
#[pyfunction]
pub fn segment_span<'py>(py: Python<'py>, data: &[u8]) -> PyResult<(Bound<'py, PyBytes>, u64, u64, u64)> {
    let span = SegmentSpan::read(data).map_err(Failure::from)?;
    Ok((PyBytes::new(py, &span.author), span.epoch, span.first_seq, span.last_seq))
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

/// A verified segment cut to what is new and fitting exactly on a head.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Chained(pub ChainedSegment);

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
        format!("Chained({}.. epoch {} seq {}..{})", short(self.0.author()), self.0.epoch(), self.0.first_seq(), self.0.last_seq())
    }
}

/// A segment that starts beyond what we hold.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Gap(fabrik_merge::Gap);

#[pymethods]
impl Gap {
    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.author)
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    #[getter]
    fn have_seq(&self) -> u64 {
        self.0.have_seq
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.0.first_seq
    }

    fn __repr__(&self) -> String {
        let gap = &self.0;
        format!("Gap({}.. epoch {} have {} first {})", short(&gap.author), gap.epoch, gap.have_seq, gap.first_seq)
    }
}

/// Two different ops at one place of a log.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Fork(fabrik_merge::Fork);

#[pymethods]
impl Fork {
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
    fn segment<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.segment)
    }

    fn __repr__(&self) -> String {
        format!("Fork({}.. epoch {} seq {})", short(&self.0.author), self.0.epoch, self.0.seq)
    }
}

/// The outcome of `Replica.chain`.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct ChainResult {
    chained: Vec<Py<Chained>>,
    duplicates: u64,
    gaps: Vec<Py<Gap>>,
    forks: Vec<Py<Fork>>,
    unknown: Vec<Py<PyBytes>>,
}

impl ChainResult {
    pub fn new(py: Python<'_>, outcome: ChainOutcome) -> PyResult<Self> {
        Ok(Self {
            chained: outcome.chained.into_iter().map(|one| Py::new(py, Chained(one))).collect::<PyResult<_>>()?,
            duplicates: outcome.duplicates,
            gaps: outcome.gaps.into_iter().map(|one| Py::new(py, Gap(one))).collect::<PyResult<_>>()?,
            forks: outcome.forks.into_iter().map(|one| Py::new(py, Fork(one))).collect::<PyResult<_>>()?,
            unknown: outcome.unknown.iter().map(|author| PyBytes::new(py, author).unbind()).collect(),
        })
    }
}

#[pymethods]
impl ChainResult {
    #[getter]
    fn chained<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.chained)
    }

    #[getter]
    fn duplicates(&self) -> u64 {
        self.duplicates
    }

    #[getter]
    fn gaps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.gaps)
    }

    #[getter]
    fn forks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.forks)
    }

    #[getter]
    fn unknown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.unknown)
    }

    fn __repr__(&self) -> String {
        format!(
            "ChainResult(chained {} duplicates {} gaps {} forks {} unknown {})",
            self.chained.len(),
            self.duplicates,
            self.gaps.len(),
            self.forks.len(),
            self.unknown.len()
        )
    }
}
