"""Members, deputies and thieves of their keys, against roles, revocation and rotation. Whoever may connect brings the ops: that they verify is no merit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from acceptance.fleet import NodeProcess
from fabrik_twin.author import Author, claim
from fabrik_twin.op import Key, WriteTuple
from hostile.attacks_ops import given
from hostile.kit import Kit, attack, stranger
from hostile.raw import Ended
from vectors.authority_cases import record, rotation

PUT_OUT = ("unknown_key", "tls unknown_ca", "revoked")


def title(text: str = "of an attacker") -> WriteTuple:
    """Of an item of its own."""
    return (1, os.urandom(16), 1, text, None)


def joined(kit: Kit, role: str) -> Key:
    """A new member."""
    return kit.join(kit.invite(role))


def deputy(kit: Kit) -> Key:
    """An admin whom the host made."""
    key = joined(kit, "peer")
    kit.host.call("nodes.role", key=key.public.hex(), role="admin")
    return key


def items(node: NodeProcess) -> list[str]:
    """The titles on its board."""
    return [item["title"] for item in node.call("items.list")["items"]]


def revoke(kit: Kit, key: Key, *keep: str) -> None:
    """By the host."""
    assert kit.host.call("nodes.revoke", key=key.public.hex(), keep=list(keep) or None)["revoked"]


def bring(kit: Kit, author: Author, first: int = 1) -> str:
    """The ops of a log from ``first`` on, by another member."""
    return given(kit, author, author.segment(first, len(author.bodies)), first, len(author.bodies))


def bring_self(kit: Kit, author: Author) -> str:
    """A log by its own author."""
    data = author.segment(1, len(author.bodies))
    with kit.peer(author.key).ready() as peer:
        peer.meet()
        peer.offer(author.key.public, author.epoch, [(1, len(author.bodies), data)])
        peer.await_ack(len(data))
    return "taken"


def written(kit: Kit, key: Key, *writes: WriteTuple) -> Author:
    """A log with one op, of which the node has that."""
    author = kit.author(key)
    author.op(*writes)
    assert bring(kit, author) == "taken"
    return author


def outcome_of(kit: Kit, key: Key) -> str:
    """What a call with this key leads to."""
    with kit.peer(key) as peer:
        try:
            peer.ready()
        except Ended as end:
            return end.outcome
    return "let in"


@contextmanager
def without_effect(kit: Kit, void: int = 1) -> Iterator[None]:
    """What is done inside changes no register, and adds so many void ops."""
    before = kit.host.call("status")
    yield
    after = kit.host.call("status")
    assert after["state_digest"] == before["state_digest"], "it had an effect"
    assert after["voided"] == before["voided"] + void


def alone(kit: Kit, key: Key, *writes: WriteTuple) -> str:
    """One op that its author brings itself, and that is void."""
    author = kit.author(key)
    author.op(*writes)
    with without_effect(kit):
        return bring_self(kit, author)


# ---- roles


attack("a reader that adds an item", "taken")(lambda kit: alone(kit, joined(kit, "reader"), title()))
attack("an agent that adds an item", "taken")(lambda kit: alone(kit, joined(kit, "agent"), title()))
attack("an agent that makes itself an admin", "taken")(lambda kit: alone(kit, key := joined(kit, "agent"), record(key, 4)))
attack("an agent that deletes an item", "taken")(lambda kit: alone(kit, joined(kit, "agent"), (5, os.urandom(16), 1, {"why": "gone"}, None)))
attack("a peer that revokes another member", "taken")(lambda kit: alone(kit, joined(kit, "peer"), record(kit.key, 0)))


@attack("a reader that claims", "taken")
def reader_claims(kit: Kit) -> str:
    key = joined(kit, "reader")
    return alone(kit, key, (2, os.urandom(16), 1, claim(key.public, os.urandom(16)), None))


@attack("what an agent may write beside what it may not", "taken")
def beside(kit: Kit) -> str:
    key = joined(kit, "agent")
    return alone(kit, key, (4, key.public, 1, "a name", None), title())


@attack("an admin whom a peer made, and its grants", "unknown_key", "tls unknown_ca")
def made_by_a_peer(kit: Kit) -> str:
    friend, third = stranger(), stranger()
    assert alone(kit, joined(kit, "peer"), record(friend, 4)) == "taken"
    ops = kit.host.call("status")["ops"]
    written(kit, friend, record(third, 4))
    assert kit.host.call("status")["ops"] == ops, "a log of nobody was stored"
    return outcome_of(kit, third)


@attack("a deputy that puts the first admin out", "taken")
def coup(kit: Kit) -> str:
    key = deputy(kit)
    outcome = alone(kit, key, (3, kit.admin, 1, {1: 0, 3: [1, 1, bytes(32)]}, None))
    revoke(kit, key)
    return outcome


@attack("two deputies that revoke each other", *PUT_OUT)
def duel(kit: Kit) -> str:
    one, other, friend = deputy(kit), deputy(kit), stranger()
    written(kit, one, record(other, 0))
    written(kit, other, record(one, 0))
    with without_effect(kit):
        written(kit, one, record(friend, 4))
    assert outcome_of(kit, friend) in PUT_OUT
    assert outcome_of(kit, one) in PUT_OUT
    return outcome_of(kit, other)


# ---- revocation


@attack("a session that is open when its key is revoked", "revoked")
def open_session(kit: Kit) -> str:
    key = joined(kit, "peer")
    with kit.peer(key).ready() as peer:
        peer.meet()
        revoke(kit, key)
        return peer.outcome()


@attack("a revoked key that calls again with more", *PUT_OUT)
def calls_again(kit: Kit) -> str:
    key = joined(kit, "peer")
    written(kit, key, title())
    revoke(kit, key)
    return outcome_of(kit, key)


@attack("ops behind the cut of a revoked key, by a third node", "taken")
def behind_the_cut(kit: Kit) -> str:
    key = joined(kit, "peer")
    author = written(kit, key, title("kept"))
    revoke(kit, key)
    author.op(title())
    with without_effect(kit):
        return bring(kit, author, 2)


@attack("a fork of a revoked key from before its cut", "taken")
def before_the_cut(kit: Kit) -> str:
    key = joined(kit, "peer")
    author = written(kit, key, title("kept"))
    author.op(title("kept, too"))
    bring(kit, author, 2)
    revoke(kit, key)
    other = author.branch(1)
    other.op(title(), lamport=2)
    with without_effect(kit):
        return bring(kit, other, 2)


@attack("a backdated log of a revoked key", "taken")
def backdated(kit: Kit) -> str:
    key = joined(kit, "peer")
    written(kit, key, title("kept"))
    revoke(kit, key)
    author = kit.author(key)
    author.op(title(), lamport=1)
    with without_effect(kit):
        return bring(kit, author)


@attack("a revoked deputy that makes an admin in a backdated log", *PUT_OUT)
def late_grant(kit: Kit) -> str:
    key, friend = deputy(kit), stranger()
    revoke(kit, key)
    author = kit.author(key)
    author.op(record(friend, 4), lamport=1)
    with without_effect(kit):
        bring(kit, author)
    return outcome_of(kit, friend)


@attack("a suspended log, and the revocation that gives its good part back", "taken")
def suspended(kit: Kit) -> str:
    """The owner's item is gone when the thief of its key has made 70 branches, on both nodes; and back when an admin puts the key out."""
    key = joined(kit, "peer")
    author = written(kit, key, title(mark := os.urandom(8).hex()))
    author.op(title(), title("the owner's"))
    bring(kit, author, 2)
    total = 0
    with kit.member() as peer:
        for number in range(70):
            twig = author.branch(1)
            twig.op(title(f"{mark} {number}"))
            data = twig.segment(2, 2)
            peer.offer(key.public, author.epoch, [(2, 2, data)])
            total += len(data)
        peer.await_ack(total)
    assert [entry["epoch"] for entry in kit.host.call("status")["suspended"] if entry["author"] == key.public.hex()] == [author.epoch]
    kit.second.await_true(lambda: mark not in items(kit.second), "the log is suspended on the second node, too")
    revoke(kit, key, "first")
    nodes = (kit.host, kit.second)
    kit.second.await_true(lambda: kit.host.digest() == kit.second.digest() and all(mark in items(node) for node in nodes), "what is kept counts again")
    for node in nodes:
        assert not [entry for entry in node.call("status")["suspended"] if entry["author"] == key.public.hex()]
        assert not [title for title in items(node) if title.startswith(f"{mark} ")], "nothing of the thief's does"
    twig = author.branch(1)
    twig.op(title("one more branch"))
    with without_effect(kit):
        return bring(kit, twig, 2)


# ---- rotation


@attack("a rotation to a key that nobody committed to", "unknown_key", "tls unknown_ca")
def forged_rotation(kit: Kit) -> str:
    """It changes nothing for the old key, and the new one is nobody: what it writes is void."""
    key, new = joined(kit, "peer"), stranger()
    author = written(kit, key, title("before"))
    author.op(rotation(author, new))
    bring(kit, author, 2)
    with without_effect(kit):
        written(kit, new, title())
    before = kit.host.digest()
    author.op(title("the old key goes on"))
    bring(kit, author, 3)
    assert kit.host.digest() != before
    return outcome_of(kit, new)


@attack("a rotation that another key signed", "unknown_key", "tls unknown_ca")
def unsigned_rotation(kit: Kit) -> str:
    key, new = joined(kit, "peer"), stranger()
    author = kit.author(key)
    kind, subject, field, value, _ = rotation(author, new)
    author.op((kind, subject, field, value | {2: key.sign(b"not what it should be")}, None))
    bring(kit, author)
    return outcome_of(kit, new)


@attack("a thief beside and behind a rotation", *PUT_OUT)
def thief_of_a_rotated_key(kit: Kit) -> str:
    """A deputy commits to a member's next key. The owner rotates; the thief forks before it, goes on behind it, copies it with a lower clock, and gets nothing."""
    key, new, chief = joined(kit, "peer"), stranger(), deputy(kit)
    written(kit, chief, record(key, 3, next_key=new))
    author = written(kit, key, title("before"))
    author.op(title("and more"))
    turn = rotation(author, new)
    copy = author.branch(2)
    author.op(turn, lamport=9)
    bring(kit, author, 2)
    successor = kit.author(new)
    successor.op(title("of the new key"))
    before = kit.host.digest()
    assert bring(kit, successor) == "taken"
    assert kit.host.digest() != before, "the new key writes"
    beside, backdated = author.branch(1), kit.author(key)
    beside.op(title("beside"))
    author.op(title("behind"))
    backdated.op(title("elsewhere"), lamport=1)
    copy.op(turn, lamport=3)
    copy.op(title("behind the copy"))
    with without_effect(kit, 3):
        for forged, first in ((beside, 2), (author, 4), (backdated, 1)):
            bring(kit, forged, first)
    shown = items(kit.host)
    bring(kit, copy, 3)  # this one counts as the rotation from now on: it stands at the same place
    assert items(kit.host) == shown
    assert outcome_of(kit, new) == "let in"
    return outcome_of(kit, key)
