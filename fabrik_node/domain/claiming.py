"""When an item may be claimed, and what an answer of the arbiter means for it. Pure: the node asks, and the model of ``tests/model`` asks the same."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.stages import Archived, Done, Stage
from fabrik_node.ids import show_id

__all__ = ["RemoteClaim", "RemoteVerdict", "closing", "is_free", "judge_remote", "may_settle", "may_state"]


class RemoteClaim(Protocol):
    """The newest link of an item's chain at the arbiter. ``state``: held, released or merged; ``merged`` is the merge commit, empty before."""

    @property
    def number(self) -> int: ...

    @property
    def oid(self) -> bytes: ...

    @property
    def claim_id(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def merged(self) -> bytes: ...


class RemoteVerdict(Enum):
    """What a claimer may do about the arbiter's newest link."""

    FREE = "free"
    """Follow it."""
    HELD = "held"
    """Its holder is known here and has a lease."""
    STRANGER = "stranger"
    """It was granted to a claim of which nothing is known here: its op is on the way, or its holder died in between. Give it a lease's time."""
    MERGED = "merged"
    """The work is on the base branch: nothing is left but to say so."""


def is_free(stage: Stage, claim: Claim | None, lease: LeaseState) -> bool:
    """Whether an item in ``stage`` whose winning claim is ``claim`` may be claimed by somebody for whom its lease is in state ``lease``."""
    if isinstance(stage, Done | Archived) or (claim is not None and claim.is_last):
        return False
    return claim is None or not claim.held or lease is LeaseState.LOST


def judge_remote(current: Claim | None, known: RemoteClaim | None, *, free: bool) -> RemoteVerdict:
    """``current``: the winning claim as far as we know; ``free``: what :func:`is_free` says of it; ``known``: what the arbiter has."""
    if known is None:
        return RemoteVerdict.FREE
    if known.merged:
        return RemoteVerdict.MERGED
    if known.state != "held":
        return RemoteVerdict.FREE
    if current is None:
        return RemoteVerdict.STRANGER
    # The second: an operator ended it on a node without a remote. Following is safe: the remote then refuses the old holder.
    if known.claim_id in {show_id(current.claim_id), show_id(current.follows)}:
        return RemoteVerdict.FREE if free else RemoteVerdict.HELD
    return RemoteVerdict.FREE if current.receipt > known.number else RemoteVerdict.STRANGER


def may_settle(current: Claim | None) -> bool:
    """Whether a claim without a receipt could ever win after ``current``."""
    return current is None or current.receipt == 0


def may_state(now: Claim | None, followed: Claim | None, claim: Claim) -> bool:
    """Whether a first statement of ``claim`` should be written, when it was made to follow ``followed`` and ``now`` is the winning one.

    One with a receipt always: the arbiter granted it, and all must learn of it.
    """
    moved = (now is None) != (followed is None) or (now is not None and followed is not None and now.claim_id != followed.claim_id)
    return claim.receipt > 0 or not moved


def closing(wanted: Claim, known: RemoteClaim) -> Claim:
    """``wanted``, confirmed above the claim under which the item was merged, only to write that it is done. The arbiter's chain is over by then."""
    return wanted.confirmed(known.number + 1, known.oid)
