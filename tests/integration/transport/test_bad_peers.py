"""Peers that send rubbish, forge, say nothing or do not read: they cost themselves the connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from fabrik_twin.author import Author, sign_segment
from fabrik_twin.op import Key, advance, log_start, op_encode
from net_rig import Net, are_level, peer
from node_rig import BOUND_S, NodeRig, eventually
from tls_rig import calling
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from fabrik_node._core import verify
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.errors import BadSignature, StoreFailed
from fabrik_node.ids import new_id
from fabrik_node.ports import IngestReport
from fabrik_node.transport.join_frame import Refusal
from fabrik_sync import FRAME_BYTES_MAX, Head, Identity, Limits, LogId, Place, Session, State, place_of
from fabrik_sync.frames import HeadsFrame, Ping, Segment

ITEM = new_id(3)
PLAIN = "ws://127.0.0.1:0"
"""Without TLS, so that the test can speak WebSocket itself."""


class TwinIdentity:
    """A key of a test author, as the protocol wants it."""

    def __init__(self, key: Key) -> None:
        self._key = key

    @property
    def public(self) -> bytes:
        return self._key.public

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        verify(public, message, signature)

    def random(self, n: int) -> bytes:
        return os.urandom(n)


class Holds:
    """A replica that announces what it is told to."""

    def __init__(self, *logs: tuple[LogId, Head]) -> None:
        self._logs = logs

    def heads(self) -> list[tuple[LogId, tuple[Head, ...]]]:
        return [(log, (head,)) for log, head in self._logs]

    def holds(self, log: LogId, seq: int, h: bytes) -> bool:
        return (log, Head(seq, h)) in self._logs

    def places(self, log: LogId) -> list[Place]:
        return [place_of(head) for known, head in self._logs if known == log]

    def cursors(self, log: LogId, places: Sequence[Place]) -> list[tuple[int, int]]:
        return [(0, 0) for known, head in self._logs if known == log and place_of(head) not in places]

    def admit(self, key: bytes) -> bool:
        return True

    def takes(self, author: bytes) -> bool:
        return self.admit(author)

    def priority(self, author: bytes) -> int:
        return 0


class RawPeer:
    """A peer whose frames the test chooses. ``answers`` gives the segments of each log that it is asked for."""

    def __init__(self, socket: ClientConnection, session: Session, answers: dict[LogId, list[tuple[int, int, bytes]]]) -> None:
        self.socket = socket
        self.session = session
        self.answers = answers
        self.events: list[Any] = []
        self.closed: tuple[str, str] | None = None

    async def flush(self) -> None:
        """Everything that the session wants to do or send."""
        while (request := self.session.poll_read()) is not None:
            self.session.handle_read(request, [part for part in self.answers.get(request.log, []) if part[1] > request.after_seq])
        while (frame := self.session.poll_frame()) is not None:
            await self.socket.send(frame)
        for event in self.session.poll_events():
            self.events.append(event)

    async def until(self, question: Callable[[], bool]) -> None:
        """Talk until it is so, or the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            await self.flush()
            while not question() and self.session.state is not State.CLOSED:
                message = await asyncio.wait_for(self.socket.recv(), BOUND_S)
                assert isinstance(message, bytes)
                self.session.receive_frame(message, 0.0)
                await self.flush()

    @property
    def end(self) -> str:
        """The code with which it was sent away."""
        return next((event.code for event in self.events if hasattr(event, "code")), "")


@asynccontextmanager
async def raw(
    net: Net, url: str, key: Key, answers: dict[LogId, list[tuple[int, int, bytes]]] | None = None, head: Head | None = None
) -> AsyncIterator[RawPeer]:
    """A raw peer that has sent its HELLO."""
    mesh = net.rigs.rigs[0].node.mesh_id
    answers = answers or {}
    replica = Holds(*((log, head or Head(parts[-1][1], bytes(32))) for log, parts in answers.items()))
    identity: Identity = TwinIdentity(key)
    async with connect(url, compression=None, proxy=None, max_size=FRAME_BYTES_MAX, ping_interval=None, open_timeout=5, close_timeout=1) as socket:
        session = Session.connect(identity=identity, mesh=mesh, replica=replica, now=0.0)
        yield RawPeer(socket, session, answers)


def member(number: int = 2) -> Key:
    """The key of an admitted node of the rig."""
    return Key(bytes([number + 1]) * 32)


def log_of(net: Net, number: int = 2) -> Author:
    """A log of that node."""
    author = Author(net.rigs.genesis, member(number), epoch=9)
    for turn in range(5):
        author.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), f"title {turn}", None))
    return author


def forged(net: Net, kind: str) -> tuple[bytes, int]:
    """A segment that must not be taken, and how many ops it claims."""
    author = log_of(net)
    good = author.segment(1, 5)
    match kind:
        case "a flipped bit in a body":
            at = good.index(b"title 3")
            return good[:at] + b"T" + good[at + 1 :], 5
        case "a flipped bit in the signature":
            return good[:-1] + bytes([good[-1] ^ 1]), 5
        case "another author's name":
            return good.replace(author.key.public, member(3).public), 5
        case "another mesh":
            other = log_start(bytes(32), author.key.public, 9)
            return sign_segment(author.key, bytes(32), 9, 1, other, author.bodies), 5
        case "a broken chain":
            return sign_segment(author.key, author.genesis.mesh_id, 9, 1, bytes(32), author.bodies), 5
        case "a wrong sequence number":
            body = op_encode(9, 99, [(int(Kind.ITEM), ITEM, int(ItemField.TITLE), "x", None)], wall_ms=1)
            prev = log_start(author.genesis.mesh_id, author.key.public, 9)
            return sign_segment(author.key, author.genesis.mesh_id, 9, 1, prev, [*author.bodies[:4], body]), 5
        case "bytes that are not canonical":
            body = author.bodies[0] + b"\x00"
            prev = log_start(author.genesis.mesh_id, author.key.public, 9)
            return sign_segment(author.key, author.genesis.mesh_id, 9, 1, prev, [body], lamport=1), 1
        case "no segment at all":
            return b"\x00" * 300, 5
        case "a segment cut off":
            return good[:-20], 5
        case _:
            raise AssertionError(kind)


BAD = [
    "a flipped bit in a body",
    "a flipped bit in the signature",
    "another author's name",
    "another mesh",
    "a broken chain",
    "a wrong sequence number",
    "bytes that are not canonical",
    "no segment at all",
    "a segment cut off",
]


def stored(rig: NodeRig) -> Any:
    """Everything of a node that a bad segment may not touch."""
    return rig.facts(), [(head.author, head.epoch, head.seq, head.head, head.clock) for head in rig.node.heads()]


@pytest.mark.promise("I11", "E26", "F3")
@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_segment_of_a_member_changes_nothing(net: Net, kind: str) -> None:
    host, _, url = await net.listening(0, listen=PLAIN)
    author = log_of(net)
    log = LogId(author.key.public, 9)
    segment, ops = forged(net, kind)
    before, rows = stored(host), (await host.node.store.stats())["segments"]
    heard: list[Any] = []
    host.node.on_committed(heard.append)
    async with raw(net, url, author.key, {log: [(1, ops, segment)]}) as bad:
        await bad.until(lambda: False)
    assert bad.end == "bad_segment" or (kind == "a broken chain" and bad.end), bad.events
    assert stored(host) == before
    assert (await host.node.store.stats())["segments"] == rows
    assert heard == [], "nor was anything relayed"
    if bad.end == "bad_segment":
        assert host.node.refused_segments == 1
        assert (await host.events_until("peer.bad_segment"))[0].data["code"] in ("bad_signature", "invalid_op")
        assert any("bad segments" in text for text in (await host.call("status"))["warnings"])
    async with raw(net, url, author.key, {log: [(1, 3, author.segment(1, 3)), (4, 5, author.segment(4, 5))]}) as good:
        await good.until(lambda: host.node.replica.head(author.key.public, 9) is not None and len(heard) > 0)
        await eventually(lambda: (head := host.node.replica.head(author.key.public, 9)) is not None and head.seq == 5)
    assert [view.title for view in host.node.board.items()] == ["title 4"], "the same author's valid ops apply later"


@pytest.mark.promise("I11")
async def test_a_bad_segment_behind_a_good_one_does_not_undo_or_leak(net: Net) -> None:
    host, _, url = await net.listening(0, listen=PLAIN)
    author = log_of(net)
    log = LogId(author.key.public, 9)
    bad = author.segment(4, 5)
    async with raw(net, url, author.key, {log: [(1, 3, author.segment(1, 3)), (4, 5, bad[:-1] + bytes([bad[-1] ^ 1]))]}) as mixed:
        await mixed.until(lambda: False)
    assert mixed.end == "bad_segment"
    head = host.node.replica.head(author.key.public, 9)
    assert head is None or head.seq == 3, "whole segments or nothing"
    async with raw(net, url, author.key, {log: [(1, 5, author.segment(1, 5))]}) as good:
        await good.until(lambda: (head := host.node.replica.head(author.key.public, 9)) is not None and head.seq == 5)
        await eventually(lambda: (head := host.node.replica.head(author.key.public, 9)) is not None and head.seq == 5)


async def test_a_fork_is_kept_reported_and_does_not_stop_other_logs(net: Net) -> None:
    host, _, url = await net.listening(0, listen=PLAIN)
    author = log_of(net)
    log = LogId(author.key.public, 9)
    await host.node.ingest([author.segment(1, 5)], author.key.public)
    other = Author(net.rigs.genesis, author.key, epoch=9)
    for turn in range(7):
        other.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), f"fork {turn}", None))
    head = Head(7, advance(log_start(other.genesis.mesh_id, other.key.public, 9), other.bodies))
    async with raw(net, url, author.key, {log: [(1, 7, other.segment(1, 7))]}, head) as forker:
        talking = asyncio.create_task(forker.until(lambda: False))
        told = (await host.events_until("log.forked"))[0]
        talking.cancel()
    assert told.data["author"] == author.key.public.hex()
    assert told.data["proven"] is True
    status = await host.call("status")
    assert [fork["branches"] for fork in status["forks"]] == [2]
    assert any("has 2 branches" in text for text in status["warnings"])
    assert {(head.branch, head.seq) for head in host.node.heads_of(*log)} == {(0, 5), (1, 7)}
    await host.add("the host goes on")


@pytest.mark.promise("F4", "F5")
async def test_a_stranger_is_refused_with_the_way_in_and_sees_nothing(net: Net) -> None:
    host, mesh, url = await net.listening(0, listen=PLAIN)
    await host.add("secret title")
    async with raw(net, url, Key(b"\x55" * 32)) as stranger:
        received: list[bytes] = []
        await stranger.flush()
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await asyncio.wait_for(stranger.socket.recv(), BOUND_S)
                assert isinstance(message, bytes)
                received.append(message)
                stranger.session.receive_frame(message, 0.0)
                await stranger.flush()
    assert stranger.end == "unknown_key"
    assert any("fabrik-node invite" in event.hint for event in stranger.events if hasattr(event, "hint"))
    assert b"secret title" not in b"".join(received)
    assert sum(map(len, received)) < 2_048, "an answer and a refusal"
    await eventually(lambda: mesh.refused_inbound == 1)
    for _ in range(5):
        async with raw(net, url, Key(b"\x55" * 32)) as again:
            await again.until(lambda: False)
    await eventually(lambda: mesh.refused_inbound == 6)
    await host.add("the last event")
    await host.events_until("item.added", 2)
    assert len(await host.events("peer.refused")) == 1, "told once, counted six times: events are kept for ever"


@pytest.mark.promise("F5")
async def test_a_refused_dial_says_why_and_is_tried_again_when_admitted(net: Net) -> None:
    host, _, url = await net.listening(0, listen=PLAIN)
    stranger, mesh = await net.up(7)
    mesh.dial(url)
    await eventually(lambda: peer(mesh).state == "refused")
    assert "unknown_key" in peer(mesh).detail
    assert "fabrik-node invite" in peer(mesh).detail
    await host.node.write("member", lambda: [(Kind.MEMBER, stranger.node.public, 1, {1: 2}, None)])
    await are_level(host, stranger)
    assert peer(mesh).state == "connected"
    assert peer(mesh).detail == ""
    assert len(await stranger.events("peer.refused")) <= 1


@pytest.mark.parametrize(
    "first",
    [b"", b"\x00", os.urandom(64), b"\xff" * 9_000, b"\x01" * (FRAME_BYTES_MAX + 1), "text"],
    ids=["empty", "zero", "noise", "long", "too long", "text"],
)
async def test_rubbish_before_the_handshake_ends_the_connection(net: Net, first: bytes | str) -> None:
    host, mesh, url = await net.listening(0, listen=PLAIN)
    before = stored(host)
    async with connect(url, compression=None, proxy=None, ping_interval=None, max_size=None) as socket:
        with contextlib.suppress(ConnectionClosed):
            await socket.send(first)
            while True:
                await asyncio.wait_for(socket.recv(), BOUND_S)
    await eventually(lambda: mesh.inbound == 0)
    assert stored(host) == before
    assert mesh.refused_inbound <= 1
    async with raw(net, url, member()) as good:
        await good.until(lambda: good.session.state is State.LIVE)
        assert good.session.state is State.LIVE


async def test_rubbish_after_the_handshake_ends_only_that_connection(net: Net) -> None:
    host, mesh, url = await net.listening(0, listen=PLAIN)
    two, mesh_two = await net.up(1)
    mesh_two.dial(url)
    await are_level(host, two)
    for rubbish in (b"\x00", b"\x0a" * 500, "text", b"\x01" * (FRAME_BYTES_MAX + 1)):
        async with raw(net, url, member()) as bad:
            await bad.until(lambda: bad.session.state is State.LIVE)
            with contextlib.suppress(ConnectionClosed):
                await bad.socket.send(rubbish)
                while True:
                    await asyncio.wait_for(bad.socket.recv(), BOUND_S)
    await eventually(lambda: mesh.connected == 1)
    await host.add("the other peer did not notice")
    await are_level(host, two)


async def test_a_peer_that_says_nothing_is_cut_within_the_limit(net: Net) -> None:
    limits = Limits(handshake_s=1.5)
    _, mesh, url = await net.listening(0, listen=PLAIN, limits=limits)
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    async with connect(url, compression=None, proxy=None, ping_interval=None) as upgraded:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionClosed):
            while True:
                await asyncio.wait_for(upgraded.recv(), BOUND_S)
        assert await asyncio.wait_for(reader.read(), BOUND_S) is not None, "nor does a socket without a request stay"
        writer.close()
    await eventually(lambda: mesh.inbound == 0)


async def test_only_one_path_is_served_and_only_so_many_callers(net: Net) -> None:
    _, mesh, url = await net.listening(0, listen=PLAIN, mesh_inbound_max=2)
    with pytest.raises(InvalidStatus) as wrong:
        await connect(url.replace("/crdt-sync", "/other"), proxy=None)
    assert wrong.value.response.status_code == 404
    async with connect(url, proxy=None), connect(url, proxy=None):
        await eventually(lambda: mesh.inbound == 2)
        async with calling(url, None) as third:
            third.say(b"GET /crdt-sync HTTP/1.1\r\n")
            assert await third.answer() == Refusal("too_many_connections", "this node takes no more connections now; it is tried again by itself")


@pytest.mark.promise("E18")
async def test_a_peer_that_does_not_read_costs_little_and_slows_nobody(net: Net) -> None:
    limits = Limits(progress_s=0.6)
    host, mesh, url = await net.listening(0, listen=PLAIN, limits=limits)
    two, mesh_two = await net.up(1)
    mesh_two.dial(url)
    await are_level(host, two)
    async with raw(net, url, member()) as slow:
        await slow.until(lambda: slow.session.state is State.LIVE)
        link = next(link for link, _, _ in mesh._links.values() if link.session.peer_key == member().public)
        slow.socket.transport.pause_reading()
        outbox = 0
        for _ in range(24):
            await asyncio.gather(*(host.add("x" * 100, body="y" * 30_000) for _ in range(8)))
            status = link.session.status()
            outbox = max(outbox, status.outbox_bytes, status.unacked_bytes, link._socket.transport.get_write_buffer_size())
        await are_level(host, two)
        assert len(two.node.board.items()) == 192
        assert outbox <= 1_048_576 + 262_144, f"{outbox} bytes wait for it"
        await eventually(lambda: mesh.connected == 1, "it makes no progress and is cut")
        lost = (await host.events_until("peer.lost"))[-1]
        assert lost.data["code"] == "no_progress"
        slow.socket.transport.abort()
    three, mesh_three = await net.up(2)
    mesh_three.dial(url)
    await are_level(host, three)


class Breaks:
    """A node whose one method breaks."""

    def __init__(self, rig: NodeRig, name: str, error: Exception) -> None:
        self._node = rig.node
        self._name = name
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name != self._name:
            return getattr(self._node, name)

        async def broken(*_: object) -> IngestReport:
            raise self._error

        return broken


@pytest.mark.parametrize("name", ["ingest", "read"])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("a bug"), StoreFailed("the disk is gone"), BadSignature("rubbish")], ids=lambda error: type(error).__name__
)
async def test_what_breaks_on_our_side_ends_the_link_and_is_told(net: Net, name: str, error: Exception) -> None:
    """Half a link that looks alive and brings nothing would be the worst end."""
    host, _, url = await net.listening(0, listen=PLAIN)
    two, _ = await net.up(1)
    await host.add("for two")
    await two.add("for the host")
    broken: Any = Breaks(two, name, error)
    _, mesh = await net.up(1, rig=two)
    mesh._node = broken
    mesh.dial(url)
    await eventually(lambda: peer(mesh).attempts >= 2, "it ends, and is tried again")
    assert peer(mesh).detail
    mesh._node = two.node
    await are_level(host, two)


async def test_a_subscriber_that_breaks_does_not_leave_half_a_link(net: Net) -> None:
    host, _, url = await net.listening(0, listen=PLAIN)
    two, mesh = await net.up(1)
    calls = 0

    def breaks(link: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ZeroDivisionError("a bug")
        original(link)

    original = mesh._on_ready
    mesh._on_ready = breaks  # type: ignore[method-assign]
    mesh.dial(url)
    await are_level(host, two)
    assert calls == 3


class Patient(Random):
    """Every pause is as long as it may be, and more."""

    def uniform(self, a: float, b: float) -> float:
        return 1_000.0


@asynccontextmanager
async def door(net: Net, code: str) -> AsyncIterator[tuple[str, list[int]]]:
    """A peer that proves itself as node 2 and then ends each connection with this code; its URL, and a list with an entry per call."""
    calls: list[int] = []

    async def accept(socket: ServerConnection) -> None:
        calls.append(1)
        identity: Identity = TwinIdentity(member())
        session = Session.accept(identity=identity, mesh=net.rigs.rigs[0].node.mesh_id, replica=Holds(), now=0.0)
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                assert isinstance(message, bytes)
                session.receive_frame(message, 0.0)
                if session.peer_key is not None and session.state is not State.CLOSED:
                    session.close(code, "over")
                while (frame := session.poll_frame()) is not None:
                    await socket.send(frame)
                if session.state is State.CLOSED:
                    return

    async with serve(accept, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/crdt-sync", calls


async def test_a_peer_that_always_sees_a_duplicate_is_not_hammered(net: Net) -> None:
    """Its half-dead connection to us may stay for half a minute; ours is not there to be waited for."""
    _, mesh = await net.up(0)
    mesh._dials._rng = Patient()
    async with door(net, "duplicate_connection") as (url, calls):
        mesh.dial(url)
        await eventually(lambda: calls != [] and peer(mesh).state == "waiting")
        await asyncio.sleep(0.1)
        assert len(calls) == 1, "the pause is kept"
        assert "duplicate" in peer(mesh).detail


async def test_a_peer_that_closes_again_and_again_is_dialled_with_pauses_and_told_of_once(net: Net) -> None:
    host, mesh = await net.up(0)
    async with door(net, "revoked") as (url, calls):
        mesh.dial(url)
        await eventually(lambda: len(calls) >= 5)
        await eventually(lambda: peer(mesh).attempts >= 4 and "revoked" in peer(mesh).detail)
        await host.add("a marker")
        await host.events_until("item.added")
        assert len(await host.events("peer.refused")) <= 1


async def test_a_handshake_that_is_cut_off_is_no_refusal(net: Net) -> None:
    """The one who issued the token restarts while we shake hands: a joiner goes on trying."""
    _, mesh = await net.up(7)
    calls: list[int] = []

    async def accept(socket: ServerConnection) -> None:
        await socket.recv()
        calls.append(1)
        socket.transport.abort()

    async with serve(accept, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/crdt-sync"
        mesh.dial(url, member(0).public, (b"t" * 16, b"s" * 32))
        joining = asyncio.create_task(mesh.first_sync(url))
        await eventually(lambda: len(calls) >= 3)
        await eventually(lambda: peer(mesh).state == "waiting")
        assert not joining.done()
        joining.cancel()


async def test_a_redirect_is_not_followed(net: Net) -> None:
    _, mesh = await net.up(0)
    elsewhere: list[int] = []

    async def trap(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        elsewhere.append(1)
        writer.close()

    async with await asyncio.start_server(trap, "127.0.0.1", 0) as other:
        location = f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/crdt-sync"

        def redirect(connection: ServerConnection, _request: Request) -> Response:
            answer = connection.respond(302, "over there\n")
            answer.headers["Location"] = location
            return answer

        async def never(_: ServerConnection) -> None:
            raise AssertionError("every request is redirected")

        async with serve(never, "127.0.0.1", 0, process_request=redirect) as server:
            mesh.dial(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/crdt-sync")
            await eventually(lambda: peer(mesh).attempts >= 2)
    assert elsewhere == []
    assert "302" in peer(mesh).detail


@pytest.mark.promise("I10")
async def test_a_peer_that_shows_other_heads_again_and_again_is_asked_a_few_times(net: Net) -> None:
    """Heads that it can not deliver, and segments that stand on nothing: each costs itself the reading, and the node a bounded number of questions."""
    host, mesh, url = await net.listening(0, listen=PLAIN)
    author = log_of(net)
    log = LogId(author.key.public, 9)
    await host.node.ingest([author.segment(1, 5)], author.key.public)
    other = Author(net.rigs.genesis, author.key, epoch=9)
    for turn in range(40):
        other.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), f"another history {turn}", None))
    async with raw(net, url, author.key, {log: []}, Head(5, bytes(32))) as liar:
        await liar.until(lambda: liar.session.state is State.LIVE)
        for turn in range(30):
            heads = tuple(Head(6 + turn, bytes([turn, n]) * 16) for n in range(3))
            await liar.socket.send(HeadsFrame(more=False, logs=((log, heads),)).encode())
            stray = other.segment(4 + turn, 4 + turn)
            await liar.socket.send(Segment(log, 4 + turn, 4 + turn, stray).encode())
        await liar.socket.send(Ping(7).encode())
        await eventually(lambda: any(session.counters.segments_in >= 30 for session in mesh._hub.sessions))
        (session,) = mesh._hub.sessions
        await eventually(lambda: session.status().unprocessed_bytes == 0)
        assert session.counters.wants_out <= session.counters.wants_with_places_out + 1
        assert session.counters.wants_with_places_out <= Limits().fork_asks
    assert [head.seq for head in host.node.heads_of(*log)] == [5]
    await host.add("the host goes on")
