"""What TLS adds: bytes of a reconnect as the network sees them, and the price of callers that are nobody."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import psutil
from benchmark import Measured, Scale, benchmark
from node_home import Home, homes
from session_benches import LOGS, Identity, Logs

from fabrik_node._core import SigningKey
from fabrik_node.app.opening import load_mesh
from fabrik_node.clock import SystemClock
from fabrik_node.transport.address import parse_listen, parse_url
from fabrik_node.transport.contexts import Contexts
from fabrik_node.transport.gate import Gate
from fabrik_node.transport.guises import Guise, Guises
from fabrik_node.transport.knocking import knock
from fabrik_node.transport.listening import HANDSHAKES_MAX, Listener
from fabrik_node.transport.threshold import Caller
from fabrik_sync import Head, LogId, Session

__all__ = ["contexts_of"]

_STRANGERS = 200
_PATIENCE_S = 30.0


def contexts_of(key: SigningKey, admitted: Iterable[bytes]) -> Contexts:
    """SSL contexts of a node with this key."""
    keys = set(admitted)
    return Contexts(key.public, key.sign, lambda: keys, SystemClock())


class _Members:
    """What a gate asks of its node."""

    def __init__(self, keys: set[bytes]) -> None:
        self._keys = keys

    def is_admitted(self, key: bytes) -> bool:
        return key in self._keys


@contextlib.asynccontextmanager
async def _counting(port: int) -> AsyncIterator[tuple[int, list[int]]]:
    """A relay to ``port``: its own port, and a list with the bytes of both directions in sum."""
    carried = [0]

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            carried[0] += len(data)
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], carried


async def _talk(wire: Any, session: Session) -> None:
    """Until this side knows that nothing is missing, and has said all that it has to."""
    while True:
        while (frame := session.poll_frame()) is not None:
            await wire.send(frame)
        if session.is_caught_up:
            return
        session.receive_frame(bytes(await wire.recv()), 0.0)


async def _reconnect() -> int:
    host, peer = (SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(2))
    keys = {host.public, peer.public}
    mesh = secrets.token_bytes(32)
    heads = {LogId(secrets.token_bytes(32), 1 << 32 | n): Head(1000 + n, secrets.token_bytes(32)) for n in range(LOGS)}
    level = asyncio.Event()

    async def enter(wire: Any, caller: Caller) -> None:
        certs = {"own_cert": caller.own_cert, "peer_cert": caller.peer_cert, "cert_key": caller.key}
        await _talk(wire, Session.accept(identity=Identity(host), mesh=mesh, replica=Logs(heads), now=0.0, **certs))  # type: ignore[arg-type]
        level.set()
        await wire.wait_closed()

    members: Any = _Members(keys)
    gate = Gate(
        members, Guises(Guise(host.public, host.sign, lambda: keys, SystemClock()), (), lambda: keys, SystemClock()), has_room=lambda _: True, handshake_s=5.0
    )
    listener = Listener(gate, enter=enter, shut=lambda *_: None, handshake_s=5.0)
    port = await listener.open(parse_listen("127.0.0.1:0"))
    async with _counting(port) as (between, carried):
        opened = await knock(parse_url(f"wss://127.0.0.1:{between}"), contexts_of(peer, keys), peer.public, expected=host.public, join=None)
        session = Session.connect(
            identity=Identity(peer),
            mesh=mesh,
            replica=Logs(dict(heads)),
            now=0.0,
            expected_key=host.public,
            own_cert=opened.own_cert,
            peer_cert=opened.peer_cert,
            cert_key=opened.peer_key,
        )
        async with asyncio.timeout(_PATIENCE_S):
            await _talk(opened.socket, session)
            await level.wait()
        total = carried[0]
        await opened.socket.close()
        await listener.close()
    return total


@benchmark(("reconnect.wire", "B", "<=", 8192))
def reconnect_wire(_: Scale) -> dict[str, Measured]:
    """The same meeting of two nodes with 1,000 equal logs as ``reconnect.bytes``, counted below TLS: certificates, HTTP and records included."""
    return {
        "reconnect.wire": Measured(asyncio.run(_reconnect()), {"logs": LOGS, "what": "TCP payload in both directions until both know that nothing is missing"})
    }


def _refused_once(place: tuple[str, int], context: ssl.SSLContext) -> None:
    """A caller with a certificate that nobody knows, up to the alert."""
    with socket.create_connection(place, timeout=_PATIENCE_S) as raw, contextlib.suppress(ssl.SSLError, OSError), context.wrap_socket(raw) as tls:
        tls.send(b"GET / HTTP/1.1\r\n\r\n")
        tls.recv(1)


def _first_flight(context: ssl.SSLContext) -> bytes:
    """A whole ClientHello."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


def _rss(host: Home) -> int:
    if host.process is None:
        raise RuntimeError("the node ended")
    return int(psutil.Process(host.process.pid).memory_info().rss)


@benchmark(("gate.cpu", "ms", "<=", 5.0), ("gate.memory", "KiB", "<=", 64))
def gate(_: Scale) -> dict[str, Measured]:
    """Processor time of a node per refused stranger, and its memory per caller that stops in the middle of the TLS handshake."""
    stranger = SigningKey.from_seed(secrets.token_bytes(32))
    with homes("host") as (host,):
        host.cli("init", "--name", "host", "--mesh", "bench")
        host.serve("serve", "--listen", "127.0.0.1:0")
        parsed = parse_url(str(host.wait_ready()["listen"]))
        place = (parsed.host, parsed.port)
        admin = load_mesh(host.paths).record.admin
        context = asyncio.run(contexts_of(stranger, [admin]).client(admin)).context
        _refused_once(place, context)
        resting, flight = _rss(host), _first_flight(context)
        with contextlib.ExitStack() as half_open:
            for _turn in range(HANDSHAKES_MAX):
                half = half_open.enter_context(socket.create_connection(place, timeout=_PATIENCE_S))
                half.sendall(flight)
                half.recv(1)  # the answer: it holds the handshake now
            grown = (_rss(host) - resting) / HANDSHAKES_MAX / 1024
        before = host.cpu_s()
        for _turn in range(_STRANGERS):
            _refused_once(place, context)
        cpu_ms = (host.cpu_s() - before) / _STRANGERS * 1000
        return {
            "gate.cpu": Measured(cpu_ms, {"strangers": _STRANGERS, "what": "of the node's process, TLS up to the alert"}),
            "gate.memory": Measured(
                grown, {"handshakes": HANDSHAKES_MAX, "what": "resident set per handshake that waits for its second flight; the most there can be at once"}
            ),
        }
