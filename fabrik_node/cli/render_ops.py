"""Pages of ``ops``."""

from __future__ import annotations

from fabrik_node.cli.render_page import Data, value
from fabrik_node.cli.table import Screen
from fabrik_node.ids import fingerprint

__all__ = ["proven"]


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
