"""One connection of the local API: lines in, lines out, one question at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabrik_node.api.limits import PROTOCOL_VERSION, Limits
from fabrik_node.api.lines import as_line, as_long_line
from fabrik_node.api.use_cases import STREAMS, UseCases
from fabrik_node.clock import Clock
from fabrik_node.errors import FabrikError, Internal, Precondition, Unreachable, UsageError
from fabrik_node.process import Peer
from fabrik_node.service.callers import Caller

__all__ = ["CallerLeft", "Conversation", "Tally", "refusal"]

_log = logging.getLogger(__name__)
_STOPPING = Unreachable("the node is stopping", "fabrik-node serve")


class CallerLeft(Exception):
    """The caller closed the connection in the middle of a question or an answer. Never leaves this room."""


@dataclass(slots=True)
class Tally:
    """Counters of all connections together."""

    connections_total: int = 0
    connections_refused: int = 0
    disconnects: int = 0
    calls: int = 0
    slowest_ms: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """For people and JSON."""
        return {
            "connections_total": self.connections_total,
            "connections_refused": self.connections_refused,
            "disconnects": self.disconnects,
            "calls": self.calls,
            "slowest_ms": round(self.slowest_ms, 3),
            "errors": dict(self.errors),
        }


def refusal(error: FabrikError) -> bytes:
    """The one way in which an error goes out: its class's code, its message, its hint."""
    return as_line({"ok": False, "error": {"code": error.code, "message": error.message, "hint": error.hint}})


class Conversation:
    """Ends when the caller closes, breaks the protocol, has had its stream, or the node stops."""

    def __init__(
        self, service: UseCases, clock: Clock, limits: Limits, tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        self._service = service
        self._peer = peer
        self._clock = clock
        self._limits = limits
        self._tally = tally
        self._reader = reader
        self._writer = writer
        self._stop = asyncio.Event()
        self._idle: asyncio.Timeout | None = None

    def stop(self) -> None:
        """The node stops: answer what is under way, then end."""
        self._stop.set()
        if self._idle is not None:
            self._idle.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Until the end. Raises :class:`CallerLeft`."""
        while (line := await self._next_line()) is not None:
            if not await self._answer(line):
                return

    async def _next_line(self) -> bytes | None:
        """None at the end, and when the node stops while nobody asks."""
        try:
            async with asyncio.timeout(0 if self._stop.is_set() else None) as self._idle:
                return await self._reader.readline() or None
        except TimeoutError:
            await self._send(refusal(_STOPPING))
            return None
        except ConnectionError as error:
            raise CallerLeft from error
        except ValueError:  # StreamReader.readline: the line is longer than the limit
            await self._refuse(UsageError(f"a request is one line of at most {self._limits.request_bytes} bytes", "see docs/spec/local-api.md"))
            return None
        finally:
            self._idle = None

    async def _answer(self, line: bytes) -> bool:
        """True when another question may follow."""
        started = self._clock.now()
        is_last = False
        try:
            op, args, token = _parse(line)
            self._tally.calls += 1
            is_last = op in STREAMS
            caller = self._service.caller(token, self._peer)
            if is_last:
                await self._stream(op, args, caller)
            else:
                await self._send(await self._packed({"ok": True, "data": await self._service.call(op, args, caller)}))
                self._tally.slowest_ms = max(self._tally.slowest_ms, (self._clock.now() - started) * 1000)
        except FabrikError as error:
            await self._refuse(error)
        except CallerLeft:
            raise
        except Exception as error:  # noqa: BLE001 - one caller's call must never end the node; it is logged and told
            await self._refuse(_bug(error))
        return not is_last and not self._stop.is_set()

    async def _stream(self, op: str, args: Mapping[str, Any], caller: Caller) -> None:
        """Send until the end, the caller's leaving or the node's stop, whichever is first. A slow reader slows only itself."""
        sending = asyncio.ensure_future(self._send_all(self._service.stream(op, args, caller)))
        leaving = asyncio.ensure_future(self._reader.read(1))
        stopping = asyncio.ensure_future(self._stop.wait())
        waiting: tuple[asyncio.Future[Any], ...] = (sending, leaving, stopping)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
            elif stopping.done() and not leaving.done():
                sending.cancel()
                await asyncio.wait((sending,))
                await self._refuse(_STOPPING)
            else:
                self._tally.disconnects += 1
        finally:
            for future in waiting:
                future.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _send_all(self, answers: AsyncIterator[dict[str, Any]]) -> None:
        try:
            async for answer in answers:
                if answer.get("end") is True:
                    await self._send(await self._packed({"ok": True, **answer}))
                    return
                await self._send(await self._packed({"ok": True, "more": answer}))
            await self._send(as_line({"ok": True, "end": True}))
        finally:
            close = getattr(answers, "aclose", None)
            if close is not None:
                await close()

    async def _packed(self, answer: Mapping[str, Any]) -> bytes:
        packed = await as_long_line(answer)
        if len(packed) > self._limits.answer_bytes:
            raise Precondition(f"the answer has {len(packed)} bytes, more than the {self._limits.answer_bytes} of one line", "ask for less with --limit N")
        return packed

    async def _refuse(self, error: FabrikError) -> None:
        self._tally.errors[error.code] += 1
        await self._send(refusal(error))

    async def _send(self, line: bytes) -> None:
        try:
            self._writer.write(line)
            await self._writer.drain()
        except ConnectionError as error:
            raise CallerLeft from error


def _parse(line: bytes) -> tuple[str, Mapping[str, Any], str | None]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"a request is one JSON object on one line: {error}", "see docs/spec/local-api.md") from error
    if not isinstance(request, dict):
        raise UsageError("a request is a JSON object", "see docs/spec/local-api.md")
    if request.get("v") != PROTOCOL_VERSION:
        raise UsageError(
            f"this node speaks version {PROTOCOL_VERSION} of the local protocol, not {request.get('v')!r}", "restart the node, so that both are of one version"
        )
    op, args, token = request.get("op"), request.get("args", {}), request.get("token")
    if not isinstance(op, str) or not isinstance(args, dict) or not isinstance(token, str | None):
        raise UsageError("a request has a text op, an object args, and a text token or none", "see docs/spec/local-api.md")
    return op, args, token


def _bug(error: Exception) -> Internal:
    _log.error("an operation failed unexpectedly", exc_info=error)
    return Internal(f"the node met an unexpected error: {type(error).__name__}: {error}", "the traceback is on the stderr of fabrik-node serve")
