"""A member who lies about logs, floods, and does not keep the order: frames after the handshake."""

from __future__ import annotations

import os

from fabrik_twin.cbor import encode
from fabrik_twin.op import Key, be64, ephemeral_sign
from hostile.kit import Kit, attack, stranger
from hostile.raw import ACK, AUTH, CLOSE, EPHEMERAL, FRONTIER, HEADS, HELLO, PING, READY, SEGMENT, STOP, WANT, Ended

SEQ_MAX = 1 << 53
MARKER = [SEQ_MAX, bytes(32)]
DUPLICATE_PING = (1 << 64) - 1


def said(kit: Kit, *frames: bytes) -> str:
    """What frames of a member lead to."""
    with kit.member() as peer:
        for frame in frames:
            peer.send(frame)
        return peer.alive()


def frame(*fields: object) -> bytes:
    """One frame's bytes."""
    return encode(list(fields))


def logs(count: int, heads: int = 1) -> list[object]:
    """Rows of a HEADS frame about logs of nobody."""
    return [[os.urandom(32), 1, sorted([n + 1, os.urandom(32)] for n in range(heads))] for _ in range(count)]


@attack("heads before the frontier", "unexpected_frame")
def early(kit: Kit) -> str:
    with kit.peer() as peer:
        peer.ready().say(HEADS, False, [])
        return peer.outcome()


attack("two frontiers", "unexpected_frame")(lambda kit: said(kit, frame(FRONTIER, bytes(32), bytes(256))))
attack("a greeting in the middle", "unexpected_frame")(lambda kit: said(kit, frame(HELLO, [1], kit.mesh, kit.key.public, bytes(32), 1 << 20, b"")))
attack("a proof in the middle", "unexpected_frame")(lambda kit: said(kit, frame(AUTH, bytes(64), b"")))
attack("a welcome from below", "unexpected_frame")(lambda kit: said(kit, frame(READY, b"")))
attack("an empty frame", "malformed")(lambda kit: said(kit, b""))
attack("noise", "malformed")(lambda kit: said(kit, os.urandom(500)))
attack("a frame of one byte too many", "ws 1009", "malformed", "cut")(lambda kit: said(kit, bytes(262_144 + 1_024 + 1)))
attack("a quarter of a million items of a later version", "malformed")(lambda kit: said(kit, b"\x82\x18\x63\x9a\x00\x03\xf7\xa0" + b"\x80" * 260_000))
attack("a field too many", "malformed")(lambda kit: said(kit, frame(PING, 1, 1)))
attack("a field too few", "malformed")(lambda kit: said(kit, frame(SEGMENT, bytes(32), 1)))
attack("sixty-five heads of one log", "malformed")(lambda kit: said(kit, frame(HEADS, False, logs(1, 65))))
attack("heads that are not in order", "malformed")(lambda kit: said(kit, frame(HEADS, False, [[os.urandom(32), 1, [[2, bytes(32)], [1, bytes(32)]]]])))
attack("an epoch of zero", "malformed")(lambda kit: said(kit, frame(HEADS, False, [[os.urandom(32), 0, [[1, bytes(32)]]]])))
attack("a place beyond two to the fifty-third", "malformed")(lambda kit: said(kit, frame(HEADS, False, [[os.urandom(32), 1, [[SEQ_MAX + 1, bytes(32)]]]])))
attack("five thousand logs in one frame", "malformed", "ws 1009", "cut")(lambda kit: said(kit, frame(HEADS, False, logs(4_097))))
attack("a WANT of nothing", "malformed")(lambda kit: said(kit, frame(WANT, [])))
attack("two thousand places in a WANT", "malformed")(lambda kit: said(kit, frame(WANT, [[bytes(32), 1, 0, [[n + 1, bytes(16)] for n in range(1_025)]]])))
attack("a segment that ends before it begins", "malformed")(lambda kit: said(kit, frame(SEGMENT, kit.key.public, 1, 5, 4, b"x")))
attack("an empty segment", "malformed")(lambda kit: said(kit, frame(SEGMENT, kit.key.public, 1, 1, 1, b"")))
attack("an acknowledgement of what was not sent", "flow_violation")(lambda kit: said(kit, frame(ACK, 1 << 40)))
attack("a thousand and twenty-five frames of a later version", "unknown_frames")(lambda kit: said(kit, *[frame(77, n) for n in range(1_025)]))
attack("a thousand frames of a later version", "ignored")(lambda kit: said(kit, *[frame(77, n, b"x" * 200) for n in range(1_000)]))
attack("a refusal full of control characters", "cut", "ws 1000")(lambda kit: said(kit, frame(CLOSE, "shutdown", "\x1b[2J\r\nhost is fine\x07")))
attack("a code that is none", "malformed")(lambda kit: said(kit, frame(CLOSE, "Fine!", "")))
attack("twenty thousand pings", "ignored")(lambda kit: said(kit, *[frame(PING, n) for n in range(20_000)]))
attack("a thousand times: there is another connection", "ignored")(lambda kit: said(kit, *[frame(PING, DUPLICATE_PING)] * 1_000))
attack("seventy thousand logs of nobody", "ignored")(lambda kit: said(kit, *[frame(HEADS, False, logs(800)) for _ in range(90)]))
attack("four thousand logs that nobody holds are wanted", "ignored")(
    lambda kit: said(kit, *[frame(WANT, [[os.urandom(32), 1, 0] for _ in range(1_024)]) for _ in range(4)])
)
attack("four thousand logs are wanted in one frame", "malformed")(lambda kit: said(kit, frame(WANT, [[os.urandom(32), 1, 0] for _ in range(4_096)])))
attack("segments of nobody", "ignored")(lambda kit: said(kit, *[frame(SEGMENT, os.urandom(32), 1, 1, 1, bytes(200_000)) for _ in range(20)]))


@attack("rewinding without end", "flow_violation")
def rewind(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        author, epoch, _ = peer.meet()[0]
        total = 0
        for _ in range(1_200):
            peer.say(WANT, [[author, epoch, 0]])
            heard = peer.hear()
            while heard[0] != SEGMENT:
                heard = peer.hear()
            total += len(heard[5])
            peer.say(ACK, total)  # however long the log is: with a full window nothing more would come
        return peer.alive()


@attack("a locator of nonsense for every log", "ignored")
def nonsense(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        for author, epoch, _ in peer.meet():
            peer.say(WANT, [[author, epoch, 0, [[n + 1, os.urandom(16)] for n in range(1_024)]]])
        return peer.alive()


@attack("acknowledgements that go back", "flow_violation")
def ack_back(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        rows = peer.meet()
        peer.say(WANT, [[author, epoch, 0] for author, epoch, _ in rows])
        while (heard := peer.hear())[0] != SEGMENT:
            continue
        peer.say(ACK, len(heard[5]))
        peer.say(ACK, 0)
        return peer.outcome()


@attack("STOP for every log, and for ten thousand others", "ignored")
def stops(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        for author, epoch, _ in peer.meet():
            peer.say(STOP, author, epoch)
        for n in range(10_000):
            peer.say(STOP, os.urandom(32), n + 1)
        return peer.alive()


@attack("the node's own frontier said back", "ignored")
def parrot(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        while (heard := peer.hear())[0] != FRONTIER:
            continue
        peer.say(*heard)
        return peer.alive()


def announce(kit: Kit, head: list[object]) -> str:
    """Says of every log that it has another head, and brings nothing."""
    with kit.peer().ready() as peer:
        rows = peer.meet()
        for _ in range(20):
            peer.say(HEADS, False, [[author, epoch, [head]] for author, epoch, _ in rows])
        return peer.alive()


attack("every log is longer than it is", "ignored")(lambda kit: announce(kit, [SEQ_MAX - 1, os.urandom(32)]))
attack("every log is forked", "ignored")(lambda kit: announce(kit, [1, os.urandom(32)]))
attack("every log is suspended", "ignored")(lambda kit: announce(kit, MARKER))


@attack("the first exchange never ends", "ignored")
def endless_exchange(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        while peer.hear()[0] != FRONTIER:
            continue
        peer.say(FRONTIER, bytes(32), bytes(256))
        for _ in range(200):
            peer.say(HEADS, True, logs(20))
        return peer.alive()


# ---- ephemeral messages


def ephemeral(author: bytes, counter: int, data: bytes) -> bytes:
    """A frame with a message."""
    return frame(EPHEMERAL, author, counter, data)


def signed(kit: Kit, payload: object, counter: int = (1 << 64) - 1, key: Key | None = None) -> bytes:
    """A message that verifies."""
    who = key or kit.key
    return ephemeral(who.public, counter, ephemeral_sign(who, kit.mesh, counter, payload))


attack("five thousand messages of nobody", "ignored")(lambda kit: said(kit, *[ephemeral(os.urandom(32), n, os.urandom(100)) for n in range(5_000)]))
attack("a valid message of a stranger", "ignored")(lambda kit: said(kit, signed(kit, {"name": "nobody"}, key=stranger())))
attack("a message of sixteen kilobytes and one", "malformed")(lambda kit: said(kit, ephemeral(kit.key.public, 1, bytes(16_385))))


@attack("a forged message of the other node with the last counter", "ignored")
def forged(kit: Kit) -> str:
    public = bytes.fromhex(kit.second.call("status")["node_id"])
    body = [1, public, DUPLICATE_PING, {"name": "not the other node"}]
    outcome = said(kit, ephemeral(public, DUPLICATE_PING, encode([*body, kit.key.sign(b"fabrik/v1/ephemeral\0" + kit.mesh + public + be64(DUPLICATE_PING))])))
    assert "not the other node" not in str(kit.host.call("nodes.list"))
    return outcome


STRANGE = {
    "name": "\x1b[31mroot\x00" * 20,
    "version": 7,
    "epoch": "eight",
    "lamport": -5,
    "state": [b"x"] * 100,
    "frontier": {"deep": [[[[[[[[]]]]]]]]},
    "accepting": "perhaps",
    "url": "javascript:alert(1)" * 50,
    "leases": [[b"c" * 16, b"i" * 16, -1, -1, b"r" * 16], "no lease", [1], [b"", b"", DUPLICATE_PING, DUPLICATE_PING, b""]] * 500,
}


@attack("own presence in which nothing is of its type", "ignored", "malformed")
def strange(kit: Kit) -> str:
    smaller = STRANGE | {"leases": STRANGE["leases"][:300]}  # type: ignore[index]
    outcome = said(kit, signed(kit, smaller, 1 << 63))
    kit.host.call("nodes.list")
    kit.host.call("status")
    return outcome


# ---- connections


@attack("twelve connections of one key", "duplicate_connection", "ignored")
def crowd(kit: Kit) -> str:
    peers = [kit.member() for _ in range(12)]
    try:
        return peers[0].alive()
    finally:
        for peer in peers:
            peer.close()


@attack("everything is wanted, and nothing is read", "ignored")
def no_reader(kit: Kit) -> str:
    with kit.peer().ready() as peer:
        rows = peer.meet()
        peer.say(WANT, [[author, epoch, 0] for author, epoch, _ in rows])
        for n in range(2_000):
            peer.say(PING, n)
        return "ignored"


@attack("connections that are cut in the middle of a frame, a hundred times", "cut")
def torn(kit: Kit) -> str:
    for _ in range(100):
        with kit.peer() as peer:
            try:
                peer.greet()
            except Ended as end:
                return end.outcome
            peer.send(b"x" * 100, length=200_000)
    return "cut"
