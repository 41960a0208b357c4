"""Do nodes that hold the same ops make the same state of them? Compared at each beat, and when a message of another node says so.

Formats: docs/spec/merge.md, "Presence". Alarm and comparison are for people: nothing is mended, and nothing is decided by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabrik_node._core import Replica, audit, digests, merge_rules
from fabrik_node.clock import Clock
from fabrik_node.domain.sparing import Sparing
from fabrik_node.ids import show_key
from fabrik_node.node.differences import BUCKETS_MAX, DIGEST_BYTES, REGISTERS_MAX, Entries, Pages, Said, differing, read_said, register_name
from fabrik_node.node.presence import Heard

__all__ = ["Audit", "Divergence"]

_EARLY_S = 0.2
"""Between two messages that are sent before their beat to go on with a comparison: a liar can not make us talk faster."""
PATIENCE_S = 2.0
"""How long a message waits for its digests."""
_log = logging.getLogger("fabrik_node")


@dataclass(slots=True)
class Divergence:
    """One node with our frontier and another state. ``since`` is on our clock."""

    since: float
    frontier: bytes
    state: bytes
    registers: dict[str, None] = field(default_factory=dict)
    """Those that were found to differ, by name, in the order in which they were found."""
    more: bool = False
    """There are more than :data:`REGISTERS_MAX`."""
    named: bool = False
    """The event with the registers was told."""
    done: set[int] = field(default_factory=set)
    """Buckets whose last page was compared."""


class Audit:
    """Call :meth:`look` before each message and :meth:`part` for what it carries while states differ; :meth:`is_waited_for` for each message of others.

    Use from one event loop; the digests are made in a thread.
    """

    def __init__(
        self,
        replica: Replica,
        heard: Callable[[], Mapping[bytes, Heard]],
        own: bytes,
        clock: Clock,
        tell: Callable[[str, Mapping[str, Any]], None],
        name_of: Callable[[bytes], str],
    ) -> None:
        self._replica = replica
        self._heard = heard
        self._own = own
        self._clock = clock
        self._tell = tell
        self._name_of = name_of
        self._rules = merge_rules()[:DIGEST_BYTES]
        self._seen: tuple[bytes, bytes] | None = None
        self._pages = Pages()
        self._early_at = -_EARLY_S
        self.diverged: dict[bytes, Divergence] = {}
        """By node, until its state was seen to be equal again."""
        self._looking: asyncio.Future[tuple[bytes, bytes, bool]] | None = None
        self.patience_s = PATIENCE_S
        self.skipped = 0
        """Messages without digests because the core was busy."""
        self.told = Sparing(count=5, window_s=600.0)
        """What was left out of the events."""
        self.alarms = 0
        """Divergences since the start."""

    @property
    def seen(self) -> tuple[bytes, bytes] | None:
        """``(frontier digest, state digest)`` of the last look; None while the state is made anew."""
        return self._seen

    async def look(self) -> dict[str, Any]:
        """Make our digests, compare them with what the others last said, and give what our next message says of them.

        While the core is busy for longer than :attr:`patience_s` it says nothing of them: leases travel in the message, and may not wait.
        """
        look = self._looking
        if look is None or look.done():
            look = self._looking = asyncio.ensure_future(asyncio.to_thread(digests, self._replica))
        done, _ = await asyncio.wait({look}, timeout=self.patience_s)
        if not done:
            self.skipped += 1
            return {"rules": self._rules}
        frontier, state, stale = look.result()
        if stale:
            self._seen = None
            return {"rules": self._rules}
        self._seen = (frontier, state)
        for author, heard in tuple(self._heard().items()):
            said = read_said(heard.payload)
            if author != self._own and said is not None and said.rules == self._rules and said.frontier == frontier:
                self._compare(author, said, state)
        return {"frontier": frontier, "state": state, "rules": self._rules}

    def forget(self, is_admitted: Callable[[bytes], bool]) -> None:
        """What a node says that is no member any more is no alarm."""
        self.diverged = {author: found for author, found in self.diverged.items() if is_admitted(author)}

    def is_waited_for(self, payload: Mapping[str, Any]) -> bool:
        """Whether a message that just came is worth an answer before our next beat: it shows a divergence, or goes on with a comparison."""
        said = read_said(payload)
        if self._seen is None or said is None or said.rules != self._rules or said.frontier != self._seen[0] or said.state == self._seen[1]:
            return False
        now = self._clock.now()
        if now - self._early_at < _EARLY_S or (self._pages.finished and not self._is_unread(said)):
            return False
        self._early_at = now
        return True

    def _is_unread(self, said: Said) -> bool:
        return any(found.state != said.state or not found.named for found in self.diverged.values()) or not self.diverged

    def _compare(self, author: bytes, said: Said, state: bytes) -> None:
        known = self.diverged.get(author)
        if said.state == state:
            if known is not None:
                del self.diverged[author]
                self._say("state.agrees", author, {})
        elif known is None:
            self.diverged[author] = Divergence(self._clock.now(), said.frontier, said.state)
            self.alarms += 1
            self._say(
                "state.diverged",
                author,
                {"frontier": show_key(said.frontier), "state": show_key(said.state)},
                f"the state of this node is not that of {self._name_of(author)}, although both hold the same ops: one of them is wrong; see fabrik-node status",
            )
        elif (known.frontier, known.state) != (said.frontier, said.state):
            known.frontier, known.state = said.frontier, said.state
            known.done.clear()

    def _say(self, kind: str, author: bytes, data: Mapping[str, Any], error: str = "") -> None:
        """An event, and a line in the log for an alarm. A member that says now this, now that, fills no disk with it."""
        if not self.told.may((author, kind), self._clock.now()):
            return
        whole = {"node": show_key(author), "name": self._name_of(author), **data}
        self._tell(kind, whole)
        if error:
            _log.error("%s", error, extra={"fields": whole})

    async def part(self, room: int) -> dict[str, Any]:
        """``audit`` of our next message in at most ``room`` bytes, empty when no state differs; and the comparison with what others said in theirs."""
        if not self.diverged or self._seen is None:
            return {}
        try:
            async with asyncio.timeout(self.patience_s):
                return await self._part(room)
        except TimeoutError:
            self.skipped += 1
            return {}

    async def _part(self, room: int) -> dict[str, Any]:
        if self._seen is None:
            return {}
        frontier = self._seen[0]
        heard = {author: self._heard().get(author) for author in self.diverged}
        theirs = {author: said for author, each in heard.items() if each is not None and (said := read_said(each.payload)) and said.audit_frontier == frontier}
        now, stale, buckets, _ = await asyncio.to_thread(audit, self._replica, [])
        own = b"".join(bucket[:DIGEST_BYTES] for bucket in buckets)
        unequal = {author: differing(own, said.buckets) for author, said in theirs.items()}
        self._pages.begin((now, self._seen[1]), sorted({bucket for found in unequal.values() for bucket in found[:BUCKETS_MAX]}))
        wanted = sorted({*self._pages.buckets, *(page.bucket for said in theirs.values() for page in said.entries)})
        again, stale_again, _, entries = await asyncio.to_thread(audit, self._replica, wanted)
        if stale or stale_again or {now, again} != {frontier}:
            return {}  # ops came meanwhile: the next message is of another moment
        rows: dict[int, Entries] = {
            bucket: [(kind, key, number, digest[:DIGEST_BYTES]) for kind, key, number, digest in found] for bucket, found in zip(wanted, entries, strict=True)
        }
        for author, said in theirs.items():
            self._name(author, said, rows, unequal[author])
        return {"frontier": frontier, "buckets": own, "entries": self._pages.take(rows, room - len(own) - 128)}

    def _name(self, author: bytes, said: Said, rows: Mapping[int, Entries], unequal: list[int]) -> None:
        found = self.diverged.get(author)
        if found is None:
            return
        for page in said.entries:
            for place in page.differences(rows.get(page.bucket, [])):
                name = register_name(*place)
                if name not in found.registers and len(found.registers) >= REGISTERS_MAX:
                    found.more = True
                else:
                    found.registers[name] = None
            if page.end:
                found.done.add(page.bucket)
        whole = found.more or found.done.issuperset(unequal[:BUCKETS_MAX])
        if found.registers and whole and not found.named:
            found.named = True
            shown = list(found.registers)
            error = f"registers of this node that differ from those of {self._name_of(author)}: {', '.join(shown)}"
            self._say("state.registers", author, {"registers": shown, "more": found.more}, error)
