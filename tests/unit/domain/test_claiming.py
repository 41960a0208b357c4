"""When an item may be claimed, and what the arbiter's answer means. The whole of it together: tests/model."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.claiming import RemoteVerdict, closing, is_free, judge_remote, may_settle, may_state
from fabrik_node.domain.claims import Claim, override, successor
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.stages import Archived, ArchiveReason, Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.ids import show_id
from fabrik_node.ports import ArbiterTaken

OPEN: list[Stage] = [Backlog(), Coding(), Qa(), Merge("b", 1)]
OVER: list[Stage] = [Done(1, bytes(20)), Archived(1, ArchiveReason.BLOCKED)]


def made(number: int, after: Claim | None = None, receipt: int = 0) -> Claim:
    claim = successor(after, claim_id=bytes([number]) * 16, node=b"n" * 32, agent="a", ttl_ms=1, incarnation="i")
    return claim.confirmed(receipt, b"o" * 20) if receipt else claim


def link(claim: Claim, number: int, state: str = "held", merged: bytes = b"") -> ArbiterTaken:
    return ArbiterTaken(number, b"o" * 20, show_id(claim.claim_id), "node", state, 1, merged)


@pytest.mark.parametrize("lease", LeaseState)
def test_an_item_is_free_without_a_holder_or_with_a_lost_one_and_never_when_it_is_over(lease: LeaseState) -> None:
    held = made(1)
    for stage in OPEN:
        assert is_free(stage, None, lease)
        assert is_free(stage, held.released("done"), lease)
        assert is_free(stage, held, lease) is (lease is LeaseState.LOST)
    strange = [dataclasses.replace(held, epoch=epoch, receipt=receipt) for epoch, receipt in ((2**64 - 1, 0), (1, 2**32), (1, 2**64 - 1))]
    assert not any(is_free(stage, each, lease) for stage in OPEN for claim in strange for each in (claim, claim.released("done"))), "none can follow"
    assert not any(is_free(stage, claim, lease) for stage in OVER for claim in (None, held, held.released("done")))


@pytest.mark.parametrize("free", [True, False])
def test_what_the_arbiter_has(free: bool) -> None:
    ours, theirs = made(1, receipt=3), made(2, receipt=1)
    assert judge_remote(ours, None, free=free) is RemoteVerdict.FREE
    assert judge_remote(None, link(theirs, 1), free=free) is RemoteVerdict.STRANGER
    assert judge_remote(ours, link(theirs, 2), free=free) is RemoteVerdict.FREE, "an old answer: ours was granted later"
    assert judge_remote(ours, link(theirs, 4), free=free) is RemoteVerdict.STRANGER
    assert judge_remote(ours, link(theirs, 4, "released"), free=free) is RemoteVerdict.FREE
    for known in (link(ours, 4, "merged", b"m" * 20), link(theirs, 1, "merged", b"m" * 20)):
        assert judge_remote(ours, known, free=free) is RemoteVerdict.MERGED
    expected = RemoteVerdict.FREE if free else RemoteVerdict.HELD
    assert judge_remote(ours, link(ours, 3), free=free) is expected
    ended = override(ours, claim_id=b"z" * 16, node=b"n" * 32, incarnation="", reason="by hand")
    assert judge_remote(ended, link(ours, 3), free=free) is expected


def test_no_claim_without_a_receipt_after_one_with_a_receipt() -> None:
    assert may_settle(None)
    assert may_settle(made(1))
    assert not may_settle(made(1, receipt=1))


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))
def test_a_first_statement_needs_the_claim_that_it_followed_or_a_receipt(now: int, followed: int, receipt: int) -> None:
    claims = [None, made(1), made(2), dataclasses.replace(made(1), epoch=9)]
    same = (now, followed) in {(0, 0), (2, 2)} or {now, followed} <= {1, 3}  # another statement of the same claim is the same claim
    assert may_state(claims[now], claims[followed], made(7, receipt=receipt)) is (receipt > 0 or same)


def test_whoever_closes_a_merged_item_stands_above_the_claim_that_merged_it() -> None:
    merged = made(1, receipt=4)
    last = link(merged, 5, "merged", b"m" * 20)
    assert closing(made(2, merged), last).fence[:2] > merged.fence[:2]
