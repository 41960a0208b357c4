"""Answers as lines: a long one is the same line as a short one would be, and is not made in the event loop."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from fabrik_node.api import lines
from fabrik_node.api.lines import as_line, as_long_line

ROW = {"id": "01", "title": 'ü "x"\n', "labels": ["a"], "hold": None, "deep": {"number": 1.5, "list": [[], {}]}}
LONG = [ROW | {"priority": number} for number in range(2_000)]


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": True, "data": {"as_of": "now", "items": LONG, "total": 2_000, "more": LONG[:3]}},
        {"ok": True, "data": {"items": LONG, "claims": [[], None, "x"] * 500, "": {"items": LONG}}},
        {"ok": True, "data": {"items": []}},
        {"ok": True, "data": {}},
        {"ok": True, "more": {"items": LONG}},
        {"ok": True, "data": {"lone": ["\ud800"] * 600}},
    ],
)
async def test_a_long_answer_is_the_same_line(answer: dict[str, Any]) -> None:
    made = await as_long_line(answer)
    assert made == as_line(answer)
    assert made.count(b"\n") == 1
    if b"?" not in made:
        assert json.loads(made) == answer


async def test_long_lists_become_text_row_by_row_and_not_in_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    longest: list[int] = []

    class Watched(json.JSONEncoder):
        def encode(self, o: Any) -> str:
            text = super().encode(o)
            if threading.current_thread() is threading.main_thread():
                longest.append(len(text))
            return text

    monkeypatch.setattr(lines, "_JSON", Watched(ensure_ascii=False, separators=(",", ":"), allow_nan=False))
    await as_long_line({"ok": True, "data": {"items": LONG}})
    assert longest == []
    await as_long_line({"ok": True, "data": {"items": LONG[:3]}})
    assert len(longest) == 1


@pytest.mark.parametrize("count", [1, 1_000])
async def test_what_json_has_no_word_for_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        await as_long_line({"ok": True, "data": {"items": [float("nan")] * count}})
