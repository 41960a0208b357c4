"""The addresses that we call: when, how often, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fabrik_node.clock import Clock
from fabrik_node.transport.gate import STRANGER_HINT
from fabrik_node.transport.link import Link, LinkEnd
from fabrik_sync import Backoff, Hub, Join, Reason, Refused, Retry, retry_of

__all__ = ["Dial", "DialEnd", "Dials"]

_log = logging.getLogger("fabrik_node.transport")


@dataclass(frozen=True, slots=True)
class DialEnd:
    """How a dial ended before its first sync was done. ``refused``: by one of the two sides, for a reason, ``by_peer`` by theirs; ``detail`` is one line."""

    refused: bool
    detail: str
    by_peer: bool = False


@dataclass(slots=True)
class Dial:
    """One address that we call. ``state`` as in :class:`~fabrik_node.ports.PeerStatus` while there is no session."""

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
    needs_tls: bool = False
    """The address was given without TLS, and the node there speaks it: it is called with TLS from then on, and never the other way round."""
    guesses: int = 0
    """How often somebody with an unknown key answered, and a member that may have rotated was asked for."""
    revoked: bool = False
    """The peer ended our session because our key is no longer a member: from then on its gate does not know us."""

    @property
    def shown(self) -> str:
        """The address as it is really called."""
        return f"wss{self.url.removeprefix('ws')}" if self.needs_tls and self.url.startswith("ws://") else self.url

    def handle_ready(self, key: bytes, now: float) -> None:
        """The peer is proven and has this key."""
        self.backoff.handle_ready(now)
        self.key = key
        self.detail = ""
        self.revoked = False


class Dials:
    """``call`` tries once and runs the connection to its end; it gives how that ended, or a line about what kept us from it."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        retry_s_max: float,
        hub: Hub,
        *,
        call: Callable[[Dial], Awaitable[tuple[LinkEnd | None, str]]],
        tell: Callable[[str, Mapping[str, Any]], None],
        moved: Callable[[], None],
    ) -> None:
        self.all: dict[str, Dial] = {}
        """By address."""
        self._clock = clock
        self._rng = rng
        self._retry_s_max = retry_s_max
        self._hub = hub
        self._call = call
        self._tell = tell
        self._moved = moved
        self._link_ended = asyncio.Event()

    def add(self, url: str, key: bytes, join: Join | None) -> None:
        """Keep a connection to this address; a known one is left as it is."""
        if url not in self.all:
            dial = Dial(url, key, join, Backoff(self._rng, cap_s=self._retry_s_max))
            self.all[url] = dial
            dial.task = asyncio.create_task(self._keep(dial), name=f"dial {url}")

    async def first_sync(self, url: str) -> DialEnd | None:
        """See :meth:`fabrik_node.transport.mesh.Mesh.first_sync`."""
        dial = self.all[url]
        waiting = [asyncio.ensure_future(dial.caught_up.wait()), asyncio.ensure_future(dial.ended.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return None if dial.caught_up.is_set() else DialEnd(isinstance(dial.end, Refused), dial.detail, dial.end is not None and dial.end.by_peer)

    async def close(self) -> None:
        """Call nobody any more."""
        tasks = [dial.task for dial in self.all.values() if dial.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def handle_members(self) -> None:
        """Who refused us, or whom we refused, may think otherwise now."""
        for dial in self.all.values():
            if dial.state == "refused":
                dial.again.set()

    def handle_link_ended(self) -> None:
        """A connection ended, whoever opened it."""
        ended, self._link_ended = self._link_ended, asyncio.Event()
        ended.set()

    async def _keep(self, dial: Dial) -> None:
        while True:
            dial.state = "connecting"
            try:
                end, problem = await self._call(dial)
            except Exception as error:  # noqa: BLE001 - an address that is never dialled again in silence is worse; status shows it
                _log.error("dialling %s broke on this side", dial.url, exc_info=error)
                end, problem = None, f"this side broke: {error!r}"
            dial.link = None
            end = _remembering(dial, end)
            delay = dial.backoff.handle_failed(self._clock.now(), end)
            if end is not None:
                dial.end = end
                problem = f"{end.code}: {end.hint}" if end.hint else end.code
            is_news, dial.detail = problem != dial.detail, problem
            refused = isinstance(end, Refused) and retry_of(end.code, refused=True) is not Retry.SOON  # a handshake that was cut off is none
            if end is not None and refused and is_news:
                self._tell("peer.refused", {"direction": "out", "url": dial.shown, "code": end.code, "detail": end.hint, "by_peer": end.by_peer})
            dial.state = "refused" if refused or delay is None else "waiting"
            if (refused and end is not None and end.code != Reason.TOO_MANY) or delay is None:  # a full node takes us when there is room
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

    async def _until_gone(self, dial: Dial) -> None:
        """The same peer called us, and that connection stays: dial again when it is over."""
        dial.state = "connected"
        while self._hub.peer(dial.key) is not None:
            gone = self._link_ended
            await gone.wait()


def _remembering(dial: Dial, end: LinkEnd | None) -> LinkEnd | None:
    """A gate that forgot our key does not say that it ever knew it; the session that it ended did."""
    if end is None or not end.by_peer:
        return end
    if end.code == Reason.REVOKED:
        dial.revoked = True
    elif end.code == Reason.UNKNOWN_KEY and dial.revoked:
        return Refused(Reason.REVOKED, f"this node's key was revoked there; {STRANGER_HINT}", by_peer=True, proven=False)
    return end
