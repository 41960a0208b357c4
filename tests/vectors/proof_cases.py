"""Proofs of ops and of forks: good ones with what they say, bad ones with a verdict."""

from __future__ import annotations

from typing import Any

from fabrik_twin.author import Author, id16, new_genesis, seed
from fabrik_twin.cbor import encode
from fabrik_twin.op import Key, advance, digest, genesis_decode, head_message, op_encode, segment_decode
from fabrik_twin.proof import fork_proof_verify, op_proof, op_proof_verify

KEY, OTHER = Key(seed(1)), Key(seed(2))
GENESIS = new_genesis(Key(seed(0)))
MESH = genesis_decode(GENESIS).mesh_id
ELSEWHERE = genesis_decode(new_genesis(Key(seed(0)), "elsewhere", 9)).mesh_id
EPOCH = 2**32 + 7


def _log(*titles: str, key: Key = KEY, epoch: int = EPOCH) -> Author:
    author = Author(GENESIS, key, epoch=epoch)
    for title in titles:
        author.op((1, id16(1), 1, title, None))
    return author


def _parts(first: int, last: int, seq: int) -> list[Any]:
    """The fields of a good proof."""
    segment = segment_decode(_log("a", "b", "c", "d").segment(first, last))
    proof = op_proof(MESH, segment, segment.ops[-1].lamport, seq)
    op_proof_verify(proof)
    body = segment.bodies[seq - first]
    after = [digest(later) for later in segment.bodies[seq - first + 1 :]]
    return [1, MESH, KEY.public, EPOCH, advance(segment.prev, segment.bodies[: seq - first]), body, after, segment.ops[-1].lamport, segment.sig]


def _with(parts: list[Any], **changes: Any) -> bytes:
    names = ["version", "mesh", "author", "epoch", "prev", "op", "after", "lamport", "sig"]
    return encode([changes.get(name, part) for name, part in zip(names, parts, strict=True)])


def _signed(seq: int, after: int, lamport: int, signed_lamport: int, prev: bytes) -> bytes:
    """A proof of an op that its author wrote as he liked, over a head that he signed all the same."""
    body = op_encode(seq, lamport, [], wall_ms=1)
    digests = [bytes([number]) * 32 for number in range(after)]
    head = digest(prev + digest(body))
    for one in digests:
        head = digest(head + one)
    sig = KEY.sign(head_message(MESH, KEY.public, EPOCH, seq + after, signed_lamport, head))
    return encode([1, MESH, KEY.public, EPOCH, prev, body, digests, signed_lamport, sig])


def ops() -> dict[str, Any]:
    """Proofs of one op."""
    alone, between = _parts(2, 2, 2), _parts(1, 4, 2)
    good = [
        ("the signed op itself", alone),
        ("an op before the signed one", between),
        ("the first op of a log", _parts(1, 3, 1)),
        ("the last of several", _parts(2, 4, 4)),
    ]
    bad = [
        ("nothing", b"", "invalid_op"),
        ("no array", encode({1: 1}), "invalid_op"),
        ("eight fields", encode(alone[:-1]), "invalid_op"),
        ("bytes after it", encode(alone) + b"\x00", "invalid_op"),
        ("version 2", _with(alone, version=2), "invalid_op"),
        ("another mesh", _with(alone, mesh=ELSEWHERE), "bad_signature"),
        ("another author", _with(alone, author=OTHER.public), "bad_signature"),
        ("another epoch", _with(alone, epoch=EPOCH + 1), "bad_signature"),
        ("epoch 0", _with(alone, epoch=0), "invalid_op"),
        ("another prev", _with(alone, prev=bytes(32)), "bad_signature"),
        ("a prev of 31 bytes", _with(alone, prev=bytes(31)), "invalid_op"),
        ("another op", _with(alone, op=between[5].replace(b"b", b"x")), "bad_signature"),
        ("no op", _with(alone, op=b"\xa0"), "invalid_op"),
        ("a digest left out", _with(between, after=between[6][1:]), "bad_signature"),
        ("a digest too many", _with(between, after=[*between[6], bytes(32)]), "bad_signature"),
        ("digests in another order", _with(between, after=between[6][::-1]), "bad_signature"),
        ("a digest of 33 bytes", _with(between, after=[bytes(33)]), "invalid_op"),
        ("after is no list", _with(alone, after=b""), "invalid_op"),
        ("another lamport of the head", _with(between, lamport=between[7] + 1), "bad_signature"),
        ("two lamports of one op", _signed(2, 0, 5, 6, bytes(32)), "invalid_op"),
        ("seq 1 behind something", _signed(1, 1, 5, 5, bytes(32)), "invalid_op"),
        ("a head above 2^53", _signed(2**53, 1, 5, 5, bytes(32)), "invalid_op"),
        ("no signature", _with(alone, sig=bytes(64)), "bad_signature"),
        ("a signature of 63 bytes", _with(alone, sig=bytes(63)), "invalid_op"),
    ]
    return {
        "accepted": [_op_says(name, encode(parts)) for name, parts in good] + [_op_says("a head at 2^53", _signed(2**53 - 1, 1, 5, 5, bytes(32)))],
        "refused": [{"name": name, "hex": data.hex(), "verdict": verdict} for name, data, verdict in bad],
    }


def _op_says(name: str, data: bytes) -> dict[str, Any]:
    says = op_proof_verify(data)
    return {
        "name": name,
        "hex": data.hex(),
        "mesh_id": says.mesh_id.hex(),
        "author": says.author.hex(),
        "epoch": says.epoch,
        "seq": says.op.seq,
        "lamport": says.op.lamport,
        "wall_ms": says.op.wall_ms,
        "digest": digest(says.op.body).hex(),
    }


def forks() -> dict[str, Any]:
    """Proofs of a fork."""
    trunk, branch = _log("a", "b", "c"), _log("a", "x", "y", "z")
    early, late = branch.segment(2, 4), trunk.segment(1, 3)
    pair = sorted([early, late])
    good = [
        ("two branches", pair),
        ("one op each", sorted([trunk.segment(2, 2), branch.segment(2, 2)])),
        ("behind the place where they part", sorted([trunk.segment(3, 3), branch.segment(1, 4)])),
        ("from the first op", sorted([_log("a").segment(1, 1), _log("b").segment(1, 1)])),
    ]
    bad = [
        ("nothing", b"", "invalid_op"),
        ("one segment", encode([1, MESH, early]), "invalid_op"),
        ("version 2", encode([2, MESH, *pair]), "invalid_op"),
        ("in the other order", encode([1, MESH, *pair[::-1]]), "invalid_op"),
        ("bytes after it", encode([1, MESH, *pair]) + b"\x00", "invalid_op"),
        ("of another mesh", encode([1, ELSEWHERE, *pair]), "bad_signature"),
        ("one segment twice", encode([1, MESH, late, late]), "invalid_op"),
        ("one history", encode([1, MESH, *sorted([late, trunk.segment(2, 2)])]), "invalid_op"),
        ("no place in common", encode([1, MESH, *sorted([trunk.segment(1, 1), branch.segment(2, 4)])]), "invalid_op"),
        ("two authors", encode([1, MESH, *sorted([late, _log("q", key=OTHER).segment(1, 1)])]), "invalid_op"),
        ("two epochs", encode([1, MESH, *sorted([late, _log("q", epoch=EPOCH + 1).segment(1, 1)])]), "invalid_op"),
        ("a forged signature", encode([1, MESH, *sorted([late, early[:-64] + bytes(64)])]), "bad_signature"),
        ("no segment", encode([1, MESH, b"", late]), "invalid_op"),
    ]
    return {
        "accepted": [_fork_says(name, encode([1, MESH, *pair])) for name, pair in good],
        "refused": [{"name": name, "hex": data.hex(), "verdict": verdict} for name, data, verdict in bad],
    }


def _fork_says(name: str, data: bytes) -> dict[str, Any]:
    mesh, author, epoch, seq = fork_proof_verify(data)
    return {"name": name, "hex": data.hex(), "mesh_id": mesh.hex(), "author": author.hex(), "epoch": epoch, "seq": seq}


def cases() -> dict[str, Any]:
    """Everything in ``proof-v1.json``."""
    return {"op_proofs": ops(), "fork_proofs": forks()}
