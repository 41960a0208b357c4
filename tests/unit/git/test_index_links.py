"""A command owns the folder of its index: what it puts in the place of it is not followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabrik_node.git.index_swap import copy_index, swap_index


@pytest.mark.promise("A8")
async def test_a_link_in_the_place_of_an_index_is_neither_copied_nor_written_through(tmp_path: Path) -> None:
    secret, index, own = tmp_path / "key", tmp_path / "index", tmp_path / "own"
    secret.write_text("secret")
    index.symlink_to(secret)
    seen = copy_index(index, own)
    assert seen is None
    assert not own.exists()
    own.write_text("made anew")
    assert await swap_index(own, index, seen)
    assert (secret.read_text(), index.read_text(), index.is_symlink()) == ("secret", "made anew", False)


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index")
    assert copy_index(tmp_path / "index", tmp_path / "own") is None
