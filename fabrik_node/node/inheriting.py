"""The first op of a claim: it says what it found (:mod:`fabrik_node.domain.inheritance`), so that nothing which an earlier holder writes from then on is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fabrik_node._core import cbor_encode
from fabrik_node.domain.claims import Claim, encode_claim
from fabrik_node.domain.inheritance import inherited
from fabrik_node.domain.schema import ClaimField, ItemField, Kind
from fabrik_node.domain.stages import Stage, encode_stage
from fabrik_node.node.board import Board

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["first_statement"]

_AGAIN_BYTES_MAX = 16_384
"""Of one value that is written again; agents write less. What a strange member made larger than that is left behind, so that it keeps nobody from claiming the item."""


def first_statement(board: Board, item: bytes, claim: Claim, *, stage: Stage | None = None) -> tuple[Claim, list[Write]]:
    """``claim`` as it is stated first, and the writes of that op; in the writer. ``stage``: where the item goes with it."""
    stated, again = inherited(item, claim, board.claim(item), board.registers(item))
    if stage is not None:
        again[ItemField.STAGE] = encode_stage(stage)
    writes: list[Write] = [(Kind.CLAIM, item, ClaimField.CLAIM, encode_claim(stated), None)]
    writes += [(Kind.ITEM, item, field, value, stated.fence) for field, value in again.items() if len(cbor_encode(value)) <= _AGAIN_BYTES_MAX]
    return stated, writes
