//! Local ops.

use std::sync::Mutex;

use fabrik_merge::Spot;
use fabrik_op::{Fence, Follows, WriteBody};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple};

use crate::door::{detached, fixed, invalid, lock, locked};
use crate::keys::SigningKey;
use crate::segments::Chained;
use crate::value;

/// Local ops built on the heads of the moment.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Draft(pub Mutex<fabrik_merge::Draft>);

#[pymethods]
impl Draft {
    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn append(&self, py: Python<'_>, writes: Vec<Bound<'_, PyAny>>, wall_ms: u64) -> PyResult<Vec<Chained>> {
        let writes = writes.iter().enumerate().map(|(index, write)| read_write(index, write)).collect::<PyResult<Vec<_>>>()?;
        wrap(detached(py, || Ok(lock(&self.0)?.append(writes, wall_ms)?))?)
    }

    fn genesis(&self, py: Python<'_>, wall_ms: u64) -> PyResult<Vec<Chained>> {
        wrap(detached(py, || Ok(lock(&self.0)?.genesis(wall_ms)?))?)
    }

    fn open_epoch(&self, py: Python<'_>, follows: (u64, u64, Bound<'_, PyBytes>), wall_ms: u64) -> PyResult<Vec<Chained>> {
        let (epoch, seq, head) = follows;
        let follows = Follows { epoch, seq, head: fixed(head.as_bytes(), "the head of follows")? };
        wrap(detached(py, || Ok(lock(&self.0)?.open_epoch(follows, wall_ms)?))?)
    }

    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn rotate(&self, py: Python<'_>, new: &SigningKey, next: Option<&[u8]>, keeps: Vec<(u64, u64, PyBackedBytes)>, wall_ms: u64) -> PyResult<Vec<Chained>> {
        let next = next.map(|next| fixed(next, "a commitment")).transpose()?;
        let spot = |(epoch, seq, head): &(u64, u64, PyBackedBytes)| Ok(Spot { epoch: *epoch, seq: *seq, head: fixed(head, "the head of a place")? });
        let keeps = keeps.iter().map(spot).collect::<PyResult<Vec<_>>>()?;
        wrap(detached(py, || Ok(lock(&self.0)?.rotate(&new.0, next.as_ref(), &keeps, wall_ms)?))?)
    }

    #[getter]
    fn lamport(&self, py: Python<'_>) -> PyResult<u64> {
        locked(py, &self.0, |draft| draft.lamport())
    }
}

#[allow(clippy::unnecessary_wraps)] // The shape that its callers return.
fn wrap(segments: Vec<fabrik_merge::Chained>) -> PyResult<Vec<Chained>> {
    Ok(segments.into_iter().map(Chained).collect())
}

fn read_write(index: usize, write: &Bound<'_, PyAny>) -> PyResult<WriteBody> {
    let shape = || invalid(format!("write {index}: expected (kind, id, field, value, fence)"));
    let parts = write.cast::<PyTuple>().map_err(|_| shape())?;
    let (kind, id, field, value, fence): (u64, Bound<'_, PyBytes>, u64, Bound<'_, PyAny>, Bound<'_, PyAny>) = parts.extract().map_err(|_| shape())?;
    Ok(WriteBody { kind, id: id.as_bytes().to_vec(), field, value: value::encode(&value)?, fence: read_fence(&fence)? })
}

/// A fence, or none.
pub fn read_fence(fence: &Bound<'_, PyAny>) -> PyResult<Option<Fence>> {
    if fence.is_none() {
        return Ok(None);
    }
    let (receipt, epoch, claim_id): (u64, u64, Bound<'_, PyBytes>) = fence.extract().map_err(|_| invalid("a fence must be (receipt, epoch, claim_id)"))?;
    Ok(Some(Fence { receipt, epoch, claim_id: fixed(claim_id.as_bytes(), "the claim id of a fence")? }))
}
