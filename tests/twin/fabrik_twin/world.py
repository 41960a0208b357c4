"""A replica of the twin: takes segments in any order, stores what chains, answers from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fabrik_twin.merge import Log, State
from fabrik_twin.op import Genesis, Op, advance, be64, derive, genesis_decode, log_start, segment_verify

Outcome = Literal["stored", "duplicate", "gap", "fork", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What became of an offered segment; ``stored`` and ``duplicates`` count ops."""

    outcome: Outcome
    stored: int = 0
    duplicates: int = 0


class World:
    """Chain validity of merge.md. Ops are kept by log, in order."""

    def __init__(self, genesis: bytes) -> None:
        self.genesis: Genesis = genesis_decode(genesis)
        self.logs: dict[Log, list[Op]] = {}

    @property
    def state(self) -> State:
        """The meaning of all ops held, computed anew."""
        return State(self.genesis, {log: list(ops) for log, ops in self.logs.items()})

    def head(self, author: bytes, epoch: int, seq: int | None = None) -> bytes:
        """``h`` at ``seq`` (default: the last) of a log."""
        bodies = [op.body for op in self.logs.get((author, epoch), [])]
        return advance(log_start(self.genesis.mesh_id, author, epoch), bodies[:seq])

    def offer(self, data: bytes, *, admit_all: bool = False) -> Verdict:
        """Store what is new and fits. Raises :class:`~fabrik_twin.cbor.Refused` or its BadSignature for bad bytes; then nothing has changed."""
        segment = segment_verify(self.genesis.mesh_id, data)
        log = (segment.author, segment.epoch)
        if not admit_all and not self.state.admitted(segment.author):
            return Verdict("unknown")
        held = self.logs.get(log, [])
        if segment.first_seq > len(held) + 1:
            return Verdict("gap")
        if segment.prev != self.head(*log, segment.first_seq - 1):
            return Verdict("fork")
        overlap = held[segment.first_seq - 1 : segment.first_seq - 1 + len(segment.ops)]
        if any(have.body != op.body for have, op in zip(overlap, segment.ops, strict=False)):
            return Verdict("fork")
        fresh = list(segment.ops[len(overlap) :])
        if not fresh:
            return Verdict("duplicate", duplicates=len(overlap))
        self.logs[log] = held + fresh
        return Verdict("stored", len(fresh), len(overlap))

    def frontier_digest(self) -> bytes:
        """See merge.md."""
        rows = [author + be64(epoch) + be64(len(self.logs[author, epoch])) + self.head(author, epoch) for author, epoch in sorted(self.logs)]
        return derive("fabrik 2026 v1 frontier", b"".join(rows))
