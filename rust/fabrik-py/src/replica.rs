//! Heads and registers in memory.

use std::sync::Mutex;

use fabrik_merge::verify_each;
use fabrik_op::{Digest, Key};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::changes::Changes;
use crate::door::{Failure, detached, fixed, invalid, lock, locked};
use crate::draft::Draft;
use crate::keys::SigningKey;
use crate::members::Member;
use crate::outcomes::{ChainResult, LoadResult};
use crate::registers::{Head, PyFence, PyTally, Register, show_fence};
use crate::segments::{Chained, Verified};
use crate::value;

/// A register kind that does not exist: what a number beyond all kinds is read as.
const NO_KIND: u8 = 0;

/// A full replica of one mesh.
#[pyclass(frozen, module = "fabrik_node._core")]
pub struct Replica {
    mesh_id: Digest,
    admin: Key,
    pub(crate) inner: Mutex<fabrik_merge::Replica>,
}

impl Replica {
    /// A short read.
    fn read<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&fabrik_merge::Replica) -> T + Send) -> PyResult<T> {
        locked(py, &self.inner, |replica| work(replica))
    }

    /// A read of many registers or heads, without the interpreter.
    fn survey<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&fabrik_merge::Replica) -> T + Send) -> PyResult<T> {
        detached(py, || Ok(work(&*lock(&self.inner)?)))
    }
}

#[pymethods]
impl Replica {
    #[new]
    #[pyo3(signature = (genesis, suspended = Vec::new()), text_signature = "(genesis, suspended=())")]
    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn new(py: Python<'_>, genesis: &[u8], suspended: Vec<(PyBackedBytes, u64)>) -> PyResult<Self> {
        let suspended = suspended.iter().map(|(author, epoch)| Ok((fixed(author, "an author")?, *epoch))).collect::<PyResult<Vec<_>>>()?;
        detached(py, || {
            let genesis = fabrik_op::Genesis::decode(genesis)?;
            let (mesh_id, admin) = (genesis.mesh_id, genesis.admin);
            Ok(Self { mesh_id, admin, inner: Mutex::new(fabrik_merge::Replica::with_suspended(genesis, suspended)) })
        })
    }

    #[getter]
    fn mesh_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.mesh_id)
    }

    #[getter]
    fn admin<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.admin)
    }

    #[getter]
    fn lamport(&self, py: Python<'_>) -> PyResult<u64> {
        self.read(py, fabrik_merge::Replica::lamport)
    }

    #[getter]
    fn ops(&self, py: Python<'_>) -> PyResult<u64> {
        self.read(py, fabrik_merge::Replica::ops)
    }

    #[getter]
    fn voided(&self, py: Python<'_>) -> PyResult<u64> {
        self.read(py, fabrik_merge::Replica::voided)
    }

    #[getter]
    fn registers(&self, py: Python<'_>) -> PyResult<usize> {
        self.read(py, fabrik_merge::Replica::registers)
    }

    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn verify(&self, py: Python<'_>, segments: Vec<PyBackedBytes>) -> PyResult<Vec<Verified>> {
        detached(py, || verify_each(&self.mesh_id, &segments).into_iter().map(|verdict| verdict.map(Verified).map_err(Failure::from)).collect())
    }

    #[pyo3(signature = (verified, *, admit_all = false))]
    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn chain(&self, py: Python<'_>, verified: Vec<Bound<'_, Verified>>, admit_all: bool) -> PyResult<ChainResult> {
        let verified: Vec<_> = verified.iter().map(|one| one.get().0.clone()).collect();
        let outcome = detached(py, || Ok(lock(&self.inner)?.chain(&verified, admit_all)?))?;
        ChainResult::new(py, outcome)
    }

    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn merge(&self, py: Python<'_>, chained: Vec<Bound<'_, Chained>>) -> PyResult<Changes> {
        let chained: Vec<_> = chained.iter().map(|one| one.get().0.clone()).collect();
        let changes = detached(py, || Ok(lock(&self.inner)?.merge(&chained)?))?;
        Ok(Changes(changes))
    }

    #[pyo3(signature = (segments, branches = Vec::new()), text_signature = "($self, segments, branches=())")]
    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn load(&self, py: Python<'_>, segments: Vec<PyBackedBytes>, branches: Vec<u32>) -> PyResult<LoadResult> {
        if !branches.is_empty() && branches.len() != segments.len() {
            return Err(invalid(format!("{} branches for {} segments", branches.len(), segments.len())));
        }
        detached(py, || {
            let verified = verify_each(&self.mesh_id, &segments);
            Ok(LoadResult(lock(&self.inner)?.load(verified, &branches)?))
        })
    }

    #[staticmethod]
    fn restore(py: Python<'_>, genesis: &[u8], snapshot: &[u8]) -> PyResult<Self> {
        detached(py, || {
            let genesis = fabrik_op::Genesis::decode(genesis)?;
            let (mesh_id, admin) = (genesis.mesh_id, genesis.admin);
            Ok(Self { mesh_id, admin, inner: Mutex::new(fabrik_merge::Replica::restore(genesis, snapshot)?) })
        })
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, || {
            let begun = lock(&self.inner)?.begin_snapshot();
            Ok(begun.finish())
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn anew(&self, py: Python<'_>) -> PyResult<Self> {
        let anew = detached(py, || Ok(lock(&self.inner)?.anew()))?;
        Ok(Self { mesh_id: self.mesh_id, admin: self.admin, inner: Mutex::new(anew) })
    }

    fn adopt(&self, py: Python<'_>, fresh: &Bound<'_, Self>) -> PyResult<Changes> {
        let fresh = fresh.get();
        let (ours, theirs) = (std::ptr::from_ref(self), std::ptr::from_ref(fresh));
        if ours == theirs {
            return Err(invalid("a replica can not adopt itself"));
        }
        let first_ours = ours < theirs; // One order for all threads.
        let changes = detached(py, || {
            let (first, second) = if first_ours { (&self.inner, &fresh.inner) } else { (&fresh.inner, &self.inner) };
            let (mut first, mut second) = (lock(first)?, lock(second)?);
            Ok(if first_ours { first.adopt(&mut second) } else { second.adopt(&mut first) }?)
        })?;
        Ok(Changes(changes))
    }

    #[getter]
    fn stale(&self, py: Python<'_>) -> PyResult<bool> {
        self.read(py, fabrik_merge::Replica::stale)
    }

    fn suspended<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyBytes>, u64)>> {
        let logs: Vec<_> = self.survey(py, |replica| replica.suspended().collect())?;
        Ok(logs.iter().map(|(author, epoch)| (PyBytes::new(py, author), *epoch)).collect())
    }

    fn holds(&self, py: Python<'_>, author: &[u8], epoch: u64, seq: u64, head: &[u8]) -> PyResult<bool> {
        let (Ok(author), Ok(head)) = (Key::try_from(author), Digest::try_from(head)) else { return Ok(false) };
        self.read(py, |replica| replica.holds(&author, epoch, seq, &head))
    }

    fn marker<'py>(&self, py: Python<'py>, author: &[u8], epoch: u64) -> PyResult<Option<(u64, Bound<'py, PyBytes>)>> {
        let Ok(author) = Key::try_from(author) else { return Ok(None) };
        let marker = self.read(py, |replica| replica.marker(&author, epoch))?;
        Ok(marker.map(|(seq, head)| (seq, PyBytes::new(py, &head))))
    }

    fn places<'py>(&self, py: Python<'py>, author: &[u8], epoch: u64) -> PyResult<Vec<(u64, Bound<'py, PyBytes>)>> {
        let Ok(author) = Key::try_from(author) else { return Ok(Vec::new()) };
        let places = self.read(py, |replica| replica.places(&author, epoch))?;
        Ok(places.iter().map(|(seq, mark)| (*seq, PyBytes::new(py, mark))).collect())
    }

    fn mark<'py>(&self, py: Python<'py>, author: &[u8], epoch: u64, branch: u64, seq: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (Ok(author), Ok(branch)) = (Key::try_from(author), u32::try_from(branch)) else { return Ok(None) };
        let mark = self.read(py, |replica| replica.mark(&author, epoch, branch, seq))?;
        Ok(mark.map(|mark| PyBytes::new(py, &mark)))
    }

    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn cursors(&self, py: Python<'_>, author: &[u8], epoch: u64, places: Vec<(u64, PyBackedBytes)>) -> PyResult<Vec<(u32, u64)>> {
        let Ok(author) = Key::try_from(author) else { return Ok(Vec::new()) };
        let places: Vec<_> = places.iter().filter_map(|(seq, mark)| Some((*seq, mark[..].try_into().ok()?))).collect();
        self.read(py, |replica| replica.cursors(&author, epoch, &places))
    }

    /// Reading the segments needs no lock.
    #[allow(clippy::needless_pass_by_value)] // Python hands the list over.
    fn check(&self, py: Python<'_>, author: &[u8], epoch: u64, branch: u64, segments: Vec<PyBackedBytes>) -> PyResult<Vec<String>> {
        let author: Key = fixed(author, "an author")?;
        let branch = u32::try_from(branch).unwrap_or(u32::MAX);
        detached(py, || {
            let verified = verify_each(&self.mesh_id, &segments);
            let replica = lock(&self.inner)?;
            let check = |segment: Result<_, fabrik_op::Refused>| {
                segment.map_err(|refused| refused.to_string()).and_then(|segment| replica.check(&author, epoch, branch, &segment))
            };
            Ok(verified.into_iter().map(|segment| check(segment).err().unwrap_or_default()).collect())
        })
    }

    fn draft(&self, py: Python<'_>, key: &SigningKey, epoch: u64) -> PyResult<Draft> {
        let draft = detached(py, || Ok(lock(&self.inner)?.draft(key.0.clone(), epoch)?))?;
        Ok(Draft(Mutex::new(draft)))
    }

    fn heads(&self, py: Python<'_>) -> PyResult<Vec<Head>> {
        self.survey(py, |replica| replica.heads().map(Head).collect())
    }

    #[pyo3(signature = (author, epoch, branch = 0))]
    fn head(&self, py: Python<'_>, author: &[u8], epoch: u64, branch: u64) -> PyResult<Option<Head>> {
        let (Ok(author), Ok(branch)) = (Key::try_from(author), u32::try_from(branch)) else { return Ok(None) };
        self.read(py, |replica| replica.head(&author, epoch, branch).map(Head))
    }

    fn frontier_digest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.survey(py, fabrik_merge::Replica::frontier_digest)?))
    }

    fn state_digest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.survey(py, fabrik_merge::Replica::state_digest)?))
    }

    fn is_admitted(&self, py: Python<'_>, author: &[u8]) -> PyResult<bool> {
        let Ok(author) = Key::try_from(author) else { return Ok(false) };
        self.read(py, |replica| replica.is_admitted(&author))
    }

    fn is_spared(&self, py: Python<'_>, author: &[u8]) -> PyResult<bool> {
        let Ok(author) = Key::try_from(author) else { return Ok(false) };
        self.read(py, |replica| replica.is_spared(&author))
    }

    fn member(&self, py: Python<'_>, key: &[u8]) -> PyResult<Member> {
        let key = fixed(key, "a key")?;
        Ok(Member(self.read(py, |replica| replica.member(&key))?))
    }

    fn get(&self, py: Python<'_>, kind: u64, id: &[u8], field: u64) -> PyResult<Option<Register>> {
        let (Ok(kind), Ok(field)) = (u8::try_from(kind), u8::try_from(field)) else { return Ok(None) };
        self.read(py, |replica| replica.get(kind, id, field).map(Register))
    }

    fn row<'py>(&self, py: Python<'py>, kind: u64, id: &[u8]) -> PyResult<Bound<'py, PyDict>> {
        let kind = u8::try_from(kind).unwrap_or(NO_KIND);
        show_row(py, &self.read(py, |replica| replica.row(kind, id))?)
    }

    fn rows<'py>(&self, py: Python<'py>, kind: u64) -> PyResult<Bound<'py, PyList>> {
        let kind = u8::try_from(kind).unwrap_or(NO_KIND);
        let rows = self.survey(py, |replica| replica.rows(kind))?;
        let shown = rows.iter().map(|(id, row)| Ok((PyBytes::new(py, id), show_row(py, row)?))).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, shown)
    }

    fn tally<'py>(&self, py: Python<'py>, field: u64, among: u64) -> PyResult<PyTally<'py>> {
        let [field, among] = [field, among].map(|number| u8::try_from(number).unwrap_or(NO_KIND));
        let tally = detached(py, || Ok({ lock(&self.inner)?.moment() }.tally(field, among)))?;
        let show = |data: &Option<Box<[u8]>>| data.as_deref().map(|data| value::decode(py, data)).transpose();
        let counts = tally.counts.iter().map(|(data, count)| Ok((show(data)?, *count))).collect::<PyResult<_>>()?;
        let below = tally.below.iter().map(|each| {
            let fence = each.fence.map(|fence| show_fence(py, &fence));
            Ok((PyBytes::new(py, &each.item), show(&each.value)?, fence, value::decode(py, &each.claim)?))
        });
        Ok((counts, below.collect::<PyResult<_>>()?))
    }

    fn tombstoned(&self, py: Python<'_>, id: &[u8]) -> PyResult<bool> {
        self.read(py, |replica| replica.tombstoned(id))
    }

    fn winning_fence<'py>(&self, py: Python<'py>, item: &[u8]) -> PyResult<Option<PyFence<'py>>> {
        let fence = self.read(py, |replica| replica.winning_fence(item))?;
        Ok(fence.map(|fence| show_fence(py, &fence)))
    }
}

fn show_row<'py>(py: Python<'py>, row: &[(u8, Box<[u8]>)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (field, data) in row {
        dict.set_item(field, value::decode(py, data)?)?;
    }
    Ok(dict)
}
