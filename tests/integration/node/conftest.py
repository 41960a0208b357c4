"""Fixtures of the tests of whole nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_rig import Rigs


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Rigs]:
    """Nodes on real databases; all closed after the test."""
    made = Rigs(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def memory_rigs() -> AsyncIterator[Rigs]:
    """Nodes on stores in memory."""
    made = Rigs()
    yield made
    await made.close()
