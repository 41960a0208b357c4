"""The queue of finishers: whose merge met a base that had moved takes a ticket on the remote, and whoever comes later waits for him.

Without it a slow node can lose every race against quick ones that finish all the time. It is advice: who is merged is decided by the
fence alone, and a ticket whose holder does not come is put aside. Rules: docs/spec/claim-ref.md, "The queue".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fabrik_node.errors import FabrikError
from fabrik_node.git.claim_record import parse_claim
from fabrik_node.git.jitter import Pause
from fabrik_node.git.names import check_id
from fabrik_node.git.push import RefUpdate, push
from fabrik_node.git.repository import Repository

__all__ = ["REST_S", "TURN_S", "MergeQueue", "Ticket", "Turn", "line_of"]

TURN_S = 30.0
"""How long the others wait for the first in the queue. One that needs longer, or is dead, loses its place and nothing else."""

REST_S = 600.0
"""How long a process takes no tickets from a remote that refused one: then it asks again, for a refusal may have been of that moment."""

_LEAVE_S = 10.0
_TICKETS_MAX = 4
"""For one merge: who lost its place so often goes on without one."""

_TICKET = re.compile(r"([1-9][0-9]{0,17})-([0-9a-z]{26})")


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A place in the queue. A newcomer's number is above all that it sees; of two with one number the lower claim id is first."""

    number: int
    claim_id: str
    ref: str
    oid: str


def line_of(refs: Mapping[str, str], prefix: str) -> list[Ticket]:
    """The tickets among ``refs``, first one first. What is no ticket is left aside: a newer version may keep other things there."""
    found = ((ref, oid, _TICKET.fullmatch(ref.removeprefix(prefix))) for ref, oid in refs.items() if ref.startswith(prefix))
    return sorted(Ticket(int(match[1]), match[2], ref, oid) for ref, oid, match in found if match)


class MergeQueue:
    """Who waits to merge into one base. ``prefix`` ends with a slash; one object for all merges of a process, so that each dead ticket is waited for once."""

    def __init__(self, repository: Repository, prefix: str, claims_prefix: str = "", *, turn_s: float = TURN_S) -> None:
        self.repository = repository
        self.claims_prefix = claims_prefix
        """Of claim refs; empty: tickets do not point to claims."""
        self.prefix = f"{prefix}{repository.base}/"
        self.turn_s = turn_s
        self.overdue: set[str] = set()
        """Tickets that were waited for long enough."""
        self.rest_s = REST_S
        self._refused_at: float | None = None
        """On the clock of the event loop."""

    @property
    def closed(self) -> bool:
        """The remote did not take a ticket, or did not let it go: this process takes none for ``rest_s``."""
        return self._refused_at is not None and asyncio.get_running_loop().time() - self._refused_at < self.rest_s

    def close(self) -> None:
        """Take no tickets for a while."""
        self._refused_at = asyncio.get_running_loop().time()

    def turn(self, claim_id: str, claim_ref: str, oid: str, pause: Pause, check: Callable[[], None]) -> Turn:
        """For one merge. ``oid``: a commit that the remote has, which tickets point to; if there is a ``claim_ref``, what it must be.

        ``check`` is called before each look; what it raises ends the wait.
        """
        return Turn(self, claim_id, claim_ref, oid, pause, check)


class Turn:
    """One finisher's way through the queue: :meth:`come` before each try, :meth:`leave` at the end."""

    def __init__(self, queue: MergeQueue, claim_id: str, claim_ref: str, oid: str, pause: Pause, check: Callable[[], None]) -> None:
        self._queue = queue
        self._claim_id = claim_id
        self._claim_ref = claim_ref
        self._oid = oid
        self._pause = pause
        self._check = check
        self._taken: list[Ticket] = []
        self._first = ""
        self._first_claim = ""
        """The ref of the claim under which the first in the queue wants to merge, as far as its ticket shows it."""
        self._since = 0.0

    async def come(self, *, again: bool) -> Mapping[str, str]:
        """Returns when nobody is before us, with the refs of the last look, our claim's among them. ``again``: this is not the first try.

        Returns at once when the claim ref is not what it was: then there is nothing to wait for. Raises :class:`Unreachable`.
        """
        queue = self._queue
        while True:
            self._check()
            named = [ref for ref in (self._claim_ref, self._first_claim) if ref]
            refs = await queue.repository.refs_under(queue.prefix, *named)
            if self._claim_ref and refs.get(self._claim_ref) != self._oid:
                return refs
            line = [ticket for ticket in line_of(refs, queue.prefix) if ticket.ref not in queue.overdue]
            place = next((place for place, ticket in enumerate(line) if ticket.claim_id == self._claim_id), None)
            if place == 0 or (place is None and (queue.closed or len(self._taken) == _TICKETS_MAX or not (line or again))):
                return refs
            if place is None:
                await self._take(line)
            else:
                await self._wait(line[0], place, refs)

    async def leave(self) -> None:
        """Give the tickets back, as far as the remote can be reached in a short time. Never raises for that: what was merged is merged."""
        queue, taken = self._queue, self._taken
        self._taken = []
        try:
            async with asyncio.timeout(_LEAVE_S):
                for ticket in taken:
                    answer = await push(queue.repository, [RefUpdate(ticket.ref, "", ticket.oid)])
                    if answer.refused and ticket.ref in await queue.repository.remote_refs(ticket.ref):
                        queue.close()
        except (TimeoutError, FabrikError):
            queue.overdue.update(ticket.ref for ticket in taken)

    async def _take(self, line: list[Ticket]) -> None:
        number = 1 + max((ticket.number for ticket in (*line, *self._taken)), default=0)
        ref = f"{self._queue.prefix}{number}-{self._claim_id}"
        self._taken.append(Ticket(number, self._claim_id, ref, self._oid))
        answer = await push(self._queue.repository, [RefUpdate(ref, self._oid, "")])
        if answer.refused:
            self._queue.close()

    async def _wait(self, first: Ticket, place: int, refs: Mapping[str, str]) -> None:
        now = asyncio.get_running_loop().time()
        if first.ref != self._first:
            self._first, self._since = first.ref, now
            self._first_claim = await self._claim_of(first)
            refs = {} if not self._first_claim else await self._queue.repository.remote_refs(self._first_claim)
        is_over = bool(self._first_claim) and refs.get(self._first_claim) != first.oid
        if is_over or now - self._since > self._queue.turn_s:
            self._queue.overdue.add(first.ref)
            await push(self._queue.repository, [RefUpdate(first.ref, "", first.oid)])  # if it does not go, it is passed over all the same
            return
        await self._pause(place)

    async def _claim_of(self, ticket: Ticket) -> str:
        """The claim ref whose newest link the ticket's owner must hold to merge; empty when the ticket does not show it."""
        repository, prefix = self._queue.repository, self._queue.claims_prefix
        if not prefix or (not await repository.has_object(ticket.oid) and await repository.fetch_ref(ticket.ref) is None):
            return ""
        found = await repository.git.call(repository.directory, "cat-file", "commit", ticket.oid)
        try:
            return f"{prefix}{check_id(parse_claim(ticket.oid, found.stdout).item, 'an item')}" if found.ok else ""
        except FabrikError:  # it points to work, not to a claim
            return ""
