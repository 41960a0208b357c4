"""What happens to homes: copied, restored from an older image, damaged. By the file system only, as an operator or a broken disk would do it."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from acceptance.fleet import Fleet, NodeProcess

__all__ = ["address", "copy_of", "fill", "flip_row", "image_of", "restore", "restore_in_place", "rows_of", "titles"]


def address(node: NodeProcess) -> str:
    """``HOST:PORT`` at which it listened, to listen there again."""
    return node.url.removeprefix("wss://").removesuffix("/crdt-sync")


def image_of(node: NodeProcess, folder: Path) -> Path:
    """A copy of a stopped home, like a backup."""
    assert not node.runs
    shutil.copytree(node.home, folder)
    return folder


def fill(node: NodeProcess, name: str, count: int) -> None:
    """Items ``name 0``, ``name 1`` ... of a running node, many in one transaction."""
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: node.call("items.add", title=f"{name} {number}"), range(count)))


def restore(node: NodeProcess, image: Path) -> None:
    """Put an older copy of the home in its place."""
    shutil.rmtree(node.home)
    shutil.copytree(image, node.home)


def restore_in_place(node: NodeProcess, image: Path) -> None:
    """The bytes of an older copy in the same files: what a disk image that was put back looks like from above, so no mark of the home shows it."""
    for old in sorted(image.rglob("*")):
        now = node.home / old.relative_to(image)
        if old.is_file():
            with now.open("r+b") as file:
                file.write(old.read_bytes())
                file.truncate()
    for now in sorted(node.home.rglob("*")):
        if now.is_file() and not (image / now.relative_to(node.home)).exists():
            now.unlink()


def copy_of(fleet: Fleet, node: NodeProcess, name: str) -> NodeProcess:
    """A second home with the same content; ``node`` is stopped."""
    assert not node.runs
    copy = NodeProcess(fleet.folder / name, name)
    shutil.copytree(node.home, copy.home, ignore=shutil.ignore_patterns("run"))  # a killed node leaves its socket
    fleet.nodes.append(copy)
    return copy


def rows_of(node: NodeProcess, author: str) -> list[tuple[int, int, int]]:
    """``(pos, first_seq, last_seq)`` of the stored rows of an author's logs, in order."""
    with closing(sqlite3.connect(node.home / "store" / "fabrik.db")) as connection:
        found = connection.execute(
            "SELECT s.pos, s.first_seq, s.last_seq FROM segments s JOIN branches b ON b.id = s.branch WHERE b.author = ? ORDER BY s.pos",
            (bytes.fromhex(author),),
        )
        return [(int(pos), int(first), int(last)) for pos, first, last in found]


def flip_row(node: NodeProcess, pos: int) -> None:
    """One bit of a stored row of a stopped node, in the middle of it."""
    assert not node.runs
    with closing(sqlite3.connect(node.home / "store" / "fabrik.db")) as connection:
        data = bytearray(connection.execute("SELECT data FROM segments WHERE pos = ?", (pos,)).fetchone()[0])
        data[len(data) // 2] ^= 1
        connection.execute("UPDATE segments SET data = ? WHERE pos = ?", (bytes(data), pos))
        connection.commit()


def titles(node: NodeProcess) -> set[str]:
    """Of all items that a running node has."""
    return {entry["title"] for entry in node.call("items.list")["items"]}
