"""What the rooms need of each other, as Protocols. The composition root (``app.py``) puts the real ones in.

Importable by every room from ``store`` outwards. Each port has an in-memory twin in ``tests/``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fabrik_node._core import Chained, Head
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.interruptions import Interruptions
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.stages import Merge, Stage
from fabrik_node.ports.finished import FinishedRecords, FinishedWorkspaces
from fabrik_node.ports.store import DamagedRow, Event, ForkRow, Invite, JoinRow, OpReads, OpStore, PeerAddress, RowCheck, Snapshots, StoredSegment
from fabrik_node.ports.turns import Turns

__all__ = [
    "CONNECTED",
    "Arbiter",
    "ArbiterReceipt",
    "ArbiterTaken",
    "Branches",
    "ClaimIntent",
    "ClaimRefused",
    "DamagedRow",
    "Event",
    "ForkRow",
    "IngestReport",
    "Invite",
    "ItemView",
    "JoinRow",
    "KnockAnswer",
    "MergeOutcome",
    "OpReads",
    "OpStore",
    "PeerAddress",
    "PeerStatus",
    "Pipeline",
    "Replication",
    "RowCheck",
    "RunAccess",
    "RunPasses",
    "Snapshots",
    "StoredSegment",
    "Traffic",
    "Workspace",
    "Workspaces",
]


# ---- replication: what the transport needs of the node --------------------------------------------


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of segments from a peer. ``refused`` is empty or names why all of them were refused (peer at fault)."""

    new_ops: int
    duplicates: int
    heads: Sequence[Head]
    gaps: Sequence[tuple[bytes, int, int]] = ()
    """``(author, epoch, have_seq)``: ask again from there."""
    unrooted: Sequence[tuple[bytes, int]] = ()
    """``(author, epoch)`` of those gaps where we hold another op before the segment: the author forked the log, so ask with places."""
    taken: Sequence[Chained] = ()
    """What was committed of it."""
    forks: int = 0
    unknown_authors: Sequence[bytes] = ()


CONNECTED = ("connected", "syncing", "behind")
"""States of a peer with which a proven session is open."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One line of ``status`` about a peer. ``state``: connecting, connected, syncing, behind, refused, waiting, closed."""

    url: str
    key: bytes
    name: str
    state: str
    direction: str
    attempts: int
    last_contact_s: float | None
    lag_ops: int | None
    detail: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    lag_out: int | None = None
    """Ops of ours that the peer is not known to hold; ``lag_in`` of its that we lack; ``lag_ops`` is both."""
    lag_in: int | None = None
    lag_s: float | None = None
    """How long ago, on our clock, the oldest of ``lag_out`` was committed here; 0 when there is none."""
    outbox_bytes: int = 0
    """Segment bytes that were read for the peer and that it has not confirmed."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What all connections counted since the start. ``ends``: how often one ended, by ``(refused or closed, code, who called: in or out)``."""

    counts: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    """How often each limit was hit, by name; every limit is there."""
    ends: Mapping[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnockAnswer:
    """What a key is told that knocks: a stable code and what to do about it; with the mesh's genesis record it is a member."""

    code: str
    hint: str
    genesis: bytes = b""


class Replication(Protocol):
    """The node as the transport sees it."""

    @property
    def mesh_id(self) -> bytes: ...

    @property
    def public(self) -> bytes: ...

    @property
    def next_commitment(self) -> bytes:
        """To the key that will follow ours, for the issuer of our invitation; empty without one."""
        ...

    def sign(self, message: bytes) -> bytes: ...

    def is_admitted(self, key: bytes) -> bool: ...

    def successor(self, key: bytes) -> bytes | None:
        """The key that it was rotated to."""
        ...

    def is_named(self, key: bytes) -> bool:
        """Whether logs of this key are taken: a member, or one that ever was."""
        ...

    def names_others(self, key: bytes) -> bool:
        """Whether it is or was an admin: its logs say who is a member."""
        ...

    def admitted(self) -> Collection[bytes]:
        """Every key that is admitted now."""
        ...

    def heads(self) -> Sequence[Head]: ...

    def frontier_digest(self) -> bytes: ...

    async def ingest(self, segments: Sequence[bytes], peer: bytes) -> IngestReport:
        """Verify, chain, persist, merge, publish. Raises InvalidOp or BadSignature when the peer sent rubbish: nothing is stored."""
        ...

    def heads_of(self, author: bytes, epoch: int) -> Sequence[Head]:
        """Every branch of one log."""
        ...

    def suspended(self) -> Sequence[tuple[bytes, int]]:
        """Logs that have too many heads: nothing more of them is taken."""
        ...

    def holds(self, author: bytes, epoch: int, seq: int, head: bytes) -> bool:
        """Whether the op with this chain hash is on one of our branches, or this is the log's marker; for a suspended log only that is."""
        ...

    def marker(self, author: bytes, epoch: int) -> tuple[int, bytes] | None:
        """``(seq, h)`` by which a log is announced in place of its heads: a suspended one, and the admin's with more heads than a frame lists."""
        ...

    def places(self, author: bytes, epoch: int) -> Sequence[tuple[int, bytes]]:
        """A locator of what we hold of a log."""
        ...

    def cursors(self, author: bytes, epoch: int, places: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, int]]:
        """``(branch, seq)``: what somebody who holds ``places`` lacks of our branches, behind ``seq`` of each."""
        ...

    async def read(self, author: bytes, epoch: int, branch: int, after_seq: int, max_bytes: int) -> tuple[list[StoredSegment], bool]:
        """Coalesced segments of a branch's own ops beyond ``after_seq`` and whether the branch ends there."""
        ...

    def on_committed(self, callback: Callable[[Sequence[Head]], None]) -> Callable[[], None]:
        """Call ``callback`` in the event loop with the moved heads after each commit; returns the way to unsubscribe."""
        ...

    def on_missing(self, callback: Callable[[bytes, int, int], None]) -> Callable[[], None]:
        """Call ``callback(author, epoch, have_seq)`` in the event loop, as often as you like, while stored bytes behind ``have_seq`` are lost, to have
        them sent again. Returns the way to unsubscribe.
        """
        ...

    def on_members(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` in the event loop when the set of admitted keys changed; returns the way to unsubscribe."""
        ...

    async def check_invitation(self, token_id: bytes, check: Callable[[bytes], bool]) -> None:
        """Nothing, when the token is open and ``check(secret)`` says that its secret is known; it stays open. Raises AuthError."""
        ...

    async def redeem(self, token_id: bytes, key: bytes, check: Callable[[bytes], bool], next_commitment: bytes = b"") -> None:
        """A joiner shows a token: ``check(secret)`` tells whether its proof fits. Admits the key durably, or raises AuthError.

        ``next_commitment``: to the key that will follow ``key``; empty when it named none.
        """
        ...

    def knock(self, key: bytes, name: str, next_commitment: bytes, address: str) -> KnockAnswer:
        """A key that is proven, and that we do not know or that was let in since it asked, knocks from ``address``. What it is told; nothing is written."""
        ...

    def committed_s(self, behind: Iterable[tuple[bytes, int, int, int]]) -> float:
        """How long ago, on the node's clock, the oldest op was committed here that lies behind one of these ``(author, epoch, branch, seq)``; 0 for none."""
        ...

    def ephemeral_in(self, message: bytes) -> tuple[bytes, int] | None:
        """A presence message arrived: ``(author, counter)`` when it is valid, of an admitted key and newer; None otherwise."""
        ...

    def ephemerals(self) -> Sequence[tuple[bytes, int, bytes]]:
        """The latest ``(author, counter, message)`` of every node, for a new peer."""
        ...

    def on_ephemeral(self, callback: Callable[[bytes, int, bytes], None]) -> Callable[[], None]:
        """Call ``callback(author, counter, message)`` for each new one, own or foreign; returns the way to unsubscribe."""
        ...


# ---- arbiter --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimIntent:
    """What the arbiter is asked to grant. Ids as people write them."""

    item: str
    claim_id: str
    epoch: int
    node: str
    ttl_ms: int
    state: str = "held"


@dataclass(frozen=True, slots=True)
class ArbiterReceipt:
    """Granted. ``number`` rises by one with each grant on an item; ``oid`` is what to name as expected next time."""

    number: int
    oid: bytes


@dataclass(frozen=True, slots=True)
class ArbiterTaken:
    """Not granted: somebody else's claim is there. ``merged`` is the merge commit when the item is merged already."""

    number: int
    oid: bytes
    claim_id: str
    node: str
    state: str
    ttl_ms: int
    merged: bytes = b""


class Arbiter(Protocol):
    """Compare-and-swap of the claim on one item, at the resource that can refuse. Raises Unreachable."""

    async def current(self, item: str) -> ArbiterTaken | None: ...

    async def cas(self, expected: bytes, intent: ClaimIntent) -> ArbiterReceipt | ArbiterTaken:
        """``expected`` is the oid that we know, empty for none."""
        ...


class Branches(Protocol):
    """What the remote has besides claims."""

    async def ahead_of_base(self, branch: str) -> int | None:
        """How many commits the branch, as it is on the remote now, has that the base has not; None when there is no such branch. Raises Unreachable, GitFailed."""
        ...


# ---- workspaces: what the agent needs of git ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MergeOutcome:
    """``kind``: merged, already_merged (this holder's work, by an earlier call), superseded (``merge_commit``: of the other's work, if it is merged), conflicts. ``resolve``, of conflicts: the commands that solve them by hand, one in a line."""

    kind: str
    merge_commit: bytes = b""
    claim_oid: bytes = b""
    detail: str = ""
    resolve: str = ""


class Workspace(Protocol):
    """One worktree on one branch, for one claim."""

    @property
    def path(self) -> Path: ...

    @property
    def branch(self) -> str: ...

    @property
    def start(self) -> bytes:
        """The commit at which the branch began; empty for a worktree that an earlier process made."""
        ...

    async def missing(self) -> str:
        """What a command took away that the run can not go on without, one line; empty while everything is there."""
        ...

    async def commits_ahead(self) -> int: ...

    def moved(self) -> tuple[int, int]:
        """Differs from before when something was committed since. Thread-safe; reads no more than a file's dates."""
        ...

    async def keep_work(self, message: str) -> None:
        """Commit whatever is uncommitted and push the branch, as far as possible; for the work of a stopped run."""
        ...

    async def keep_step(self, message: str) -> bytes:
        """Commit whatever is uncommitted, push the branch, and the branch's tip: on the remote when this returns. For a step of a run that goes on."""
        ...

    async def contains(self, commit: bytes) -> bool:
        """Whether the branch has this commit, so that its files are there."""
        ...

    async def push(self) -> None: ...

    async def tip(self) -> bytes: ...

    async def merge(self, claim_oid: bytes, message: str, check: Callable[[], None]) -> MergeOutcome:
        """The fenced merge. ``claim_oid`` empty: no arbiter, so only the base is pinned. Raises NoCommits.

        It may wait for others: ``check`` is called before each look at the queue and before each try, and ends the merge by raising.
        """
        ...

    async def remove(self) -> None: ...


class Workspaces(FinishedWorkspaces, Protocol):
    """Makes worktrees."""

    async def create(self, item: str, claim_id: str, finished: str = "", at: str = "") -> Workspace:
        """A worktree for this claim, from the base as it is now; from the branch ``finished``, if the remote has it; from its commit ``at``, if that can be had.

        Work that an earlier claim finished goes on under the name of the new one: what the old branch becomes later does not matter.
        """
        ...

    async def merged_commit(self, item: str) -> bytes | None:
        """The commit on the base branch that merged this item, if there is one."""
        ...


# ---- pipeline: what the agent needs of the node --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item as the replica has it now. ``claim`` is the winning one, released or not."""

    id: bytes
    title: str
    body: str
    stage: Stage
    labels: Sequence[str]
    priority: int
    depends_on: Sequence[bytes]
    created_ms: int
    attempts: int
    hold: Mapping[str, Any] | None
    outcome: Mapping[str, Any] | None
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """Somebody else has it, or it is not there to be had. ``reason`` is one line."""

    reason: str


class Pipeline(FinishedRecords, Turns, Protocol):
    """The node as an agent sees it. Every write is durable when it returns and raises ClaimLost once the claim does not win any more."""

    def candidates(self, labels: Sequence[str]) -> list[ItemView]:
        """Items that may be claimed now, best first: not held, dependencies done, unclaimed or with a lost lease. Without their bodies."""
        ...

    def is_candidate(self, item: bytes, labels: Sequence[str]) -> bool:
        """Whether :meth:`candidates` would name this item, by a look at it alone, and whether no other agent that goes first asks for it."""
        ...

    async def prepare(self) -> None:
        """Do in small parts what makes the next look at all items cheap: nobody else has to wait for it."""
        ...

    def item(self, item: bytes) -> ItemView | None: ...

    def is_winning(self, item: bytes, claim_id: bytes) -> bool: ...

    async def claim(self, item: bytes, agent: str) -> Claim | ClaimRefused:
        """Claim and confirm: by the arbiter's receipt, or by the settle delay without a better claim.

        An item that is merged already is claimed too, so that its Done can be written: look at :meth:`Workspaces.merged_commit` first.
        """
        ...

    async def move(self, item: bytes, stage: Stage, claim: Claim) -> None:
        """A fenced stage write. Raises ClaimLost, IllegalMove, Conflict when it is written and counts for nothing."""
        ...

    async def change_branch(self, item: bytes, merge: Merge, claim: Claim) -> None:
        """An item in Merge stays there, with the branch of this claim: one fenced write. Raises as :meth:`move` does."""
        ...

    async def finish(self, item: bytes, claim: Claim, reason: str, outcome: Mapping[str, Any], *, charge_attempt: bool, hold: str = "") -> None:
        """Write the outcome, release the claim, count an attempt if asked, hold the item if a reason is given: one op."""
        ...

    def check_may_end(self, item: bytes, claim: Claim) -> None:
        """Returns when this node may write the end of its claim now, else raises AuthError: before a merge that could not be written down."""
        ...

    async def interruptions(self, item: bytes, claim: Claim) -> Interruptions:
        """How often in a row the work on the item was interrupted before ``claim``."""
        ...

    async def put_run(self, row: RunRow) -> None:
        """Store the run here and publish its summary. Raises AuthError, and has stored it, when this node may not publish."""
        ...

    def renew(self, item: bytes, claim: Claim, run_id: bytes, progress_n: int) -> bool:
        """One heartbeat. Thread-safe. True when it could be sent to somebody, or when there is nobody else in the mesh."""
        ...

    def stop_renewing(self, claim_id: bytes) -> None:
        """The claim is over; presence does not carry it any more. Thread-safe."""
        ...

    def on_claim_lost(self, claim_id: bytes, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call ``callback(reason)`` in the event loop once another claim wins; returns the way to unsubscribe."""
        ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` in the event loop when there may be new work; returns the way to unsubscribe."""
        ...

    async def wait_connected(self) -> None:
        """Returns when there is a peer with which this node has caught up, or when no peer is to be expected."""
        ...


# ---- passes: how a command of a run speaks to its node --------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunAccess:
    """What one command is given: the path of the node's socket, and a token that counts while the command runs and its claim is held."""

    api: str
    token: str = field(repr=False)


class RunPasses(Protocol):
    """Makes and withdraws them."""

    def issue(self, item: bytes, claim_id: bytes, run_id: bytes, agent: str) -> RunAccess:
        """For a command that is about to start. Call :meth:`end` in any case."""
        ...

    def began(self, access: RunAccess, pid: int) -> None:
        """It runs below the process ``pid``."""
        ...

    def end(self, access: RunAccess) -> None:
        """It is over, and the token counts no more. Harmless when repeated."""
        ...


Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]
