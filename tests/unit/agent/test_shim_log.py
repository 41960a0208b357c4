"""The log of the shim on a disk that takes nothing more."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fabrik_node.agent import shim


def test_a_full_disk_loses_output_and_never_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    touched: list[int] = []

    def full(descriptor: int) -> None:
        touched.append(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shim, "LOG_FD", log)
    monkeypatch.setattr(os, "utime", full)
    kept = shim.Log(400)
    kept.write(b"a" * 350)
    assert touched == [log]
    kept.finish()
    assert kept.error == ""
    assert (tmp_path / "log").read_bytes() == b"a" * 350, "there was space again at the end"
    os.close(log)
