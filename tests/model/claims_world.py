"""Worlds of two or three nodes and one item, in which everything may happen in any order: the actions, one by one.

No time passes: any observer may take any lease for lost at any moment, any node may be as slow as it likes (a paused one is one whose turn does not
come), any op may arrive as late as it likes. What holds here holds for every timing. The rules are the product's own: :mod:`fabrik_node.domain.claims`,
:mod:`fabrik_node.domain.claiming`, and the merge of the core. Only the git remote is played: a chain per item that is moved by compare-and-swap, and
a base branch that moves together with it (tests/integration/git holds the real one to that).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from model.core_view import ITEM, Core, View

from fabrik_node.domain.claiming import RemoteVerdict, closing, is_free, judge_remote, may_settle, may_state
from fabrik_node.domain.claims import Claim, encode_claim, override, successor
from fabrik_node.domain.inheritance import inherited
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.schema import ClaimField, ItemField, Kind
from fabrik_node.domain.stages import Archived, ArchiveReason, Backlog, Coding, Done, Stage, encode_stage
from fabrik_node.ids import show_id
from fabrik_node.ports import ArbiterTaken

__all__ = ["ARCHIVED", "MERGE_COMMIT", "Bounds", "Run", "State", "World"]

MERGE_COMMIT = b"m" * 20
ARCHIVED = Archived(0, ArchiveReason.ABANDONED)
_ACTIVE = ("settling", "claimed", "fresh", "coding", "merged")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may happen. ``arbiter``: there is a git remote; ``deaf``: this node's operator has none."""

    nodes: int = 2
    claimers: int = 2
    """Those that claim; the others hear, pass on, and have operators."""
    claims: int = 2
    """By each claimer."""
    overrides: int = 1
    keeps: int = 0
    """How often an operator who ended a claim goes on to move the item under the ending: ``claims keep``."""
    archives: int = 0
    """How often an operator archives the item, held or not."""
    moves: int = 0
    """How often an operator moves the item, from Backlog to Coding, when nobody holds it as far as is known to him."""
    crashes: int = 1
    arbiter: bool = True
    deaf: bool = False
    whole: bool = False
    """Ops come all at once from one node to another, not one by one: fewer states, for larger worlds."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one node is doing, in memory only. ``seen``: the newest link that it knows of; ``followed``: the claim that its own follows."""

    phase: str = "idle"
    claim: Claim | None = None
    followed: Claim | None = None
    seen: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """One moment. ``logs``: ops by author; ``know``: how many of each log each node has; ``chain``: ``(claim id, state)`` of each link; ``merges``: whose."""

    logs: tuple[tuple[int, ...], ...]
    know: tuple[tuple[int, ...], ...]
    runs: tuple[Run, ...]
    claims: tuple[int, ...]
    overrides: int
    crashes: int
    chain: tuple[tuple[bytes, str], ...] = ()
    merges: tuple[bytes, ...] = ()
    keeps: int = 0
    archives: int = 0
    moves: int = 0

    def known(self, node: int) -> frozenset[int]:
        """The ops that a node has."""
        return frozenset(number for log, length in zip(self.logs, self.know[node], strict=True) for number in log[:length])

    def everything(self) -> frozenset[int]:
        """The ops that anybody has."""
        return frozenset(number for log in self.logs for number in log)

    @property
    def is_converged(self) -> bool:
        """Everybody has everything."""
        return all(length == len(log) for row in self.know for log, length in zip(self.logs, row, strict=True))


Step = tuple[str, State]


class World:
    """The rules of one size of world. ``broken`` names a rule to break, so that tests see that the search finds it."""

    def __init__(self, bounds: Bounds, broken: str = "") -> None:
        self.bounds = bounds
        self.core = Core(bounds.nodes)
        self._broken = broken
        self.stage_of: dict[int, bytes] = {}
        """The claim under which an op writes the item's stage."""
        self.told: dict[int, tuple[bytes, Any, int]] = {}
        """What each op under a claim says of outcome and attempts: the first one what its author found, the last one what came of the work."""
        self.found: dict[int, tuple[bytes, Stage, bool]] = {}
        """Of the first op of each claim: in which stage its author found the item, and whether the claim before had ended."""

    def start(self) -> State:
        """Nobody has claimed anything."""
        nodes = self.bounds.nodes
        empty = tuple(() for _ in range(nodes))
        return State(empty, tuple((0,) * nodes for _ in range(nodes)), (Run(),) * nodes, (0,) * nodes, 0, 0)

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next."""
        for node in range(self.bounds.nodes):
            view = self.core.view(state.known(node))
            name = chr(ord("A") + node)
            act: Callable[[State, int, View], Iterator[Step]] = getattr(self, f"_{state.runs[node].phase}")
            for what, then in act(state, node, view):
                yield f"{name} {what}", then
            for what, then in self._any_time(state, node, view):
                yield f"{name} {what}", then

    def would_win(self, state: State) -> bool:
        """Whether the next claim of somebody who knows everything wins, whatever its hash."""
        everything = state.everything()
        current = self.core.view(everything).claim
        for number in (250, 251, 252):
            wanted = successor(current, claim_id=bytes([number]) * 16, node=self.core.keys[0].public, agent="", ttl_ms=1, incarnation="")
            claim = wanted.confirmed(len(state.chain) + 1) if self.bounds.arbiter else wanted
            if not self.core.view(everything | {self.core.write(everything, 0, [_claim(claim)])}).wins(claim):
                return False
        return True

    # ---- what a node does in each phase ------------------------------------------------------------

    def _idle(self, state: State, node: int, view: View) -> Iterator[Step]:
        if node >= self.bounds.claimers or state.claims[node] >= self.bounds.claims or not is_free(view.stage, view.claim, LeaseState.LOST):
            return
        wanted = self._wanted(state, node, view)
        counted = replace(state, claims=_put(state.claims, node, state.claims[node] + 1))
        if not self.bounds.arbiter:
            if may_settle(view.claim) and may_state(view.claim, view.claim, wanted):
                yield "claims", self._stated(counted, node, view, wanted, "settling")
            return
        known = self.remote(state)
        match judge_remote(view.claim, known, free=True):
            case RemoteVerdict.MERGED:
                assert known is not None
                yield "sees that it is merged", _running(counted, node, Run("granted", closing(wanted, known), view.claim))
            case RemoteVerdict.FREE | RemoteVerdict.STRANGER:  # a stranger is waited for, and time is no matter here
                yield "asks the remote", _running(counted, node, Run("asked", wanted, view.claim, len(state.chain)))
            case RemoteVerdict.HELD:
                return

    def _asked(self, state: State, node: int, _view: View) -> Iterator[Step]:
        run = state.runs[node]
        assert run.claim is not None
        known = self.remote(state)
        if known is not None and known.merged:
            yield "is told that it is merged", _running(state, node, replace(run, phase="granted", claim=closing(run.claim, known)))
        elif len(state.chain) != run.seen:
            yield "is refused by the remote", _running(state, node, Run())
        else:
            moved = replace(state, chain=(*state.chain, (run.claim.claim_id, "held")))
            number = len(moved.chain)
            yield "is granted the item", _running(moved, node, replace(run, phase="granted", claim=run.claim.confirmed(number, _oid(number))))

    def _granted(self, state: State, node: int, view: View) -> Iterator[Step]:
        run = state.runs[node]
        assert run.claim is not None
        if may_state(view.claim, run.followed, run.claim):
            yield "writes its claim", self._stated(state, node, view, run.claim, "claimed")
        else:
            yield "gives up its claim", _running(state, node, Run())

    def _settling(self, state: State, node: int, view: View) -> Iterator[Step]:
        claim = state.runs[node].claim
        assert claim is not None
        if view.wins(claim):
            yield "confirms its claim", self._written(state, node, [_claim(claim.confirmed())], Run("claimed", claim.confirmed()))

    def _claimed(self, state: State, node: int, _view: View) -> Iterator[Step]:
        run = state.runs[node]
        if state.merges and self._broken != "nobody looks whether it is merged":
            yield "finds it merged", _running(state, node, replace(run, phase="merged"))
        else:
            yield "finds it not merged", _running(state, node, replace(run, phase="fresh"))

    def _fresh(self, state: State, node: int, view: View) -> Iterator[Step]:
        claim = state.runs[node].claim
        assert claim is not None
        if view.wins(claim) and isinstance(view.stage, Archived):
            yield "finds it archived and gives it back", self._given_back(state, node, claim, "archived", view)
        elif view.wins(claim):
            yield "begins to work", self._written(state, node, [self._stage(Coding(), claim)], Run("coding", claim), claim)

    def _coding(self, state: State, node: int, view: View) -> Iterator[Step]:
        claim = state.runs[node].claim
        assert claim is not None
        merged = Run("merged", claim)
        if state.merges and self._broken != "nobody looks whether it is merged":
            yield "finds it merged", _running(state, node, merged)
        elif not self.bounds.arbiter:
            yield "merges", _running(replace(state, merges=(*state.merges, claim.claim_id)), node, merged)
        elif self._may_merge(state, claim):
            chain = state.chain if self._broken == "a merge leaves the claim ref where it is" else (*state.chain, (claim.claim_id, "merged"))
            yield "merges", _running(replace(state, merges=(*state.merges, claim.claim_id), chain=chain), node, merged)
        else:
            yield "is refused the merge", _running(state, node, Run())
        if view.wins(claim):
            yield "fails and gives it back", self._given_back(state, node, claim, "failed", view, charges=True)

    def _merged(self, state: State, node: int, view: View) -> Iterator[Step]:
        claim = state.runs[node].claim
        assert claim is not None
        if view.wins(claim):
            yield "writes Done", self._done(state, node, claim, view)

    def _down(self, state: State, node: int, view: View) -> Iterator[Step]:
        """What ``agent.recover`` does at the start: only for a claim whose run was written down, and that still wins."""
        claim = state.runs[node].claim
        if claim is None or not view.wins(claim):
            yield "starts again", _running(state, node, Run())
        elif state.merges:
            yield "starts again and writes Done", self._done(state, node, claim, view)
        else:
            yield "starts again and gives it back", self._given_back(state, node, claim, "its node ended", view)

    def _any_time(self, state: State, node: int, view: View) -> Iterator[Step]:
        run = state.runs[node]
        if run.phase not in ("idle", "down") and state.crashes < self.bounds.crashes:
            written_down = run.claim if run.phase in ("fresh", "coding", "merged") else None
            yield "crashes", _running(replace(state, crashes=state.crashes + 1), node, Run("down", written_down))
        if state.overrides < self.bounds.overrides and view.claim is not None and view.claim.held and run.phase != "down":
            yield from self._operator(replace(state, overrides=state.overrides + 1), node, view, view.claim)
        if state.keeps < self.bounds.keeps and view.claim is not None and self._is_ending(node, view.claim) and not isinstance(view.stage, Done):
            yield "moves the item under the claim that ended it", self._kept(state, node, view.claim)
        if state.archives < self.bounds.archives and run.phase != "down" and not isinstance(view.stage, Done | Archived):
            yield from self._archivist(replace(state, archives=state.archives + 1), node, view)
        ended = view.claim is None or not view.claim.held
        if state.moves < self.bounds.moves and run.phase != "down" and ended and isinstance(view.stage, Backlog):
            moved = replace(state, moves=state.moves + 1)
            yield "is told by its operator to move the item", self._written(moved, node, [self._person(Coding(), view)], run, view.claim)
        if self.bounds.whole:
            yield from self._syncs(state, node)
            return
        for author, log in enumerate(state.logs):
            have = state.know[node][author]
            if have < len(log) and run.phase != "down" and any(row[author] > have for other, row in enumerate(state.know) if other != node):
                yield f"hears of {chr(ord('A') + author)}{have + 1}", self._reacted(_knowing(state, node, author, have + 1), node)

    def _syncs(self, state: State, node: int) -> Iterator[Step]:
        for other, theirs in enumerate(state.know):
            best = tuple(map(max, state.know[node], theirs))
            if best != state.know[node] and state.runs[node].phase != "down":
                yield f"hears all that {chr(ord('A') + other)} has", self._reacted(replace(state, know=_put(state.know, node, best)), node)

    def _archivist(self, state: State, node: int, view: View) -> Iterator[Step]:
        if view.claim is not None and view.claim.held:
            yield from ((f"{what} and to archive the item", then) for what, then in self._operator(state, node, view, view.claim, ARCHIVED))
        else:
            yield "is told by its operator to archive the item", self._written(state, node, [self._person(ARCHIVED, view)], state.runs[node], view.claim)

    def _operator(self, state: State, node: int, view: View, held: Claim, to: Stage | None = None) -> Iterator[Step]:
        ending = override(held, claim_id=bytes([node + 1, 9]) * 8, node=self.core.keys[node].public, incarnation="", reason="by hand")
        to = to or (Backlog() if isinstance(view.stage, Coding) else None)
        if self.bounds.deaf or not self.bounds.arbiter or held.receipt == 0:
            yield "is told by its operator to end the claim", self._stated(state, node, view, ending, "", to=to)
        elif state.chain[-1][1] != "merged" and len(state.chain) == held.receipt:
            moved = replace(state, chain=(*state.chain, (ending.claim_id, "released")))
            granted = replace(ending, receipt=len(moved.chain), oid=_oid(len(moved.chain)))
            yield "ends the claim at the remote", self._stated(moved, node, view, granted, "", to=to)
        elif state.chain[-1][1] != "merged":
            yield "ends only the claim that it knows", self._stated(state, node, view, ending, "", to=to)

    def _is_ending(self, node: int, claim: Claim) -> bool:
        return not claim.held and claim.node == self.core.keys[node].public and claim.agent == "operator"

    def _kept(self, state: State, node: int, ending: Claim) -> State:
        """The moves of ``claims keep``: of an item that nobody holds as far as is known here, under the fence of the claim that ended the last one."""
        return self._written(replace(state, keeps=state.keeps + 1), node, [self._stage(Coding(), ending)], state.runs[node], ending)

    # ---- what it means ------------------------------------------------------------------------------

    def _wanted(self, state: State, node: int, view: View) -> Claim:
        claim_id = bytes([node + 1, state.claims[node] + 1]) * 8
        return successor(view.claim, claim_id=claim_id, node=self.core.keys[node].public, agent="agent", ttl_ms=1000, incarnation="")

    def remote(self, state: State) -> ArbiterTaken | None:
        """The newest link of the chain."""
        if not state.chain:
            return None
        claim_id, said = state.chain[-1]
        merged = MERGE_COMMIT if said == "merged" else b""
        return ArbiterTaken(len(state.chain), _oid(len(state.chain)), show_id(claim_id), "a node", said, 1000, merged)

    def _may_merge(self, state: State, claim: Claim) -> bool:
        """The condition of the one atomic push: the claim ref is where the holder saw it."""
        return self._broken == "the remote does not compare" or (len(state.chain) == claim.receipt and state.chain[-1] == (claim.claim_id, "held"))

    def _stage(self, stage: Stage, claim: Claim) -> Any:
        fence = None if self._broken == "stages are not fenced" else claim.fence
        return (Kind.ITEM, ITEM, ItemField.STAGE, encode_stage(stage), fence)

    def _person(self, stage: Stage, view: View) -> Any:
        return (Kind.ITEM, ITEM, ItemField.STAGE, encode_stage(stage), None if view.claim is None else view.claim.fence)

    def _stated(self, state: State, node: int, view: View, claim: Claim, phase: str, *, to: Stage | None = None) -> State:
        """The first op of a claim; ``phase`` empty: an operator's, beside whatever the node does. ``to``: where the item goes with it."""
        stated, again = inherited(ITEM, claim, view.claim, view.registers)
        if self._broken == "a claim does not say what it found":
            stated, again = replace(stated, found=None), {}
        elif self._broken == "a claim does not say in which stage it found the item":
            stated = replace(stated, found_stage=None)
        elif self._broken == "a claim does not say that the one before had ended":
            stated = replace(stated, follows_ended=False)
        elif self._broken == "a claim writes the stage again":
            again[ItemField.STAGE] = encode_stage(view.stage)
        if to is not None:
            again[ItemField.STAGE] = encode_stage(to)
        run = Run(phase, stated) if phase else state.runs[node]
        writes = [_claim(stated), *((Kind.ITEM, ITEM, field, value, stated.fence) for field, value in again.items())]
        told = (claim.claim_id, view.outcome, view.attempts)
        return self._written(state, node, writes, run, claim if ItemField.STAGE in again else None, told, view)

    def _given_back(self, state: State, node: int, claim: Claim, why: str, view: View, *, charges: bool = False) -> State:
        counted = [(Kind.ITEM, ITEM, ItemField.ATTEMPTS, view.attempts + 1, claim.fence)] if charges else []
        return self._finished(state, node, claim, [*self._moves(Backlog(), claim, view), *counted], why, view.attempts + charges)

    def _done(self, state: State, node: int, claim: Claim, view: View) -> State:
        return self._finished(state, node, claim, self._moves(Done(0, MERGE_COMMIT), claim, view), "done", view.attempts)

    def _moves(self, stage: Stage, claim: Claim, view: View) -> list[Any]:
        """A holder takes nothing out of the archive."""
        return [] if isinstance(view.stage, Archived) else [self._stage(stage, claim)]

    def _finished(self, state: State, node: int, claim: Claim, writes: list[Any], why: str, attempts: int) -> State:
        outcome = {"result": why, "claim": claim.claim_id}
        ended = [*writes, (Kind.ITEM, ITEM, ItemField.OUTCOME, outcome, claim.fence), _claim(claim.released(why))]
        stage_of = claim if any(field == ItemField.STAGE for kind, _, field, *_ in writes if kind == Kind.ITEM) else None
        return self._written(state, node, ended, Run(), stage_of, (claim.claim_id, outcome, attempts))

    def _written(
        self,
        state: State,
        node: int,
        writes: list[Any],
        run: Run,
        stage_of: Claim | None = None,
        told: tuple[bytes, Any, int] | None = None,
        found: View | None = None,
    ) -> State:
        number = self.core.write(state.known(node), node, writes)
        if stage_of is not None:
            self.stage_of[number] = stage_of.claim_id
        if told is not None:
            self.told[number] = told
            if found is not None:
                self.found[number] = (told[0], found.stage, found.claim is None or not found.claim.held)
        log = (*state.logs[node], number)
        grown = replace(state, logs=_put(state.logs, node, log), runs=_put(state.runs, node, run))
        return self._reacted(_knowing(grown, node, node, len(log)), node)

    def _reacted(self, state: State, node: int) -> State:
        """Whoever holds a claim is told at once when it does not win any more, and stops without another write."""
        run = state.runs[node]
        if run.phase in _ACTIVE and run.claim is not None and not self.core.view(state.known(node)).wins(run.claim):
            return _running(state, node, Run())
        return state


def _claim(claim: Claim) -> Any:
    return (Kind.CLAIM, ITEM, ClaimField.CLAIM, encode_claim(claim), None)


def _oid(number: int) -> bytes:
    return bytes([number]) * 20


def _put(row: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*row[:place], value, *row[place + 1 :])


def _running(state: State, node: int, run: Run) -> State:
    return replace(state, runs=_put(state.runs, node, run))


def _knowing(state: State, node: int, author: int, length: int) -> State:
    return replace(state, know=_put(state.know, node, _put(state.know[node], author, length)))
