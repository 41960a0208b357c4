"""A member who signs what it may not: segments that do not verify, and ops that break rules of meaning."""

from __future__ import annotations

import os

from fabrik_twin.author import Author, claim, sign_segment
from fabrik_twin.cbor import encode
from fabrik_twin.op import Key, digest, log_start, op_encode
from hostile.kit import Kit, attack, stranger
from hostile.raw import SEGMENT, Ended

from fabrik_node.domain.schema import ClaimField, ItemField, Kind, MemberField, NodeField, RunField

TITLE = int(ItemField.TITLE)
ITEM = int(Kind.ITEM)


def titles(kit: Kit, count: int = 5, key: Key | None = None) -> Author:
    """A log of valid ops."""
    author = kit.author(key)
    item = os.urandom(16)
    for n in range(count):
        author.op((ITEM, item, TITLE, f"title {n}", None))
    return author


def given(kit: Kit, author: Author, data: bytes, first: int = 1, last: int = 0) -> str:
    """A segment of this log: ``taken`` when the node processed it, else how the connection ended."""
    with kit.member() as peer:
        peer.offer(author.key.public, author.epoch, [(first, last or len(author.bodies) or 1, data)])
        peer.await_ack(len(data))
        return "taken"


def raw_segment(kit: Kit, author: Author, bodies: list[bytes], lamport: int = 1) -> str:
    """Bodies that need not be ops, in a segment that verifies."""
    prev = log_start(author.genesis.mesh_id, author.key.public, author.epoch)
    return given(kit, author, sign_segment(author.key, author.genesis.mesh_id, author.epoch, 1, prev, bodies, lamport=lamport), 1, len(bodies))


# ---- what is not stored


@attack("a flipped bit in a body", "bad_segment")
def flipped(kit: Kit) -> str:
    author = titles(kit)
    good = author.segment(1, 5)
    at = good.index(b"title 3")
    return given(kit, author, good[:at] + b"T" + good[at + 1 :])


@attack("a flipped bit in the signature", "bad_segment")
def bad_signature(kit: Kit) -> str:
    author = titles(kit)
    good = author.segment(1, 5)
    return given(kit, author, good[:-1] + bytes([good[-1] ^ 1]))


@attack("another author's name", "bad_segment")
def other_name(kit: Kit) -> str:
    author = titles(kit)
    public = bytes.fromhex(kit.second.call("status")["node_id"])
    return given(kit, author, author.segment(1, 5).replace(author.key.public, public))


@attack("an op of another mesh", "bad_segment")
def other_mesh(kit: Kit) -> str:
    author = titles(kit)
    prev = log_start(bytes(32), author.key.public, author.epoch)
    return given(kit, author, sign_segment(author.key, bytes(32), author.epoch, 1, prev, author.bodies))


@attack("a log that does not begin at its beginning", "bad_segment")
def broken_chain(kit: Kit) -> str:
    author = titles(kit)
    return given(kit, author, sign_segment(author.key, author.genesis.mesh_id, author.epoch, 1, bytes(32), author.bodies))


@attack("a wrong sequence number", "bad_segment")
def wrong_seq(kit: Kit) -> str:
    author = titles(kit)
    body = op_encode(99, 6, [(ITEM, bytes(16), TITLE, "x", None)], wall_ms=1)
    return raw_segment(kit, author, [*author.bodies[:4], body], lamport=6)


attack("a body that is not canonical", "bad_segment")(lambda kit: raw_segment(kit, kit.author(), [titles(kit, 1).bodies[0] + b"\x00"]))
attack("a body that is no op", "bad_segment")(lambda kit: raw_segment(kit, kit.author(), [encode([1, 2, 3])]))
attack("a body of sixty-five kilobytes", "bad_segment")(
    lambda kit: raw_segment(kit, kit.author(), [op_encode(1, 1, [(ITEM, bytes(16), 99, "x" * 65_536, None)])])
)
attack("a body with a float", "bad_segment")(lambda kit: raw_segment(kit, kit.author(), [titles(kit, 1).bodies[0][:-1] + b"\xfb" + bytes(8)]))
attack("a clock of zero", "bad_segment")(lambda kit: raw_segment(kit, kit.author(), [op_encode(1, 0, [])]))
attack("a clock beyond two to the fifty-third", "bad_segment")(lambda kit: raw_segment(kit, kit.author(), [op_encode(1, (1 << 53) + 1, [])]))
attack("no segment at all", "bad_segment")(lambda kit: given(kit, kit.author(), bytes(300)))
attack("a segment that is cut off", "bad_segment")(lambda kit: given(kit, author := titles(kit), author.segment(1, 5)[:-20]))
attack("a segment of a later version", "bad_segment")(lambda kit: given(kit, author := titles(kit), author.segment(1, 5).replace(b"\x87\x01", b"\x87\x02", 1)))


@attack("deep arrays in a body", "bad_segment")
def deep(kit: Kit) -> str:
    nested = encode([])
    for _ in range(30):
        nested = b"\x81" + nested
    body = op_encode(1, 1, [(ITEM, bytes(16), 99, 0, None)])
    return raw_segment(kit, kit.author(), [body.replace(encode([ITEM, bytes(16), 99, 0]), encode([ITEM, bytes(16), 99, 0])[:-1] + nested)])


@attack("two hundred bad segments, a connection for each", "bad_segment")
def bad_again(kit: Kit) -> str:
    author = titles(kit)
    good = author.segment(1, 5)
    events = kit.host.call("status")["events"]
    outcomes = set()
    for _ in range(200):
        try:
            given(kit, author, good[:-1] + bytes([good[-1] ^ 1]))
        except Ended as end:
            outcomes.add(end.outcome)
    assert kit.host.call("status")["events"] - events <= 60, "events are kept for ever: a few are enough"
    return "/".join(outcomes)


@attack("good segments with a bad one behind them", "bad_segment")
def mixed(kit: Kit) -> str:
    author = titles(kit, 10)
    with kit.member() as peer:
        bad = author.segment(6, 10)
        peer.offer(author.key.public, author.epoch, [(1, 5, author.segment(1, 5)), (6, 10, bad[:-1] + bytes([bad[-1] ^ 1]))])
        return peer.outcome()


@attack("a log of an author whom nobody admitted", "taken")
def unadmitted(kit: Kit) -> str:
    before = kit.host.call("status")["ops"]
    author = titles(kit, 5, stranger())
    outcome = given(kit, author, author.segment(1, 5))
    assert kit.host.call("status")["ops"] == before
    return outcome


@attack("a frame that names another log than its segment does", "bad_segment", "taken")
def misnamed(kit: Kit) -> str:
    before = kit.host.call("status")["ops"]
    author = titles(kit, 5, stranger())
    data = author.segment(1, 5)
    with kit.member() as peer:
        peer.offer(kit.key.public, author.epoch, [(1, 5, data)])
        try:
            peer.await_ack(len(data))
        finally:
            assert kit.host.call("status")["ops"] == before
        return "taken"


@attack("numbers on a frame that are not its segment's", "taken", "bad_segment")
def misnumbered(kit: Kit) -> str:
    author = titles(kit, 5)
    return given(kit, author, author.segment(1, 5), 1 << 52, 1 << 53)


@attack("twelve megabytes behind a gap", "taken", "flow_violation")
def gaps(kit: Kit) -> str:
    author = kit.author()
    for n in range(64):
        author.op(*[(ITEM, os.urandom(16), 99, "x" * 30_000, None)] * 2, lamport=n + 1)
    with kit.member() as peer:
        total = 0
        for n in range(64):
            prev = digest(b"%d" % n)
            data = sign_segment(author.key, author.genesis.mesh_id, author.epoch, n + 1, prev, [author.bodies[n]] if n else [op_encode(1, 1, [])])
            if n:
                peer.say(SEGMENT, author.key.public, author.epoch, n + 1, n + 1, data)
                total += len(data)
                peer.await_ack(total)
    waiting = kit.host.call("status")["waiting"]
    assert waiting["bytes"] <= 8_388_608
    return "taken"


# ---- what is stored, relayed, and without effect


def void(kit: Kit, *writes: object, key: Key | None = None, **op: object) -> str:
    """One op that verifies and may not have an effect."""
    before = kit.host.call("status")
    author = kit.author(key)
    author.op(*writes, **op)  # type: ignore[arg-type]
    outcome = given(kit, author, author.segment(1, 1))
    after = kit.host.call("status")
    assert after["state_digest"] == before["state_digest"], "it had an effect"
    assert after["voided"] == before["voided"] + 1
    return outcome


attack("a clock that jumps by two to the fifty-second", "taken")(lambda kit: void(kit, (ITEM, os.urandom(16), TITLE, "x", None), lamport=1 << 52))
attack("a title that is no text", "taken")(lambda kit: void(kit, (ITEM, os.urandom(16), TITLE, 5, None)))
attack("a stage that does not exist", "taken")(lambda kit: void(kit, (ITEM, os.urandom(16), int(ItemField.STAGE), [9], None)))
attack("a fence where none belongs", "taken")(lambda kit: void(kit, (ITEM, os.urandom(16), TITLE, "x", (1, 1, bytes(16)))))
attack("a claim in another's name", "taken")(
    lambda kit: void(kit, (int(Kind.CLAIM), os.urandom(16), int(ClaimField.CLAIM), claim(kit.admin, os.urandom(16)), None))
)
attack("a run in another's name", "taken")(lambda kit: void(kit, (int(Kind.RUN), os.urandom(16), int(RunField.SUMMARY), {"node": kit.admin}, None)))
attack("another's node register", "taken")(lambda kit: void(kit, (int(Kind.NODE), kit.admin, int(NodeField.NAME), "not the host", None)))
attack("a genesis op of no admin", "taken")(lambda kit: void(kit, kind=2))
attack("an opening of an epoch that follows nothing", "taken")(lambda kit: void(kit, kind=3))


@attack("a member record by no admin", "unknown_key", "tls unknown_ca")
def self_made(kit: Kit) -> str:
    key = stranger()
    assert void(kit, (int(Kind.MEMBER), key.public, int(MemberField.RECORD), {1: 4}, None)) == "taken"
    with kit.peer(key) as peer:
        try:
            peer.ready()
        except Ended as end:
            return end.outcome
        return "let in"


@attack("a claim by a reader", "taken")
def claiming_reader(kit: Kit) -> str:
    """It joined with a token of that role, and its program does not ask."""
    key = kit.join(kit.invite("reader"))
    return void(kit, (int(Kind.CLAIM), os.urandom(16), int(ClaimField.CLAIM), claim(key.public, os.urandom(16)), None), key=key)


@attack("an item by an agent, and another's hold beside it", "taken")
def adding_agent(kit: Kit) -> str:
    """One write outside of its role voids the whole op."""
    key = kit.join(kit.invite("agent"))
    return void(kit, (ITEM, os.urandom(16), TITLE, "x", None), (ITEM, os.urandom(16), int(ItemField.HOLD), {"reason": "mine"}, None), key=key)


@attack("itself as an admin", "taken")
def promoted(kit: Kit) -> str:
    return void(kit, (int(Kind.MEMBER), kit.key.public, int(MemberField.RECORD), {1: 4}, None))


@attack("the admin put out by a member", "taken")
def coup(kit: Kit) -> str:
    return void(kit, (int(Kind.MEMBER), kit.admin, int(MemberField.RECORD), {1: 0}, None))


# ---- forks and floods


@attack("a fork of its own log", "taken")
def forked(kit: Kit) -> str:
    author = titles(kit, 5)
    given(kit, author, author.segment(1, 5))
    other = author.branch(3)
    other.op((ITEM, os.urandom(16), TITLE, "the other way", None))
    outcome = given(kit, other, other.segment(4, 4), 4, 4)
    assert any(entry["author"] == kit.key.public.hex() for entry in kit.host.call("status")["forks"])
    return outcome


@attack("seventy branches of one log", "taken")
def branches(kit: Kit) -> str:
    """The log is suspended, and only this one."""
    author = titles(kit, 1)
    total = 0
    with kit.member() as peer:
        data = author.segment(1, 1)
        peer.offer(author.key.public, author.epoch, [(1, 1, data)])
        total += len(data)
        for n in range(70):
            other = author.branch(1)
            other.op((ITEM, bytes(16), TITLE, f"branch {n}", None))
            data = other.segment(2, 2)
            peer.offer(author.key.public, author.epoch, [(2, 2, data)])
            total += len(data)
        peer.await_ack(total)
    assert [author.epoch] == [entry["epoch"] for entry in kit.host.call("status")["suspended"] if entry["author"] == kit.key.public.hex()]
    after = titles(kit, 1)
    assert given(kit, after, after.segment(1, 1)) == "taken", "its other logs go on"
    return "taken"


@attack("five hundred epochs", "taken")
def epochs(kit: Kit) -> str:
    with kit.member() as peer:
        total = 0
        for _ in range(500):
            author = titles(kit, 1)
            data = author.segment(1, 1)
            peer.offer(author.key.public, author.epoch, [(1, 1, data)])
            total += len(data)
        peer.await_ack(total)
        return "taken"


@attack("one op a hundred times", "taken")
def repeated(kit: Kit) -> str:
    author = titles(kit, 5)
    data = author.segment(1, 5)
    before = kit.host.call("status")["ops"]
    with kit.member() as peer:
        peer.offer(author.key.public, author.epoch, [(1, 5, data)] * 100)
        peer.await_ack(100 * len(data))
    assert kit.host.call("status")["ops"] == before + 5
    return "taken"


@attack("every op of another author, cut anew", "taken")
def recut(kit: Kit) -> str:
    """Overlapping pieces of one log, in disorder."""
    author = titles(kit, 20)
    total = 0
    with kit.member() as peer:
        for first, last in [(1, 5), (3, 9), (1, 20), (15, 20), (7, 7), (2, 19)]:
            data = author.segment(first, last)
            peer.offer(author.key.public, author.epoch, [(first, last, data)])
            total += len(data)
        peer.await_ack(total)
    return "taken"
