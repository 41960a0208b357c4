"""All peers of one node: who listens, who is dialled, when again, and what ``status`` says of each."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.http11 import Request, Response

from fabrik_node._core import Head as CoreHead
from fabrik_node.clock import Clock
from fabrik_node.errors import PortInUse
from fabrik_node.ids import show_key
from fabrik_node.ports import PeerStatus, Replication
from fabrik_node.transport.adapters import NodeIdentity, NodeLogs
from fabrik_node.transport.address import SYNC_PATH, ListenAddress
from fabrik_node.transport.link import Link, LinkEnd
from fabrik_sync import FRAME_BYTES_MAX, Backoff, Closed, EphemeralReceived, Hub, Join, Limits, LogId, Reason, Refused, Retry, Session, State, Status, retry_of

__all__ = ["DialEnd", "Mesh"]

INBOUND_MAX = 128
"""Connections that others opened; further ones are refused until one ends."""
RETRY_S_MAX = 4.0
"""The longest wait between two dials of an address, so that a mesh heals within ten seconds however long it was apart."""
_TELL_AGAIN_S = 600.0
"""A caller that is refused again and again for one reason is told of this often: events are kept for ever."""
_TOLD_MAX = 256
"""Refusals that are remembered for that."""
_QUEUE_FRAMES = 4
"""Frames that wait in a socket's buffer before reading from it stops."""
_FLUSH_LOOK_S = 0.02
_STRANGER_HINT = "ask the mesh's admin for a token (fabrik-node invite), then: fabrik-node join TOKEN"
_log = logging.getLogger("fabrik_node.transport")
_socket_log = logging.getLogger("websockets")


@dataclass(frozen=True, slots=True)
class DialEnd:
    """How a dial ended before its first sync was done. ``refused``: by one of the two sides, for a reason; ``detail`` is one line."""

    refused: bool
    detail: str


@dataclass(slots=True)
class _Dial:
    """One address that we call. ``state`` as in :class:`PeerStatus` while there is no session."""

    url: str
    key: bytes
    join: Join | None
    backoff: Backoff
    state: str = "connecting"
    detail: str = ""
    link: Link | None = None
    task: asyncio.Task[None] | None = None
    again: asyncio.Event = field(default_factory=asyncio.Event)
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    end: LinkEnd | None = None


class _Connect(connect):
    """A connection to this address and no other: a redirect would lead off loopback."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Every answer but a WebSocket is a failure."""
        return exc


class Mesh:
    """``tell(kind, data)`` gets peer events; ``moved()`` is called when the state of a peer changed. Use from one event loop."""

    def __init__(
        self,
        node: Replication,
        admin: bytes,
        clock: Clock,
        rng: Random,
        *,
        tell: Callable[[str, Mapping[str, Any]], None],
        moved: Callable[[], None],
        limits: Limits | None = None,
        inbound_max: int = INBOUND_MAX,
        retry_s_max: float = RETRY_S_MAX,
    ) -> None:
        self._node = node
        self._clock = clock
        self._rng = rng
        self._tell = tell
        self._moved = moved
        self._identity = NodeIdentity(node)
        self._logs = NodeLogs(node, admin)
        self._hub = Hub(node.public)
        self._links: dict[Session, tuple[Link, str, str]] = {}
        self._dials: dict[str, _Dial] = {}
        self._server: Server | None = None
        self._limits = limits or Limits()
        self._inbound_max = inbound_max
        self._retry_s_max = retry_s_max
        self._told: dict[tuple[str, str], float] = {}
        self._inbound = 0
        self._link_ended = asyncio.Event()
        self._unsubscribe = [
            node.on_members(self._on_members),
            node.on_committed(self._on_committed),
            node.on_ephemeral(self._on_ephemeral),
            node.on_missing(self._on_missing),
        ]
        self.refused_inbound = 0

    # ---- commands -------------------------------------------------------------------------------

    async def listen(self, address: ListenAddress) -> str:
        """Accept peers; the URL that they dial. Raises :class:`PortInUse`."""
        try:
            self._server = await serve(
                self._accept,
                address.host,
                address.port,
                process_request=_check_path,
                compression=None,
                max_size=FRAME_BYTES_MAX,
                max_queue=_QUEUE_FRAMES,
                ping_interval=None,
                open_timeout=self._limits.handshake_s,
                close_timeout=2,
                logger=_socket_log,
            )
        except OSError as error:
            raise PortInUse(
                f"can not listen on {address.host}:{address.port}: {os.strerror(error.errno) if error.errno else error}",
                "--listen 127.0.0.1:0 takes a free port",
            ) from error
        return address.url(next(iter(self._server.sockets)).getsockname()[1])

    def dial(self, url: str, key: bytes = b"", invitation: tuple[bytes, bytes] | None = None) -> None:
        """Keep a connection to this address. ``key`` empty: any member may answer. Known addresses are left as they are.

        ``invitation``: token id and secret, used while we are not a member.
        """
        if url not in self._dials:
            dial = _Dial(url, key, None if invitation is None else Join(*invitation), Backoff(self._rng, cap_s=self._retry_s_max))
            self._dials[url] = dial
            dial.task = asyncio.create_task(self._keep(dial), name=f"dial {url}")

    @property
    def dials(self) -> int:
        """How many addresses are kept."""
        return len(self._dials)

    @property
    def connected(self) -> int:
        """Peers that are proven and connected now. May be asked from any thread."""
        return self._hub.peers

    async def first_sync(self, url: str) -> DialEnd | None:
        """Wait until everything that this peer had is here: None. Or how it ended before that."""
        dial = self._dials[url]
        waiting = [asyncio.ensure_future(dial.caught_up.wait()), asyncio.ensure_future(dial.ended.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return None if dial.caught_up.is_set() else DialEnd(isinstance(dial.end, Refused), dial.detail)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until every connected peer has all that we have, at most ``timeout_s``; whether that came true."""
        deadline = self._clock.now() + timeout_s
        while any(self._is_owed(session.status()) for session in self._hub.sessions):
            if self._clock.now() >= deadline:
                return False
            await asyncio.sleep(_FLUSH_LOOK_S)
        return True

    async def close(self) -> None:
        """End every connection and dial nobody any more. Closing twice is closing once."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        tasks = [dial.task for dial in self._dials.values() if dial.task is not None]
        for session, (link, _, _) in tuple(self._links.items()):
            session.close()
            link.kick()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def statuses(self) -> Sequence[PeerStatus]:
        """One line for each dialled address and each peer that called us."""
        found = [self._dial_status(dial) for dial in self._dials.values()]
        called = [(link, url) for link, url, direction in self._links.values() if direction == "in" and link.session.peer_key is not None]
        return [*found, *(self._link_status(link, url, "in", 0, "") for link, url in called)]

    # ---- connections ----------------------------------------------------------------------------

    async def _accept(self, socket: ServerConnection) -> None:
        if self._inbound >= self._inbound_max:
            await socket.close(1013, "too many connections")
            return
        self._inbound += 1
        try:
            session = Session.accept(
                identity=self._identity,
                mesh=self._node.mesh_id,
                replica=self._logs,
                now=self._clock.now(),
                limits=self._limits,
                unknown_key_hint=_STRANGER_HINT,
                wants=self._hub.wants,
            )
            link = self._link(socket, session, "", "in")
            end = await self._run(link)
            if isinstance(end, Refused):
                self.refused_inbound += 1
                self._tell_refused_caller(end, b"" if session.peer_key is None else session.peer_key)
        finally:
            self._inbound -= 1

    async def _keep(self, dial: _Dial) -> None:
        while True:
            dial.state = "connecting"
            try:
                end, problem = await self._dial_once(dial)
            except Exception as error:  # noqa: BLE001 - an address that is never dialled again in silence is worse; status shows it
                _log.error("dialling %s broke on this side", dial.url, exc_info=error)
                end, problem = None, f"this side broke: {error!r}"
            dial.link = None
            delay = dial.backoff.handle_failed(self._clock.now(), end)
            if end is not None:
                dial.end = end
                problem = f"{end.code}: {end.hint}" if end.hint else end.code
            is_news, dial.detail = problem != dial.detail, problem
            refused = isinstance(end, Refused) and retry_of(end.code, refused=True) is not Retry.SOON  # a handshake that was cut off is none
            if end is not None and refused and is_news:
                self._tell("peer.refused", {"direction": "out", "url": dial.url, "code": end.code, "detail": end.hint, "by_peer": end.by_peer})
            dial.state = "refused" if refused or delay is None else "waiting"
            if refused or delay is None:
                dial.ended.set()
            self._moved()
            dial.again.clear()
            if end is not None and end.code == Reason.DUPLICATE and self._hub.peer(dial.key) is not None:
                dial.backoff.reset()
                await self._until_gone(dial)
                continue
            try:
                async with asyncio.timeout(delay):
                    await dial.again.wait()
            except TimeoutError:
                continue
            dial.backoff.reset()

    async def _until_gone(self, dial: _Dial) -> None:
        """The same peer called us, and that connection stays: dial again when it is over."""
        dial.state = "connected"
        while self._hub.peer(dial.key) is not None:
            gone = self._link_ended
            await gone.wait()

    async def _dial_once(self, dial: _Dial) -> tuple[LinkEnd | None, str]:
        try:
            socket = await _Connect(
                dial.url,
                compression=None,
                proxy=None,
                max_size=FRAME_BYTES_MAX,
                max_queue=_QUEUE_FRAMES,
                ping_interval=None,
                open_timeout=5,
                close_timeout=2,
                user_agent_header=None,
                logger=_socket_log,
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            return None, str(error) or type(error).__name__
        join = None if self._node.is_admitted(self._node.public) else dial.join
        session = Session.connect(
            identity=self._identity,
            mesh=self._node.mesh_id,
            replica=self._logs,
            now=self._clock.now(),
            limits=self._limits,
            expected_key=dial.key or None,
            join=join,
            wants=self._hub.wants,
        )
        dial.link = self._link(socket, session, dial.url, "out")
        return await self._run(dial.link), ""

    def _link(self, socket: Any, session: Session, url: str, direction: str) -> Link:
        link = Link(
            socket,
            session,
            self._node,
            self._clock,
            on_ready=self._on_ready,
            on_caught_up=self._on_caught_up,
            on_ephemeral=self._on_foreign_ephemeral,
            on_duplicate=self._on_duplicate,
        )
        self._links[session] = (link, url, direction)
        return link

    async def _run(self, link: Link) -> LinkEnd:
        session = link.session
        end: LinkEnd = Closed("shutdown", "", by_peer=False)
        try:
            end = await link.run()
            if link.failure is not None:
                _log.error("a connection broke on this side (%s)", self._links[session][1] or "they called us", exc_info=link.failure)
        finally:
            self._links.pop(session, None)
            was_ready = session.peer_key is not None and not isinstance(end, Refused)
            self._hub.remove(session)
            ended, self._link_ended = self._link_ended, asyncio.Event()
            ended.set()
            self._kick_all()
            if was_ready and end.code != "duplicate_connection" and session.peer_key is not None:
                self._tell("peer.lost", {"key": show_key(session.peer_key), "code": end.code, "detail": end.hint})
            self._moved()
        return end

    def _tell_refused_caller(self, end: Refused, key: bytes) -> None:
        now, who = self._clock.now(), (show_key(key) if key else "", end.code)
        told = self._told.get(who)
        if told is not None and now - told < _TELL_AGAIN_S:
            return
        if len(self._told) >= _TOLD_MAX:
            del self._told[min(self._told, key=self._told.__getitem__)]
        self._told[who] = now
        self._tell("peer.refused", {"direction": "in", "key": who[0], "code": end.code, "detail": end.hint})

    # ---- what links tell --------------------------------------------------------------------------

    def _on_ready(self, link: Link) -> None:
        session = link.session
        _, url, direction = self._links[session]
        dial = self._dials.get(url) if direction == "out" else None
        if dial is not None:
            dial.backoff.handle_ready(self._clock.now())
            dial.key = session.peer_key or dial.key
            dial.detail = ""
        for other in self._hub.add(session):
            self._kick(other)
        if session.state is not State.CLOSED and session.peer_key is not None:
            self._tell("peer.connected", {"key": show_key(session.peer_key), "direction": direction, "url": url})
        for author, counter, message in self._node.ephemerals():
            session.send_ephemeral(author, counter, message)
        link.kick()
        self._moved()

    def _on_duplicate(self, link: Link) -> None:
        for closed in self._hub.handle_duplicate(link.session):
            self._kick(closed)

    def _on_caught_up(self, link: Link) -> None:
        _, url, direction = self._links[link.session]
        dial = self._dials.get(url) if direction == "out" else None
        if dial is not None:
            dial.caught_up.set()
        self._moved()

    def _on_foreign_ephemeral(self, event: EphemeralReceived) -> None:
        if self._hub.is_news(event.author, event.counter):
            self._node.ephemeral_in(event.data)  # comes back through _on_ephemeral when it is valid

    # ---- what the node tells ----------------------------------------------------------------------

    def _on_members(self) -> None:
        self._hub.handle_admitted_changed()
        for dial in self._dials.values():
            if dial.state == "refused":
                dial.again.set()
        self._kick_all()

    def _on_committed(self, heads: Sequence[CoreHead]) -> None:
        for log in dict.fromkeys(LogId(head.author, head.epoch) for head in heads):
            self._hub.handle_heads(log, self._logs.heads_of(log))
        self._kick_all()
        self._moved()  # a peer that was syncing may be level with us now

    def _on_missing(self, author: bytes, epoch: int, have_seq: int) -> None:
        asked = self._hub.handle_lost(LogId(author, epoch), have_seq, self._clock.now())
        if asked is not None:
            self._kick(asked)

    def _on_ephemeral(self, author: bytes, counter: int, message: bytes) -> None:
        if self._hub.handle_ephemeral(author, counter, message):
            self._kick_all()

    @staticmethod
    def _is_owed(status: Status) -> bool:
        return status.lag_out > 0 or status.outbox_bytes > 0 or status.unacked_bytes > 0

    def _kick(self, session: Session) -> None:
        entry = self._links.get(session)
        if entry is not None:
            entry[0].kick()

    def _kick_all(self) -> None:
        for link, _, _ in tuple(self._links.values()):
            link.kick()

    # ---- status -----------------------------------------------------------------------------------

    def _dial_status(self, dial: _Dial) -> PeerStatus:
        link = dial.link
        if link is not None and link.session.peer_key is not None and link.session in self._links:
            return self._link_status(link, dial.url, "out", dial.backoff.attempts, dial.detail)
        other = self._hub.peer(dial.key) if dial.key else None
        if other is not None and other in self._links:  # the connection that they opened serves both ways
            return self._link_status(self._links[other][0], dial.url, "both", dial.backoff.attempts, "")
        return PeerStatus(dial.url, dial.key, "", dial.state, "out", dial.backoff.attempts, None, None, dial.detail)

    def _link_status(self, link: Link, url: str, direction: str, attempts: int, detail: str) -> PeerStatus:
        status = link.session.status()
        state = "behind" if status.behind else ("connected" if status.caught_up else "syncing")
        counters = link.session.counters
        return PeerStatus(
            url=url,
            key=status.peer_key or b"",
            name="",
            state=state,
            direction=direction,
            attempts=attempts,
            last_contact_s=max(0.0, self._clock.now() - link.heard_at),
            lag_ops=status.lag_in + status.lag_out + status.unacked_ops,
            lag_out=status.lag_out + status.unacked_ops,
            lag_in=status.lag_in,
            lag_s=self._node.committed_s((*log, branch, seq) for log, branch, seq in link.session.behind()),
            outbox_bytes=status.unacked_bytes,
            detail=detail,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
        )


def _check_path(connection: ServerConnection, request: Request) -> Response | None:
    if request.path != SYNC_PATH:
        return connection.respond(404, f"the only thing here is {SYNC_PATH}\n")
    return None
