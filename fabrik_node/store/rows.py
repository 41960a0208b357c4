"""Between SQLite's rows and the product's types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fabrik_node.domain.runs import ProcessId, RunRow, RunState
from fabrik_node.errors import BrokenStore, Internal
from fabrik_node.ports import Event

__all__ = ["RESERVED_EVENT_KEYS", "compact_json", "event_data", "event_from", "run_from", "run_params", "storable"]

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
RESERVED_EVENT_KEYS = frozenset({"seq", "at", "type"})
"""Keys of the exported line itself; an event's data can not use them."""


def event_data(event: Event) -> str:
    """The data of an event as one line of JSON. Raises :class:`Internal` for what has no place there (a bug of the caller)."""
    taken = RESERVED_EVENT_KEYS & event.data.keys()
    if taken:
        raise Internal(f"event {event.type!r} uses the reserved keys {sorted(taken)}")
    return compact_json(dict(event.data), f"event {event.type!r}")


def compact_json(value: Mapping[str, Any], what: str) -> str:
    """JSON on one line that is always valid UTF-8. Raises :class:`Internal`."""
    try:
        text = _JSON.encode(value)
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as file names may hold
            text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise Internal(f"{what} can not be written as JSON: {error}") from error
    return text


def event_from(row: tuple[Any, ...]) -> Event:
    """An event of ``seq, type, wall_ms, data``. Raises :class:`BrokenStore`."""
    seq, kind, wall_ms, text = row
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BrokenStore(f"event {seq} in the store is damaged: {error}", "fabrik-node events --after " + str(seq)) from error
    return Event(kind, wall_ms, data, seq)


def run_params(row: RunRow) -> dict[str, Any]:
    """The named parameters of ``put_run``."""
    process = row.process
    return {
        "run_id": row.run_id,
        "item": row.item,
        "claim_id": row.claim_id,
        "node": row.node,
        "agent": storable(row.agent),
        "state": row.state.value,
        "phase": storable(row.phase),
        "started_ms": row.started_ms,
        "pid": None if process is None else process.pid,
        "process_started": None if process is None else process.started,
        "process_boot": None if process is None else process.boot_id,
        "ended_ms": row.ended_ms,
        "exit_code": row.exit_code,
        "reason": storable(row.reason),
        "branch": storable(row.branch),
        "worktree": storable(row.worktree),
        "log": storable(row.log),
        "engine": storable(row.engine),
    }


def storable(text: str) -> str:
    """``text`` as valid Unicode: bytes of a name that are not UTF-8 (PEP 383 surrogates) are written out, as they have no place in SQLite."""
    return text.encode("utf-8", "backslashreplace").decode()


def run_from(row: tuple[Any, ...]) -> RunRow:
    """A run of the columns of ``runs``, in its order."""
    run_id, item, claim_id, node, agent, state, phase, started_ms, pid, started, boot, ended_ms, exit_code, reason, branch, worktree, log, engine = row
    return RunRow(
        run_id=run_id,
        item=item,
        claim_id=claim_id,
        node=node,
        agent=agent,
        state=RunState(state),
        phase=phase,
        started_ms=started_ms,
        process=None if pid is None else ProcessId(pid, started, boot),
        ended_ms=ended_ms,
        exit_code=exit_code,
        reason=reason,
        branch=branch,
        worktree=worktree,
        log=log,
        engine=engine,
    )
