//! The Python binding: `fabrik_node._core`. The manual is `fabrik_node/_core.pyi`.
//!
//! Handles are frozen. Every call that does real work goes through [`door`], the only place where the interpreter is
//! released, panics are caught and errors become classes of `fabrik_node.errors`. No callbacks into Python, nothing global.
#![forbid(unsafe_code)]

mod audit;
mod changes;
mod door;
mod draft;
mod keys;
mod members;
mod outcomes;
mod proofs;
mod registers;
mod replica;
mod segments;
mod value;

use fabrik_merge::schema;
use fabrik_op::limits;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

type SchemaRow = (&'static str, usize, usize, Vec<(&'static str, usize, String, bool)>);

/// The register table of merge.md.
#[pyfunction(name = "schema")]
fn schema_table() -> Vec<SchemaRow> {
    let fields = |kind: &schema::Kind| (1..).zip(kind.fields).map(|(number, field)| (field.name, number, field.value.name(), field.fenced)).collect();
    (1..).zip(schema::KINDS).map(|(number, kind)| (kind.name, number, kind.id_bytes, fields(kind))).collect()
}

/// BLAKE3-256.
#[pyfunction]
fn blake3<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &fabrik_op::hash::blake3(data))
}

/// The id of a step's register.
#[pyfunction]
fn step_id<'py>(py: Python<'py>, item: [u8; 16], name: &str) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &fabrik_op::hash::step_id(&item, name))
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SPEC_VERSION", limits::SPEC_VERSION)?;
    module.add("HEADS_MAX", limits::HEADS_MAX)?;
    module.add("OP_BYTES_MAX", limits::OP_BYTES_MAX)?;
    module.add("SEGMENT_BYTES_MAX", limits::SEGMENT_BYTES_MAX)?;
    module.add("LAMPORT_STEP_MAX", limits::LAMPORT_STEP_MAX)?;
    module.add("LAMPORT_MAX", limits::LAMPORT_MAX)?;
    module.add_function(wrap_pyfunction!(schema_table, module)?)?;
    module.add_function(wrap_pyfunction!(blake3, module)?)?;
    module.add_function(wrap_pyfunction!(step_id, module)?)?;
    module.add_function(wrap_pyfunction!(value::cbor_encode, module)?)?;
    module.add_function(wrap_pyfunction!(value::cbor_decode, module)?)?;
    module.add_function(wrap_pyfunction!(keys::verify, module)?)?;
    module.add_function(wrap_pyfunction!(keys::mesh_id, module)?)?;
    module.add_function(wrap_pyfunction!(keys::genesis_encode, module)?)?;
    module.add_function(wrap_pyfunction!(keys::next_key, module)?)?;
    module.add_function(wrap_pyfunction!(keys::ephemeral_verify, module)?)?;
    module.add_function(wrap_pyfunction!(audit::merge_rules, module)?)?;
    module.add_function(wrap_pyfunction!(audit::digests, module)?)?;
    module.add_function(wrap_pyfunction!(audit::audit, module)?)?;
    module.add_function(wrap_pyfunction!(registers::fence_beats, module)?)?;
    module.add_function(wrap_pyfunction!(registers::history, module)?)?;
    module.add_function(wrap_pyfunction!(registers::effects, module)?)?;
    module.add_function(wrap_pyfunction!(segments::segment_span, module)?)?;
    module.add_function(wrap_pyfunction!(segments::coalesce, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::find_ops, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::pack, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::cut, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::fork_proof, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::fork_proof_verify, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::op_proof, module)?)?;
    module.add_function(wrap_pyfunction!(proofs::op_proof_verify, module)?)?;
    module.add_class::<keys::Genesis>()?;
    module.add_class::<keys::SigningKey>()?;
    module.add_class::<segments::Verified>()?;
    module.add_class::<segments::Chained>()?;
    module.add_class::<outcomes::Gap>()?;
    module.add_class::<outcomes::Fork>()?;
    module.add_class::<outcomes::ChainResult>()?;
    module.add_class::<outcomes::LoadResult>()?;
    module.add_class::<members::Member>()?;
    module.add_class::<registers::Head>()?;
    module.add_class::<registers::Register>()?;
    module.add_class::<changes::Change>()?;
    module.add_class::<changes::Changes>()?;
    let sequence = module.py().import("collections.abc")?.getattr("Sequence")?;
    sequence.call_method1("register", (module.getattr("Changes")?,))?;
    module.add_class::<registers::Touch>()?;
    module.add_class::<draft::Draft>()?;
    module.add_class::<replica::Replica>()
}
