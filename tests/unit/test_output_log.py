"""A rotated log, read as one text."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabrik_node.output_log import LogChunk, log_parts, log_size, read_log


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "output.log"
    path.write_bytes(b"0123456789")
    (tmp_path / "output.log.0000000000000030").write_bytes(b"abcde")
    (tmp_path / "output.log.0000000000000035").write_bytes(b"fghij")
    (tmp_path / "output.log.old").write_bytes(b"not ours")
    return path


def test_offsets_run_through_all_parts(base: Path) -> None:
    assert [part.at for part in log_parts(base)] == [0, 30, 35]
    assert log_size(base) == 40
    assert read_log(base, 0, 100) == LogChunk(0, b"0123456789", 0, 40)
    assert read_log(base, 8, 100) == LogChunk(8, b"89", 0, 40)
    assert read_log(base, 10, 100) == LogChunk(30, b"abcde", 20, 40)
    assert read_log(base, 17, 2) == LogChunk(30, b"ab", 13, 40)
    assert read_log(base, 34, 100) == LogChunk(34, b"e", 0, 40)
    assert read_log(base, 35, 100) == LogChunk(35, b"fghij", 0, 40)
    assert read_log(base, 40, 100) == LogChunk(40, b"", 0, 40)
    assert read_log(base, 99, 100) == LogChunk(99, b"", 0, 40)


def test_a_part_that_is_rotated_away_meanwhile_is_left_out(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fabrik_node import output_log

    read = output_log._read

    def gone(path: Path, at: int, most: int) -> bytes:
        if path.name.endswith("30"):
            path.unlink(missing_ok=True)
        return read(path, at, most)

    monkeypatch.setattr(output_log, "_read", gone)
    assert read_log(base, 10, 100) == LogChunk(35, b"fghij", 25, 40)
    base.unlink()
    with pytest.raises(FileNotFoundError):
        read_log(base, 0, 1)
