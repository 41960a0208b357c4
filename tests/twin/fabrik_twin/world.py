"""A replica of the twin: takes segments in any order, stores what chains, answers from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fabrik_twin.merge import HEADS_MAX, Log, Placed, State, Tree, heads_of
from fabrik_twin.op import LIMIT, Genesis, advance, be64, derive, genesis_decode, segment_verify

Outcome = Literal["stored", "duplicate", "gap", "unknown", "refused"]


@dataclass(frozen=True)
class Verdict:
    """What became of an offered segment; ``stored`` and ``duplicates`` count ops.

    ``forked``: the sequence number at which it opens a branch of a log, 0 for none. ``refused``: its log is suspended.
    """

    outcome: Outcome
    stored: int = 0
    duplicates: int = 0
    forked: int = 0


class World:
    """Chain validity and forks of merge.md. A log is the tree of its ops, by chain hash."""

    def __init__(self, genesis: bytes) -> None:
        self.genesis: Genesis = genesis_decode(genesis)
        self.logs: dict[Log, Tree] = {}

    @property
    def state(self) -> State:
        """The meaning of all ops held, computed anew."""
        return State(self.genesis, {log: dict(tree) for log, tree in self.logs.items()})

    def heads(self, author: bytes, epoch: int) -> list[Placed]:
        """The ends of the branches of a log."""
        return heads_of(self.logs.get((author, epoch), {}))

    def offer(self, data: bytes, *, admit_all: bool = False) -> Verdict:
        """Store what is new and fits. Raises :class:`~fabrik_twin.cbor.Refused` or its BadSignature for bad bytes; then nothing has changed."""
        segment = segment_verify(self.genesis.mesh_id, data)
        log = (segment.author, segment.epoch)
        state = self.state
        if not admit_all and not state.named(segment.author):
            return Verdict("unknown")
        if log in state.suspended:
            return Verdict("refused")
        tree = self.logs.get(log, {})
        if segment.first_seq > 1 and (segment.prev not in tree or tree[segment.prev].op.seq != segment.first_seq - 1):
            return Verdict("gap")
        path = []
        head = segment.prev
        for op in segment.ops:
            path.append(Placed(op, head, advance(head, [op.body])))
            head = path[-1].head
        fresh = [placed for placed in path if placed.head not in tree]
        known = len(path) - len(fresh)
        if not fresh:
            return Verdict("duplicate", duplicates=known)
        forked = any(placed.prev == fresh[0].prev for placed in tree.values())
        self.logs[log] = tree | {placed.head: placed for placed in fresh}
        return Verdict("stored", len(fresh), known, fresh[0].op.seq if forked else 0)

    def marker(self, author: bytes, epoch: int) -> tuple[int, bytes] | None:
        """The one head by which a log is announced in place of its own, if it is."""
        ends = self.heads(author, epoch)
        if len(ends) <= HEADS_MAX:
            return None
        if (author, epoch) in self.state.suspended:
            return LIMIT, bytes(32)
        return LIMIT - 1, derive("fabrik 2026 v1 heads", b"".join(be64(end.op.seq) + end.head for end in ends))

    def frontier_digest(self) -> bytes:
        """See merge.md."""
        suspended = self.state.suspended
        rows = []
        for author, epoch in sorted(self.logs):
            ends = [(LIMIT, bytes(32))] if (author, epoch) in suspended else [(end.op.seq, end.head) for end in self.heads(author, epoch)]
            rows += [author + be64(epoch) + be64(seq) + head for seq, head in ends]
        return derive("fabrik 2026 v1 frontier", b"".join(rows))
