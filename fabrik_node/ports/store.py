"""The durable state of a node, as the rooms above the store see it. Imported through :mod:`fabrik_node.ports`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from fabrik_node._core import Chained, Head
from fabrik_node.domain.runs import RunRow

__all__ = ["DamagedRow", "Event", "ForkRow", "Invite", "JoinRow", "OpReads", "OpStore", "PeerAddress", "RowCheck", "Snapshots", "StoredSegment"]


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One stored row: ``pos`` rises in the order of arrival on this node, so rows in order of ``pos`` always chain."""

    pos: int
    author: bytes
    epoch: int
    first_seq: int
    last_seq: int
    data: bytes
    branch: int = 0


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row that was set aside, at ``at_ms`` (wall time): it is not what was stored, or only such a row connects it to its log."""

    pos: int
    author: bytes
    epoch: int
    branch: int
    first_seq: int
    last_seq: int
    why: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ForkRow:
    """The proof that an author signed two histories of one log: two different ops at ``seq``."""

    number: int
    author: bytes
    epoch: int
    seq: int
    proof: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the node's event stream. ``seq`` is 0 until the store numbers it (1, 2, 3 ... without gaps)."""

    type: str
    wall_ms: int
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A peer that this node dials. ``key`` is empty when any admitted key may answer there."""

    url: str
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Invite:
    """A secret that lets nodes in, sealed where it is stored. It expires at ``expires_at`` seconds on the boot clock of boot ``boot_id``, and with that boot."""

    token_id: bytes
    secret: bytes
    role: int
    expires_at: float
    boot_id: str
    uses_max: int = 1
    """How many nodes may use it; 0: any number until it expires."""
    uses: int = 0
    created_ms: int = 0
    ended: str = ""
    """Empty while it is open, else ``used``, ``expired``, ``withdrawn`` or ``void``; the secret is erased then."""


@dataclass(frozen=True, slots=True)
class JoinRow:
    """A node that came in with an invitation, or by an approval (``token_id`` is empty then)."""

    token_id: bytes
    key: bytes
    at_ms: int


RowCheck: TypeAlias = Callable[[Sequence[StoredSegment]], Sequence[str]]
"""Says of each row of one branch why it is not what was merged, or nothing. Called on the store's thread."""


class OpReads(Protocol):
    """Reading durable state; also from a store that no node serves. Raises :class:`~fabrik_node.errors.StoreFailed`."""

    def load(self, batch_bytes: int = 4_194_304) -> AsyncIterator[list[StoredSegment]]:
        """Everything, in order of ``pos``, in batches."""
        ...

    def load_beyond(self, heads: Sequence[Head]) -> AsyncIterator[list[StoredSegment]]:
        """In order of ``pos``, the rows that hold anything beyond these heads; of logs and branches without a head, all."""
        ...

    async def head_rows(self, heads: Sequence[Head]) -> list[StoredSegment | None]:
        """For each head the row that holds its op, None when there is none."""
        ...

    async def read(self, author: bytes, epoch: int, after_seq: int, max_bytes: int, branch: int = 0) -> list[StoredSegment]:
        """A branch's own rows that hold anything beyond ``after_seq``, in order, uncut; at least one row if there is any."""
        ...

    async def damaged(self) -> list[DamagedRow]:
        """The rows that were set aside, in the order of their places."""
        ...

    async def damaged_data(self, pos: int) -> bytes:
        """The bytes of a row that was set aside; empty when there is none at ``pos``."""
        ...

    async def forks(self) -> list[ForkRow]:
        """Every proof of a fork, in the order in which they were met."""
        ...

    async def suspended(self) -> list[tuple[bytes, int]]:
        """``(author, epoch)`` of the suspended logs, in order."""
        ...

    async def last_op_ms(self) -> int:
        """Wall time at which the newest row was stored here, 0 when there is none."""
        ...

    async def events(self, after: int, limit: int) -> list[Event]:
        """Events with ``seq > after``, in order."""
        ...

    async def events_upto(self) -> tuple[int, int]:
        """``(last event seq, pos up to which rows have had their events)``."""
        ...

    async def get_meta(self, key: str) -> bytes | None: ...

    async def peers(self) -> list[PeerAddress]: ...

    async def invite(self, token_id: bytes) -> Invite | None:
        """One that was issued here, open or not."""
        ...

    async def invites(self) -> list[Invite]:
        """All that were issued here, the newest first."""
        ...

    async def joins(self) -> list[JoinRow]:
        """Who came in through this node, in order of time."""
        ...

    async def runs(self) -> list[RunRow]:
        """This node's own runs, newest first."""
        ...

    async def runs_of(self, item: bytes) -> list[RunRow]:
        """Those of :meth:`runs` that worked on one item."""
        ...

    async def open_runs(self) -> list[RunRow]:
        """Those of :meth:`runs` that have no end yet."""
        ...

    async def run(self, run_id: bytes) -> RunRow | None:
        """One own run, None when there is none."""
        ...

    async def stats(self) -> dict[str, Any]: ...


class OpStore(OpReads, Protocol):
    """Durable state of one node. Every ``async`` write is on the disk (``synchronous=FULL``) when it returns.

    Errors: :class:`~fabrik_node.errors.StoreFailed`; then nothing of the call is stored, and the node stops. Its subclass
    :class:`~fabrik_node.errors.StoreFull` stops nothing: each write raises it until :meth:`try_again` finds space.
    """

    async def append(self, chained: Sequence[Chained]) -> int:
        """All segments in one transaction; the ``pos`` of the last row. Each continues its branch exactly, or opens the next one of its log."""
        ...

    async def set_aside(self, rows: Sequence[tuple[int, str]]) -> None:
        """Move rows, each ``(pos, why)``, out of their logs; they are kept, with the reason."""
        ...

    async def forget_damaged(self, places: Sequence[int]) -> None:
        """Rows that were set aside at these ``pos`` are of no use any more."""
        ...

    async def refill(self, author: bytes, epoch: int, branch: int, segments: Sequence[bytes]) -> None:
        """Put back ops whose row was set aside: segments without gaps, which may overlap sound rows. The branch has no gap there afterwards, else it is refused.

        The caller has compared them with what was merged.
        """
        ...

    async def pack(self, rows_max: int, keep_author: bytes, check: RowCheck | None = None) -> int:
        """One bounded step: join small neighbouring rows of a branch whose events are told; how many rows fewer there are, 0 when there is nothing to do.

        Nothing of a group is joined of which ``check`` finds a row damaged. Of the log of ``keep_author`` the signatures that joining drops are kept beside the row.
        """
        ...

    async def put_fork(self, author: bytes, epoch: int, seq: int, proof: bytes, wall_ms: int) -> bool:
        """Keep a proof; False when it is known, or when there are enough of that log."""
        ...

    async def suspend(self, author: bytes, epoch: int) -> None:
        """Note that a log is suspended. The note stays, also when the author is spared later (merge.md, "Forks")."""
        ...

    async def try_again(self) -> bool:
        """After :class:`~fabrik_node.errors.StoreFull`: True when there is space now and writes are taken again."""
        ...

    async def append_events(self, events: Sequence[Event], upto_pos: int) -> list[Event]:
        """Number and store events, and note that rows up to ``upto_pos`` have had theirs, in one transaction."""
        ...

    async def set_meta(self, key: str, value: bytes) -> None: ...

    async def next_start(self) -> int:
        """1, 2, 3 ...: how often this home was served, this time included."""
        ...

    async def put_peer(self, peer: PeerAddress) -> None: ...

    async def put_invite(self, invite: Invite) -> None: ...

    async def reseal_invite(self, token_id: bytes, secret: bytes) -> None:
        """Replace the stored bytes of an open one, and erase those that were there."""
        ...

    async def use_invite(self, token_id: bytes, key: bytes, wall_ms: int) -> bool:
        """Redeem for ``key``, and note that it joined: True as often as the invitation allows. With the last use its secret is erased."""
        ...

    async def end_invites(self, token_ids: Sequence[bytes], why: str) -> int:
        """Close those of them that are open and erase their secrets; how many that were."""
        ...

    async def note_join(self, join: JoinRow) -> None:
        """Somebody came in without an invitation."""
        ...

    async def scrub(self) -> bool:
        """Empty the write-ahead log, in which erased secrets still stand. False when a reader is in the way: try again later."""
        ...

    async def put_run(self, row: RunRow) -> None:
        """Insert or replace by run id."""
        ...

    async def close(self) -> None: ...


class Snapshots(Protocol):
    """Where the node keeps a copy of its registers that spares it reading all ops at its next start. Never a source of truth."""

    def read(self) -> bytes | None:
        """The last one that was written whole; None when there is none or it can not be read."""
        ...

    def write(self, data: bytes) -> None:
        """Replace it, durably. Raises :class:`~fabrik_node.errors.StoreFailed`; then the old one is still there."""
        ...
