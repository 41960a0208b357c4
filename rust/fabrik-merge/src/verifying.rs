//! Verifying many segments on all cores: most of what a bootstrap computes, and no segment needs another.
//!
//! Scoped threads of the standard library do it: there is one place that needs them, and it starts them once per batch.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fabrik_op::{Digest, RawSegment, Refused, VerifiedSegment};

/// Bytes of ops that cost about as much as one signature.
const SIGNATURE_BYTES: usize = 16_384;
/// The least work for one thread; starting one costs a tenth of it.
const THREAD_BYTES: usize = 131_072;

type Verdict = Result<VerifiedSegment, Refused>;

/// The verdict on each segment, in their order, whatever the number of threads. Little work stays on the calling thread.
pub fn verify_each<T: AsRef<[u8]> + Sync>(mesh_id: &Digest, segments: &[T]) -> Vec<Verdict> {
    let verify = |segment: &T| RawSegment(segment.as_ref().into()).decode()?.verify(mesh_id);
    let threads = threads(segments);
    if threads == 1 {
        return segments.iter().map(verify).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut verdicts = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(segment) = segments.get(place) else { return verdicts };
            verdicts.push((place, verify(segment)));
        }
    };
    let mut verdicts: Vec<(usize, Verdict)> = thread::scope(|scope| {
        // A thread that can not be started leaves its share to the others.
        let helpers: Vec<_> = (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let own = work();
        helpers.into_iter().fold(own, |mut all, helper| {
            all.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
            all
        })
    });
    verdicts.sort_unstable_by_key(|(place, _)| *place);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

fn threads<T: AsRef<[u8]>>(segments: &[T]) -> usize {
    let work: usize = segments.iter().map(|segment| segment.as_ref().len() + SIGNATURE_BYTES).sum();
    let wanted = (work / THREAD_BYTES).min(segments.len());
    if wanted < 2 { 1 } else { thread::available_parallelism().map_or(1, NonZero::get).min(wanted) }
}
