"""Ops, log chains, head signatures, segments, the genesis record and ephemeral messages: ``op.cddl`` in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from fabrik_twin.cbor import Map, Refused, decode, encode

LIMIT = 2**53
EPOCH_MAX = 2**53 - 1
OP_BYTES_MAX = 65_536
"""Of an op body, a genesis record and an ephemeral message."""
SEGMENT_BYTES_MAX = 262_144

WRITE, GENESIS, OPENING = 1, 2, 3

Fence = tuple[int, int, bytes]
WriteTuple = tuple[int, bytes, int, Any, Fence | None]


class BadSignature(Refused):
    """A signature that does not verify."""

    verdict = "bad_signature"


class BadGenesis(Refused):
    """A genesis record that can not be read."""

    verdict = "bad_genesis"


def digest(data: bytes) -> bytes:
    """BLAKE3-256."""
    return blake3(data).digest()


def derive(context: str, material: bytes) -> bytes:
    """BLAKE3 in its key derivation mode."""
    return blake3(material, derive_key_context=context).digest()


def be64(number: int) -> bytes:
    """Eight bytes, big-endian."""
    return number.to_bytes(8, "big")


def _require(holds: bool, cause: str) -> None:
    if not holds:
        raise Refused(cause)


def _is_uint(value: Any, low: int = 0, high: int = 2**64 - 1) -> bool:
    return type(value) is int and low <= value <= high


def _is_bytes(value: Any, *sizes: int) -> bool:
    return isinstance(value, bytes) and len(value) in sizes


# ---- ops ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Write:
    """One write of an op. ``value`` has :class:`Map` for maps."""

    kind: int
    id: bytes
    field: int
    value: Any
    fence: Fence | None


@dataclass(frozen=True)
class Op:
    """A decoded op and the bytes that it came from."""

    body: bytes
    seq: int
    lamport: int
    wall_ms: int
    kind: int
    writes: tuple[Write, ...]
    follows: tuple[int, int, bytes] | None

    @property
    def digest(self) -> bytes:
        """``digest_i``."""
        return digest(self.body)


def op_encode(
    seq: int,
    lamport: int,
    writes: Sequence[WriteTuple] = (),
    *,
    wall_ms: int = 0,
    kind: int = WRITE,
    follows: tuple[int, int, bytes] | None = None,
    extra: dict[Any, Any] | None = None,
) -> bytes:
    """An op body. Checks nothing beyond CBOR, so that tests can write bad ones; ``extra`` adds or replaces top-level fields."""
    rows = [[w[0], w[1], w[2], w[3], *([] if w[4] is None else [list(w[4])])] for w in writes]
    fields: dict[Any, Any] = {1: seq, 2: lamport, 3: wall_ms, 4: kind, 5: rows}
    if follows is not None:
        fields[6] = list(follows)
    return encode(fields | (extra or {}))


def op_decode(body: bytes) -> Op:
    """Raises :class:`Refused` unless ``body`` is a canonical op of ``op.cddl``."""
    _require(len(body) <= OP_BYTES_MAX, "op too large")
    fields = decode(body)
    _require(isinstance(fields, Map), "an op is a map")
    _require(all(_is_uint(key, 1) for key in fields), "op keys are unsigned integers from 1")
    _require(all(number in fields for number in (1, 2, 3, 4, 5)), "an op field is missing")
    _require(_is_uint(fields[1], 1, LIMIT), "seq out of range")
    _require(_is_uint(fields[2], 1, LIMIT), "lamport out of range")
    _require(_is_uint(fields[3], 0, LIMIT), "wall_ms out of range")
    _require(_is_uint(fields[4]), "kind is not an unsigned integer")
    _require(isinstance(fields[5], list), "writes are not an array")
    follows = None
    if 6 in fields:
        _require(_is_head(fields[6]), "follows is not [epoch, seq, digest]")
        follows = (fields[6][0], fields[6][1], fields[6][2])
    return Op(body, fields[1], fields[2], fields[3], fields[4], tuple(_write(row) for row in fields[5]), follows)


def _is_head(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and _is_uint(value[0], 1, EPOCH_MAX) and _is_uint(value[1], 1, LIMIT) and _is_bytes(value[2], 32)


def _write(row: Any) -> Write:
    _require(isinstance(row, list) and len(row) in (4, 5), "a write is not an array of 4 or 5")
    _require(_is_uint(row[0]) and _is_uint(row[2]), "kind or field of a write is not an unsigned integer")
    _require(_is_bytes(row[1], *range(1, 65)), "id of a write is not 1 to 64 bytes")
    fence = None
    if len(row) == 5:
        raw = row[4]
        _require(isinstance(raw, list) and len(raw) == 3 and _is_uint(raw[0]) and _is_uint(raw[1]) and _is_bytes(raw[2], 16), "malformed fence")
        fence = (raw[0], raw[1], raw[2])
    return Write(row[0], row[1], row[2], row[3], fence)


# ---- chains and signatures ------------------------------------------------------------------------------------------


def log_start(mesh_id: bytes, author: bytes, epoch: int) -> bytes:
    """``h_0``."""
    return derive("fabrik 2026 v1 log start", mesh_id + author + be64(epoch))


def advance(head: bytes, bodies: Sequence[bytes]) -> bytes:
    """``h`` after ``bodies``."""
    for body in bodies:
        head = digest(head + digest(body))
    return head


def head_message(mesh_id: bytes, author: bytes, epoch: int, seq: int, lamport: int, head: bytes) -> bytes:
    """What the author of a log signs."""
    return b"fabrik/v1/head\0" + mesh_id + author + be64(epoch) + be64(seq) + be64(lamport) + head


class Key:
    """An author: an Ed25519 key pair (libsodium)."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self._key = SigningKey(seed)
        self.public = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message).signature


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Strict Ed25519, by libsodium. Raises :class:`BadSignature`."""
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError as error:
        raise BadSignature("signature does not verify") from error


# ---- segments -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A decoded segment."""

    author: bytes
    epoch: int
    first_seq: int
    prev: bytes
    ops: tuple[Op, ...]
    sig: bytes

    @property
    def bodies(self) -> list[bytes]:
        """Op bodies, as received."""
        return [op.body for op in self.ops]

    @property
    def head(self) -> bytes:
        """``h`` of the last op."""
        return advance(self.prev, self.bodies)


def segment_encode(author: bytes, epoch: int, first_seq: int, prev: bytes, bodies: Sequence[bytes], sig: bytes) -> bytes:
    """Checks nothing, so that tests can write bad ones."""
    return encode([1, author, epoch, first_seq, prev, list(bodies), sig])


def segment_decode(data: bytes) -> Segment:
    """Raises :class:`Refused` unless ``data`` is a canonical segment whose ops sit at their sequence numbers."""
    _require(len(data) <= SEGMENT_BYTES_MAX, "segment too large")
    rows = decode(data)
    _require(isinstance(rows, list) and len(rows) == 7, "a segment is an array of 7")
    version, author, epoch, first_seq, prev, bodies, sig = rows
    _require(_is_uint(version, 1, 1), "unknown segment version")
    _require(_is_bytes(author, 32) and _is_bytes(prev, 32) and _is_bytes(sig, 64), "author, prev or signature has the wrong size")
    _require(_is_uint(epoch, 1, EPOCH_MAX) and _is_uint(first_seq, 1, LIMIT), "epoch or seq out of range")
    _require(isinstance(bodies, list) and bool(bodies) and all(isinstance(body, bytes) for body in bodies), "ops are not a list of byte strings")
    ops = tuple(op_decode(body) for body in bodies)
    _require(all(op.seq == first_seq + index for index, op in enumerate(ops)), "an op does not sit at its sequence number")
    return Segment(author, epoch, first_seq, prev, ops, sig)


def segment_verify(mesh_id: bytes, data: bytes) -> Segment:
    """The segment, when it starts where a log of this mesh can and its signature verifies. Raises :class:`Refused` or :class:`BadSignature`."""
    segment = segment_decode(data)
    last = segment.ops[-1]
    verify(segment.author, head_message(mesh_id, segment.author, segment.epoch, last.seq, last.lamport, segment.head), segment.sig)
    _require(segment.first_seq > 1 or segment.prev == log_start(mesh_id, segment.author, segment.epoch), "the first op does not start from h_0")
    return segment


# ---- genesis and ephemeral messages -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Genesis:
    """A decoded genesis record."""

    data: bytes
    admin: bytes
    name: str
    nonce: bytes
    created_ms: int
    recovery: bytes | None = None
    next: bytes | None = None

    @property
    def mesh_id(self) -> bytes:
        """The name of the mesh that this record starts."""
        return derive("fabrik 2026 v1 mesh id", self.data)


def genesis_encode(admin: bytes, name: str, nonce: bytes, created_ms: int, extra: dict[Any, Any] | None = None) -> bytes:
    """Checks nothing, so that tests can write bad ones."""
    return encode({1: 1, 2: admin, 3: name, 4: nonce, 5: created_ms} | (extra or {}))


def genesis_decode(data: bytes) -> Genesis:
    """Raises :class:`BadGenesis`."""
    try:
        _require(len(data) <= OP_BYTES_MAX, "genesis record too large")
        fields = decode(data)
        _require(isinstance(fields, Map) and all(_is_uint(key, 1) for key in fields), "genesis is not a map with keys from 1")
        _require(all(number in fields for number in (1, 2, 3, 4, 5)), "a genesis field is missing")
        _require(_is_uint(fields[1], 1, 1), "unknown genesis version")
        _require(_is_bytes(fields[2], 32) and _is_bytes(fields[4], 16), "admin or nonce has the wrong size")
        _require(isinstance(fields[3], str) and 1 <= len(fields[3].encode()) <= 64, "mesh name is not 1 to 64 bytes")
        _require(_is_uint(fields[5], 0, LIMIT), "created_ms out of range")
    except Refused as error:
        raise BadGenesis(str(error)) from error
    recovery, after = (fields.get(number) if _is_bytes(fields.get(number), 32) else None for number in (6, 7))
    return Genesis(data, fields[2], fields[3], fields[4], fields[5], None if recovery == fields[2] else recovery, after)


def _ephemeral_message(mesh_id: bytes, author: bytes, counter: int, payload: Any) -> bytes:
    return b"fabrik/v1/ephemeral\0" + mesh_id + author + be64(counter) + encode(payload)


def ephemeral_sign(key: Key, mesh_id: bytes, counter: int, payload: Any) -> bytes:
    """A signed ephemeral message."""
    return encode([1, key.public, counter, payload, key.sign(_ephemeral_message(mesh_id, key.public, counter, payload))])


def ephemeral_verify(mesh_id: bytes, data: bytes) -> tuple[bytes, int, Map]:
    """``(author, counter, payload)``. Raises :class:`Refused` or :class:`BadSignature`."""
    _require(len(data) <= OP_BYTES_MAX, "ephemeral message too large")
    rows = decode(data)
    _require(isinstance(rows, list) and len(rows) == 5, "an ephemeral message is an array of 5")
    version, author, counter, payload, sig = rows
    _require(_is_uint(version, 1, 1) and _is_bytes(author, 32) and _is_uint(counter) and _is_bytes(sig, 64), "malformed ephemeral message")
    _require(isinstance(payload, Map) and all(isinstance(key, str) for key in payload), "payload is not a map with text keys")
    verify(author, _ephemeral_message(mesh_id, author, counter, payload), sig)
    return author, counter, payload
