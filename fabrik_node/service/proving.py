"""Proofs of what is stored, for anybody who has the author's key: of one op, and of an author who signed two histories of one log."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabrik_node._core import blake3, find_ops, op_proof
from fabrik_node.clock import iso
from fabrik_node.domain.proofs import fork_document, op_document
from fabrik_node.errors import BadSignature, BrokenStore, InvalidOp, NotFound, UsageError
from fabrik_node.ids import PREFIX_CHARS_MIN, resolve, show_key
from fabrik_node.ports import OpReads, StoredSegment

__all__ = ["Proving"]

_HINT = "fabrik-node items history ID shows the op of each change"


class Proving:
    """``stamp`` says what an answer rests on. Works on a running node and on a store that no node serves."""

    def __init__(self, store: OpReads, mesh_id: bytes, stamp: Callable[[Mapping[str, Any]], dict[str, Any]], name_of: Callable[[bytes], str]) -> None:
        self._store = store
        self._mesh_id = mesh_id
        self._stamp = stamp
        self._name_of = name_of

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Reads by name."""
        return {"ops.proof": self.ops_proof, "ops.forks": self.ops_forks}

    async def ops_proof(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The proof of one op, found by its digest, or of one fork, found by its id.

        ``also``: other places with the same bytes, which have proofs of their own.
        """
        text = args.get("id")
        if not isinstance(text, str) or not text:
            raise UsageError("id is missing", _HINT)
        prefix = text.lower()
        if not re.fullmatch(r"[0-9a-f]{1,64}", prefix):
            raise NotFound(f"no op {text!r}: an op is named by the hex digits of its digest", _HINT)
        if len(prefix) < PREFIX_CHARS_MIN:
            raise NotFound(f"no op {text!r}: give at least {PREFIX_CHARS_MIN} digits of its digest", _HINT)
        places = await self._find(prefix)
        forks = {blake3(fork.proof).hex(): fork.proof for fork in await self._store.forks()}
        name = resolve(prefix, [*places, *forks], "op", _HINT)
        if name in forks:
            return self._stamp({"proof": fork_document(forks[name]), "also": []})
        (row, seq), *others = places[name]
        try:
            proof = await asyncio.to_thread(op_proof, self._mesh_id, row.data, seq)
        except (InvalidOp, BadSignature) as error:
            raise _damaged(row, error) from error
        also = [{"author": show_key(other.author), "epoch": other.epoch, "seq": at} for other, at in others]
        return self._stamp({"proof": op_document(proof), "also": also})

    async def ops_forks(self, _args: Mapping[str, Any]) -> dict[str, Any]:
        """Logs of which two histories were seen, each with its proof."""
        forks = [
            {
                "id": blake3(fork.proof).hex(),
                "author": show_key(fork.author),
                "name": self._name_of(fork.author),
                "epoch": fork.epoch,
                "seq": fork.seq,
                "at": iso(fork.at_ms),
                "proof": fork_document(fork.proof),
            }
            for fork in await self._store.forks()
        ]
        return self._stamp({"forks": forks})

    async def _find(self, prefix: str) -> dict[str, list[tuple[StoredSegment, int]]]:
        """Where ops with such a digest are stored, in order of arrival. Reads the whole log."""
        found: dict[str, list[tuple[StoredSegment, int]]] = defaultdict(list)
        async for batch in self._store.load():
            for index, seq, digest in await asyncio.to_thread(find_ops, [row.data for row in batch], prefix):
                found[digest.hex()].append((batch[index], seq))
        return found


def _damaged(row: StoredSegment, error: Exception) -> BrokenStore:
    return BrokenStore(f"ops {row.first_seq} to {row.last_seq} of {show_key(row.author)[:8]} are damaged in the store: {error}", "fabrik-node ops check")
