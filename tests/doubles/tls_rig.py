"""Callers that speak TLS as they like, and a look at what the gate lets through."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from node_rig import BOUND_S
from websockets.asyncio.server import ServerConnection

from fabrik_node._core import SigningKey
from fabrik_node.clock import SystemClock
from fabrik_node.transport.contexts import Contexts
from fabrik_node.transport.join_frame import Refusal, decode_refusal

__all__ = ["Seen", "TlsCaller", "calling", "contexts_of", "place_of"]


class Seen:
    """Every WebSocket that a server made since then, and how many bytes its parser got."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.bytes = 0
        made, received = ServerConnection.__init__, ServerConnection.data_received

        def count_made(connection: ServerConnection, *args: Any, **options: Any) -> None:
            self.made += 1
            made(connection, *args, **options)

        def count_bytes(connection: ServerConnection, data: bytes) -> None:
            self.bytes += len(data)
            received(connection, data)

        monkeypatch.setattr(ServerConnection, "__init__", count_made)
        monkeypatch.setattr(ServerConnection, "data_received", count_bytes)


def contexts_of(key: SigningKey, admitted: Iterable[bytes]) -> Contexts:
    """As the node with this key would have them."""
    keys = set(admitted)
    return Contexts(key.public, key.sign, lambda: keys, SystemClock())


def place_of(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    host, _, port = url.partition("://")[2].removesuffix("/crdt-sync").rpartition(":")
    return host, int(port)


class TlsCaller:
    """A TLS connection to a gate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        """Without waiting."""
        self.writer.write(data)

    async def answer(self) -> Refusal | bytes:
        """What comes until the gate closes: its refusal, or other bytes."""
        data = b""
        with contextlib.suppress(OSError):
            while more := await asyncio.wait_for(self.reader.read(65_536), BOUND_S):
                data += more
                if data.startswith(b"FABRIKR") and (refusal := decode_refusal(data)) is not None:
                    return refusal
        return data

    @property
    def server_cert(self) -> bytes:
        """As DER."""
        found: bytes = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found


@asynccontextmanager
async def calling(url: str, context: ssl.SSLContext | None) -> AsyncIterator[TlsCaller]:
    """A connection of a test's own; without TLS if there is no context."""
    host, port = place_of(url)
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=None if context is None else "")
    try:
        yield TlsCaller(reader, writer)
    finally:
        writer.transport.abort()
