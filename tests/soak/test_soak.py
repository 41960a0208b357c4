"""A small soak in each run of the tests: ``SOAK_SEED=7`` plays another one. The full one is ``make soak``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from soak.checker import check
from soak.play import Plan, Soak

SEED = int(os.environ.get("SOAK_SEED", "5"))


@pytest.mark.promise("J1", "I15", "C4", "I24")
def test_agents_that_are_killed_again_and_again_merge_each_item_once(tmp_path: Path) -> None:
    soak = Soak(Plan(agents=3, items=8, seed=SEED, kill_share=0.6, work_s=(0.2, 1.5), ttl_s=4.0), tmp_path, print)
    try:
        soak.run()
        wrong = check(soak)
        wrong += soak.end()
    finally:
        soak.abort()
    assert not wrong, f"seed {SEED}: {wrong}"
    assert soak.kills, f"seed {SEED} kills nobody"
