"""Peers of a later version, in both directions: what they say besides today's words is ignored, what they say in them counts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from acceptance.fleet import Fleet
from fabrik_twin.author import Author
from fabrik_twin.op import Key, advance, ephemeral_sign, log_start
from hostile.kit import PLAIN, Kit, stranger
from hostile.raw import ACK, EPHEMERAL, FRONTIER, HEADS, PING, PONG, SEGMENT, WANT, Answering, Ended, Wire, hello_of
from hostile.test_hostile_peers import replicate

LATER = [(15,), (40, 1), (99, b"x" * 1_000, "text", [1, [2, [3]]], True), ((1 << 64) - 1, [])]
"""Frames of no type that there is today."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("later"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def kit(fleet: Fleet) -> Kit:
    host = fleet.host(listen=PLAIN)
    return Kit(host, fleet.member(host, "second"))


def log_of_later(kit: Kit, key: Key | None = None) -> Author:
    """Titles as today's, and beside them fields, kinds and op kinds of nobody."""
    author = kit.author(key)
    author.op((1, os.urandom(16), 1, "of a later version", None), extra={7: "more", 1_000: [1, {2: b"x"}]})
    author.op((1, os.urandom(16), 1, "with others", None), (1, os.urandom(16), 200, {"new": True}, None), (77, b"id", 3, [None], None))
    author.op((1, os.urandom(16), 1, "no effect", None), kind=9)
    return author


def say_later(peer: Wire) -> None:
    for frame in LATER:
        peer.say(*frame)


def titles(kit: Kit) -> list[str]:
    return [entry["title"] for entry in kit.second.call("items.list")["items"]]


@pytest.mark.promise("I23")
def test_a_later_version_dials_us(kit: Kit) -> None:
    replicate(kit)  # the second node knows the peer for a member: it hears what the peer says of itself
    author = log_of_later(kit)
    data = author.segment(1, 3)
    with kit.peer() as peer:
        hello = hello_of(kit.key, kit.mesh, versions=(1, 2, 65_535), more=("a field", [1, b"2", [True]], 5))
        peer.greet(hello)
        assert peer.answer[1] == 1, "the best that both speak"
        peer.prove()
        say_later(peer)
        peer.meet()
        say_later(peer)
        peer.say(HEADS, False, [[author.key.public, author.epoch, [[3, _head(author)]]]])
        say_later(peer)
        while (heard := peer.hear())[0] != WANT:
            continue
        assert heard[1] == [[author.key.public, author.epoch, 0]]
        peer.say(SEGMENT, author.key.public, author.epoch, 1, 3, data)
        say_later(peer)
        payload = {"name": "later", "version": "9.0", "later": {"k": [1, 2]}, "leases": [[b"c" * 16, b"i" * 16, 1, 1, b"r" * 16, "more"], "later"]}
        peer.say(EPHEMERAL, kit.key.public, 1 << 40, ephemeral_sign(kit.key, kit.mesh, 1 << 40, payload))
        peer.await_ack(len(data))
        assert peer.alive() == "ignored"
    replicate(kit)
    assert {"of a later version", "with others"} <= set(titles(kit))
    assert "no effect" not in titles(kit)
    kit.second.await_true(lambda: "9.0" in {entry["version"] for entry in kit.second.call("nodes.list")["nodes"]}, "the version that the peer told")
    with kit.peer().ready() as peer:  # what was not understood is kept and relayed bit for bit
        rows = peer.meet()
        assert [row for row in rows if row[:2] == [author.key.public, author.epoch]]
        peer.say(WANT, [[author.key.public, author.epoch, 0]])
        while (heard := peer.hear())[0] != SEGMENT:
            continue
        assert heard[5] == data


@pytest.mark.promise("I23")
def test_we_dial_a_later_version(kit: Kit, fleet: Fleet) -> None:
    key = kit.join(kit.invite())
    author = log_of_later(kit, key)
    data = author.segment(1, 3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60.0)
        third = fleet.member(kit.host, "third", "--peer", f"ws://127.0.0.1:{listener.getsockname()[1]}/crdt-sync")
        with Answering(listener, key, kit.mesh) as peer:
            peer.welcome().answer()
            say_later(peer)
            assert peer.hello[1] == [1]
            while peer.hear()[0] != FRONTIER:
                continue
            peer.say(FRONTIER, bytes(32), bytes(256))
            peer.say(HEADS, False, [[key.public, author.epoch, [[3, _head(author)]]]])
            say_later(peer)
            while peer.hear()[0] != WANT:
                continue
            peer.say(SEGMENT, key.public, author.epoch, 1, 3, data)
            while peer.hear()[0] != ACK:
                continue
            say_later(peer)
            peer.say(PING, 7)
            while peer.hear() != [PONG, 7]:
                continue
        third.await_true(lambda: titles(kit).count("with others") == 2, "what a later version wrote, on every node")
        fleet.await_equal([kit.host, kit.second, third])


def test_a_version_that_we_do_not_speak_is_refused_with_what_to_do(kit: Kit) -> None:
    with kit.peer() as peer, pytest.raises(Ended) as end:
        peer.greet(hello_of(kit.key, kit.mesh, versions=(2, 3)))
    assert end.value.outcome == "no_common_version"
    assert "upgrade the older" in end.value.hint
    with kit.peer(stranger()) as peer, pytest.raises(Ended) as end:
        peer.greet(hello_of(kit.key, kit.mesh, versions=(2,), more=("later",)))
    assert end.value.outcome == "no_common_version"


def test_an_answer_with_a_version_that_we_did_not_offer_is_refused(kit: Kit, fleet: Fleet) -> None:
    key = kit.join(kit.invite())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60.0)
        fleet.member(kit.host, "fourth", "--peer", f"ws://127.0.0.1:{listener.getsockname()[1]}/crdt-sync")
        with Answering(listener, key, kit.mesh) as peer, pytest.raises(Ended) as end:
            peer.welcome().answer(version=2)
        assert end.value.outcome == "no_common_version"


def _head(author: Author) -> bytes:
    return advance(log_start(author.genesis.mesh_id, author.key.public, author.epoch), author.bodies)
