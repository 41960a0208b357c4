"""The one function that says what state a run is in, for every surface, with what it was concluded from and what is expected next.

Three signals stay apart: the lease (does anybody hear of it), process life (pid, start time and boot id) and progress. A lost heartbeat with a live
process is degraded, not dead. Of a foreign run nothing counts but what its own node said and we saw change; a missing signal gives ``unknown``, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.requests import Asked
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState

__all__ = ["END_ARRIVES", "STALE_S", "STILLS_S", "RunSignals", "RunVerdict", "judge_end", "judge_run"]

END_ARRIVES = "its end arrives"
"""What is expected first of a run that its node let go of: its claim or its name in the heartbeat goes a moment before its end comes."""
STALE_S = 300.0
"""News that are older are marked as stale, unless the configuration says otherwise."""
STILLS_S = (60.0, 900.0)
"""Without progress for so long a run is quiet, and stalled; unless the configuration says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSignals:
    """What an observer knows besides the row. ``None`` means: can not be known from here. Ages are seconds on the observer's own clock."""

    own: bool
    """The observer is the run's own node."""
    claim_wins: bool | None
    """The winning claim of its item is the run's; None: the item has none here."""
    claim_released: bool = False
    """It is, and was given back."""
    lease: LeaseState | None
    """By the TTL that its holder promised. On the holder's own node a renewal that reaches nobody is none."""
    lease_age_s: float | None
    """Since the last renewal that was seen; while none was (``lease_heard`` False) since the observer began to watch."""
    lease_heard: bool = True
    progress_age_s: float | None = None

    in_hand: bool | None = None
    """Own: the agent of the running node has it in hand; None: no node runs here."""
    process_alive: bool | None = None
    draining: bool = False

    owner: Nearness = Nearness.UNKNOWN
    """Foreign: what is known of its node."""
    owner_age_s: float | None = None
    """Since the newest message of its node."""
    renews: bool = False
    """That message names the run's claim among those that it holds."""
    asks: Asked | None = None
    """The question of its item that waits for a person."""

    silent_after_s: float = 30.0
    ttl_s: float = 90.0
    takeover_after_s: float = 135.0
    quiet_after_s: float = STILLS_S[0]
    stall_after_s: float = STILLS_S[1]
    stale_after_s: float = STALE_S


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What is shown of a run. Ages in seconds, None where there is none to tell."""

    state: RunState
    evidence: str
    """What it was concluded from, one line."""
    age_s: float | None = None
    """Of the newest news that the verdict rests on; None: there are none, or the run is over."""
    since_s: float | None = None
    """For how long it has been so; None: not known, or since the times in the row."""
    next: str = ""
    """What is expected to happen next; empty when nothing is."""
    next_s: float | None = None
    """Within how many seconds, at the latest; None: nobody can say."""
    degraded: str = ""
    """A signal that is lost although the run is alive."""
    stale: bool = False
    """The news are older than the threshold, or there are none."""


def judge_run(row: RunRow, signals: RunSignals) -> RunVerdict:
    """The state of a run. Pure: the same inputs give the same verdict.

    A state of :data:`~fabrik_node.domain.runs.WORK_STATES` rests on a live process or the agent's own hand here, or on fresh words of its node.
    """
    if row.state in FINAL_STATES:
        return judge_end(row)
    age_s = _age_s(signals)
    if signals.claim_wins is False:
        return _superseded(signals, age_s)
    stale = age_s is None or age_s > signals.stale_after_s
    return _judge_own(row, signals) if signals.own else _judge_foreign(row, signals, stale=stale)


def judge_end(row: RunRow) -> RunVerdict:
    """Of a run in one of :data:`~fabrik_node.domain.runs.FINAL_STATES`: it rests on its row alone, so nobody has to gather signals for it."""
    return RunVerdict(row.state, row.reason or f"ended with exit code {row.exit_code}")


def _superseded(signals: RunSignals, lease_age_s: float | None) -> RunVerdict:
    """Its lease is not watched for long any more: then its node's newest message says how old the news are."""
    known = not signals.own and signals.owner in (Nearness.ALIVE, Nearness.SILENT)
    age_s = signals.owner_age_s if lease_age_s is None and known else lease_age_s
    silent = (
        f"; its node says nothing for {signals.owner_age_s:.1f} s" if known and signals.owner is Nearness.SILENT and signals.owner_age_s is not None else ""
    )
    stale = age_s is None or age_s > signals.stale_after_s
    evidence = f"another claim on the item wins{silent}"
    return RunVerdict(RunState.SUPERSEDED, evidence, age_s, None, "its node stops it when it hears of that", stale=stale)


def _age_s(signals: RunSignals) -> float | None:
    if signals.own:
        return None if signals.in_hand is None and signals.process_alive is None else 0.0
    return signals.lease_age_s if signals.lease_heard else None


# ---- on its own node ----------------------------------------------------------------------------------


def _judge_own(row: RunRow, signals: RunSignals) -> RunVerdict:
    process = "" if row.process is None else f"process {row.process.pid}"
    alive = signals.process_alive if process else False
    if process and alive is None:
        return RunVerdict(RunState.UNKNOWN, f"{process} can not be looked at", None, None, "the next look at it", stale=True)
    if not signals.in_hand:
        return _left_alone(signals, process, alive=alive is True)
    if not process:
        return _at_work(row, signals, f"no command runs in phase {row.phase}: the node itself is at work")
    if not alive:
        return _at_work(row, signals, f"{process} has ended, and the agent has the run in hand", degraded="no process")
    return _at_work(row, signals, f"{process} is alive", degraded="" if signals.lease is LeaseState.FRESH else "heartbeat lost")


def _left_alone(signals: RunSignals, process: str, *, alive: bool) -> RunVerdict:
    """No agent of this home has it in hand."""
    serving = signals.in_hand is not None
    closes = "the agent closes it" if serving else "the next start of this node closes it: fabrik-node serve"
    if alive:
        who = "the agent of this node does not have the run in hand" if serving else "no node watches it"
        return RunVerdict(RunState.ORPHANED, f"{process} is alive, and {who}", 0.0, None, f"the process ends by itself, and {closes}")
    if process:
        return RunVerdict(RunState.INTERRUPTED, f"{process} is gone and left no result", 0.0, None, closes)
    if serving:
        return RunVerdict(RunState.INTERRUPTED, "an earlier start of this node left it: its agent does not have it in hand", 0.0, None, closes)
    return RunVerdict(RunState.UNKNOWN, "no node runs here, so nobody is at work on it", None, None, closes, stale=True)


def _at_work(row: RunRow, signals: RunSignals, evidence: str, *, age_s: float = 0.0, degraded: str = "") -> RunVerdict:
    """Somebody is at work; whether it moves is another question."""
    if row.state is RunState.WAITING:
        return _waits(row, signals, evidence, age_s, degraded)
    still_s = signals.progress_age_s
    moves_not = "" if still_s is None else f", no progress for {still_s:.0f} s"
    if still_s is not None and still_s >= signals.stall_after_s:
        return RunVerdict(RunState.STALLED, evidence + moves_not, age_s, still_s, "output, its end, or its timeout", degraded=degraded)
    if signals.draining:
        return RunVerdict(RunState.DRAINING, f"{evidence}, and the node drains", age_s, None, "its end; nothing new is begun", degraded=degraded)
    if still_s is not None and still_s >= signals.quiet_after_s:
        left_s = signals.stall_after_s - still_s
        return RunVerdict(RunState.QUIET, evidence + moves_not, age_s, still_s, "output or its end, else it is stalled", left_s, degraded)
    if signals.own:
        left_own_s = None if still_s is None else signals.quiet_after_s - still_s
        return RunVerdict(row.state, evidence, age_s, None, "output or its end, else it is quiet", left_own_s, degraded)
    left_s = max(0.0, min(signals.silent_after_s - (signals.owner_age_s or 0.0), signals.ttl_s - age_s))
    return RunVerdict(row.state, evidence, age_s, None, "a heartbeat of its node, else it is unreachable", left_s, degraded)


def _waits(row: RunRow, signals: RunSignals, evidence: str, age_s: float, degraded: str) -> RunVerdict:
    """For what its row says, or for a person; that it does not move is no sign of anything."""
    rests_on = f"{evidence}, and the node drains" if signals.draining else evidence
    if row.reason:
        return RunVerdict(RunState.WAITING, f"{row.reason}; {rests_on}", age_s, None, "what it waits for", degraded=degraded)
    if signals.asks is None:
        return RunVerdict(RunState.WAITING, f"it asked people, and its question is not open any more; {rests_on}", age_s, None, "it goes on", degraded=degraded)
    return RunVerdict(RunState.WAITING, f"asks: {signals.asks}; {rests_on}", age_s, None, "an answer of a person", degraded=degraded)


# ---- on another node ------------------------------------------------------------------------------------


def _judge_foreign(row: RunRow, signals: RunSignals, *, stale: bool) -> RunVerdict:
    age_s = signals.lease_age_s
    if signals.claim_released:
        said_s = age_s if signals.lease_heard else None
        return RunVerdict(RunState.UNKNOWN, "its claim was given back, and its end is not here yet", said_s, None, END_ARRIVES, stale=stale)
    if signals.lease is None or age_s is None:
        return _unheard(signals, "nothing was heard of its lease here")
    heard = f"last heard of {age_s:.1f} s ago" if signals.lease_heard else f"nothing was heard of it in the {age_s:.1f} s that this node watches"
    # Who never heard it can not say since when nobody does, but as far as its node was heard.
    since_s = age_s if signals.lease_heard else signals.owner_age_s if signals.owner is Nearness.SILENT else None
    news_s = age_s if signals.lease_heard else None
    if signals.lease is LeaseState.LOST:
        waits = "another agent may take the item, or its node is heard again"
        return RunVerdict(RunState.LOST, f"{heard}: its lease is over", news_s, since_s, waits, stale=stale)
    owner_is_here = signals.owner is Nearness.ALIVE
    over_s = max(0.0, signals.takeover_after_s - age_s)
    if owner_is_here and signals.lease_heard and not signals.renews:
        evidence = f"{heard}: its node is there, and does not name it among its work any more"
        return RunVerdict(RunState.ORPHANED, evidence, news_s, age_s, f"{END_ARRIVES}, or its lease is over", over_s, stale=stale)
    if owner_is_here and signals.lease is LeaseState.UNREACHABLE:
        evidence = f"{heard}: its node is there, and does not renew the lease"
        return RunVerdict(RunState.UNKNOWN, evidence, news_s, since_s, "a heartbeat, or its lease is over", over_s, "heartbeat lost", stale)
    if signals.owner is Nearness.SILENT or signals.lease is LeaseState.UNREACHABLE:
        silent = f": its node says nothing for {signals.owner_age_s:.1f} s" if signals.owner is Nearness.SILENT and signals.owner_age_s is not None else ""
        waits = "its node is heard again, or its lease is over"
        return RunVerdict(RunState.UNREACHABLE, heard + silent, news_s, since_s, waits, over_s, stale=stale)
    if not signals.lease_heard or not owner_is_here:
        return _unheard(signals, heard, news_s)
    return _at_work(row, signals, heard, age_s=age_s)


def _unheard(signals: RunSignals, heard: str, news_s: float | None = None) -> RunVerdict:
    """Nothing shows that somebody is at work, and nothing that nobody is."""
    match signals.owner:
        case Nearness.SILENT if signals.owner_age_s is not None:
            evidence = f"{heard}, and its node says nothing for {signals.owner_age_s:.1f} s"
            return RunVerdict(RunState.UNREACHABLE, evidence, news_s, signals.owner_age_s, "its node is heard again", stale=True)
        case Nearness.ALIVE:
            said = "its node is there, and has not spoken of it yet"
        case Nearness.UNCONFIRMED:
            said = "one message of its node came, perhaps an old one"
        case Nearness.UNKNOWN:
            said = "nobody listens: no node runs here"
        case _:
            said = "its node was never heard here"
    waits = "fabrik-node serve, and its node is heard" if signals.owner is Nearness.UNKNOWN else "its next heartbeat"
    left_s = max(0.0, signals.silent_after_s - (signals.owner_age_s or 0.0)) if signals.owner in (Nearness.ALIVE, Nearness.UNCONFIRMED) else None
    return RunVerdict(RunState.UNKNOWN, f"{heard}; {said}", news_s, None, waits, left_s, stale=news_s is None or news_s > signals.stale_after_s)
