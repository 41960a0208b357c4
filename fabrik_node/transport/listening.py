"""Who may call us: the listening sockets, the callers that are not known yet, and the WebSockets of those that came through the gate."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from fabrik_node.clock import Clock, SystemClock
from fabrik_node.errors import PortInUse
from fabrik_node.transport.address import SYNC_PATH, ListenAddress
from fabrik_node.transport.contexts import read_in_bulk
from fabrik_node.transport.gate import Gate
from fabrik_node.transport.heard import HeardServer
from fabrik_node.transport.places import Places
from fabrik_node.transport.threshold import Caller, Shut, Threshold
from fabrik_node.transport.turns import Pace
from fabrik_sync import FRAME_BYTES_MAX

__all__ = ["QUEUE_FRAMES", "Listener", "accepted"]

HANDSHAKES_MAX = 32
"""Callers that are not known yet; for a further one the oldest of the address that has most gives way. An honest one needs milliseconds."""
QUEUE_FRAMES = 4
"""Frames that wait in a socket's buffer before reading from it stops."""
_BACKLOG = 128
_NO_DESCRIPTORS_S = 0.2
"""Pause of a listener that the system gives no more descriptors to."""
_log = logging.getLogger("fabrik_node.transport")
_socket_log = logging.getLogger("websockets")


class Listener:
    """``enter`` gets each caller whose WebSocket is open, and ends with its connection; ``shut`` those who were told why not."""

    def __init__(
        self,
        gate: Gate,
        *,
        enter: Callable[[HeardServer, Caller], Awaitable[None]],
        shut: Callable[[str, Shut], None],
        handshake_s: float,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._clock = clock or SystemClock()
        self._gate = gate
        self._enter = enter
        self._shut = shut
        self._handshake_s = handshake_s
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._unknown: Places[asyncio.Task[None]] = Places(HANDSHAKES_MAX)
        self._of_key: Counter[bytes] = Counter()
        self.handler_tasks: set[asyncio.Task[None]] = set()
        """Name and use are those of ``websockets``' own server, whose part this object plays for a :class:`ServerConnection`."""

    @property
    def unknown(self) -> int:
        """Callers of whom we know nothing yet."""
        return len(self._unknown)

    def connected(self, key: bytes) -> int:
        """Connections that came through the gate with this key behind their certificate or invitation."""
        return self._of_key[key]

    async def open(self, address: ListenAddress) -> int:
        """Listen; the port. Raises :class:`PortInUse`."""
        try:
            port = await self._bind(address)
        except OSError as error:
            self._close_sockets()
            raise PortInUse(
                f"can not listen on {address.host}:{address.port}: {os.strerror(error.errno) if error.errno and error.errno > 0 else error}",
                "--listen 127.0.0.1:0 takes a free port",
            ) from error
        self._accepting = [asyncio.create_task(self._accept(each), name="accept") for each in self._sockets]
        return port

    async def close(self) -> None:
        """No more callers; those that are connected are waited for."""
        for tasks in (self._accepting, self._unknown):  # in this order: meanwhile whoever was met last has its socket in hand
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()
        await asyncio.gather(*self.handler_tasks, return_exceptions=True)

    async def _bind(self, address: ListenAddress) -> int:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = address.port
        for family, kind, proto, _, place in dict.fromkeys(infos):
            made = socket.socket(family, kind, proto)
            self._sockets.append(made)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((place[0], port, *place[2:]))
            made.listen(_BACKLOG)
            port = made.getsockname()[1]
        return port

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, place = await accepted(listening)
            except OSError as error:
                _log.warning("can not accept a connection: %s", error)
                await asyncio.sleep(_NO_DESCRIPTORS_S)
                continue
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:  # some systems say so of a caller that is gone already
                _log.debug("a caller was gone at once: %s", error)
                sock.close()
                continue
            task = asyncio.create_task(self._meet(sock, str(place[0])), name="gate")
            task.add_done_callback(self._forget)
            gave_way = self._unknown.take(task, str(place[0]))
            if gave_way is not None:
                gave_way.cancel()
                self._gate.counters.evicted += 1
            await asyncio.sleep(0)  # it has its socket in hand now, and closes it when it is cancelled
            self._pace.add(self._gate.cost_s, self._clock.now())
            await asyncio.sleep(self._pace.rest_s())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._unknown.leave(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a caller broke the gate", exc_info=task.exception())

    async def _meet(self, sock: socket.socket, address: str) -> None:
        found = await self._gate.let_in(sock, address)
        if isinstance(found, Shut):
            self._shut(address, found)
        elif found is not None:
            self._hand_over(*found)

    def _hand_over(self, caller: Caller, threshold: Threshold) -> None:
        """From here on WebSocket reads. Without waiting: nobody else may look at the transport meanwhile."""
        if threshold.lost:  # nobody would tell the WebSocket
            threshold.transport.abort()
            return
        self._of_key[caller.key] += 1
        protocol = ServerProtocol(max_size=FRAME_BYTES_MAX, logger=_socket_log)
        connection = _Caller(protocol, cast("Any", self), caller)
        read_in_bulk(threshold.transport)
        threshold.transport.set_protocol(connection)
        connection.connection_made(threshold.transport)
        if threshold.received:
            connection.data_received(bytes(threshold.received))
        threshold.transport.resume_reading()

    # ---- what a ServerConnection asks of its server -----------------------------------------------

    def is_serving(self) -> bool:
        """Until it is closed."""
        return bool(self._sockets)

    async def handler(self, connection: _Caller) -> None:
        """The life of one WebSocket."""
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(self._handshake_s):
                await connection.handshake(_check_path, None, None)
            if connection.protocol.state is State.OPEN:
                async with connection:
                    await self._enter(connection, connection.caller)
        except TimeoutError:
            _log.debug("a caller from %s did not begin its WebSocket in time", connection.caller.address)
        except Exception as error:  # noqa: BLE001 - one caller's connection never ends the node
            _log.error("a caller's connection broke on this side", exc_info=error)
        finally:
            connection.transport.abort()
            self._of_key[connection.caller.key] -= 1
            if not self._of_key[connection.caller.key]:
                del self._of_key[connection.caller.key]
            if task is not None:
                self.handler_tasks.discard(task)


class _Caller(HeardServer):
    """Knows who came through the gate."""

    def __init__(self, protocol: ServerProtocol, server: Any, caller: Caller) -> None:
        super().__init__(protocol, server, ping_interval=None, close_timeout=2, max_queue=QUEUE_FRAMES)
        self.caller = caller


def _check_path(connection: ServerConnection, request: Request) -> Response | None:
    if request.path != SYNC_PATH:
        return connection.respond(404, f"the only thing here is {SYNC_PATH}\n")
    return None


async def accepted(listening: socket.socket) -> tuple[socket.socket, Any]:
    """The next connection of a listening socket that does not block, and where it comes from. Raises OSError.

    Nothing lies between accept(2) and the caller: ``loop.sock_accept`` loses a connection, open, when its caller is cancelled in the moment in which it comes.
    """
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listening, ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            try:
                sock, place = listening.accept()
            except BlockingIOError:
                continue
            sock.setblocking(False)
            return sock, place
    finally:
        loop.remove_reader(listening)
