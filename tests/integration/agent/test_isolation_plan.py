"""What a plan covers and shows, before any kernel is asked to do it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabrik_node.agent import isolation as isolation_module
from fabrik_node.agent.isolate import Plan
from fabrik_node.agent.isolation import Isolation, other_ways_to, trial
from fabrik_node.config import AgentConfig
from fabrik_node.paths import HomePaths

ELSEWHERE = """
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 8:1 /data /mnt/data rw - ext4 /dev/sda1 rw
31 22 8:1 /data/home /srv/with\\040space rw - ext4 /dev/sda1 rw
32 22 8:2 / /data/home/work rw - ext4 /dev/sdb1 rw
33 22 8:2 / /mnt/disk rw - ext4 /dev/sdb1 rw
34 22 8:2 /other /mnt/part rw - ext4 /dev/sdb1 rw
35 22 8:3 /data/home /mnt/unlike rw - ext4 /dev/sdc1 rw
"""


def test_other_mounts_of_the_same_files_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda _: True)
    found = other_ways_to(Path("/data/home"), ELSEWHERE.strip())
    assert found == ["/mnt/data/home", "/mnt/disk", "/mnt/part", "/srv/with space"]
    assert other_ways_to(Path("/nowhere"), "") == []


def test_the_settings_are_taken_as_they_are() -> None:
    assert Isolation(on=False, paths=HomePaths(Path("/h"))).plan(Path("/h/work/x"), item="i", claim="c", run="r") == []
    assert AgentConfig().isolation == "off"


def test_a_mount_in_a_folder_that_is_closed_to_us_is_none_of_a_command_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: object, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, closed)
    found = other_ways_to(Path("/data/home"), ELSEWHERE.strip())
    monkeypatch.undo()
    assert found == []


def test_what_keeps_the_trial_from_looking_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", "/proc/self/mountinfo")

    monkeypatch.setattr(isolation_module, "other_ways_to", fail)
    monkeypatch.setattr("sys.platform", "linux")
    said = trial(Isolation(on=True, paths=HomePaths(tmp_path)))
    assert "this host can not isolate commands: [Errno 13] Permission denied: '/proc/self/mountinfo'" in said


def repository(home: Path) -> Path:
    folder = home / "git/git/r.git"
    for path in (folder / "worktrees/mine", folder / "objects", folder / "refs/heads/fabrik/item", folder / "logs/refs/heads/fabrik/item", home / "work/mine"):
        path.mkdir(parents=True)
    return folder


def plan(home: Path) -> Plan:
    return Plan.parse(Isolation(on=True, paths=HomePaths(home)).plan(home / "work/mine", item="item", claim="mine", run="run"))


@pytest.mark.promise("A8")
@pytest.mark.parametrize("file", ["refs/heads/fabrik/item/.fabrik", "logs/refs/heads/fabrik/item/.fabrik", "worktrees/mine/config.worktree"])
def test_a_link_in_the_place_of_a_file_makes_none_where_it_leads(tmp_path: Path, file: str) -> None:
    home = tmp_path / "home"
    folder, elsewhere = repository(home), tmp_path / "elsewhere"
    (folder / file).symlink_to(elsewhere)
    plan(home)
    assert not elsewhere.exists()
    assert (folder / file).is_file()
    assert not (folder / file).is_symlink()


@pytest.mark.promise("A8")
@pytest.mark.parametrize("name", ["refs/heads/fabrik/item", "logs/refs/heads/fabrik", "objects/info"])
def test_a_link_in_the_place_of_a_folder_is_an_error(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    folder, elsewhere = repository(home), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (folder / name).exists():
        (folder / name).rename(tmp_path / "was")
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(OSError, match="a link is in the way"):
        plan(home)
    assert not list(elsewhere.iterdir())


def test_a_git_folder_on_another_disk_is_shown_as_ever(tmp_path: Path) -> None:
    home = tmp_path / "home"
    repository(home)
    (home / "git").rename(tmp_path / "disk")
    (home / "git").symlink_to(tmp_path / "disk")
    assert ("write", f"{home}/git/git/r.git/objects") in plan(home).steps


def test_the_line_for_people_is_true(tmp_path: Path) -> None:
    line = Isolation(on=True, paths=HomePaths(tmp_path), network=False).line
    assert line.startswith("of this node's files commands see their own worktree and the commits of other runs; no network (isolation on")
