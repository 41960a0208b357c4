//! Segments are verified on all cores, and nobody can tell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{Replica, verify_each};
use fabrik_op::RawSegment;
use mesh::{Log, genesis, title};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A verdict, in what can be compared.
fn shown(verdict: Result<fabrik_op::VerifiedSegment, fabrik_op::Refused>) -> Result<(Arc<[u8]>, u64, u64), String> {
    verdict.map(|segment| (Arc::clone(segment.data()), segment.first_seq(), segment.last_seq())).map_err(|refused| refused.to_string())
}

proptest! {
    #![proptest_config(mesh::proptest_config(40))]

    /// Enough work for many threads, and for one; with damage anywhere.
    #[test]
    fn each_verdict_is_at_the_place_of_its_segment(count in 0..60_usize, flips in vec((any::<Index>(), any::<Index>(), 0..8_u8), 0..4)) {
        let mut log = Log::new(1, 1);
        for number in 0..count {
            log.write(vec![title(&[u8::try_from(number).unwrap(); 16], &"long ".repeat(number % 40))]);
        }
        let mut segments: Vec<Vec<u8>> = log.segments.iter().map(|segment| segment.data().to_vec()).collect();
        for (segment, byte, bit) in flips {
            if count > 0 {
                let data = &mut segments[segment.index(count)];
                let place = byte.index(data.len());
                data[place] ^= 1 << bit;
            }
        }
        let alone: Vec<_> = segments.iter().map(|data| shown(Replica::verify(&genesis().mesh_id, RawSegment(data[..].into())))).collect();
        let together: Vec<_> = verify_each(&genesis().mesh_id, &segments).into_iter().map(shown).collect();
        prop_assert_eq!(together, alone);
    }
}
