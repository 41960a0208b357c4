"""A read of a running node imports little: counted in modules, because times depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, sys
before = set(sys.modules)
from fabrik_node.cli.main import run
status = run(None, sys.argv[1:])
print(json.dumps([status, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""
HEAVY = {
    "asyncio", "websockets", "nacl", "aiosqlite", "sqlite3", "psutil", "ssl", "subprocess", "concurrent", "logging", "multiprocessing",
    "hashlib", "http", "email", "traceback", "unittest", "fabrik_sync",
}  # fmt: skip
HEAVY_OURS = {"fabrik_node._core", "fabrik_node.app", "fabrik_node.ports", "fabrik_node.process", "fabrik_node.clock", "fabrik_node.ids"}


@pytest.mark.parametrize("argv", [["items", "list"], ["items", "list", "--json"], ["status"], ["runs", "list"], ["events"]], ids=" ".join)
def test_a_read_imports_nothing_heavy(service: Any, home: Any, argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "--home", str(home.home), *argv], capture_output=True, timeout=60, check=True)
    status, modules = json.loads(done.stderr)
    assert status == 0
    assert done.stdout
    assert HEAVY & {name.partition(".")[0] for name in modules} == set()
    assert HEAVY_OURS & set(modules) == set()
    rooms = {name.split(".")[1] for name in modules if name.startswith("fabrik_node.")}
    assert rooms == {"cli", "config", "domain", "errors", "paths"}
    assert {name for name in modules if name.startswith("fabrik_node.domain.")} <= {"fabrik_node.domain.leases", "fabrik_node.domain.runs"}
    assert not any(name in {f"fabrik_node.cli.{other}" for other in ("mesh", "tombstones", "lock")} for name in modules)
