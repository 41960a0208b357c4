"""Questions to people as they are shown: what is asked, by whom, for how long, what was answered and what the run made of it. Pure reading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fabrik_node._core import effects
from fabrik_node.clock import iso
from fabrik_node.domain.requests import Request, RequestState
from fabrik_node.domain.schema import Kind, RequestField
from fabrik_node.errors import NotFound, UsageError
from fabrik_node.ids import parse_id, resolve, show_id, show_key
from fabrik_node.node.requests import answer_command
from fabrik_node.service.reading import Reader

__all__ = ["Approvals"]

_LIST_MAX = 10_000


class Approvals:
    """Reads through ``reader`` alone, so it works on a store that no node serves, too."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.requests = reader.requests

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"approvals.list": self._reader.measured(self.list), "approvals.show": self._reader.measured(self.show)}

    def find(self, args: Mapping[str, Any]) -> Request:
        """The question that ``id`` names, or begins the name of. Raises NotFound, Conflict."""
        text = args.get("id")
        if not isinstance(text, str) or not text:
            raise UsageError("id is missing", "fabrik-node approvals list")
        whole = parse_id(text)
        name = resolve(text if whole is None else show_id(whole), map(show_id, self.requests.ids()), "question", "fabrik-node approvals list --all")
        found = self.requests.get(parse_id(name) or b"")
        if found is None:
            raise NotFound(f"no question {text!r}", "fabrik-node approvals list --all")
        return found

    async def list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Those that wait for an answer, oldest first; with ``all`` every one, newest first. ``item``: of one item."""
        item = self._reader.find_item(str(args["item"])) if args.get("item") else None
        chosen = await asyncio.to_thread(self._listed, item, everything=bool(args.get("all")))
        self._reader.views()
        return self._reader.stamp({"requests": [self.shown(request) for request in chosen[:_LIST_MAX]], "total": len(chosen)})

    def _listed(self, item: bytes | None, *, everything: bool) -> Sequence[Request]:
        """There may be many, so this is for a thread."""
        if not everything:
            return self.requests.open(item)
        return list(self.requests.all() if item is None else self.requests.of(item))[::-1]

    async def show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """One question, with every answer that was ever given to it and has effect: those that came too late, too. Reads the whole log."""
        request = self.find(args)
        self._reader.views()
        counted = await self._reader.touches(request.id, partial(effects, self._reader.replica))
        touches = [touch for touch in counted if (touch.kind, touch.field) == (Kind.REQUEST, RequestField.ANSWER)]
        answers = [
            {
                "said": touch.value.get(1),
                "by": self._reader.name_of(touch.author),
                "at": iso(touch.wall_ms),
                "note": touch.value.get(3, ""),
                "op": show_key(touch.digest),
            }
            for touch in sorted(touches, key=lambda touch: (touch.lamport, touch.digest))
            if isinstance(touch.value, dict)
        ]
        return self._reader.stamp({"request": self.shown(request), "answers": answers})

    def shown(self, request: Request) -> dict[str, Any]:
        """A question for JSON. Names are those of the reader's last ``views``."""
        asked, answer, end, state = request.question, request.answer, request.end, self.requests.state(request)
        view, name = self._reader.board.item(asked.item), self._reader.name_of
        return {
            "id": show_id(request.id),
            "item": show_id(asked.item),
            "title": "" if view is None else view.title,
            "text": asked.text,
            "options": list(asked.options),
            "state": state.value,
            "asked_at": iso(asked.asked_ms),
            "asked_by": name(request.asked_by),
            "run_id": show_id(asked.run_id),
            "timeout_s": None if asked.timeout_ms is None else asked.timeout_ms / 1000,
            "default": asked.default,
            "answer": None if answer is None else {"said": answer.said, "by": name(answer.by), "at": iso(answer.at_ms), "note": answer.note},
            "too_late": request.is_too_late,
            "end": None
            if end is None
            else {
                "kind": end.kind.value,
                "said": end.said,
                "answered_by": name(end.answered_by) if end.answered_by else None,
                "at": iso(end.at_ms),
                "by": name(end.by),
                "run_id": show_id(end.run_id) if len(end.run_id) == 16 else None,
                "reason": end.reason,
            },
            "next": answer_command(request) if state is RequestState.OPEN else "",
        }
