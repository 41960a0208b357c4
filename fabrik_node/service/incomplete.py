"""``runs recovery``: every run that was left without an end, or ended without its item being done, with what is known of it last and what to type next.

Reads through the reader alone, so it answers from a store that no node serves, too: the moment at which it is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from fabrik_node.domain.runs import FINAL_STATES, WORK_STATES, RunRow, RunState
from fabrik_node.domain.stages import Archived, Done, Merge
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView
from fabrik_node.process import is_alive
from fabrik_node.service.reading import Read, Reader

__all__ = ["Incomplete"]

_SERVE = "fabrik-node serve"
_AT_WORK = frozenset(state.value for state in WORK_STATES)


class Incomplete:
    """Each run comes as in ``runs list``, with ``kind``, ``why`` and ``do``.

    ``copied`` tells the runs that came with a copy of another home: that one may be at work on them, and nothing here may tell anybody to end them.

    ``kind`` is ``open`` when nobody wrote down its end; ``unfinished`` when it ended, no newer run followed, and its item is neither done nor in hand.
    """

    def __init__(self, reader: Reader, copied: Callable[[], Awaitable[Collection[bytes]]]) -> None:
        self._reader = reader
        self._copied = copied

    @property
    def operations(self) -> Mapping[str, Read]:
        """By name."""
        return {"runs.recovery": self._reader.measured(self.recovery)}

    async def recovery(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Open runs first, newest first in each kind."""
        views, board, copied = self._reader.run_views(), self._reader.board, await self._copied()
        open_runs: list[dict[str, Any]] = []
        unfinished: list[dict[str, Any]] = []
        seen: set[bytes] = set()
        for row in await self._reader.runs():
            is_newest, is_open = row.item not in seen, row.state not in FINAL_STATES
            seen.add(row.item)
            if not is_open and (not is_newest or row.state is RunState.COMPLETED):
                continue  # nearly all of very many: their items need not be looked at
            view = board.item(row.item)
            if not is_open and (view is None or not _is_left(view)):
                continue
            shown = views.run(row, claim=board.claim(row.item), title="" if view is None else view.title)
            if is_open and row.run_id in copied:
                open_runs.append({**shown, "kind": "open", **_of_another_home(shown)})
            elif is_open:
                open_runs.append({**shown, "kind": "open", **self._of_open(row, shown)})
            elif view is not None:
                unfinished.append({**shown, "kind": "unfinished", **_of_unfinished(view)})
        return self._reader.stamp({"runs": [*open_runs, *unfinished], "open": len(open_runs), "unfinished": len(unfinished)})

    def _of_open(self, row: RunRow, shown: Mapping[str, Any]) -> dict[str, str]:
        serves = self._reader.leases is not None
        if shown["own"]:
            return _of_own(row, shown, serves=serves)
        where = shown["node_name"]
        if not serves:
            return {"why": f"no node runs here, so nothing is heard of {where}", "do": _SERVE}
        match RunState(shown["state"]):
            case state if state.value in _AT_WORK:
                return {"why": f"{where} is at work on it", "do": f"fabrik-node runs show {shown['run_id']}"}
            case RunState.LOST:
                return {"why": "its lease is over: agents take the item over by themselves", "do": f"fabrik-node why {shown['item']}"}
            case RunState.SUPERSEDED:
                return {"why": f"another claim has the item; {where} closes this run when it hears of that", "do": f"fabrik-node claims show {shown['item']}"}
            case _:
                release = f"fabrik-node claims release {shown['item']}"
                return {"why": f"{where} closes it when it is back; to give its item to others before that, release the claim", "do": release}


def _of_another_home(shown: Mapping[str, Any]) -> dict[str, str]:
    return {
        "evidence": "it came with a copy of another home",
        "next": "",
        "why": "that home may be at work on it, and this one leaves it alone until its claim is over; ask there",
        "do": f"fabrik-node runs show {shown['run_id']}",
    }


def _of_own(row: RunRow, shown: Mapping[str, Any], *, serves: bool) -> dict[str, str]:
    if row.process is not None and is_alive(row.process) and shown["state"] not in _AT_WORK:
        closes = "the agent of this node closes it" if serves else f"the next start of this node does so and closes the run: {_SERVE}"
        return {"why": f"its process is alive, and no agent has it in hand; the signal ends all of it; {closes}", "do": f"kill {row.process.pid}"}
    if not serves:
        return {"why": "the next start of this node ends what is left of it, keeps its work and gives its item back", "do": _SERVE}
    if shown["state"] in _AT_WORK:
        return {"why": "the agent of this node is at work on it", "do": f"fabrik-node runs logs --follow {shown['run_id']}"}
    return {"why": "the agent of this node closes it", "do": f"fabrik-node runs watch {shown['run_id']}"}


def _is_left(view: ItemView) -> bool:
    in_hand = view.claim is not None and view.claim.held
    return not in_hand and not isinstance(view.stage, Done | Archived)


def _of_unfinished(view: ItemView) -> dict[str, str]:
    item = show_id(view.id)
    if view.hold is None:
        work = "its finished work is merged by the next agent" if isinstance(view.stage, Merge) else "the next agent tries again"
        return {"why": f"its item waits in {view.stage.name}: {work}", "do": f"fabrik-node why {item}"}
    verb = "resolve" if isinstance(view.stage, Merge) else "requeue"
    return {"why": f"its item is held: {view.hold.get('reason', '')}", "do": f"fabrik-node items {verb} {item}"}
