"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.fleet import Fleet
from acceptance.small_disks import small_disk

__all__ = ["fleet", "small_disk"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Real nodes; all ended after the test."""
    made = Fleet(tmp_path)
    yield made
    made.end()
