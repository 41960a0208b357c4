"""Work that was done twice, as it is shown and told: both sides with their branches, who was kept and why, and what it cost.

Read from the runs that every node has, so it is the same everywhere. Each node tells each conflict once, as ``claim.conflict``: when what it merges makes
one that was not there before. Nothing is remembered for that, so a crash between the merge and the event tells it at the next start, and only then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fabrik_node._core import Change, Changes, fence_beats
from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim, decode_claim
from fabrik_node.domain.conflicts import Conflict, Worked, find_conflicts, reason_of_victory
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.domain.schema import Kind, RunField
from fabrik_node.ids import show_id, show_key
from fabrik_node.node.board import Board
from fabrik_node.node.by_item import ByItem
from fabrik_node.node.happenings import happenings
from fabrik_node.node.run_summaries import fencing_of, run_from_summary
from fabrik_node.ports import Event

__all__ = ["conflicts_of", "events_of", "newest_by_claim"]

_log = logging.getLogger("fabrik_node")

Summaries = Mapping[bytes, Mapping[str, Any]]


def newest_by_claim(rows: Sequence[RunRow]) -> dict[bytes, RunRow]:
    """Of runs in order, newest first: the last one under each claim."""
    return {row.claim_id: row for row in reversed(rows)}


def conflicts_of(
    item: bytes, title: str, current: Claim | None, rows: Sequence[RunRow], summaries: Summaries, name_of: Callable[[bytes], str]
) -> list[dict[str, Any]]:
    """The conflicts of one item, newest first. ``rows``: its runs, newest first; ``summaries``: their registers, by run."""
    by_claim = newest_by_claim(rows)
    winning = None if current is None else current.claim_id
    worked = [_worked(row, summaries.get(row.run_id, {}), winning) for row in by_claim.values()]
    found = find_conflicts(current, worked, partial(fence_beats, item))

    def side(side: Worked) -> dict[str, Any]:
        row = by_claim.get(side.claim_id)
        claim = current if current is not None and current.claim_id == side.claim_id else None
        node = row.node if row is not None else b"" if claim is None else claim.node
        return {
            "claim_id": show_id(side.claim_id),
            "epoch": side.epoch,
            "receipt": side.receipt,
            "node": show_key(node),
            "node_name": name_of(node) if node else "",
            "agent": row.agent if row is not None else "" if claim is None else claim.agent,
            "run_id": None if row is None else show_id(row.run_id),
            "state": None if row is None else row.state.value,
            "branch": f"fabrik/{show_id(item)}/{show_id(side.claim_id)}" if row is None or not row.branch else row.branch,
        }

    def shown(conflict: Conflict) -> dict[str, Any]:
        lost = by_claim[conflict.loser.claim_id]
        return {
            "item": show_id(item),
            "title": title,
            "kind": conflict.kind,
            "why": reason_of_victory(conflict.winner, conflict.loser),
            "winner": side(conflict.winner),
            "loser": side(conflict.loser),
            "wasted_s": (lost.ended_ms - lost.started_ms) / 1000 if lost.ended_ms >= lost.started_ms else None,
            "at": iso(lost.ended_ms or lost.started_ms),
        }

    return [shown(conflict) for conflict in reversed(found)]


def events_of(changes: Changes, board: Board, by_item: ByItem, names: Mapping[bytes, str]) -> list[Event]:
    """All events of one batch that was just merged: :func:`~fabrik_node.node.happenings.happenings`, and the conflicts that it made, also of a batch that is told as a whole.

    The ops are stored and merged, so what they are shown as can not be a reason to stop: what we fail to tell is said in the log and in one event.
    """
    events: list[Event] = []
    try:
        events += happenings(changes, names, board)
        events += _conflicts(changes, board, by_item, names)
    except Exception as error:  # noqa: BLE001  # whatever it is, the ops are merged, and it is said
        _log.exception("the events of a batch are not told")
        events.append(Event("events.untold", changes.newest_ms or 0, {"why": f"{type(error).__name__}: {error}"}))
    return events


def _conflicts(changes: Changes, board: Board, by_item: ByItem, names: Mapping[bytes, str]) -> list[Event]:
    if not changes.kinds & {Kind.CLAIM, Kind.RUN}:
        return []
    of_runs = {change.id: change for change in changes.of(Kind.RUN, RunField.SUMMARY)}
    of_claims = {change.id: change for change in changes.of(Kind.CLAIM)}
    items = {item for item, change in of_claims.items() if _jumps(change)}
    items |= {change.new["item"] for change in of_runs.values() if _is_late(change, board)}
    events = []
    for item in sorted(items):  # of a node that was away nearly each run is late: so only the runs of these items are read
        runs = by_item.runs(item)
        found = _found(item, board.claim(item), runs, names)
        if not found:
            continue
        change = of_claims.get(item)
        before = {run: of_runs[run].old if run in of_runs else summary for run, summary in runs.items()}
        known = _found(
            item, _claim(change.old) if change is not None else board.claim(item), {run: old for run, old in before.items() if old is not None}, names
        )
        told = {conflict["loser"]["claim_id"] for conflict in known}
        view = board.item(item)
        for conflict in reversed(found):
            if conflict["loser"]["claim_id"] not in told:
                data = {name: value for name, value in conflict.items() if name != "at"} | {"title": "" if view is None else view.title}
                events.append(Event("claim.conflict", changes.newest_ms or 0, data))
    return events


def _found(item: bytes, current: Claim | None, runs: Summaries, names: Mapping[bytes, str]) -> list[dict[str, Any]]:
    """Work of a holder that was only thought lost is one as soon as its run says so: until then it may be dead."""
    rows = sorted((row for run, said in runs.items() if (row := run_from_summary(run, said)) is not None), key=lambda row: row.run_id, reverse=True)
    found = conflicts_of(item, "", current, rows, runs, lambda key: names.get(key) or show_key(key)[:8])
    return [each for each in found if each["kind"] == "rival" or each["loser"]["state"] == RunState.SUPERSEDED.value]


def _jumps(change: Change) -> bool:
    """Another claim wins now, and it does not simply follow the one that won before."""
    old, new = _claim(change.old), _claim(change.new)
    return old is not None and new is not None and old.claim_id not in (new.claim_id, new.follows)


def _is_late(change: Change, board: Board) -> bool:
    """A run of a claim that does not win became known, or says now that it was overtaken."""
    row = run_from_summary(change.id, change.new) if isinstance(change.new, dict) else None
    if row is None:
        return False
    claim = board.claim(row.item)
    if claim is not None and claim.claim_id == row.claim_id:
        return False
    old = change.old if isinstance(change.old, dict) else {}
    return not old or (row.state is RunState.SUPERSEDED and old.get("state") != row.state.value)


def _claim(value: Any) -> Claim | None:
    return None if value is None else decode_claim(value)


def _worked(row: RunRow, said: Mapping[str, Any], winning: bytes | None) -> Worked:
    fencing = fencing_of(said)
    overtaken = row.claim_id != winning and (row.state is RunState.SUPERSEDED or row.state not in FINAL_STATES)
    return Worked(row.claim_id, fencing.epoch, fencing.receipt, fencing.follows, overtaken=overtaken)
