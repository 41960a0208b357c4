//! What is known of a key: its role, its level, what became of it.

use fabrik_merge::MemberView;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What the records about a key, and its rotation, come to.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Member(pub MemberView);

#[pymethods]
impl Member {
    #[getter]
    fn role(&self) -> u8 {
        self.0.role
    }

    #[getter]
    fn level(&self) -> Option<i32> {
        self.0.level
    }

    #[getter]
    fn revoked(&self) -> bool {
        self.0.revoked
    }

    #[getter]
    fn successor<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.successor.map(|key| PyBytes::new(py, &key))
    }

    #[getter]
    fn named(&self) -> bool {
        self.0.named
    }

    #[getter]
    fn names(&self) -> bool {
        self.0.names
    }

    fn __repr__(&self) -> String {
        let view = &self.0;
        format!("Member(role {} level {:?} revoked {} rotated {} named {})", view.role, view.level, view.revoked, view.successor.is_some(), view.named)
    }
}
