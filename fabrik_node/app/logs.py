"""What the node says on stderr: lines for people, or one JSON object per line for programs."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal

from fabrik_node.clock import iso

__all__ = ["JsonLines", "TextLines", "start_logging"]

_TEXT = "%(asctime)s %(levelname)s %(message)s"


class JsonLines(logging.Formatter):
    """``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``; ``fields`` of ``extra={"fields": {...}}``; ``error`` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. Never raises for what a record holds: a field that is no JSON is shown as text."""
        said: dict[str, Any] = {
            "time": iso(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict) and fields:
            said["fields"] = fields
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str, separators=(",", ":"))


class TextLines(logging.Formatter):
    """One line for people. What is not printable in a message becomes a space: names are foreign text, and may not forge lines or steer a terminal."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without a traceback."""
        record.message = "".join(each if each.isprintable() else " " for each in record.message)
        return super().formatMessage(record)


def start_logging(level: str, form: Literal["text", "json"]) -> None:
    """Everything of this process to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.WARNING)
