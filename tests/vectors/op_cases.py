"""Op format cases: keys, genesis records, ops in segments, ephemeral messages; good ones with every digest, bad ones with a verdict."""

from __future__ import annotations

from typing import Any

from fabrik_twin.author import Author, claim, id16, new_genesis, seed, sign_segment
from fabrik_twin.cbor import encode
from fabrik_twin.op import Key, be64, digest, ephemeral_sign, genesis_decode, genesis_encode, head_message, log_start, op_encode, segment_decode, segment_encode

ADMIN, OTHER = Key(seed(0)), Key(seed(1))
GENESIS = new_genesis(ADMIN)
MESH = genesis_decode(GENESIS).mesh_id
ELSEWHERE = genesis_decode(new_genesis(ADMIN, "elsewhere", 9)).mesh_id
START = log_start(MESH, ADMIN.public, 1)
ITEM = id16(1)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point (RFC 8032 section 5.1)."""
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def keys() -> list[dict[str, str]]:
    """Seeds, public keys and one signature each."""
    message = b"fabrik test message"
    return [
        {"seed": key.seed.hex(), "public": key.public.hex(), "message": message.hex(), "signature": key.sign(message).hex()}
        for key in map(Key, map(seed, range(4)))
    ]


def genesis() -> dict[str, Any]:
    """Genesis records with their mesh ids, and bad ones."""
    good = [
        ("plain", GENESIS),
        ("name of one byte", new_genesis(ADMIN, "m")),
        ("name of 64 bytes in 32 characters", new_genesis(ADMIN, "ü" * 32)),
        ("unknown fields", genesis_encode(ADMIN.public, "later", id16(0), 1, {6: "new", 300: [1, {}]})),
        ("created at 0", genesis_encode(ADMIN.public, "old", id16(0), 0)),
    ]
    bad = [
        ("nothing", b""),
        ("not a map", encode([1])),
        ("version 2", genesis_encode(ADMIN.public, "m", id16(0), 1, {1: 2})),
        ("key of 31 bytes", genesis_encode(ADMIN.public[:31], "m", id16(0), 1)),
        ("empty name", genesis_encode(ADMIN.public, "", id16(0), 1)),
        ("name of 65 bytes", genesis_encode(ADMIN.public, "m" * 65, id16(0), 1)),
        ("name of 66 bytes in 33 characters", genesis_encode(ADMIN.public, "ü" * 33, id16(0), 1)),
        ("name of bytes", genesis_encode(ADMIN.public, "m", id16(0), 1, {3: b"m"})),
        ("nonce of 15 bytes", genesis_encode(ADMIN.public, "m", id16(0)[:15], 1)),
        ("created in the far future", genesis_encode(ADMIN.public, "m", id16(0), 2**53 + 1)),
        ("negative time", genesis_encode(ADMIN.public, "m", id16(0), -1)),
        ("text key", genesis_encode(ADMIN.public, "m", id16(0), 1, {"x": 1})),
        ("key 0", genesis_encode(ADMIN.public, "m", id16(0), 1, {0: 1})),
        ("field missing", encode({1: 1, 2: ADMIN.public, 3: "m", 4: id16(0)})),
        ("bytes after it", GENESIS + b"\x00"),
    ]
    return {
        "accepted": [{"name": name, "hex": data.hex(), "mesh_id": genesis_decode(data).mesh_id.hex()} for name, data in good],
        "refused": [{"name": name, "hex": data.hex(), "verdict": "bad_genesis"} for name, data in bad],
    }


def _single(body: bytes, lamport: int = 1, epoch: int = 1) -> bytes:
    """One body, op or not, as the first of the admin's log under a good signature."""
    return sign_segment(ADMIN, MESH, epoch, 1, log_start(MESH, ADMIN.public, epoch), [body], lamport)


def _good_ops() -> list[tuple[str, bytes, int]]:
    top = 2**53
    value = {"a": [1, -1, 2**53 + 1, 2**64 - 1, -(2**63), b"\x00\xff", "ü", True, False, None, {"b": {}}]}
    return [
        ("empty", op_encode(1, 1), 1),
        ("one write", op_encode(1, 1, [(1, ITEM, 1, "title", None)]), 1),
        ("fenced write", op_encode(1, 1, [(1, ITEM, 3, [1], (7, 3, id16(2)))]), 1),
        ("two writes", op_encode(1, 1, [(1, ITEM, 1, "title", None), (1, ITEM, 6, -5, None)]), 1),
        ("claim", op_encode(1, 1, [(2, ITEM, 1, claim(ADMIN.public, id16(2), extra={9: "why", 10: b"oid", 11: id16(3), 99: {}}), None)]), 1),
        ("every kind of value", op_encode(1, 1, [(4, ADMIN.public, 2, value, None)]), 1),
        ("unknown kind, field and top-level fields", op_encode(1, 1, [(999, b"x", 77, [None], (1, 1, id16(1)))], kind=42, extra={7: "new", 2**64 - 1: [1]}), 1),
        ("largest kind", op_encode(1, 1, kind=2**64 - 1), 1),
        ("genesis kind", op_encode(1, 1, kind=2), 1),
        ("epoch opening", op_encode(1, 5, kind=3, follows=(1, 12, digest(b"head"))), 5),
        ("largest lamport", op_encode(1, top), top),
        ("latest wall time", op_encode(1, 1, wall_ms=top), 1),
        ("ids of 1 and 64 bytes", op_encode(1, 1, [(50, b"a", 1, 1, None), (50, b"b" * 64, 1, 1, None)]), 1),
    ]


def _bad_ops() -> list[tuple[str, bytes, int]]:
    write: list[Any] = [1, ITEM, 1, "t"]
    fence: list[Any] = [1, 1, id16(1)]

    def rows(*values: Any) -> bytes:
        return op_encode(1, 1, extra={5: list(values)})

    return [
        ("seq 0", op_encode(0, 1), 1),
        ("another seq", op_encode(2, 1), 1),
        ("lamport 0", op_encode(1, 0), 0),
        ("lamport beyond 2^53", op_encode(1, 2**53 + 1), 2**53 + 1),
        ("negative lamport", op_encode(1, -1), 1),
        ("wall time beyond 2^53", op_encode(1, 1, wall_ms=2**53 + 1), 1),
        ("negative wall time", op_encode(1, 1, wall_ms=-1), 1),
        ("negative kind", op_encode(1, 1, kind=-1), 1),
        ("text kind", op_encode(1, 1, extra={4: "1"}), 1),
        ("boolean seq", op_encode(1, 1, extra={1: True}), 1),
        ("writes are a map", op_encode(1, 1, extra={5: {}}), 1),
        ("write of three", rows(write[:3]), 1),
        ("write of six", rows([*write, fence, 1]), 1),
        ("write with null for a fence", rows([*write, None]), 1),
        ("fence of two", rows([*write, fence[:2]]), 1),
        ("fence with a short claim id", rows([*write, [1, 1, id16(1)[:15]]]), 1),
        ("fence with a negative receipt", rows([*write, [-1, 1, id16(1)]]), 1),
        ("write to an empty id", rows([1, b"", 1, "t"]), 1),
        ("write to an id of 65 bytes", rows([1, b"a" * 65, 1, "t"]), 1),
        ("write to a text id", rows([1, "a" * 16, 1, "t"]), 1),
        ("negative register kind", rows([-1, ITEM, 1, "t"]), 1),
        ("negative field", rows([1, ITEM, -1, "t"]), 1),
        ("follows of two", op_encode(1, 1, kind=3, extra={6: [1, 1]}), 1),
        ("follows epoch 0", op_encode(1, 1, kind=3, follows=(0, 1, bytes(32))), 1),
        ("follows a short digest", op_encode(1, 1, kind=3, follows=(1, 1, bytes(31))), 1),
        ("key 0", op_encode(1, 1, extra={0: 1}), 1),
        ("text key", op_encode(1, 1, extra={"x": 1}), 1),
        ("negative key", op_encode(1, 1, extra={-1: 1}), 1),
        ("no kind", encode({1: 1, 2: 1, 3: 0, 5: []}), 1),
        ("no writes", encode({1: 1, 2: 1, 3: 0, 4: 1}), 1),
        ("an array", encode([1, 1, 0, 1, []]), 1),
        ("float in a value", op_encode(1, 1, [(50, b"a", 1, "@", None)]).replace(b"\x61@", b"\xf9\x3c\x00"), 1),
        ("tag in a value", op_encode(1, 1, [(50, b"a", 1, 7, None)])[:-1] + b"\xc0\x07", 1),
        ("long integer in a value", op_encode(1, 1, [(50, b"a", 1, 7, None)])[:-1] + b"\x18\x07", 1),
        ("keys out of order", b"\xa5\x02\x01\x01\x01\x03\x00\x04\x01\x05\x80", 1),
        ("bytes after the op", op_encode(1, 1) + b"\x00", 1),
        ("nested too deep", op_encode(1, 1, [(50, b"a", 1, "@", None)]).replace(b"\x61@", b"\x81" * 13 + b"\x80"), 1),
        ("nothing", b"", 1),
    ]


def segments() -> dict[str, Any]:
    """Whole segments: each good one with the digest and ``h`` of its last op, the message that is signed and its signature."""
    author = Author(GENESIS, ADMIN)
    for number in range(4):
        author.op((1, id16(number), 1, f"title {number}", None))
    good = [(name, _single(body, lamport)) for name, body, lamport in _good_ops()]
    good += [
        ("four ops, one signature", author.segment(1, 4)),
        ("the first two", author.segment(1, 2)),
        ("the last two", author.segment(3, 4)),
        ("largest epoch", _single(op_encode(1, 1), epoch=2**53 - 1)),
        ("sixteen levels", _single(op_encode(1, 1, [(50, b"a", 1, [[[[[[[[[[[[[]]]]]]]]]]]]], None)]))),
    ]
    accepted = []
    for name, data in good:
        segment = segment_decode(data)
        last = segment.ops[-1]
        message = head_message(MESH, segment.author, segment.epoch, last.seq, last.lamport, segment.head)
        accepted.append(
            {
                "name": name,
                "hex": data.hex(),
                "digests": [op.digest.hex() for op in segment.ops],
                "prev": segment.prev.hex(),
                "head": segment.head.hex(),
                "signed": message.hex(),
                "sig": segment.sig.hex(),
            }
        )
    return {"accepted": accepted, "refused": [{"name": name, "hex": data.hex(), "verdict": verdict} for name, data, verdict in _bad_segments(author)]}


def _bad_segments(author: Author) -> list[tuple[str, bytes, str]]:
    first, second = author.bodies[:2]
    sig = segment_decode(author.segment(1, 2)).sig
    public, sizes = ADMIN.public, [first, second]
    scalar = int.from_bytes(sig[32:], "little")

    def with_sig(changed: bytes) -> bytes:
        return segment_encode(public, 1, 1, START, sizes, changed)

    def signed_over(message: bytes) -> bytes:
        return with_sig(ADMIN.sign(message))

    head, later = segment_decode(author.segment(1, 2)).head, segment_decode(author.segment(3, 4))
    layout = [1, public, 1, 1, START, sizes, sig]
    found = [(f"op: {name}", _single(body, lamport), "invalid_op") for name, body, lamport in _bad_ops()]
    found += [
        (f"layout: {name}", encode([*layout[:place], value, *layout[place + 1 :]]), "invalid_op")
        for name, place, value in (
            ("version 0", 0, 0),
            ("version 2", 0, 2),
            ("author of 31 bytes", 1, public[:31]),
            ("epoch 0", 2, 0),
            ("epoch 2^53", 2, 2**53),
            ("first seq 0", 3, 0),
            ("first seq beyond 2^53", 3, 2**53 + 1),
            ("ops at other places", 3, 2),
            ("prev of 31 bytes", 4, START[:31]),
            ("no ops", 5, []),
            ("ops are one byte string", 5, first),
            ("an op that is not a byte string", 5, [first, 2]),
            ("signature of 63 bytes", 6, sig[:63]),
            ("signature is null", 6, None),
        )
    ]
    found += [
        ("layout: six fields", encode(layout[:6]), "invalid_op"),
        ("layout: eight fields", encode([*layout, 0]), "invalid_op"),
        ("layout: bytes after it", encode(layout) + b"\x00", "invalid_op"),
        ("layout: indefinite array", b"\x9f" + encode(layout)[1:] + b"\xff", "invalid_op"),
        ("layout: version in two bytes", b"\x87\x18\x01" + encode(layout)[2:], "invalid_op"),
        ("chain: a place left out", sign_segment(ADMIN, MESH, 1, 1, START, [first, author.bodies[2]]), "invalid_op"),
        ("chain: ops in the wrong order", sign_segment(ADMIN, MESH, 1, 1, START, [second, first]), "invalid_op"),
        ("chain: op twice", sign_segment(ADMIN, MESH, 1, 1, START, [first, first]), "invalid_op"),
        ("chain: starts elsewhere than at h_0", segment_encode(public, 1, 1, bytes(32), sizes, sig), "bad_signature"),
        ("chain: starts elsewhere than at h_0, well signed", sign_segment(ADMIN, MESH, 1, 1, bytes(32), sizes), "invalid_op"),
        ("chain: another prev under this signature", segment_encode(public, 1, 3, bytes(32), later.bodies, later.sig), "bad_signature"),
        ("chain: another body under this signature", segment_encode(public, 1, 1, START, [first, op_encode(2, 2)], sig), "bad_signature"),
        ("chain: last op dropped", segment_encode(public, 1, 1, START, [first], sig), "bad_signature"),
        ("signature: another mesh", sign_segment(ADMIN, ELSEWHERE, 1, 1, START, sizes), "bad_signature"),
        ("signature: start of another mesh", sign_segment(ADMIN, ELSEWHERE, 1, 1, log_start(ELSEWHERE, public, 1), sizes), "bad_signature"),
        ("signature: another mesh, later in the log", sign_segment(ADMIN, ELSEWHERE, 1, 3, later.prev, later.bodies), "bad_signature"),
        ("signature: another author's key", segment_encode(OTHER.public, 1, 3, later.prev, later.bodies, later.sig), "bad_signature"),
        ("signature: another author's key and start", segment_encode(OTHER.public, 1, 1, log_start(MESH, OTHER.public, 1), sizes, sig), "bad_signature"),
        ("signature: another author's key, first op", segment_encode(OTHER.public, 1, 1, START, sizes, sig), "bad_signature"),
        ("signature: made by another key", with_sig(segment_decode(sign_segment(OTHER, MESH, 1, 1, START, sizes)).sig), "bad_signature"),
        ("signature: moved to another epoch", segment_encode(public, 2, 3, later.prev, later.bodies, later.sig), "bad_signature"),
        ("signature: moved to the start of another epoch", segment_encode(public, 2, 1, log_start(MESH, public, 2), sizes, sig), "bad_signature"),
        ("signature: first op moved to another epoch", segment_encode(public, 2, 1, START, sizes, sig), "bad_signature"),
        ("signature: over another seq", signed_over(head_message(MESH, public, 1, 3, 2, head)), "bad_signature"),
        ("signature: over another lamport", signed_over(head_message(MESH, public, 1, 2, 3, head)), "bad_signature"),
        ("signature: over another head", signed_over(head_message(MESH, public, 1, 2, 2, START)), "bad_signature"),
        ("signature: without the domain", signed_over(head_message(MESH, public, 1, 2, 2, head)[15:]), "bad_signature"),
        ("signature: domain of an ephemeral message", signed_over(b"fabrik/v1/ephemeral\0" + MESH + public + be64(1)), "bad_signature"),
        ("signature: S not canonical", with_sig(sig[:32] + (scalar + GROUP_ORDER).to_bytes(32, "little")), "bad_signature"),
        ("signature: S with its top bits set", with_sig(sig[:63] + bytes([sig[63] | 0xE0])), "bad_signature"),
        ("signature: zeros", with_sig(bytes(64)), "bad_signature"),
    ]
    for text in SMALL_ORDER:
        point = bytes.fromhex(text)
        found.append(
            (f"small-order author {text[:8]}..{text[-2:]}", segment_encode(point, 1, 1, log_start(MESH, point, 1), sizes, point + bytes(32)), "bad_signature")
        )
        found.append((f"small-order R {text[:8]}..{text[-2:]}", with_sig(point + sig[32:]), "bad_signature"))
    return found


def ephemeral() -> dict[str, Any]:
    """Signed ephemeral messages and bad ones."""
    payload: dict[str, Any] = {"name": "n1", "lamport": 2**53, "accepting": True, "leases": [[id16(2), ITEM, 3, 4, id16(5)]]}
    message = ephemeral_sign(ADMIN, MESH, 7, payload)
    sig = message[-64:]
    empty = ephemeral_sign(ADMIN, MESH, 0, {})
    accepted = [("empty", 0, {}), ("presence", 7, payload), ("largest counter", 2**64 - 1, {"x": None})]
    refused = [
        ("another mesh", ephemeral_sign(ADMIN, ELSEWHERE, 7, payload), "bad_signature"),
        ("another counter", encode([1, ADMIN.public, 8, payload, sig]), "bad_signature"),
        ("another payload", encode([1, ADMIN.public, 7, {}, sig]), "bad_signature"),
        ("another author", encode([1, OTHER.public, 7, payload, sig]), "bad_signature"),
        ("bit flipped in the signature", message[:-1] + bytes([message[-1] ^ 1]), "bad_signature"),
        ("version 2", encode([2, ADMIN.public, 7, payload, sig]), "invalid_op"),
        ("negative counter", encode([1, ADMIN.public, -1, payload, sig]), "invalid_op"),
        ("payload with a number for a key", encode([1, ADMIN.public, 7, {1: 2}, sig]), "invalid_op"),
        ("payload is an array", encode([1, ADMIN.public, 7, [], sig]), "invalid_op"),
        ("four fields", encode([1, ADMIN.public, 7, payload]), "invalid_op"),
        ("signature of 63 bytes", encode([1, ADMIN.public, 7, payload, sig[:63]]), "invalid_op"),
        ("bytes after it", message + b"\x00", "invalid_op"),
        ("counter in two bytes", empty[:36] + b"\x18" + empty[36:], "invalid_op"),
        ("a segment", _single(op_encode(1, 1)), "invalid_op"),
    ]
    return {
        "accepted": [
            {"name": name, "counter": counter, "payload": encode(value).hex(), "hex": ephemeral_sign(ADMIN, MESH, counter, value).hex()}
            for name, counter, value in accepted
        ],
        "refused": [{"name": name, "hex": data.hex(), "verdict": verdict} for name, data, verdict in refused],
    }


def cases() -> dict[str, Any]:
    """The content of ``op-v1.json``. All segments and messages are of ``mesh_id`` and, unless they say otherwise, of key 0."""
    return {"mesh_id": MESH.hex(), "keys": keys(), "genesis": genesis(), "segments": segments(), "ephemeral": ephemeral()}
