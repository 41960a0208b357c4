"""Pages of ``ops``."""

from __future__ import annotations

from fabrik_node.cli.render_page import Data, footer, value
from fabrik_node.cli.table import Screen, clean, short_ids
from fabrik_node.ids import fingerprint

__all__ = ["checked", "forks", "proven"]

_DIGEST_CHARS = 12


def proven(screen: Screen, data: Data) -> None:
    """``ops verify``: who wrote what, and when the author's clock said so."""
    author = bytes.fromhex(data["author"])
    log = [("mesh", data["mesh"]), ("author", f"{data['author']} ({fingerprint(author)})")]
    if data["proof"] == "fork":
        screen.line(f"the proof holds: this author signed two different histories of one log, at op {data['seq']} or before", "bold")
        screen.fields([*log, ("log", f"epoch {data['epoch']}")])
        return
    from fabrik_node.clock import iso

    screen.line("the proof holds: this author signed this op", "bold")
    screen.fields(
        [
            *log,
            ("op", data["digest"]),
            ("place", f"epoch {data['epoch']}, op {data['seq']}, lamport {data['lamport']}"),
            ("written at", f"{iso(data['wall_ms'])}, by the author's own clock"),
            *((f"write {number}", _write(write)) for number, write in enumerate(data["writes"], 1)),
        ]
    )


def _write(write: Data) -> str:
    fence = f" under claim {write['fence']['claim_id']}" if "fence" in write else ""
    return f"{write['kind']} {write['id']} {write['field']} = {value(write['value'])}{fence}"


def forks(screen: Screen, data: Data) -> None:
    """``ops forks``."""
    short = short_ids([fork["id"] for fork in data["forks"]], at_least=_DIGEST_CHARS)
    rows = [(short[fork["id"]], fork["at"], fork["name"], fork["author"][:16], fork["epoch"], fork["seq"]) for fork in data["forks"]]
    screen.table(("ID", "SEEN", "BY", "KEY", "EPOCH", "OP"), rows, empty="no log has two histories")
    footer(screen, data)


def checked(screen: Screen, data: Data) -> None:
    """``ops check``: one line per row that is not as it should be, and a summary."""
    for row in data["damaged"]:
        screen.line(f"damaged    {_row(row)}", "red")
    for row in data["aside"]:
        screen.line(f"set aside  {_row(row)}", "yellow")
    bad = len(data["damaged"]) + len(data["aside"])
    screen.line(f"{data['rows']} rows, {data['ops']} ops, {data['bytes']} bytes read: {'all sound' if data['sound'] else f'{bad} not sound'}", "bold")
    if data["next"]:
        screen.line(clean(data["next"]))
    footer(screen, data)


def _row(row: Data) -> str:
    branch = f" branch {row['branch']}" if row["branch"] else ""
    return clean(
        f"row {row['row']}: ops {row['first_seq']} to {row['last_seq']} of {row['name']} ({row['author'][:16]}) epoch {row['epoch']}{branch}: {row['why']}"
    )
