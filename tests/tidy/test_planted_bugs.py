"""The table of planted bugs follows the sources: what ``make seeded`` would refuse after minutes is seen here at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from seeded.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_the_place_of_a_planted_bug_is_there_once(bug: Bug) -> None:
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old) == 1
    assert bug.is_rust or all((ROOT / test.partition("::")[0]).exists() for test in bug.tests if test.startswith("tests/"))
