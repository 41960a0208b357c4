"""The log of the shim: what stays of too much output, and a disk that takes nothing more."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fabrik_node.agent import shim
from fabrik_node.output_log import log_parts, log_size, read_log


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "output.log"
    monkeypatch.setattr(shim, "LOG_FD", os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    return path


def whole(base: Path) -> tuple[bytes, int]:
    """What is left of the log, and how much is not."""
    text, gone, offset = b"", 0, 0
    while (chunk := read_log(base, offset, 7)).data:
        text, gone, offset = text + chunk.data, gone + chunk.left_out, chunk.at + len(chunk.data)
    return text, gone


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 99, 100, 101, 112, 113, 500, 12_345])
@pytest.mark.parametrize("step", [1, 13, 1000])
def test_the_beginning_and_the_end_stay_and_all_of_what_fits(base: Path, count: int, step: int) -> None:
    text = b"".join(b"%04d," % number for number in range(count // 5 + 1))[:count]
    log = shim.Log(100, str(base), 0)
    for at in range(0, count, step):
        log.write(text[at : at + step])
    kept, gone = whole(base)
    assert len(kept) + gone == count == log_size(base)
    assert len(kept) <= 100
    assert log.error == ""
    if count <= 100:
        assert (kept, gone) == (text, 0)
    else:
        assert kept.startswith(text[:52])
        assert kept.endswith(text[-36:])
        assert len(log_parts(base)) == 5


def test_the_next_command_goes_on_where_the_log_ends(base: Path) -> None:
    shim.Log(80, str(base), 0).write(b"a" * 500)
    newest = log_parts(base)[-1]
    shim.LOG_FD = os.open(newest.path, os.O_WRONLY | os.O_APPEND)
    log = shim.Log(16, str(base), newest.end)
    log.write(b"b" * 40)
    kept, gone = whole(base)
    assert kept.lstrip(b"a")[:8] == b"b" * 8
    assert kept.endswith(b"b" * 8)
    assert len(kept) + gone == 540
    assert kept.count(b"a") > 70, "its own parts rotate, never those of the command before"


def test_a_full_disk_loses_output_and_never_the_command(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = shim.Log(400, str(base), 0)
    log.write(b"a" * 150)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        log.write(b"b" * 10)
    assert log.error == "No space left on device"
    log.write(b"c" * 10)
    assert base.read_bytes() == b"a" * 150, "a log with a hole in it would be a lie"
