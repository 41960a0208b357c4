//! The audit of states: digests of one moment, by bucket and by register.

use fabrik_merge::schema;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::{detached, lock};
use crate::replica::Replica;

type Bytes<'py> = Bound<'py, PyBytes>;
type Entries<'py> = Vec<(u8, Bytes<'py>, u8, Bytes<'py>)>;

/// What the meaning of ops depends on in this build.
#[pyfunction]
pub fn merge_rules(py: Python<'_>) -> Bytes<'_> {
    PyBytes::new(py, &schema::fingerprint(schema::KINDS, schema::MERGE_RULES))
}

/// Hashes what changed first, one bucket per lock, so that nobody waits long for the last look.
fn survey<T: Send>(py: Python<'_>, replica: &Replica, work: impl FnOnce(&fabrik_merge::Replica) -> T + Send) -> PyResult<T> {
    detached(py, || {
        for bucket in 0..=u8::MAX {
            lock(&replica.inner)?.warm(bucket);
        }
        Ok(work(&*lock(&replica.inner)?))
    })
}

/// `(frontier digest, state digest, stale)` of one moment.
#[pyfunction]
pub fn digests<'py>(py: Python<'py>, replica: &Replica) -> PyResult<(Bytes<'py>, Bytes<'py>, bool)> {
    let (both, stale) = survey(py, replica, |inner| (inner.digests(), inner.stale()))?;
    Ok((PyBytes::new(py, &both.0), PyBytes::new(py, &both.1), stale))
}

/// `(frontier digest, stale, bucket digests, entries of the asked buckets)` of one moment.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
pub fn audit<'py>(py: Python<'py>, replica: &Replica, buckets: Vec<u8>) -> PyResult<(Bytes<'py>, bool, Vec<Bytes<'py>>, Vec<Entries<'py>>)> {
    let seen = survey(py, replica, |inner| inner.audit(&buckets))?;
    let shown = |digest: &[u8; 32]| PyBytes::new(py, digest);
    let entries = seen.entries.iter().map(|bucket| {
        let rows = bucket.iter().map(|entry| (entry.kind, PyBytes::new(py, &entry.id), entry.field, shown(&entry.digest)));
        rows.collect()
    });
    Ok((shown(&seen.frontier), seen.stale, seen.buckets.iter().map(shown).collect(), entries.collect()))
}
