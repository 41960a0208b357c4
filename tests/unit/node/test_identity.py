"""The key file: made once, read by its user only, never overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fabrik_node.errors import BrokenStore, NotInitialised
from fabrik_node.node.identity import create_key, load_key


@pytest.mark.promise("F1", "I22")
def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "identity" / "key"
    made = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_bytes()
    assert create_key(path).public == load_key(path).public == made.public
    assert path.read_bytes() == text
    path.chmod(0o644)
    assert load_key(path).public == made.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "a key that others could read is closed again"
    assert text.strip().decode() not in repr(made)


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"00" * 33, b"\xff" * 64])
def test_a_damaged_key_is_named_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity" / "key"
    path.parent.mkdir()
    path.write_bytes(content)
    for attempt in (load_key, create_key):
        with pytest.raises(BrokenStore, match="key file"):
            attempt(path)
    assert path.read_bytes() == content


def test_no_key_is_no_node(tmp_path: Path) -> None:
    with pytest.raises(NotInitialised):
        load_key(tmp_path / "identity" / "key")


@pytest.mark.promise("C14")
def test_a_crash_while_a_key_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "identity" / "key"

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.fsync", dies)
        create_key(path)
    assert not path.exists()
    made = create_key(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]
    assert load_key(path).public == made.public
