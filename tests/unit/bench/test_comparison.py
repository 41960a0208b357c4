"""The comparison with other libraries measures one workload: every library ends with the same values. Small, and no look at its figures."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PEERS = ROOT / "tests/bench/peers"
OTHERS = ROOT / ".venv/peers/bin/python"


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"peers_{name}", PEERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def _run(python: str, *systems: str) -> dict[str, dict[str, dict[str, Any]]]:
    command = [python, str(PEERS / "compare.py"), "--writes", "1000", "--json", "--limit", "30", "--systems", *systems]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(done.stdout)["1000"]
    return found


def _all_right(found: dict[str, dict[str, dict[str, Any]]], *systems: str) -> None:
    assert set(found) == set(systems)
    for name, cells in found.items():
        assert cells["bulk"]["right"], name
        if "each" in cells:
            assert cells["each"]["right"], name
            assert cells["write"]["done"] == cells["each"]["done"] == 1000


def test_the_workload_is_what_it_says() -> None:
    changes = _module("changes")
    work = changes.make_changes(20_000, 3)
    assert work == changes.make_changes(20_000, 3) != changes.make_changes(20_000, 4)
    hot = sum(item < changes.ITEMS // 20 for item, _, _ in work.writes)
    assert 0.28 < hot / len(work.writes) < 0.32
    assert {field for _, field, _ in work.writes} == set(range(8))
    turns = list(work.turns())
    assert [row for _, writes in turns for row in writes] == work.writes
    assert [author for author, _ in turns] == [*range(8), *range(8)]
    assert changes.make_changes(1_000, 3).digest == "7357e413c786f712ac9c725f91fa28f47094c409527216cbbb2cacc36ab3e7b9"


def test_this_core_ends_with_the_workloads_values() -> None:
    systems = ("fabrik", "fabrik-one-by-one", "fabrik-snapshot")
    _all_right(_run(sys.executable, *systems), *systems)


@pytest.mark.skipif(not OTHERS.exists(), reason="the other libraries are not installed: make bench-peers WRITES=1000")
@pytest.mark.parametrize("systems", [("pycrdt",), ("loro", "loro-updates"), ("automerge",)], ids=lambda systems: systems[0])
def test_every_library_ends_with_the_workloads_values(systems: tuple[str, ...]) -> None:
    _all_right(_run(str(OTHERS), *systems), *systems)
