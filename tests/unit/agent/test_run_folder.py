from __future__ import annotations

from pathlib import Path

import pytest

from fabrik_node.agent.folder import RunFolder, one_line
from fabrik_node.domain.stages import Backlog
from fabrik_node.paths import HomePaths
from fabrik_node.ports import ItemView


def test_no_two_runs_share_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(HomePaths(tmp_path), b"r" * 16)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        RunFolder(HomePaths(tmp_path), b"r" * 16)


def test_output_and_only_output_is_progress(tmp_path: Path) -> None:
    folder = RunFolder(HomePaths(tmp_path), b"r" * 16)
    before = folder.mark()
    assert folder.mark() == before
    folder.say("something")
    assert folder.mark() != before
    folder.log.unlink()
    assert folder.mark() == (0, 0)


@pytest.mark.parametrize("title", ["", "a\0b\x1b[31mc", "\u2028line", "ok"])
def test_a_title_of_any_kind_becomes_one_clean_line(tmp_path: Path, title: str) -> None:
    assert one_line(title).isprintable()
    assert "\0" not in one_line(title)
    folder = RunFolder(HomePaths(tmp_path), b"r" * 16)
    folder.write_prompt(ItemView(b"i" * 16, title, "Body\n", Backlog(), (), 0, (), 0, 0, None, None, None))
    assert folder.prompt.read_text(encoding="utf-8").endswith("\n\nBody\n")
