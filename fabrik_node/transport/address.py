"""Addresses of peers. Without TLS only loopback is allowed, in both directions."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from fabrik_node.errors import PortInUse, UsageError

__all__ = ["SYNC_PATH", "ListenAddress", "check_url", "parse_listen"]

SYNC_PATH = "/crdt-sync"
_WHY = "this version has no TLS yet, so it stays on loopback"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def url(self, port: int) -> str:
        """What peers dial."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{port}{SYNC_PATH}"


def parse_listen(text: str) -> ListenAddress:
    """``HOST:PORT``. Raises :class:`UsageError` for what is none, :class:`PortInUse` for an address off loopback."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"{text!r} is not HOST:PORT", "--listen 127.0.0.1:7420")
    if not _is_loopback(host):
        raise PortInUse(f"refusing to listen on {host}: {_WHY}", f"--listen 127.0.0.1:{port}")
    return ListenAddress(host, int(port))


def check_url(url: str) -> str:
    """The WebSocket address of a peer, with the path that we use. Raises :class:`UsageError` or :class:`PortInUse`."""
    example = f"ws://127.0.0.1:7420{SYNC_PATH}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not the address of a peer: {error}", f"an address looks like {example}") from error
    if parts.scheme != "ws" or not host or port is None or parts.path not in ("", "/", SYNC_PATH) or parts.query or parts.username:
        raise UsageError(f"{url!r} is not the address of a peer", f"an address looks like {example}")
    if not _is_loopback(host):
        raise PortInUse(f"refusing to dial {host}: {_WHY}", f"an address looks like {example}")
    return ListenAddress(host, port).url(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
