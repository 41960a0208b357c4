"""Asking the owner of a run what it does, or for a page of its output: question and answer ride on presence, so they reach every node, whatever lies between, and builds that know neither pass them on.

Formats: docs/spec/merge.md, "Presence"; why this way: docs/decisions/0007-asking-the-owner.md. Nothing is stored, nothing is decided by an answer: it is shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabrik_node._core import cbor_encode
from fabrik_node.clock import Clock
from fabrik_node.errors import FabrikError, Unreachable
from fabrik_node.node.presence import Presence

__all__ = ["ASKS_MAX", "PAGES_MAX", "PAGE_BYTES_MAX", "PATIENCE_S", "TELLS_MAX", "Busy", "Inquiries", "Page"]

ASKS_MAX = 8
"""Questions of one node under way, and the most that are read of one message: people ask, not programs."""
TELLS_MAX = 64
"""Answers that may still be waited for, of all who ask. Besides, each member that speaks may have :data:`ASKS_MAX` old ones."""
PATIENCE_S = 2.0
"""How long an answer is waited for: there and back through a few relays."""
_KEPT_S = 2 * PATIENCE_S
"""Of an answer, from the question on: after that nobody waits for it, also when its asker died and never says so."""
_EARLY_S = 0.2
"""Between two messages that are sent before their beat for a question or an answer: who asks without end can not make us talk faster."""
_ENVELOPE_BYTES = 64
PAGES_MAX = 4
"""Pages of output that are asked for at once, and that are looked up at once: whoever follows logs leaves room for questions about runs."""
PAGE_BYTES_MAX = 4_096
"""Of output in one answer: every member gets it, and leases go first in the message."""
_PAGE_BYTES_MIN = 256
_PAGE_ROOM_BYTES = 2_048
"""Left for what a message says besides leases and one page."""
_PAGE_EVERY_S = 0.25
"""Pages of all who ask, one after the other: at most 16 KiB a second of output are sent to every member."""
_log = logging.getLogger("fabrik_node")


class Busy(Unreachable):
    """This node asks as much as it may already. Nobody was asked."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a run's output is wanted: from the byte ``offset`` on, or the last page when that is behind the end. ``waits``: not before there is something."""

    offset: int
    waits: bool


@dataclass(slots=True)
class _Tell:
    at: float
    """When it was asked, on our clock."""
    said: Mapping[str, Any] | None = None
    """None while it is looked up."""


@dataclass(slots=True)
class _Ask:
    owner: bytes
    run_id: bytes
    page: Page | None
    answer: asyncio.Future[Mapping[str, Any]]


async def _nothing(_: bytes) -> Mapping[str, Any]:
    return {"unknown": True}


async def _no_page(_run_id: bytes, _page: Page, _most: int) -> Mapping[str, Any]:
    return {"unknown": True}


class Inquiries:
    """Questions of this node, and those to it. Use from one event loop. ``first``: above every number that this node used before."""

    def __init__(self, presence: Presence, own: bytes, clock: Clock, beat_now: Callable[[], None], first: int) -> None:
        self._presence = presence
        self._own = own
        self._clock = clock
        self._beat_now = beat_now
        self._number = first
        self._asks: dict[int, _Ask] = {}
        self._tells: dict[tuple[bytes, int], _Tell] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._pages: set[asyncio.Task[None]] = set()
        self._page_places = asyncio.Semaphore(PAGES_MAX)
        self._early_at = -_EARLY_S
        self._later: asyncio.TimerHandle | None = None
        self.answer: Callable[[bytes], Awaitable[Mapping[str, Any]]] = _nothing
        """What this node says of a run; values as in op.cddl, at most about 1 KiB."""
        self.page: Callable[[bytes, Page, int], Awaitable[Mapping[str, Any]]] = _no_page
        """A page of a run's output, of at most so many bytes."""
        self._page_at = -_PAGE_EVERY_S
        self.patience_s = PATIENCE_S
        self.dropped = 0
        """Questions that were one too many."""
        presence.subscribe(self._on_message)

    async def ask(self, owner: bytes, run_id: bytes, page: Page | None = None) -> Mapping[str, Any] | None:
        """What ``owner`` says of a run now; None when it does not answer within :attr:`patience_s`. Raises :class:`Busy`.

        Or the ``page`` of its output, when it is its turn: ``{"busy": True}`` when the owner looks up as many as it may.
        """
        if page is None:
            return await self._ask(owner, run_id, None)
        async with self._page_places:
            return await self._ask(owner, run_id, page)

    async def _ask(self, owner: bytes, run_id: bytes, page: Page | None) -> Mapping[str, Any] | None:
        if len(self._asks) >= ASKS_MAX:
            self.dropped += 1
            raise Busy(f"this node has {ASKS_MAX} questions to others under way already", "try again in a moment")
        number = self._number = self._number + 1
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._asks[number] = _Ask(owner, run_id, page, answer)
        self._soon()
        try:
            async with asyncio.timeout(self.patience_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asks[number]

    def part(self, room: int) -> dict[str, Any]:
        """``asks`` and ``tells`` of our next message, in at most ``room`` bytes; empty when there are none."""
        asks = [[ask.owner, number, ask.run_id, *_shown(ask.page)] for number, ask in self._asks.items()]
        room -= _ENVELOPE_BYTES + len(cbor_encode(asks))
        tells: list[list[Any]] = []
        for entry in self._fairly():
            size = len(cbor_encode(entry))
            if size <= room and len(tells) < ASKS_MAX:
                tells.append(entry)
                room -= size
        return {**({"asks": asks} if asks else {}), **({"tells": tells} if tells else {})}

    def _fairly(self) -> list[list[Any]]:
        """The answers that somebody may wait for: the first of each asker, then the second, and so on, so that nobody takes all places."""
        since, of_asker = self._clock.now() - _KEPT_S, Counter[bytes]()
        ranked: list[tuple[int, list[Any]]] = []
        for (asker, number), tell in self._tells.items():
            if tell.said is not None and tell.at >= since:
                ranked.append((of_asker[asker], [asker, number, dict(tell.said)]))
                of_asker[asker] += 1
        return [entry for _, entry in sorted(ranked, key=lambda each: each[0])]

    # ---- messages of others -------------------------------------------------------------------------

    def _on_message(self, author: bytes, _counter: int, _message: bytes) -> None:
        if author == self._own:
            return
        payload = self._presence.heard()[author].payload
        asked = {
            number: (run_id, _page(rest)) for owner, number, run_id, rest in _entries(payload.get("asks")) if owner == self._own and isinstance(run_id, bytes)
        }
        for key in [key for key in self._tells if key[0] == author and key[1] not in asked]:
            del self._tells[key]  # it has the answer, or waits no more
        for number, (run_id, page) in asked.items():
            if (author, number) not in self._tells:
                self._asked(author, number, run_id, page)
        for asker, number, said, _ in _entries(payload.get("tells")):
            ask = self._asks.get(number) if asker == self._own else None
            if ask is not None and ask.owner == author and isinstance(said, Mapping) and not ask.answer.done():
                ask.answer.set_result(said)

    def _asked(self, author: bytes, number: int, run_id: bytes, page: Page | None) -> None:
        self._forget_silent()
        since = self._clock.now() - _KEPT_S
        lookups, most = (self._lookups, ASKS_MAX) if page is None else (self._pages, PAGES_MAX)
        full = len(lookups) >= most
        if sum(tell.at >= since for tell in self._tells.values()) >= TELLS_MAX or (full and page is None):
            self.dropped += 1
            return
        tell = self._tells[author, number] = _Tell(self._clock.now())
        if full:
            tell.said = {"busy": True}
            self._soon()
            return
        lookup = asyncio.ensure_future(self._look((author, number), run_id, page))
        lookups.add(lookup)
        lookup.add_done_callback(lookups.discard)

    async def _look(self, key: tuple[bytes, int], run_id: bytes, page: Page | None) -> None:
        try:
            said = await self.answer(run_id) if page is None else await self._look_at(run_id, page)
        except FabrikError as error:  # the asker waits no longer than its patience
            _log.warning("a question of another node could not be answered: %s", error)
            return
        if (tell := self._tells.get(key)) is not None:
            tell.said = said
            self._soon()

    async def _look_at(self, run_id: bytes, page: Page) -> Mapping[str, Any]:
        now = self._clock.now()
        self._page_at = max(now, self._page_at + _PAGE_EVERY_S)
        await asyncio.sleep(self._page_at - now)
        room = self._presence.room({}) - _PAGE_ROOM_BYTES
        return await self.page(run_id, page, min(PAGE_BYTES_MAX, max(_PAGE_BYTES_MIN, room)))

    def _forget_silent(self) -> None:
        """Old questions of who is silent, or no member any more. Who speaks and still asks keeps its few: forgotten, they would be looked up again with each message."""
        since, heard = self._clock.now() - _KEPT_S, self._presence.heard()
        for key in [key for key, tell in self._tells.items() if tell.at < since and (key[0] not in heard or heard[key[0]].at < since)]:
            del self._tells[key]

    # ---- sending ------------------------------------------------------------------------------------

    def _soon(self) -> None:
        wait_s = self._early_at + _EARLY_S - self._clock.now()
        if wait_s <= 0:
            self._send()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(wait_s, self._send)

    def _send(self) -> None:
        self._later = None
        self._early_at = self._clock.now()
        self._beat_now()


def _shown(page: Page | None) -> list[Any]:
    return [] if page is None else [[page.offset, int(page.waits)]]


def _page(rest: Sequence[Any]) -> Page | None:
    match rest:
        case [[int() as offset, int() as waits, *_], *_] if offset >= 0:
            return Page(offset, bool(waits))
        case _:
            return None


def _entries(entries: object) -> Iterator[tuple[bytes, int, Any, Sequence[Any]]]:
    """The well-formed ``[key, number, more, ...]`` of a message, as many as one may hold; another version's are left aside."""
    for entry in entries[:ASKS_MAX] if isinstance(entries, list) else ():
        match entry:
            case [bytes() as key, int() as number, more, *rest]:
                yield key, number, more, rest
            case _:
                continue
