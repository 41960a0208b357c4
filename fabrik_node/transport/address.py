"""Addresses of peers: TLS anywhere; plain WebSocket on loopback alone, and only when it is asked for by ``ws://``."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from fabrik_node.errors import PortInUse, Precondition, UsageError

__all__ = ["SYNC_PATH", "ListenAddress", "PeerUrl", "check_url", "parse_listen", "parse_url", "reachable"]

SYNC_PATH = "/crdt-sync"
_EXAMPLE = f"wss://HOST:7420{SYNC_PATH}"
_WHY = "a plain connection proves nothing to anybody on the way, so it stays on loopback"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int
    plain: bool = False

    def url(self, port: int) -> str:
        """What peers dial; for a wildcard address only :func:`reachable` knows it."""
        return _url(self.host, port, plain=self.plain)


@dataclass(frozen=True, slots=True)
class PeerUrl:
    """Where to dial."""

    host: str
    port: int
    plain: bool

    def __str__(self) -> str:
        return _url(self.host, self.port, plain=self.plain)


def parse_listen(text: str) -> ListenAddress:
    """``HOST:PORT`` or ``wss://HOST:PORT`` for TLS, ``ws://HOST:PORT`` for none.

    Raises :class:`UsageError` for what is none, :class:`PortInUse` for a plain address off loopback.
    """
    scheme, _, rest = text.rpartition("://")
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    if scheme not in ("", "ws", "wss") or not host or "/" in rest or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise UsageError(f"{text!r} is not HOST:PORT", "--listen 0.0.0.0:7420, or --listen 127.0.0.1:7420 for this host alone")
    if scheme == "ws" and not _is_loopback(host):
        raise PortInUse(f"refusing to listen on {host} without TLS: {_WHY}", f"--listen {rest}, which speaks TLS")
    return ListenAddress(host, int(port), plain=scheme == "ws")


def parse_url(url: str) -> PeerUrl:
    """The address of a peer. Raises :class:`UsageError`, and :class:`PortInUse` for a plain one off loopback."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not the address of a peer: {error}", f"an address looks like {_EXAMPLE}") from error
    if parts.scheme not in ("ws", "wss") or not host or not port or parts.path not in ("", "/", SYNC_PATH) or parts.query or parts.fragment or parts.username:
        raise UsageError(f"{url!r} is not the address of a peer", f"an address looks like {_EXAMPLE}")
    if parts.scheme == "ws" and not _is_loopback(host):
        raise PortInUse(f"refusing to dial {host} without TLS: {_WHY}", f"its TLS address, if it has one: {_url(host, port, plain=False)}")
    return PeerUrl(host, port, plain=parts.scheme == "ws")


def check_url(url: str) -> str:
    """The same as text, with the path that we use."""
    return str(parse_url(url))


def reachable(url: str) -> str:
    """The URL that others dial. For a wildcard address it is the one address that this host has besides loopback.

    Raises :class:`Precondition` when there are several or none: nobody but the operator knows which one the others see.
    """
    parsed = parse_url(url)
    if not _is_wildcard(parsed.host):
        return str(parsed)
    found = _own_addresses(ipv6=":" in parsed.host)
    if len(found) == 1:
        return _url(found[0], parsed.port, plain=False)
    has = f"it has {', '.join(found[:8])}" if found else "it has none but loopback"
    example = _url(found[0] if found else "HOST", parsed.port, plain=False)
    raise Precondition(f"this node listens on every address of its host ({has}), and does not know which one the new node can reach", f"--url {example}")


def _own_addresses(*, ipv6: bool) -> Sequence[str]:
    """Of the interfaces that are up, without loopback and link-local ones."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found: list[str] = []
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses if name in up else ():
            try:
                address = ipaddress.ip_address(each.address)
            except ValueError:  # a hardware address, or one with a zone
                continue
            if (address.version == 6) == ipv6 and not (address.is_loopback or address.is_link_local):
                found.append(str(address))
    return sorted(set(found))


def _url(host: str, port: int, *, plain: bool) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{'ws' if plain else 'wss'}://{shown}:{port}{SYNC_PATH}"


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
