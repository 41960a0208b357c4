"""Drawing on a terminal: tables, ages, colours. Knows nothing of items or nodes.

Text of other people (titles, reasons, names) passes :func:`clean`: it can not move the cursor or recolour the screen.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Sequence

__all__ = ["Screen", "age", "clean", "short_ids"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_ID_CHARS_MIN = 8
_GAP = "  "


def clean(text: object) -> str:
    """One line without control characters: tabs and line ends become spaces, others are shown as escapes."""
    return _CONTROL.sub(lambda found: " " if found.group() in "\t\r\n" else f"\\x{ord(found.group()):02x}", str(text))


def age(seconds: float | None) -> str:
    """A duration in one unit: ``4s``, ``12m``, ``3h``, ``9d``; ``?`` when it is not known."""
    if seconds is None:
        return "?"
    for unit, size, limit in (("s", 1, 120), ("m", 60, 7_200), ("h", 3_600, 172_800)):
        if seconds < limit:
            return f"{int(max(0.0, seconds) // size)}{unit}"
    return f"{int(seconds // 86_400)}d"


def short_ids(ids: Sequence[str], *, at_least: int = _ID_CHARS_MIN) -> dict[str, str]:
    """Each id by the shortest common length that tells all of them apart.

    ``at_least``: more when ids that are not shown could share a prefix with one that is.
    """
    length = at_least
    longest = max(map(len, ids), default=0)
    while length < longest and len({text[:length] for text in ids}) < len(set(ids)):
        length += 1
    return {text: text[:length] for text in ids}


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    kept = ""
    for char in text:
        if _width(kept + char) > width - 1:
            break
        kept += char
    return kept + "…"


class Screen:
    """A page that is printed whole. Without a terminal there are no colours and nothing is cut."""

    def __init__(self, *, color: bool, tty: bool) -> None:
        self._color = color
        self._columns = shutil.get_terminal_size().columns if tty else 0
        self._lines: list[str] = []

    def text(self) -> str:
        """Everything drawn so far, without the last line end."""
        return "\n".join(self._lines)

    def paint(self, text: str, *styles: str) -> str:
        """``text`` in colour, if this page has colours. Styles: bold, dim, red, green, yellow, cyan."""
        if not self._color or not styles or not text:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"

    def line(self, text: str = "", *styles: str) -> None:
        """One line; ``text`` is clean or ours."""
        self._lines.append(self.paint(text, *styles))

    def block(self, text: str) -> None:
        """Text of several lines, indented, each line cleaned."""
        for part in text.splitlines():
            self._lines.append(f"    {clean(part)}".rstrip())

    def fields(self, pairs: Sequence[tuple[str, object]]) -> None:
        """``name  value`` lines; empty values are left out."""
        shown = [(name, clean(value)) for name, value in pairs if value not in (None, "", [], {})]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self._lines.append(f"{self.paint(name.ljust(width), 'dim')}{_GAP}{value}")

    def shortened(self, text: str, chars: int) -> str:
        """``text`` in so many columns where there is a terminal: for what another page tells whole."""
        return _cut(clean(text), chars) if self._columns else text

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], *, flexible: str = "", empty: str = "") -> None:
        """Columns as wide as their cells. The ``flexible`` one is cut when the terminal is too narrow; ``empty`` stands for no rows."""
        if not rows:
            self.line(empty, "dim")
            return
        cells = [[clean(cell) for cell in row] for row in rows]
        widths = [max(_width(name), *(_width(row[at]) for row in cells)) for at, name in enumerate(header)]
        if flexible and self._columns:
            at = header.index(flexible)
            over = sum(widths) + len(_GAP) * (len(widths) - 1) - self._columns
            widths[at] = max(min(widths[at], 12), widths[at] - max(0, over))
            for row in cells:
                row[at] = _cut(row[at], widths[at])
        self.line(_row(header, widths), "bold")
        for row in cells:
            self.line(_row(row, widths))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()
