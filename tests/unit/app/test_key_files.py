"""The key files that ``init`` makes and ``keys next`` puts elsewhere."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fabrik_node._core import Genesis, SigningKey, next_key
from fabrik_node.app.keyfiles import keep_next, key_files, seed_in
from fabrik_node.app.setup import init
from fabrik_node.errors import Conflict, NotFound, NotInitialised, Precondition, UsageError
from fabrik_node.paths import HomePaths


def genesis_of(home: Path) -> Genesis:
    return Genesis.decode((home / "identity" / "genesis.cbor").read_bytes())


def public_in(file: Path) -> bytes:
    return SigningKey.from_seed(bytes.fromhex(file.read_text())).public


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.promise("F8")
def test_a_new_mesh_commits_to_a_next_key_and_has_a_recovery_key(tmp_path: Path) -> None:
    home, paths = tmp_path / "home", HomePaths(tmp_path / "home")
    said = init(home, name="alpha", mesh="mesh")
    assert said["recovery_key"] == str(paths.recovery_key)
    genesis = genesis_of(home)
    assert genesis.next == next_key(public_in(paths.next_key))
    assert genesis.recovery == public_in(paths.recovery_key)
    assert len({public_in(file) for file in (paths.identity_key, paths.next_key, paths.recovery_key)}) == 3
    assert {mode(file) for file in (paths.identity_key, paths.next_key, paths.recovery_key)} == {0o600}
    assert key_files(home) == {"next_file": str(paths.next_key), "next_commitment": (genesis.next or b"").hex(), "recovery_file": str(paths.recovery_key)}


def test_the_recovery_key_goes_where_it_is_wanted_and_over_nothing(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir(mode=0o755)
    file = stick / "recovery.key"
    init(tmp_path / "home", name="alpha", mesh="mesh", recovery=file)
    assert genesis_of(tmp_path / "home").recovery == public_in(file)
    assert (mode(file), mode(stick)) == (0o600, 0o755), "the folder is somebody else's"
    assert not HomePaths(tmp_path / "home").recovery_key.exists()
    with pytest.raises(Conflict, match="is there already"):
        init(tmp_path / "other", name="beta", mesh="mesh", recovery=file)
    with pytest.raises(Precondition, match="can not be written"):
        init(tmp_path / "other", name="beta", mesh="mesh", recovery=tmp_path / "nowhere" / "recovery.key")
    init(tmp_path / "other", name="beta", mesh="mesh", recovery=stick / "other.key")


@pytest.mark.promise("F8")
def test_the_next_key_is_moved_to_another_medium(tmp_path: Path) -> None:
    home, paths = tmp_path / "home", HomePaths(tmp_path / "home")
    with pytest.raises(NotInitialised):
        keep_next(home, tmp_path / "next.key", move=True)
    init(home, name="alpha", mesh="mesh")
    text = paths.next_key.read_text()
    copied = keep_next(home, tmp_path / "copy.key", move=False)
    assert (tmp_path / "copy.key").read_text() == paths.next_key.read_text() == text
    for taken, error in ((tmp_path / "copy.key", Conflict), (tmp_path, Precondition), (tmp_path / "no" / "next.key", Precondition)):
        said = []
        for dry_run in (True, False):
            with pytest.raises(error) as refused:
                keep_next(home, taken, move=True, dry_run=dry_run)
            said.append((str(refused.value), refused.value.hint))
        assert said[0] == said[1]
        assert paths.next_key.read_text() == text, "a refusal leaves it where it was"
    tried = keep_next(home, tmp_path / "moved.key", move=True, dry_run=True)
    assert (tried["dry_run"], tried["moved"]) == (True, True)
    assert paths.next_key.exists()
    assert not (tmp_path / "moved.key").exists()
    moved = keep_next(home, tmp_path / "moved.key", move=True)
    assert (tmp_path / "moved.key").read_text() == text
    assert mode(tmp_path / "moved.key") == 0o600
    assert moved["commitment"] == copied["commitment"] == (genesis_of(home).next or b"").hex()
    assert key_files(home)["next_file"] is None
    with pytest.raises(NotFound, match="no next key"):
        keep_next(home, tmp_path / "again.key", move=True)


def test_what_is_no_key_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(NotFound, match="no key file"):
        seed_in(file)
    for text in ("", "zz", "ab" * 31, "ab" * 33, "é" * 64):
        file.write_text(text)
        with pytest.raises(UsageError, match="is no key file"):
            seed_in(file)
    file.write_text("ab" * 32 + "\n")
    assert seed_in(file) == "ab" * 32
