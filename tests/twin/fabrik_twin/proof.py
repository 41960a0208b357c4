"""Proofs of an op and of a fork: ``op.cddl`` in plain Python, with PyNaCl's Ed25519 and the reference BLAKE3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fabrik_twin.cbor import Refused, decode, encode
from fabrik_twin.op import EPOCH_MAX, LIMIT, OP_BYTES_MAX, Op, Segment, digest, head_message, log_start, op_decode, segment_verify, verify

PROOF_BYTES_MAX = 1_048_576


@dataclass(frozen=True)
class ProvenOp:
    """What an op proof that holds says."""

    mesh_id: bytes
    author: bytes
    epoch: int
    op: Op


def _require(holds: bool, cause: str) -> None:
    if not holds:
        raise Refused(cause)


def _rows(proof: bytes, count: int) -> list[Any]:
    _require(len(proof) <= PROOF_BYTES_MAX, "proof too large")
    rows = decode(proof)
    _require(isinstance(rows, list) and len(rows) == count and type(rows[0]) is int and rows[0] == 1, "no proof of a known version")
    return list(rows)


def _bytes(value: Any, size: int) -> bytes:
    _require(isinstance(value, bytes) and len(value) == size, f"not {size} bytes")
    return bytes(value)


def _number(value: Any, high: int) -> int:
    _require(type(value) is int and 1 <= value <= high, f"not a number of 1..{high}")
    return int(value)


def op_proof(mesh_id: bytes, segment: Segment, last_lamport: int, seq: int) -> bytes:
    """The proof of op ``seq`` of a segment whose last op has this lamport."""
    index = seq - segment.first_seq
    prev = segment.prev
    for body in segment.bodies[:index]:
        prev = digest(prev + digest(body))
    after = [digest(body) for body in segment.bodies[index + 1 :]]
    return encode([1, mesh_id, segment.author, segment.epoch, prev, segment.bodies[index], after, last_lamport, segment.sig])


def op_proof_verify(proof: bytes) -> ProvenOp:
    """Raises :class:`Refused` or ``BadSignature``."""
    _, mesh_id, author, epoch, prev, body, after, lamport, sig = _rows(proof, 9)
    mesh_id, author, prev, sig = _bytes(mesh_id, 32), _bytes(author, 32), _bytes(prev, 32), _bytes(sig, 64)
    _number(epoch, EPOCH_MAX)
    _number(lamport, LIMIT)
    _require(isinstance(body, bytes) and len(body) <= OP_BYTES_MAX, "no op")
    _require(isinstance(after, list), "after is no list")
    op = op_decode(body)
    head = digest(prev + digest(body))
    for one in after:
        head = digest(head + _bytes(one, 32))
    last = _number(op.seq + len(after), LIMIT)
    _require(bool(after) or lamport == op.lamport, "two lamports of one op")
    verify(author, head_message(mesh_id, author, epoch, last, lamport, head), sig)
    _require(op.seq > 1 or prev == log_start(mesh_id, author, epoch), "the first op does not start from h_0")
    return ProvenOp(mesh_id, author, epoch, op)


def fork_proof_verify(proof: bytes) -> tuple[bytes, bytes, int, int]:
    """``(mesh_id, author, epoch, seq)``. Raises :class:`Refused` or ``BadSignature``."""
    _, mesh_id, first, second = _rows(proof, 4)
    mesh_id = _bytes(mesh_id, 32)
    _require(isinstance(first, bytes) and isinstance(second, bytes) and first <= second, "not two segments in order")
    one, other = (segment_verify(mesh_id, data) for data in (first, second))
    _require((one.author, one.epoch) == (other.author, other.epoch), "two logs")
    heads, other_heads = _heads(one), _heads(other)
    differing = [seq for seq in sorted(heads.keys() & other_heads.keys()) if heads[seq] != other_heads[seq]]
    _require(bool(differing), "no place where they differ")
    return mesh_id, one.author, one.epoch, differing[0]


def _heads(segment: Segment) -> dict[int, bytes]:
    heads, head = {}, segment.prev
    for op in segment.ops:
        head = digest(head + digest(op.body))
        heads[op.seq] = head
    return heads
