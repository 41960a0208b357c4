//! What one merge call changed. Objects are made for what is looked at.

use std::collections::BTreeSet;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice};

use crate::registers::{PyFence, show_fence};
use crate::value;

/// The changes of one call: a sequence.
#[pyclass(frozen, sequence, module = "fabrik_node._core")]
pub struct Changes(pub fabrik_merge::Changes);

impl Changes {
    /// Python may ask for `index` outside of the sequence.
    fn at(&self, index: isize) -> Option<Change> {
        let index = if index < 0 { self.0.len().checked_sub(index.unsigned_abs()) } else { usize::try_from(index).ok() };
        self.0.get(index?).map(Change)
    }
}

#[pymethods]
impl Changes {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let range = slice.indices(isize::try_from(self.0.len())?)?;
            let count = isize::try_from(range.slicelength)?;
            let changes: Vec<_> = (0..count).filter_map(|place| self.at(range.start + place * range.step)).collect();
            return Ok(PyList::new(py, changes)?.into_any());
        }
        let change = self.at(index.extract()?).ok_or_else(|| PyIndexError::new_err("no such change"))?;
        Ok(Bound::new(py, change)?.into_any())
    }

    /// Equal to a sequence of equal changes.
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        if let Ok(other) = other.cast::<Self>() {
            return self.0.iter().eq(other.get().0.iter());
        }
        let Ok(other) = other.extract::<Vec<Bound<'_, Change>>>() else { return false };
        self.0.iter().eq(other.into_iter().map(|change| change.get().0.clone()))
    }

    #[pyo3(signature = (value, start = 0, stop = isize::MAX, /))]
    fn index(&self, py: Python<'_>, value: &Bound<'_, PyAny>, start: isize, stop: isize) -> PyResult<usize> {
        self.list(py)?.call_method1("index", (value, start, stop))?.extract()
    }

    #[pyo3(signature = (value, /))]
    fn count(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.list(py)?.call_method1("count", (value,))?.extract()
    }

    /// The register kinds that changed.
    #[getter]
    fn kinds(&self) -> BTreeSet<u8> {
        self.0.kinds()
    }

    #[getter]
    fn newest_ms(&self) -> Option<u64> {
        self.0.newest_ms()
    }

    /// The changes of one kind, or of one field of it.
    #[pyo3(signature = (kind, field = None))]
    fn of(&self, kind: u64, field: Option<u64>) -> Vec<Change> {
        let wanted =
            |&index: &usize| self.0.register(index).is_some_and(|(of, number)| u64::from(of) == kind && field.is_none_or(|field| u64::from(number) == field));
        (0..self.0.len()).filter(wanted).filter_map(|index| self.0.get(index)).map(Change).collect()
    }

    fn __repr__(&self) -> String {
        format!("Changes({})", self.0.len())
    }
}

impl Changes {
    fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.0.iter().map(Change).collect::<Vec<_>>())
    }
}

/// The net effect of one merge call on one register.
#[pyclass(frozen, eq, hash, module = "fabrik_node._core")]
#[derive(PartialEq, Eq, Hash)]
pub struct Change(pub fabrik_merge::Change);

#[pymethods]
impl Change {
    #[getter]
    fn kind(&self) -> u8 {
        self.0.kind()
    }

    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.id())
    }

    #[getter]
    fn field(&self) -> u8 {
        self.0.field
    }

    #[getter(old)]
    fn value_before<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.old.as_deref().map(|data| value::decode(py, data)).transpose()
    }

    #[getter(new)]
    fn value_after<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.new.as_deref().map(|data| value::decode(py, data)).transpose()
    }

    #[getter(old_fence)]
    fn fence_before<'py>(&self, py: Python<'py>) -> Option<PyFence<'py>> {
        self.0.old_fence.as_ref().map(|fence| show_fence(py, fence))
    }

    #[getter]
    fn author<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.author)
    }

    #[getter]
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms
    }

    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.digest)
    }
}
