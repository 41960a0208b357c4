"""``GET /metrics`` over HTTP, for Prometheus. Read-only; a few connections at a time; nothing but this one page."""

from __future__ import annotations

import ipaddress
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from prometheus_client.exposition import choose_encoder
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from fabrik_node.errors import PortInUse
from fabrik_node.metrics.figures import Figures

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["CONNECTIONS_MAX", "Endpoint"]

CONNECTIONS_MAX = 16
"""At a time; one more is closed without an answer. A scraper needs one, for some milliseconds."""
_REQUEST_S = 5.0
"""Seconds in which a caller has to ask."""
_socket_log = logging.getLogger("websockets")


class Endpoint:
    """Make it with :meth:`open`, end it with :meth:`close`. ``refused``: callers beyond the limit, of another name, or with a browser's marks."""

    def __init__(self, figures: Figures, address: tuple[str, int]) -> None:
        self._figures = figures
        self._address = address
        self._server: Server | None = None
        self._open = 0
        self.refused = 0
        self.answered = 0

    async def open(self) -> str:
        """Listen; the URL. Raises :class:`PortInUse`."""
        host, port = self._address
        try:
            self._server = await serve(
                _nobody,
                host,
                port,
                process_request=self._answer,
                create_connection=cast("type[ServerConnection]", partial(_Counted, self)),
                compression=None,
                max_size=1_024,
                open_timeout=_REQUEST_S,
                close_timeout=1,
                ping_interval=None,
                server_header=None,
                logger=_socket_log,
            )
        except OSError as error:
            raise PortInUse(
                f"can not serve metrics on {host}:{port}: {os.strerror(error.errno) if error.errno else error}",
                "another port in [metrics] listen of config.toml",
            ) from error
        bound = next(iter(self._server.sockets)).getsockname()[1]
        return f"http://[{host}]:{bound}/metrics" if ":" in host else f"http://{host}:{bound}/metrics"

    async def close(self) -> None:
        """Nobody is answered any more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def enter(self) -> bool:
        """One more connection; False when it is one too many."""
        if self._open >= CONNECTIONS_MAX:
            self.refused += 1
            return False
        self._open += 1
        return True

    def leave(self) -> None:
        """One less."""
        self._open -= 1

    def _answer(self, connection: ServerConnection, request: Request) -> Response:
        """Never None: there is no WebSocket here."""
        host = request.headers.get("Host", "")
        if "Origin" in request.headers or not self._is_ours(host):
            self.refused += 1
            return connection.respond(403, "these figures are for programs on this host\n")
        if request.path.partition("?")[0] != "/metrics":
            return connection.respond(404, "the only thing here is /metrics\n")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(cast("Collector", self._figures))
        self.answered += 1
        headers = Headers([("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"), ("Connection", "close")])
        return Response(200, "OK", headers, body)

    def _is_ours(self, host: str) -> bool:
        """A page in a browser may lead any name of its own to loopback: there only addresses and ``localhost`` are answered."""
        if not ipaddress.ip_address(self._address[0]).is_loopback:
            return True
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.removeprefix("[").removesuffix("]")
        if name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


class _Counted(ServerConnection):
    """A connection that counts itself, and ends at once when it is one too many."""

    def __init__(self, endpoint: Endpoint, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._endpoint = endpoint
        self._entered = False

    def connection_made(self, transport: Any) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._entered = self._endpoint.enter()
        if not self._entered:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._entered:
            self._entered = False
            self._endpoint.leave()
        super().connection_lost(exc)


async def _nobody(_: ServerConnection) -> None:
    """No request becomes a WebSocket."""
