"""The settings under which a cut-off holder has stopped before others take over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.lease_overlap import overlap_s
from fabrik_node.domain.leases import LeaseTiming

SECONDS = st.floats(0.1, 1000.0)


@pytest.mark.promise("I17")
@given(beat_s=SECONDS, ttl_s=SECONDS, grace_s=SECONDS, lock_s=SECONDS, dead_s=SECONDS, kill_s=SECONDS, cut_s=st.floats(0.0, 1.0), noticed=st.floats(0.0, 1.0))
def test_no_overlap_means_that_the_last_process_is_gone_before_the_earliest_takeover(
    beat_s: float, ttl_s: float, grace_s: float, lock_s: float, dead_s: float, kill_s: float, cut_s: float, noticed: float
) -> None:
    """Played through: beats at 0, -beat, ...; the link is cut somewhere in the beat before 0 or after, and noticed at some time up to ``dead_s`` later."""
    timing = LeaseTiming(beat_s, ttl_s, grace_s, lock_s)
    over_s = overlap_s(beat_s=beat_s, ttl_s=ttl_s, takeover_after_s=timing.takeover_after_s(ttl_s), link_dead_s=dead_s, kill_grace_s=kill_s)
    cut_at = cut_s * beat_s
    heard_at = 0.0  # the beat before the cut is the last that others heard
    counted_at = cut_at + noticed * dead_s  # the holder believes in beats up to here at the latest
    gone_at = counted_at + 0.8 * ttl_s + kill_s
    taken_at = heard_at + timing.takeover_after_s(ttl_s)
    if over_s <= 0:
        assert gone_at <= taken_at + 1e-6


def test_the_defaults_leave_half_a_minute() -> None:
    timing = LeaseTiming()
    over_s = overlap_s(beat_s=timing.beat_s, ttl_s=timing.ttl_s, takeover_after_s=timing.takeover_after_s(timing.ttl_s), link_dead_s=8.0, kill_grace_s=10.0)
    assert over_s <= -30
