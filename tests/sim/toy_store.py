"""What a node is to the protocol, as small as it can be: hash-chained logs of opaque ops, members named by the admin's log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from nacl.signing import SigningKey, VerifyKey

from fabrik_sync import Head, Heads, LogId

MEMBER = b"member:"


class Signer:
    """An Identity with real Ed25519 and repeatable randomness."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(hashlib.sha256(b"key" + seed).digest())
        self._random = Random(seed)
        self.public = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign(message).signature)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        VerifyKey(public).verify(message, signature)

    def random(self, n: int) -> bytes:
        return self._random.randbytes(n)


@dataclass
class Log:
    ops: list[bytes] = field(default_factory=list)
    chain: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Applied:
    """The outcome of one segment: how many ops were new, how many held already, and what else was wrong with it."""

    new: int = 0
    held: int = 0
    gap: bool = False
    fork: bool = False


class ToyStore:
    """Durable at once. ``segment_ops`` bounds the ops of one segment, as stored ones are bounded."""

    def __init__(self, admin: bytes, *, segment_ops: int = 50) -> None:
        self.admin = admin
        self.segment_ops = segment_ops
        self.logs: dict[LogId, Log] = {}
        self.members = {admin}
        self.reads = 0

    # ---- Replica

    def heads(self) -> Iterator[tuple[LogId, Heads]]:
        for log in self.logs:
            yield log, self.heads_of(log)

    def admit(self, key: bytes) -> bool:
        return key in self.members

    def priority(self, author: bytes) -> int:
        return 0 if author == self.admin else 1

    # ---- writing and reading

    def heads_of(self, log: LogId) -> Heads:
        held = self.logs[log]
        return (Head(len(held.ops), held.chain[-1]),)

    def seq(self, log: LogId) -> int:
        return len(self.logs[log].ops) if log in self.logs else 0

    def append(self, log: LogId, op: bytes) -> None:
        held = self.logs.setdefault(log, Log())
        held.ops.append(op)
        held.chain.append(_step(held.chain[-1] if held.chain else _start(log), op))
        if log.author == self.admin and op.startswith(MEMBER):
            self.members.add(op[len(MEMBER) :])

    def read(self, log: LogId, after: int, max_bytes: int) -> list[tuple[int, int, bytes]]:
        self.reads += 1
        held, result, size = self.logs[log], [], 0
        while after < len(held.ops):
            ops = held.ops[after : after + self.segment_ops]
            while ops and (room := len(data := encode_segment(log, after + 1, held.chain[after - 1] if after else _start(log), ops))) + size > max_bytes:
                ops = ops[: len(ops) // 2]
            if not ops:
                break
            result.append((after + 1, after + len(ops), data))
            size += room
            after += len(ops)
        return result

    def apply(self, log: LogId, data: bytes) -> Applied:
        """Verify, chain, persist. A segment that does not fit changes nothing."""
        named, first, prev, ops = decode_segment(data)
        assert named == log, "the frame names another log than its segment"
        held = self.logs.get(log, Log())
        have = len(held.ops)
        if first > have + 1:
            return Applied(gap=True)
        if prev != (held.chain[first - 2] if first > 1 else _start(log)):
            return Applied(fork=True)
        overlap = have - first + 1
        if ops[:overlap] != held.ops[first - 1 : first - 1 + len(ops)]:
            return Applied(fork=True)
        for op in ops[overlap:]:
            self.append(log, op)
        return Applied(new=max(0, len(ops) - overlap), held=min(overlap, len(ops)))

    def digest(self) -> bytes:
        return hashlib.sha256(b"".join(log.author + log.epoch.to_bytes(8, "big") + held.chain[-1] for log, held in sorted(self.logs.items()))).digest()


def _start(log: LogId) -> bytes:
    return hashlib.sha256(b"start" + log.author + log.epoch.to_bytes(8, "big")).digest()


def _step(h: bytes, op: bytes) -> bytes:
    return hashlib.sha256(h + hashlib.sha256(op).digest()).digest()


def encode_segment(log: LogId, first: int, prev: bytes, ops: list[bytes]) -> bytes:
    body = b"".join(len(op).to_bytes(4, "big") + op for op in ops)
    return log.author + log.epoch.to_bytes(8, "big") + first.to_bytes(8, "big") + prev + body


def decode_segment(data: bytes) -> tuple[LogId, int, bytes, list[bytes]]:
    log, first, prev, at, ops = LogId(data[:32], int.from_bytes(data[32:40], "big")), int.from_bytes(data[40:48], "big"), data[48:80], 80, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        ops.append(data[at + 4 : end])
        at = end
    return log, first, prev, ops
