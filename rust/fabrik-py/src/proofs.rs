//! Proofs, packing and cutting.

use std::sync::Arc;

use fabrik_op::{Digest, RawSegment, Write};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::door::{detached, fixed, invalid};
use crate::registers::show_fence;
use crate::value;

/// Joins neighbouring segments of one log and keeps the signatures.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
pub fn pack(py: Python<'_>, segments: Vec<PyBackedBytes>, max_bytes: usize) -> PyResult<Bound<'_, PyList>> {
    let packed = detached(py, || {
        let segments: Vec<Arc<[u8]>> = segments.iter().map(|segment| Arc::from(&segment[..])).collect();
        let packed = fabrik_op::pack(&segments, max_bytes)?;
        Ok(packed
            .into_iter()
            .map(|one| (one.data, one.sigs.iter().flat_map(|(seq, sig)| [&seq.to_be_bytes()[..], sig].concat()).collect::<Vec<u8>>()))
            .collect::<Vec<_>>())
    })?;
    PyList::new(py, packed.iter().map(|(data, sigs)| (PyBytes::new(py, data), PyBytes::new(py, sigs))))
}

/// The part of a segment from a sequence number on.
#[pyfunction]
pub fn cut<'py>(py: Python<'py>, segment: &[u8], first_seq: u64) -> PyResult<Bound<'py, PyBytes>> {
    let data = detached(py, || Ok(fabrik_op::cut(&Arc::from(segment), first_seq)?))?;
    Ok(PyBytes::new(py, &data))
}

/// A proof that two segments are of one log with two histories.
#[pyfunction]
pub fn fork_proof<'py>(py: Python<'py>, mesh_id: &[u8], one: &[u8], other: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let mesh_id = fixed(mesh_id, "a mesh id")?;
    let proof = detached(py, || Ok(fabrik_op::fork_proof(&mesh_id, one, other)?))?;
    Ok(PyBytes::new(py, &proof))
}

/// `(place of the segment, seq, digest)` of the ops whose digest begins with these hex digits.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
#[allow(clippy::type_complexity)] // The list is the documented result.
pub fn find_ops<'py>(py: Python<'py>, segments: Vec<PyBackedBytes>, prefix: &str) -> PyResult<Vec<(usize, u64, Bound<'py, PyBytes>)>> {
    let digits = prefix.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>().ok_or_else(|| invalid("a digest is written in hex digits"))?;
    let found = detached(py, || {
        let mut found = Vec::new();
        for (place, segment) in segments.iter().enumerate() {
            let Ok(decoded) = RawSegment(Arc::from(&segment[..])).decode() else { continue };
            found.extend(decoded.ops().filter(|op| begins_with(op.digest, &digits)).map(|op| (place, op.seq, *op.digest)));
        }
        Ok(found)
    })?;
    Ok(found.into_iter().map(|(place, seq, digest)| (place, seq, PyBytes::new(py, &digest))).collect())
}

fn begins_with(digest: &Digest, digits: &[u32]) -> bool {
    let mut written = digest.iter().flat_map(|byte| [u32::from(byte >> 4), u32::from(byte & 15)]);
    digits.iter().all(|&digit| written.next() == Some(digit))
}

/// `(mesh_id, author, epoch, seq)` of a fork proof that holds.
#[pyfunction]
#[allow(clippy::type_complexity)] // The tuple is the documented result.
pub fn fork_proof_verify<'py>(py: Python<'py>, proof: &[u8]) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>, u64, u64)> {
    let fork = detached(py, || Ok(fabrik_op::fork_proof_verify(proof)?))?;
    Ok((PyBytes::new(py, &fork.mesh_id), PyBytes::new(py, &fork.author), fork.epoch, fork.seq))
}

/// The proof of one op of a segment.
#[pyfunction]
pub fn op_proof<'py>(py: Python<'py>, mesh_id: &[u8], segment: &[u8], seq: u64) -> PyResult<Bound<'py, PyBytes>> {
    let mesh_id = fixed(mesh_id, "a mesh id")?;
    let proof = detached(py, || Ok(fabrik_op::op_proof(&mesh_id, segment.into(), seq)?))?;
    Ok(PyBytes::new(py, &proof))
}

/// What an op proof that holds says.
#[pyfunction]
pub fn op_proof_verify<'py>(py: Python<'py>, proof: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let proven = detached(py, || Ok(fabrik_op::op_proof_verify(proof)?))?;
    let op = proven.op();
    let writes = op.writes().map(|write| show_write(py, &write)).collect::<PyResult<Vec<_>>>()?;
    let says = PyDict::new(py);
    says.set_item("mesh_id", PyBytes::new(py, &proven.mesh_id))?;
    says.set_item("author", PyBytes::new(py, &proven.author))?;
    says.set_item("epoch", proven.epoch)?;
    says.set_item("seq", op.seq)?;
    says.set_item("lamport", op.lamport())?;
    says.set_item("wall_ms", op.wall_ms())?;
    says.set_item("digest", PyBytes::new(py, op.digest))?;
    says.set_item("kind", op.kind())?;
    says.set_item("writes", writes)?;
    says.set_item("op", PyBytes::new(py, op.body))?;
    Ok(says)
}

/// `(kind, id, field, value, fence)`.
fn show_write<'py>(py: Python<'py>, write: &Write<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let fence = write.fence.map(|fence| show_fence(py, fence));
    (write.kind, PyBytes::new(py, write.id), write.field, value::decode(py, write.value)?, fence).into_pyobject(py)
}
