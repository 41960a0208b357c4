from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_rig import AgentRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[AgentRig]:
    made = AgentRig(tmp_path)
    yield made
    made.close()
