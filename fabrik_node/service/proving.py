"""Proofs of what is stored: of one op, for anybody who has the author's key."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabrik_node._core import find_ops, op_proof
from fabrik_node.domain.proofs import op_document
from fabrik_node.errors import BadSignature, BrokenStore, InvalidOp, NotFound, UsageError
from fabrik_node.ids import PREFIX_CHARS_MIN, resolve, show_key
from fabrik_node.ports import OpReads, StoredSegment

__all__ = ["Proving"]

_HINT = "fabrik-node items history ID shows the op of each change"


class Proving:
    """``stamp`` says what an answer rests on. Works on a running node and on a store that no node serves."""

    def __init__(self, store: OpReads, mesh_id: bytes, stamp: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self._store = store
        self._mesh_id = mesh_id
        self._stamp = stamp

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Reads by name."""
        return {"ops.proof": self.ops_proof}

    async def ops_proof(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The proof of one op, found by its digest. ``also``: other places with the same bytes, which have proofs of their own."""
        text = args.get("id")
        if not isinstance(text, str) or not text:
            raise UsageError("id is missing", _HINT)
        prefix = text.lower()
        if not re.fullmatch(r"[0-9a-f]{1,64}", prefix):
            raise NotFound(f"no op {text!r}: an op is named by the hex digits of its digest", _HINT)
        if len(prefix) < PREFIX_CHARS_MIN:
            raise NotFound(f"no op {text!r}: give at least {PREFIX_CHARS_MIN} digits of its digest", _HINT)
        places = await self._find(prefix)
        (row, seq), *others = places[resolve(prefix, places, "op", _HINT)]
        try:
            proof = await asyncio.to_thread(op_proof, self._mesh_id, row.data, seq)
        except (InvalidOp, BadSignature) as error:
            raise _damaged(row, error) from error
        also = [{"author": show_key(other.author), "epoch": other.epoch, "seq": at} for other, at in others]
        return self._stamp({"proof": op_document(proof), "also": also})

    async def _find(self, prefix: str) -> dict[str, list[tuple[StoredSegment, int]]]:
        """Where ops with such a digest are stored, in order of arrival. Reads the whole log."""
        found: dict[str, list[tuple[StoredSegment, int]]] = defaultdict(list)
        async for batch in self._store.load():
            for index, seq, digest in await asyncio.to_thread(find_ops, [row.data for row in batch], prefix):
                found[digest.hex()].append((batch[index], seq))
        return found


def _damaged(row: StoredSegment, error: Exception) -> BrokenStore:
    return BrokenStore(f"ops {row.first_seq} to {row.last_seq} of {show_key(row.author)[:8]} are damaged in the store: {error}", "fabrik-node status")
