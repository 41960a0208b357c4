"""One connection: moves frames between a WebSocket and a ``fabrik_sync`` session until it ends, and says how it ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from websockets.exceptions import ConnectionClosed

from fabrik_node.clock import Clock
from fabrik_node.errors import AuthError, FabrikError, StoreFailed, StoreFull
from fabrik_node.ports import Replication
from fabrik_node.transport.heard import HeardClient, HeardServer
from fabrik_node.transport.turns import Pace, Turn
from fabrik_sync import (
    BadProof,
    CaughtUp,
    Closed,
    DuplicateSeen,
    EphemeralReceived,
    Head,
    JoinRequested,
    LogId,
    PeerReady,
    Reason,
    Refused,
    SegmentsReceived,
    Session,
    State,
    verify_join_proof,
)

__all__ = ["Link", "LinkEnd"]

LinkEnd: TypeAlias = Closed | Refused
_FRAGMENT_BYTES = 65_536
"""A larger frame goes to the socket in parts of this size: TLS keeps as much memory for a connection as it was ever given at once."""
_FLUSH_S = 2.0
"""Seconds that the last frames may take to leave; then the socket is cut."""


class Link:
    """``on_ready`` is called once when the peer is proven; ``on_caught_up`` when the first sync is done; ``on_ephemeral`` for each message, ``on_duplicate`` when the peer has another connection."""

    def __init__(
        self,
        socket: HeardClient | HeardServer,
        session: Session,
        node: Replication,
        clock: Clock,
        *,
        on_ready: Callable[[Link], None],
        on_caught_up: Callable[[Link], None],
        on_ephemeral: Callable[[EphemeralReceived], None],
        on_duplicate: Callable[[Link], None],
        pace: Pace,
    ) -> None:
        self.session = session
        self._pace = pace
        self.rests = 0
        """Times that the peer had to wait because its frames kept the event loop busy."""
        self._socket = socket
        self._node = node
        self._clock = clock
        self._on_ready = on_ready
        self._on_caught_up = on_caught_up
        self._on_ephemeral = on_ephemeral
        self._on_duplicate = on_duplicate
        self._kicked = asyncio.Event()
        self._inbox: deque[SegmentsReceived] = deque()
        self._arrived = asyncio.Event()
        self._end: LinkEnd | None = None
        self._joining: JoinRequested | None = None
        self.heard_at = clock.now()
        self.failure: Exception | None = None
        """What broke on our side and ended the link; None for every other end."""
        socket.on_bytes = self._hear

    def kick(self) -> None:
        """Something was done to the session from outside: look at it."""
        self._kicked.set()

    async def run(self) -> LinkEnd:
        """Until the session ends. Cancelling closes the session first."""
        tasks = [asyncio.create_task(self._guarded(work), name=f"link-{work.__name__}") for work in (self._receive, self._ingest, self._watch)]
        try:
            await self._guarded(self._pump)
        except asyncio.CancelledError:
            self.session.close()
            self._take_events()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close_socket()
        if self.failure is not None:
            return Closed("internal", f"{self.failure}" or repr(self.failure), by_peer=False)
        return self._end or Closed("disconnected", "", by_peer=True)

    # ---- tasks ----------------------------------------------------------------------------------

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """One task of the link. What breaks it ends the whole link: half a link would look alive and bring nothing."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - told as the end of this link; one peer's connection never ends the node
            self.failure = self.failure or error
            self.session.close("internal", "this side broke")
            self.kick()
            if work == self._watch:  # nobody is left to cut a socket on which the pump is stuck
                self._socket.transport.abort()

    async def _pump(self) -> None:
        """Events, reads and frames, in the order that the session asks for."""
        session = self.session
        while True:
            self._kicked.clear()
            self._take_events()
            if self._joining is not None:
                joining, self._joining = self._joining, None
                await self._join(joining)
                self._take_events()
            while (request := session.poll_read()) is not None:
                found, _ = await self._node.read(*request.log, request.branch, request.after_seq, request.max_bytes)
                session.handle_read(request, [(part.first_seq, part.last_seq, part.data) for part in found])
                self._take_events()
            frame = session.poll_frame()
            if frame is not None:
                if not await self._send(frame):
                    session.handle_disconnected()
                continue
            if session.state is State.CLOSED:
                self._take_events()
                return
            if not self._kicked.is_set():
                await self._kicked.wait()

    async def _receive(self) -> None:
        """Frames of the peer. A text message is none."""
        with suppress(ConnectionClosed):  # an unclean end is told like a clean one: the session names the reason
            turn = Turn(self._pace)
            async for message in self._socket:
                self.heard_at = self._clock.now()
                self.session.receive_frame(message if isinstance(message, bytes) else b"", self.heard_at)
                self._take_events()
                self.kick()
                now = self._clock.now()
                if (rest_s := turn.rest_s(now - self.heard_at, now)) > 0:
                    self.rests += 1
                    await asyncio.sleep(rest_s)
        self.session.handle_disconnected()
        self.kick()

    def _hear(self) -> None:
        """Some bytes came, perhaps of a frame that will be a while."""
        self.heard_at = self._clock.now()
        self.session.receive_part(self.heard_at)

    async def _watch(self) -> None:
        """The session's deadlines, also while a send is stuck; a session that ended may not hang on its socket."""
        while self.session.state is not State.CLOSED:
            deadline = self.session.next_timeout()
            wait = 1.0 if deadline is None else min(1.0, max(0.0, deadline - self._clock.now()))
            await asyncio.sleep(wait)
            self.session.handle_timeout(self._clock.now())
            self.kick()
        await asyncio.sleep(_FLUSH_S)
        self._socket.transport.abort()

    async def _ingest(self) -> None:
        """Segments, in order, as many at once as have arrived. What is not ours to take costs the peer its connection, not us."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._inbox:
                batch = [self._inbox.popleft() for _ in range(len(self._inbox))]
                if not await self._ingest_batch(batch):
                    return

    async def _ingest_batch(self, batch: list[SegmentsReceived]) -> bool:
        try:
            report = await self._node.ingest([segment for received in batch for segment in received.segments], self.session.peer_key or b"")
        except StoreFailed as error:
            self._close_without_store(error)
            self.kick()
            return False
        except FabrikError as error:
            self.session.close("bad_segment", error.message)
            self.kick()
            return False
        for received in batch:
            self.session.handle_processed(received.size_bytes)
        for each in report.taken:
            self.session.handle_taken(LogId(each.author, each.epoch), Head(each.last_seq, each.head, each.branch))
        unrooted = set(report.unrooted)
        for author, epoch, have_seq in report.gaps:
            self.session.handle_gap(LogId(author, epoch), have_seq, unrooted=(author, epoch) in unrooted)
        self.kick()
        return True

    # ---- events ---------------------------------------------------------------------------------

    def _take_events(self) -> None:
        """Act on what happened. Without waiting: nothing may be committed between a session's start and its place in the hub."""
        for event in self.session.poll_events():
            self._handle(event)

    def _handle(self, event: object) -> None:
        match event:
            case SegmentsReceived():
                self._inbox.append(event)
                self._arrived.set()
            case EphemeralReceived():
                self._on_ephemeral(event)
            case PeerReady():
                self._on_ready(self)
            case CaughtUp():
                self._on_caught_up(self)
            case DuplicateSeen():
                self._on_duplicate(self)
            case JoinRequested():
                self._joining = event
            case Closed() | Refused():
                self._end = event
            case _:
                raise AssertionError(f"an event that this shell does not know: {event!r}")

    async def _join(self, event: JoinRequested) -> None:
        def proves(secret: bytes) -> bool:
            try:
                verify_join_proof(secret, event.transcript, event.proof)
            except BadProof:
                return False
            return True

        try:
            await self._node.redeem(event.token_id, event.key, proves, event.next)
        except AuthError as error:
            self.session.join_refused("join_refused", f"{error.message}; {error.hint}")
        except StoreFailed as error:
            self._close_without_store(error)
        except FabrikError as error:
            self.session.join_refused("join_refused", f"the issuer can not admit anybody now: {error.message}")
        else:
            self.session.join_accepted()

    def _close_without_store(self, error: StoreFailed) -> None:
        self.session.close(Reason.DISK_FULL if isinstance(error, StoreFull) else Reason.SHUTDOWN, "the node can not store anything")

    # ---- socket ---------------------------------------------------------------------------------

    async def _send(self, frame: bytes) -> bool:
        try:
            await self._socket.send(frame if len(frame) <= _FRAGMENT_BYTES else _fragments(frame))
        except ConnectionClosed:
            return False
        return True

    async def _close_socket(self) -> None:
        try:
            async with asyncio.timeout(_FLUSH_S):  # not wait_for: before Python 3.12 it can swallow a cancellation
                await self._socket.close()
        except (TimeoutError, ConnectionClosed, OSError):
            self._socket.transport.abort()


def _fragments(frame: bytes) -> list[memoryview]:
    """One WebSocket message in several of its frames."""
    view = memoryview(frame)
    return [view[start : start + _FRAGMENT_BYTES] for start in range(0, len(frame), _FRAGMENT_BYTES)]
