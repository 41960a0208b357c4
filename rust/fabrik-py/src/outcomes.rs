//! What became of segments.

use fabrik_merge::{ChainOutcome, LoadOutcome};
use fabrik_op::hash::short;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::segments::Chained;

/// A segment whose op before the first is not held.
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

    #[getter]
    fn unrooted(&self) -> bool {
        self.0.unrooted
    }

    #[getter]
    fn index(&self) -> usize {
        self.0.index
    }

    fn __repr__(&self) -> String {
        let gap = &self.0;
        format!("Gap({}.. epoch {} have {} first {})", short(&gap.author), gap.epoch, gap.have_seq, gap.first_seq)
    }
}

/// A branch that is opened.
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
    fn branch(&self) -> u32 {
        self.0.branch
    }

    #[getter]
    fn base_branch(&self) -> u32 {
        self.0.base_branch
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
    suspended: Vec<(Py<PyBytes>, u64)>,
    refused: u64,
}

impl ChainResult {
    pub fn new(py: Python<'_>, outcome: ChainOutcome) -> PyResult<Self> {
        Ok(Self {
            chained: outcome.chained.into_iter().map(|one| Py::new(py, Chained(one))).collect::<PyResult<_>>()?,
            duplicates: outcome.duplicates,
            gaps: outcome.gaps.into_iter().map(|one| Py::new(py, Gap(one))).collect::<PyResult<_>>()?,
            forks: outcome.forks.into_iter().map(|one| Py::new(py, Fork(one))).collect::<PyResult<_>>()?,
            unknown: outcome.unknown.iter().map(|author| PyBytes::new(py, author).unbind()).collect(),
            suspended: outcome.suspended.iter().map(|(author, epoch)| (PyBytes::new(py, author).unbind(), *epoch)).collect(),
            refused: outcome.refused,
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

    #[getter]
    fn suspended<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.suspended.iter().map(|(author, epoch)| (author.clone_ref(py), *epoch)))
    }

    #[getter]
    fn refused(&self) -> u64 {
        self.refused
    }

    fn __repr__(&self) -> String {
        format!(
            "ChainResult(chained {} duplicates {} gaps {} forks {} unknown {} suspended {} refused {})",
            self.chained.len(),
            self.duplicates,
            self.gaps.len(),
            self.forks.len(),
            self.unknown.len(),
            self.suspended.len(),
            self.refused
        )
    }
}

/// The outcome of `Replica.load`.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct LoadResult(pub LoadOutcome);

#[pymethods]
impl LoadResult {
    #[getter]
    fn ops(&self) -> u64 {
        self.0.ops
    }

    #[getter]
    fn damaged(&self) -> Vec<(usize, String)> {
        self.0.damaged.iter().map(|(index, refused)| (*index, refused.to_string())).collect()
    }

    #[getter]
    fn stranded(&self) -> Vec<usize> {
        self.0.stranded.clone()
    }

    fn __repr__(&self) -> String {
        format!("LoadResult(ops {} damaged {} stranded {})", self.0.ops, self.0.damaged.len(), self.0.stranded.len())
    }
}
