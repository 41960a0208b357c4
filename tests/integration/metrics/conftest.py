"""Fixtures of the tests of the metrics endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from net_rig import Net
from node_rig import Rigs


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    """Nodes on real databases and real sockets."""
    made = Net(Rigs(tmp_path))
    yield made
    await made.close()
    await made.rigs.close()
