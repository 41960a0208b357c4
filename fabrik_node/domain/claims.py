"""Claims: the immutable record of who works on an item, and how it is written as a register value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from fabrik_node.domain.stages import STAGE_TYPES, Stage, stage_type, stage_value
from fabrik_node.errors import InvalidOp

__all__ = ["ATTEMPTS_MAX", "Claim", "ClaimState", "Fence", "decode_claim", "encode_claim", "override", "stage_ttls", "successor"]

Fence = tuple[int, int, bytes]

ATTEMPTS_MAX = 2**32 - 1
"""No item gets there; what a member writes above it counts as this."""
_EPOCH_MAX = 2**64 - 1
"""Where counting ends."""
_RECEIPT_MAX = 2**32 - 1
"""No chain of an arbiter gets there, so no grant would win over a claim with more."""


class ClaimState(IntEnum):
    """Of one claim; a higher state wins over a lower one of the same claim."""

    TENTATIVE = 0
    CONFIRMED = 1
    RELEASED = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. ``ttl_ms`` in milliseconds; ``node`` is the author's key; ``incarnation`` names the holder's process."""

    claim_id: bytes
    epoch: int
    receipt: int
    state: ClaimState
    node: bytes
    agent: str
    ttl_ms: int
    incarnation: str
    reason: str = ""
    oid: bytes = b""
    follows: bytes = b""
    stage_ttls: tuple[tuple[int, int], ...] = ()
    """``(tag of a stage, milliseconds)``, in order of the tags: what counts there in place of ``ttl_ms``."""
    found: tuple[int, int] | None = None
    """How many attempts had failed when it was made, and the epoch of the claim under which that was counted: :mod:`fabrik_node.domain.inheritance`. None: it does not say so."""
    found_stage: tuple[Any, ...] | None = None
    """The stage then, as a register has it. None: it does not say so."""
    follows_ended: bool = False
    """The claim that it follows had ended when it was made, or there was none. False, too, when it does not say so."""

    def ttl_s(self, stage: Stage) -> float:
        """How long a renewal is believed while the item is in ``stage``."""
        return dict(self.stage_ttls).get(STAGE_TYPES.index(type(stage)), self.ttl_ms) / 1000

    @property
    def ttl_ms_max(self) -> int:
        """The longest time for which a renewal is believed in any stage: for who does not know in which one the item is."""
        return max(self.ttl_ms, *(ttl_ms for _, ttl_ms in self.stage_ttls), 0)

    @property
    def fence(self) -> Fence:
        """What every write under this claim carries."""
        return (self.receipt, self.epoch, self.claim_id)

    @property
    def held(self) -> bool:
        """Not released. Says nothing about the lease, which only an observer's clock can tell."""
        return self.state is not ClaimState.RELEASED

    @property
    def is_last(self) -> bool:
        """No claim can be counted on to win over it: its epoch or receipt has no successor. Only a strange member writes such a one; the item is no use any more."""
        return self.epoch >= _EPOCH_MAX or self.receipt > _RECEIPT_MAX

    def confirmed(self, receipt: int = 0, oid: bytes = b"") -> Claim:
        """The same claim, confirmed by an arbiter's receipt or by the settle delay."""
        return replace(self, state=ClaimState.CONFIRMED, receipt=receipt or self.receipt, oid=oid or self.oid)

    def released(self, reason: str) -> Claim:
        """The same claim, given back."""
        return replace(self, state=ClaimState.RELEASED, reason=reason)


def stage_ttls(seconds: Mapping[str, float]) -> tuple[tuple[int, int], ...]:
    """The form in which a claim carries TTLs by the name of a stage. Raises UsageError for a name that no stage has."""
    return tuple(sorted((STAGE_TYPES.index(stage_type(name)), round(ttl_s * 1000)) for name, ttl_s in seconds.items()))


def successor(
    current: Claim | None, *, claim_id: bytes, node: bytes, agent: str, ttl_ms: int, incarnation: str, ttls: tuple[tuple[int, int], ...] = ()
) -> Claim:
    """A tentative claim that follows ``current`` (None: the item was never claimed).

    Its receipt is 0 until an arbiter gives one, so it can not overwrite a claim that an arbiter granted.
    """
    return Claim(
        claim_id=claim_id,
        epoch=1 if current is None else min(current.epoch + 1, _EPOCH_MAX),
        receipt=0,
        state=ClaimState.TENTATIVE,
        node=node,
        agent=agent,
        ttl_ms=ttl_ms,
        incarnation=incarnation,
        follows=b"" if current is None else current.claim_id,
        stage_ttls=ttls,
    )


def override(current: Claim, *, claim_id: bytes, node: bytes, incarnation: str, reason: str) -> Claim:
    """An operator's claim that ends ``current`` at once: one epoch above it, under the same receipt, and already released."""
    return Claim(
        claim_id, min(current.epoch + 1, _EPOCH_MAX), current.receipt, ClaimState.RELEASED, node, "operator", 0, incarnation, reason, b"", current.claim_id
    )


def encode_claim(claim: Claim) -> dict[int, Any]:
    """The CBOR form of merge.md."""
    value: dict[int, Any] = {
        1: claim.claim_id,
        2: claim.epoch,
        3: claim.receipt,
        4: int(claim.state),
        5: claim.node,
        6: claim.agent,
        7: claim.ttl_ms,
        8: claim.incarnation,
    }
    found_stage = claim.found_stage and list(claim.found_stage)
    optional: dict[int, Any] = {
        9: claim.reason,
        10: claim.oid,
        11: claim.follows,
        12: dict(claim.stage_ttls),
        13: claim.found and list(claim.found),
        14: found_stage,
        15: claim.follows_ended,
    }
    return value | {number: part for number, part in optional.items() if part}


def decode_claim(value: dict[int, Any]) -> Claim:
    """Inverse of :func:`encode_claim`; unknown fields of a newer version are left aside."""
    try:
        return Claim(
            claim_id=value[1],
            epoch=value[2],
            receipt=value[3],
            state=ClaimState(value[4]),
            node=value[5],
            agent=value[6],
            ttl_ms=value[7],
            incarnation=value[8],
            reason=value.get(9, ""),
            oid=value.get(10, b""),
            follows=value.get(11, b""),
            stage_ttls=_read_ttls(value.get(12)),
            found=_read_found(value.get(13), value[2]),
            found_stage=stage_value(value.get(14)),
            follows_ended=value.get(15) is True,
        )
    except (KeyError, ValueError) as error:
        raise InvalidOp(f"claim value is of a newer version: {error}", "upgrade this node") from error


def _read_found(value: Any, upto: int) -> tuple[int, int] | None:
    """Of another type, or what can not be, it is as if it was not there. ``upto``: the claim's own epoch."""
    match value:
        case [int(attempts), int(epoch)] if {type(attempts), type(epoch)} == {int} and 0 <= attempts <= ATTEMPTS_MAX and 0 <= epoch <= upto:
            return (attempts, epoch)
        case _:
            return None


def _read_ttls(value: Any) -> tuple[tuple[int, int], ...]:
    """Of another type it is as if it was not there."""
    if not isinstance(value, dict):
        return ()
    return tuple(sorted((tag, ms) for tag, ms in value.items() if isinstance(tag, int) and isinstance(ms, int) and ms > 0))
