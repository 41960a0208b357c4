"""What nodes say of themselves now: signed, ephemeral, the latest of each node; never an op, never stored.

Lease renewals travel here. Observers time them on their own clock since the last change that they saw.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from fabrik_node._core import SigningKey, cbor_encode, ephemeral_verify
from fabrik_node.clock import Clock
from fabrik_node.domain.leases import LeaseTable
from fabrik_node.errors import FabrikError
from fabrik_node.node.early import Early

__all__ = ["LEASES_MAX", "MESSAGE_BYTES_MAX", "Heard", "Presence", "leases_of"]

LEASES_MAX = 128
"""Leases in one message: more claims than any node may hold, and it keeps a message below 16 KiB."""
MESSAGE_BYTES_MAX = 16_384
"""Of one message, as op.cddl has it."""
_SPARE_BYTES = 1_024
"""For key, counter, signature, and leases that come between measuring and signing."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest message of one node. ``at`` is on our clock, ``wall_ms`` our wall clock then."""

    author: bytes
    counter: int
    message: bytes
    payload: Mapping[str, Any]
    at: float
    wall_ms: int = 0
    changed: bool = True
    """We saw an older one before, so its author lived meanwhile. A first message may have been kept by others for days."""


@dataclass(slots=True)
class _OwnLease:
    item: bytes
    renew_n: int
    progress_n: int
    run_id: bytes


class Presence:
    """Own message and those of others. ``start`` is the home's start count: it keeps counters rising over restarts.

    ``is_holder(author, item, claim_id)``: nobody renews a claim that is not its own.

    :meth:`renew` and :meth:`forget` may be called from any thread; the rest from the event loop.
    """

    def __init__(
        self,
        key: SigningKey,
        mesh_id: bytes,
        start: int,
        clock: Clock,
        leases: LeaseTable,
        *,
        is_admitted: Callable[[bytes], bool],
        is_holder: Callable[[bytes, bytes, bytes], bool],
    ) -> None:
        self._key = key
        self._mesh_id = mesh_id
        self._counter = start << 32
        self._clock = clock
        self._leases = leases
        self._is_admitted = is_admitted
        self._is_holder = is_holder
        self._own: dict[bytes, _OwnLease] = {}
        self._lock = threading.Lock()
        self._heard: dict[bytes, Heard] = {}
        self._listeners: list[Callable[[bytes, int, bytes], None]] = []
        self.early = Early()
        self.refused = 0
        """Messages that were forged, or of another mesh."""
        self.leases_cut = 0
        """Own messages that had no room for every lease."""
        self.stale = 0
        """Messages that were not newer than what we had, our own included."""

    def renew(self, claim_id: bytes, item: bytes, run_id: bytes, progress_n: int) -> None:
        """One heartbeat of one own claim; it leaves with the next :meth:`publish`."""
        with self._lock:
            old = self._own.get(claim_id)
            self._own[claim_id] = _OwnLease(item, 1 if old is None else old.renew_n + 1, progress_n, run_id)

    def forget(self, claim_id: bytes) -> None:
        """The claim is over."""
        with self._lock:
            self._own.pop(claim_id, None)

    def publish(self, payload: Mapping[str, Any]) -> None:
        """Sign and send our message: ``payload`` plus our leases."""
        self.leases_cut += len(self._own) > LEASES_MAX
        self._counter += 1
        full = self._full(payload)
        message = self._key.ephemeral(self._mesh_id, self._counter, full)
        self._take(Heard(self._key.public, self._counter, message, full, self._clock.now(), self._clock.wall_ms()))

    def room(self, payload: Mapping[str, Any]) -> int:
        """Bytes that a message of ours with this payload and our leases has left."""
        return MESSAGE_BYTES_MAX - _SPARE_BYTES - len(cbor_encode(self._full(payload)))

    def _full(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            own = list(self._own.items())[:LEASES_MAX]
        return {**payload, "leases": [[claim_id, lease.item, lease.renew_n, lease.progress_n, lease.run_id] for claim_id, lease in own]}

    def receive(self, message: bytes) -> tuple[bytes, int] | None:
        """``(author, counter)`` of a message that is valid, of an admitted node and news; None otherwise."""
        try:
            author, counter, payload = ephemeral_verify(self._mesh_id, message)
        except FabrikError:
            self.refused += 1
            return None
        if not self._is_admitted(author):
            self.early.put(Heard(author, counter, message, payload, self._clock.now(), self._clock.wall_ms(), changed=False))
            return None
        if author == self._key.public:
            self._counter = max(self._counter, counter)  # a home that was restored, or runs twice: what we say next must be news to others
            self._observe(author, payload, self._clock.now(), besides=set(self._own))
            self.stale += 1
            return None
        known = self._heard.get(author)
        if known is not None and counter <= known.counter:
            self.stale += 1
            return None
        self._take(Heard(author, counter, message, payload, self._clock.now(), self._clock.wall_ms(), changed=known is not None))
        return author, counter

    def handle_members(self) -> None:
        """Members changed. Forget who is not admitted any more: what it said last is not passed on to new peers. Take what was early."""
        self._heard = {author: heard for author, heard in self._heard.items() if author == self._key.public or self._is_admitted(author)}
        for heard in self.early.take(self._is_admitted):
            known = self._heard.get(heard.author)
            if heard.author != self._key.public and (known is None or heard.counter > known.counter):
                self._take(heard)

    def handle_claims(self, changed: Mapping[bytes, bytes]) -> None:
        """These claims changed; by their ids, whose each is. Nothing else is looked at, however many leases the nodes hold.

        A renewal that overtook the op of its claim counts from when it came; a message older than a beat has a newer one under way.
        """
        since = self._clock.now() - self._leases.timing.beat_s
        for holder in set(changed.values()):
            heard = self._heard.get(holder)
            if heard is not None and heard.at >= since:
                self._observe(holder, heard.payload, heard.at, only=changed)

    def heard(self) -> Mapping[bytes, Heard]:
        """The newest message of each node, our own included."""
        return self._heard

    def subscribe(self, callback: Callable[[bytes, int, bytes], None]) -> Callable[[], None]:
        """``callback(author, counter, message)`` for each new message; returns the way out."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _take(self, heard: Heard) -> None:
        self._heard[heard.author] = heard
        self._observe(heard.author, heard.payload, heard.at)
        for listener in tuple(self._listeners):
            listener(heard.author, heard.counter, heard.message)

    def _observe(self, author: bytes, payload: Mapping[str, Any], at: float, *, only: Container[bytes] | None = None, besides: Container[bytes] = ()) -> None:
        """Renewals that ``author`` tells of. ``only``: of these claims; ``besides``: our own, which another home with our key can not renew for us."""
        for claim_id, item, renew_n, progress_n, run_id in leases_of(payload):
            if (only is None or claim_id in only) and claim_id not in besides and self._is_holder(author, item, claim_id):
                self._leases.observe(claim_id, renew_n, progress_n, run_id, at)


def leases_of(payload: Mapping[str, Any]) -> list[tuple[bytes, bytes, int, int, bytes]]:
    """``(claim id, item, renewals, progress, run id)`` of each well-formed lease of a message; another version's are left aside."""
    found: list[tuple[bytes, bytes, int, int, bytes]] = []
    leases = payload.get("leases")
    for entry in leases if isinstance(leases, list) else ():
        match entry:
            case [bytes() as claim_id, bytes() as item, int() as renew_n, int() as progress_n, bytes() as run_id, *_]:
                found.append((claim_id, item, renew_n, progress_n, run_id))
            case _:
                continue
    return found[:LEASES_MAX]
