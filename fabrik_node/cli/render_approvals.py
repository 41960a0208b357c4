"""Questions to people, as people see them."""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, cut_short, footer
from fabrik_node.cli.table import Screen, age, clean, short_ids

__all__ = ["request", "requests"]


def requests(screen: Screen, data: Data) -> None:
    """``approvals list``."""
    entries: Sequence[Data] = data["requests"]
    ids = short_ids([entry["id"] for entry in entries], at_least=FILTERED_ID_CHARS)
    rows = [
        (ids[entry["id"]], entry["state"], entry["asked_by"], entry["asked_at"], entry["title"], "|".join(entry["options"]) or "any text", _line(entry["text"]))
        for entry in entries
    ]
    screen.table(("ID", "STATE", "NODE", "ASKED", "ITEM", "ANSWERS", "QUESTION"), rows, flexible="QUESTION", empty="nobody is asked anything")
    if any(entry["next"] for entry in entries):
        screen.line("to answer: fabrik-node approvals answer ID ANSWER")
    cut_short(screen, data, entries)
    footer(screen, data)


def request(screen: Screen, data: Data) -> None:
    """``approvals show`` and ``answer``."""
    entry = data["request"]
    answer, end = entry.get("answer"), entry.get("end")
    over, is_open = entry.get("timeout_s"), entry["state"] == "open"
    waits = "for ever" if over is None else f"{age(over)}, then " + (f"goes by {entry['default']!r}" if entry.get("default") else "the item is held")
    screen.fields(
        [
            ("question", entry["id"]),
            ("text", "" if "\n" in entry["text"] else entry["text"]),
            ("answers", "|".join(entry["options"]) or "any text"),
            ("state", entry["state"]),
            ("item", f"{entry['item']}  {entry['title']}"),
            ("asked", f"{entry['asked_at']} by {entry['asked_by']}, run {entry['run_id']}"),
            ("waits" if is_open else "timeout", waits if is_open or over is not None else ""),
            ("answer", "" if answer is None else _answer(answer, too_late=entry["too_late"])),
            ("end", "" if end is None else _end(end)),
            ("to answer", entry["next"]),
        ]
    )
    if "\n" in entry["text"]:
        screen.block(entry["text"])
    answers: Sequence[Data] = data.get("answers") or []
    if len(answers) > 1:
        screen.line()
        rows = [(each["at"], each["by"], _line(str(each["said"])), _line(each["note"])) for each in answers]
        screen.table(("ANSWERED", "ON NODE", "ANSWER", "NOTE"), rows, flexible="NOTE")
        screen.line("the run goes by the first that it met")
    footer(screen, data)


def _answer(answer: Data, *, too_late: bool) -> str:
    late = " (too late: the run does not go by it)" if too_late else ""
    note = f": {_line(answer['note'])}" if answer["note"] else ""
    return f"{_line(answer['said'])}, by {answer['by']} at {answer['at']}{note}{late}"


def _end(end: Data) -> str:
    match end["kind"]:
        case "taken":
            return f"{end['by']} says that its run goes by {_line(end['said'])!r} of {end['answered_by']} since {end['at']}"
        case "timeout":
            return f"{end['by']} says that nobody answered in time, at {end['at']}" + (f": its run goes by {_line(end['said'])!r}" if end["said"] else "")
        case _:
            return f"withdrawn by {end['by']} at {end['at']}" + (f": {_line(end['reason'])}" if end["reason"] else "")


def _line(text: str) -> str:
    return clean(" ".join(text.split()))
