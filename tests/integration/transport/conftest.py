"""Fixtures of the tests of the transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from net_rig import Net
from node_rig import Rigs


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    """Nodes on real databases and real sockets."""
    rigs = Rigs(tmp_path)
    made = Net(rigs)
    yield made
    await made.close()
    await rigs.close()
