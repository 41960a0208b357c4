"""The mark of a home: the same over restarts and writes, another for every copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fabrik_node.app.home_mark import differs, home_mark


@pytest.mark.promise("I9")
def test_a_copy_has_another_mark(tmp_path: Path) -> None:
    database = tmp_path / "home" / "fabrik.db"
    database.parent.mkdir()
    database.write_bytes(b"one")
    mark = home_mark(database)
    with database.open("ab") as file:
        file.write(b"more")
    os.utime(database, (1, 1))
    assert home_mark(database) == mark
    (tmp_path / "home").rename(tmp_path / "moved")
    assert home_mark(tmp_path / "moved" / "fabrik.db") == mark, "a home may be moved"
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    copied = home_mark(tmp_path / "copy" / "fabrik.db")
    assert "database file" in differs(mark, copied)
    shutil.rmtree(tmp_path / "moved")
    shutil.copytree(tmp_path / "copy", tmp_path / "moved")
    assert differs(copied, home_mark(tmp_path / "moved" / "fabrik.db"))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("m:1:2", "m:1:2", ""),
        ("m:1:2", "n:1:2", "another machine"),
        ("m:1:2", "m:3:2", "database file"),
        ("m:1:2", "m:1:9", "database file"),
        ("an older form", "m:1:2", ""),
    ],
)
def test_what_is_said_of_a_difference(before: str, now: str, said: str) -> None:
    assert (said in differs(before, now)) if said else not differs(before, now)
