"""Logs for programs: one object per line, whatever is in a record."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from fabrik_node.app.logs import JsonLines, TextLines


def line(message: str = "said", *args: Any, **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("fabrik_node.x", logging.WARNING, "/private/path.py", 1, message, args, None)
    record.created = 1_700_000_000.0
    for name, value in extra.items():
        setattr(record, name, value)
    text = JsonLines().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_has_time_level_logger_and_message() -> None:
    assert line("%s of %d", "two", 3) == {"time": "2023-11-14T22:13:20.000Z", "level": "warning", "logger": "fabrik_node.x", "message": "two of 3"}


def test_fields_are_kept_apart() -> None:
    assert line(fields={"peer": "b", "attempts": 2, "url": None})["fields"] == {"peer": "b", "attempts": 2, "url": None}
    assert "fields" not in line(fields={})
    assert "fields" not in line(fields="no mapping")


@pytest.mark.parametrize("odd", [b"\xff", {1, 2}, object(), float("inf"), "line\nend", "\u2028", "\ud800"])
def test_whatever_is_in_a_field_or_message_the_line_is_one(odd: Any) -> None:
    assert "odd" in line("message %s", odd, fields={"odd": odd})["fields"]


def test_an_error_brings_its_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        assert "ValueError: broken" in line(exc_info=sys.exc_info())["error"]


def test_foreign_text_forges_no_line_and_steers_no_terminal() -> None:
    record = logging.LogRecord("fabrik_node", logging.INFO, __file__, 1, "connected to %s", ("x\n2026-11-21 ERROR forged\x1b[2J\x9b",), None)
    line = TextLines().format(record)
    assert "\n" not in line
    assert line.endswith("INFO connected to x 2026-11-21 ERROR forged [2J ")
