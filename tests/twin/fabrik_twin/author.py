"""Authors that write logs for tests: any op, legal or not, signed at any head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fabrik_twin.merge import STEP_MAX, clock_after
from fabrik_twin.op import (
    WRITE,
    Fence,
    Genesis,
    Key,
    WriteTuple,
    advance,
    digest,
    genesis_decode,
    genesis_encode,
    head_message,
    log_start,
    op_decode,
    op_encode,
    segment_encode,
)

WALL_MS = 1_750_000_000_000


def seed(number: int) -> bytes:
    """The seed of test author ``number``. Public, so worth nothing."""
    return digest(b"fabrik test author %d" % number)


def id16(number: int) -> bytes:
    """A fixed 16-byte id."""
    return digest(b"fabrik test id %d" % number)[:16]


def new_genesis(admin: Key, name: str = "test mesh", nonce: int = 0) -> bytes:
    """A genesis record with a fixed nonce."""
    return genesis_encode(admin.public, name, id16(nonce), WALL_MS)


def claim(node: bytes, claim_id: bytes, *, epoch: int = 1, receipt: int = 0, state: int = 0, extra: dict[Any, Any] | None = None) -> dict[int, Any]:
    """A well-formed claim value."""
    return {1: claim_id, 2: epoch, 3: receipt, 4: state, 5: node, 6: "agent", 7: 90_000, 8: "boot/1/2"} | (extra or {})


class Author:
    """One log under construction. ``bodies`` are its ops; nothing is checked but what the encoding needs."""

    def __init__(self, genesis: bytes, key: Key, epoch: int = 1) -> None:
        self.genesis: Genesis = genesis_decode(genesis)
        self.key = key
        self.epoch = epoch
        self.bodies: list[bytes] = []
        self.clock = 0
        self._cut = 0

    def op(
        self,
        *writes: WriteTuple,
        lamport: int | None = None,
        kind: int = WRITE,
        follows: tuple[int, int, bytes] | None = None,
        extra: dict[Any, Any] | None = None,
    ) -> bytes:
        """Append one op (default lamport: one above the log's clock) and give its body."""
        lamport = self.clock + 1 if lamport is None else lamport
        seq = len(self.bodies) + 1
        self.bodies.append(op_encode(seq, lamport, writes, wall_ms=WALL_MS + seq, kind=kind, follows=follows, extra=extra))
        self.clock = clock_after(self.clock, lamport)
        return self.bodies[-1]

    def raise_clock(self, lamport: int) -> None:
        """Empty ops, each of the largest legal step, until ``lamport`` is one more step at most."""
        while self.clock + STEP_MAX < lamport:
            self.op(lamport=self.clock + STEP_MAX)

    def segment(self, first_seq: int, last_seq: int) -> bytes:
        """The ops ``first_seq`` to ``last_seq``, signed at the last."""
        prev = advance(log_start(self.genesis.mesh_id, self.key.public, self.epoch), self.bodies[: first_seq - 1])
        return sign_segment(self.key, self.genesis.mesh_id, self.epoch, first_seq, prev, self.bodies[first_seq - 1 : last_seq])

    def branch(self, base: int) -> Author:
        """Another path of the same log: the same first ``base`` ops, and nothing behind them yet."""
        other = Author(self.genesis.data, self.key, self.epoch)
        for body in self.bodies[:base]:
            other.copy(body)
        other._cut = base
        return other

    def copy(self, body: bytes) -> None:
        """Append an op that stands at the same place of another branch."""
        self.bodies.append(body)
        self.clock = clock_after(self.clock, op_decode(body).lamport)

    def cut(self) -> bytes:
        """All ops since the last cut as one segment."""
        first, self._cut = self._cut + 1, len(self.bodies)
        return self.segment(first, self._cut)

    def split(self, cuts: Sequence[int]) -> list[bytes]:
        """The whole log as segments that end at each of ``cuts`` and at the end."""
        ends = sorted({cut for cut in cuts if 0 < cut < len(self.bodies)} | {len(self.bodies)} - {0})
        return [self.segment(first + 1, last) for first, last in zip([0, *ends], ends, strict=False)]


def sign_segment(key: Key, mesh_id: bytes, epoch: int, first_seq: int, prev: bytes, bodies: Sequence[bytes], lamport: int | None = None) -> bytes:
    """A signed segment. With ``lamport`` the bodies need not be ops."""
    last = op_decode(bodies[-1]).lamport if lamport is None else lamport
    message = head_message(mesh_id, key.public, epoch, first_seq + len(bodies) - 1, last, advance(prev, bodies))
    return segment_encode(key.public, epoch, first_seq, prev, bodies, key.sign(message))


__all__ = ["WALL_MS", "Author", "Fence", "claim", "id16", "new_genesis", "seed", "sign_segment"]
