"""Answers as lines of JSON. A long list becomes text in a thread and row by row: as one piece it would keep the interpreter, and with it the event loop, for its whole length."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["as_line", "as_long_line"]

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ROWS_MIN = 500
"""Of a list that is long: some 3 ms for items, in which others could have had their turn."""


def as_line(answer: Mapping[str, Any]) -> bytes:
    """One answer, at once. Raises ValueError for what JSON has no word for."""
    return _bytes(_JSON.encode(answer))


async def as_long_line(answer: Mapping[str, Any]) -> bytes:
    """The same line, of an answer with ``data`` that may have long lists."""
    data = answer.get("data")
    if isinstance(data, dict) and any(_is_long(part) for part in data.values()):
        return await asyncio.to_thread(lambda: _bytes(_members({**answer, "data": _Text(_members(data))})))
    return as_line(answer)


class _Text(str):
    """JSON already."""

    __slots__ = ()


def _members(parts: Mapping[str, Any]) -> str:
    return "{" + ",".join(f"{_JSON.encode(name)}:{_text(part)}" for name, part in parts.items()) + "}"


def _text(part: Any) -> str:
    if isinstance(part, _Text):
        return part
    return "[" + ",".join(map(_JSON.encode, part)) + "]" if _is_long(part) else _JSON.encode(part)


def _is_long(part: Any) -> bool:
    return isinstance(part, list) and len(part) >= _ROWS_MIN


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace") + b"\n"
