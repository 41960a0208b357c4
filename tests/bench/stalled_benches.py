"""Peers that connect, ask for everything and then do not read: what each of them costs the node."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import Iterator

import psutil
from benchmark import Measured, Scale, benchmark
from node_home import Home, homes
from session_benches import Identity, Logs
from tls_benches import contexts_of
from websockets.sync.client import ClientConnection, connect

from fabrik_node._core import SigningKey
from fabrik_node.app.opening import load_mesh
from fabrik_node.transport.certificates import hash_of
from fabrik_sync import Session

__all__: list[str] = []

PEERS = 16
_OPS = 200_000
_WRITES = 300
_HANDSHAKE_FRAMES = 8


@contextlib.contextmanager
def _stalled(url: str, mesh: bytes, admin: bytes, key: SigningKey) -> Iterator[None]:
    """A connection that gets its first segments and then reads nothing more."""
    armed = asyncio.run(contexts_of(key, [admin]).client(admin))
    with connect(url, ssl=armed.context, compression=None, proxy=None, max_size=None, max_queue=1, ping_interval=None, close_timeout=0.2) as socket:
        raw = socket.socket
        if not isinstance(raw, ssl.SSLSocket):
            raise TypeError("the connection is not TLS")
        peer_cert = hash_of(raw.getpeercert(binary_form=True) or b"")
        session = Session.connect(identity=Identity(key), mesh=mesh, replica=Logs({}), now=0.0, own_cert=armed.own_cert, peer_cert=peer_cert)
        for _ in range(_HANDSHAKE_FRAMES):
            _send(socket, session)
            session.receive_frame(bytes(socket.recv(timeout=20, decode=False)), 0.0)
            if session.counters.segments_in:
                break
        else:
            raise AssertionError(f"no segment came in {_HANDSHAKE_FRAMES} frames: {session.state}")
        yield


def _send(socket: ClientConnection, session: Session) -> None:
    while (frame := session.poll_frame()) is not None:
        socket.send(frame)


def _write(host: Home) -> None:
    for number in range(_WRITES):
        host.ask("items.add", {"title": f"written meanwhile {number}"})


def _settled_rss(host: Home) -> int:
    """Resident bytes of the node, once they do not grow any more."""
    if host.process is None:
        raise RuntimeError("the node ended")
    process = psutil.Process(host.process.pid)
    seen = int(process.memory_info().rss)
    for _ in range(30):
        time.sleep(0.3)
        now = int(process.memory_info().rss)
        if now <= seen:
            return now
        seen = now
    return seen


@benchmark(("memory.stalled", "MiB", "<=", 1.0))
def stalled(_: Scale) -> dict[str, Measured]:
    """Growth of a node per peer that asks for a large log and does not read, while others write."""
    keys = [SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(PEERS)]
    with homes("host") as (host,), contextlib.ExitStack() as peers:
        host.cli("init", "--name", "host", "--mesh", "bench")
        host.admit([key.public for key in keys])
        host.fill(_OPS)
        host.serve("serve", "--listen", "127.0.0.1:0")
        url = str(host.wait_ready()["listen"])
        record = load_mesh(host.paths).record
        with _stalled(url, record.mesh_id, record.admin, keys[0]):
            _write(host)  # what the first connection and the first writes cost is not the price of one more
        before = _settled_rss(host)
        for key in keys:
            peers.enter_context(_stalled(url, record.mesh_id, record.admin, key))
        _write(host)
        connected = sum(peer["state"] != "closed" for peer in host.ask("status")["peers"])
        grown = _settled_rss(host) - before
        env = {"stalled_peers": PEERS, "connected_after_the_writes": connected, "ops": _OPS, "writes": _WRITES, "rss_before_mib": round(before / 1_048_576, 1)}
        return {"memory.stalled": Measured(grown / PEERS / 1_048_576, env)}
