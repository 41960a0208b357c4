"""The demo is a promise to whoever tries the product first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_the_demo_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "demo" / "run.py")], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "SIGKILL" in done.stdout
    assert "WAS LOST" in done.stdout
    assert "WRONG" not in done.stdout
