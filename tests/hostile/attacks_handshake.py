"""Who is there: strangers, impostors, replays, and tokens."""

from __future__ import annotations

import os

from fabrik_twin.cbor import encode
from fabrik_twin.op import Key
from hostile.kit import Kit, attack, stranger
from hostile.raw import ANSWER, AUTH, FRONTIER, HELLO, PING, SEGMENT, Ended, Peer, hello_of

SMALL_ORDER = [bytes([1]) + bytes(31), bytes(32), bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")]
"""Points of order 1, 4 and 2: with them one signature fits every message, if a verifier does not look."""


def first(kit: Kit, frame: bytes) -> str:
    """What a first frame leads to."""
    with kit.peer(stranger()) as peer:
        peer.send(frame)
        return peer.outcome()


attack("an empty first frame", "malformed")(lambda kit: first(kit, b""))
attack("noise as first frame", "malformed")(lambda kit: first(kit, b"\xff" * 64))
attack("a first frame of nine kilobytes", "malformed")(lambda kit: first(kit, encode([HELLO, [1], bytes(9_000)])))
attack("a first frame that is too large for anybody", "malformed", "ws 1009")(lambda kit: first(kit, bytes(300_000)))
attack("ten thousand arrays in each other", "malformed")(lambda kit: first(kit, b"\x81" * 8_000))
attack("an array of two to the sixty-third", "malformed")(lambda kit: first(kit, b"\x9b\x80" + bytes(7)))
attack("a byte string of two to the sixty-third", "malformed")(lambda kit: first(kit, b"\x82\x01\x5b\x80" + bytes(7)))
attack("an integer that is not in its shortest form", "malformed")(lambda kit: first(kit, b"\x82\x18\x01\x00"))
attack("a float for a type", "malformed")(lambda kit: first(kit, b"\x81\xfb" + bytes(8)))
attack("two frames in one message", "malformed")(lambda kit: first(kit, 2 * hello_of(stranger(), kit.mesh)))
attack("data before the handshake", "unexpected_frame")(lambda kit: first(kit, encode([SEGMENT, kit.admin, 1, 1, 1, b"x"])))
attack("a proof before a greeting", "unexpected_frame")(lambda kit: first(kit, encode([AUTH, bytes(64), b""])))
attack("an answer instead of a greeting", "unexpected_frame")(lambda kit: first(kit, encode([ANSWER, 1, kit.mesh, kit.admin, bytes(32), 1 << 20, bytes(64)])))
attack("an unknown type before the handshake", "unexpected_frame")(lambda kit: first(kit, encode([99])))
attack("a greeting for another mesh", "wrong_mesh")(lambda kit: first(kit, hello_of(stranger(), os.urandom(32))))
attack("versions of nobody", "no_common_version")(lambda kit: first(kit, hello_of(stranger(), kit.mesh, versions=(99, 65_535))))
attack("seventeen versions", "malformed")(lambda kit: first(kit, hello_of(stranger(), kit.mesh, versions=range(1, 18))))
attack("no versions", "malformed")(lambda kit: first(kit, hello_of(stranger(), kit.mesh, versions=())))
attack("a window of nothing", "malformed")(lambda kit: first(kit, hello_of(stranger(), kit.mesh, window=0)))
attack("a token's name that is too long", "malformed")(lambda kit: first(kit, hello_of(stranger(), kit.mesh, token_id=bytes(65))))


@attack("the node's own key", "self_connection")
def own_key(kit: Kit) -> str:
    hello = encode([HELLO, [1], kit.mesh, kit.admin, os.urandom(32), 1 << 20, b""])
    return first(kit, hello)


@attack("a stranger with a right handshake", "unknown_key")
def right_but_unknown(kit: Kit) -> str:
    kit.host.call("items.add", title="a secret title")
    with kit.peer(stranger()) as peer:
        try:
            peer.ready()
        except Ended as end:
            assert "fabrik-node invite" in end.hint
            assert b"a secret title" not in peer.said
            assert len(peer.said) < 2_048
            return end.outcome
        return "let in"


def impostor(kit: Kit, public: bytes, signature: bytes | None = None) -> str:
    """Greets with a key that is not his."""
    with kit.peer(stranger()) as peer:
        peer.greet(encode([HELLO, [1], kit.mesh, public, os.urandom(32), 1 << 20, b""]))
        peer.say(AUTH, peer.signature() if signature is None else signature, b"")
        return peer.outcome()


@attack("a member's key without its secret", "bad_signature")
def stolen_name(kit: Kit) -> str:
    return impostor(kit, bytes.fromhex(kit.second.call("status")["node_id"]))


for _point in SMALL_ORDER:
    attack(f"a key of small order {_point.hex()[:4]}", "bad_signature")(lambda kit, point=_point: impostor(kit, point, SMALL_ORDER[0] + bytes(32)))  # type: ignore[misc]


@attack("a signature of zeros", "bad_signature")
def zeros(kit: Kit) -> str:
    return impostor(kit, kit.key.public, bytes(64))


@attack("the responder's own signature sent back", "bad_signature")
def reflected(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.greet()
        peer.say(AUTH, peer.answer[6], b"")
        return peer.outcome()


@attack("a recorded handshake played again", "bad_signature")
def replayed(kit: Kit) -> str:
    with kit.peer() as peer:
        hello = hello_of(kit.key, kit.mesh)
        peer.greet(hello).prove()
        recorded = peer.signature()
    with kit.peer() as again:
        again.greet(hello)
        again.say(AUTH, recorded, b"")
        return again.outcome()


@attack("a signature over a greeting with another window", "bad_signature")
def changed(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.greet(hello_of(kit.key, kit.mesh, window=1 << 30))
        recorded = peer.signature()
    with kit.peer() as peer:
        peer.greet()
        peer.say(AUTH, recorded, b"")
        return peer.outcome()


@attack("two greetings", "unexpected_frame")
def twice(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.greet().send(hello_of(kit.key, kit.mesh))
        return peer.outcome()


@attack("a question for data before the proof", "unexpected_frame")
def impatient(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.greet().say(FRONTIER, bytes(32), bytes(256))
        return peer.outcome()


@attack("a ping before the proof", "unexpected_frame")
def ping_first(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.greet().say(PING, 1)
        return peer.outcome()


@attack("no proof after the answer", "handshake_timeout")
def half(kit: Kit) -> str:
    with kit.peer() as peer:
        return peer.greet().outcome()


@attack("three hundred strangers one after the other", "unknown_key")
def many(kit: Kit) -> str:
    events = kit.host.call("status")["events"]
    key = stranger()
    outcomes = set()
    for _ in range(300):
        with kit.peer(key) as peer:
            try:
                peer.ready()
            except Ended as end:
                outcomes.add(end.outcome)
    assert kit.host.call("status")["events"] - events <= 3, "events are kept for ever: one is enough"
    return "/".join(sorted(outcomes))


# ---- tokens


def joiner(kit: Kit, token_id: bytes, secret: bytes, key: Key | None = None) -> str:
    """Tries to join."""
    with Peer(kit.url, key or stranger(), kit.mesh) as peer:
        try:
            peer.greet(token_id=token_id).prove(secret)
        except Ended as end:
            return end.outcome
        return "let in"


attack("a token of nobody", "join_refused")(lambda kit: joiner(kit, os.urandom(16), os.urandom(32)))


@attack("a token's name without its secret, then its owner", "join_refused")
def guessed(kit: Kit) -> str:
    token = kit.invite()
    outcomes = {joiner(kit, token.token_id, os.urandom(32)) for _ in range(5)}
    assert joiner(kit, token.token_id, token.secret) == "let in", "who knows a token's name can not use it up"
    return "/".join(outcomes)


@attack("a used token", "join_refused")
def used(kit: Kit) -> str:
    token = kit.invite()
    assert joiner(kit, token.token_id, token.secret) == "let in"
    return joiner(kit, token.token_id, token.secret)


@attack("a recorded proof of a token in another handshake", "join_refused")
def proof_again(kit: Kit) -> str:
    token, key = kit.invite(), stranger()
    with Peer(kit.url, key, kit.mesh) as peer:
        recorded = peer.greet(token_id=token.token_id).proof(token.secret)
    with Peer(kit.url, stranger(), kit.mesh) as peer:
        peer.greet(token_id=token.token_id).say(AUTH, peer.signature(), recorded)
        return peer.outcome()


@attack("a token named without a proof", "bad_proof")
def no_proof(kit: Kit) -> str:
    with Peer(kit.url, stranger(), kit.mesh) as peer:
        peer.greet(token_id=kit.invite().token_id).say(AUTH, peer.signature(), b"")
        return peer.outcome()


@attack("a proof without a token", "bad_proof")
def no_token(kit: Kit) -> str:
    with Peer(kit.url, stranger(), kit.mesh) as peer:
        peer.greet().say(AUTH, peer.signature(), bytes(32))
        return peer.outcome()


@attack("a right proof with another's key", "bad_signature")
def others_key(kit: Kit) -> str:
    token = kit.invite()
    with Peer(kit.url, stranger(), kit.mesh) as peer:
        public = bytes.fromhex(kit.second.call("status")["node_id"])
        peer.greet(encode([HELLO, [1], kit.mesh, public, os.urandom(32), 1 << 20, token.token_id]))
        peer.say(AUTH, peer.signature(), peer.proof(token.secret))
        return peer.outcome()
