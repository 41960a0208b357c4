//! The audit of states: digests of one moment, by bucket and by register.

use fabrik_merge::{Audit, Moment, schema};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door::{Failure, detached, lock};
use crate::replica::Replica;

type Bytes<'py> = Bound<'py, PyBytes>;
type Entries<'py> = Vec<(u8, Bytes<'py>, u8, Bytes<'py>)>;

/// What the meaning of ops depends on in this build.
#[pyfunction]
pub fn merge_rules(py: Python<'_>) -> Bytes<'_> {
    PyBytes::new(py, &schema::fingerprint(schema::KINDS, schema::MERGE_RULES))
}

/// A moment, and the digests of its buckets. What changed is hashed without the lock: first what can be remembered bucket by bucket, then what changed again
/// meanwhile, so that little of the moment is held for long.
fn survey(replica: &Replica) -> Result<(Moment, Vec<[u8; 32]>), Failure> {
    for bucket in 0..=u8::MAX {
        let held = lock(&replica.inner)?.held(bucket);
        let digest = held.digest();
        lock(&replica.inner)?.learn(bucket, &held, digest);
    }
    let moment = lock(&replica.inner)?.moment();
    let mut failed = None;
    let digests = moment.bucket_digests(|bucket, held, digest| match lock(&replica.inner) {
        Ok(inner) => inner.learn(bucket, held, digest),
        Err(failure) => failed = Some(failure),
    });
    failed.map_or(Ok((moment, digests)), Err)
}

/// `(frontier digest, state digest, stale)` of one moment.
#[pyfunction]
pub fn digests<'py>(py: Python<'py>, replica: &Replica) -> PyResult<(Bytes<'py>, Bytes<'py>, bool)> {
    let (moment, digest) = detached(py, || {
        let (moment, buckets) = survey(replica)?;
        let digest = moment.state_digest(&buckets);
        Ok((moment, digest))
    })?;
    Ok((PyBytes::new(py, &moment.frontier), PyBytes::new(py, &digest), moment.stale))
}

/// `(frontier digest, stale, bucket digests, entries of the asked buckets)` of one moment.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Python hands the list over.
pub fn audit<'py>(py: Python<'py>, replica: &Replica, buckets: Vec<u8>) -> PyResult<(Bytes<'py>, bool, Vec<Bytes<'py>>, Vec<Entries<'py>>)> {
    let seen = detached(py, || {
        let (moment, digests) = survey(replica)?;
        Ok(Audit { frontier: moment.frontier, stale: moment.stale, buckets: digests, entries: buckets.iter().map(|bucket| moment.entries(*bucket)).collect() })
    })?;
    let shown = |digest: &[u8; 32]| PyBytes::new(py, digest);
    let entries = seen.entries.iter().map(|bucket| {
        let rows = bucket.iter().map(|entry| (entry.kind, PyBytes::new(py, &entry.id), entry.field, shown(&entry.digest)));
        rows.collect()
    });
    Ok((shown(&seen.frontier), seen.stale, seen.buckets.iter().map(shown).collect(), entries.collect()))
}
