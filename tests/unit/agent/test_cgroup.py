"""Control groups: where they may be made, what is in them, and what is said when there are none. The kernel's files are played by a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabrik_node.agent.cgroup import Cgroups, RunGroup, find_cgroups

MOUNTS = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n41 31 0:38 / {mount} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"


def fake(folder: Path, own: str = "/system.slice/fabrik.service", *, procs: bool = True) -> tuple[Path, Path]:
    """A mounted hierarchy, and a ``/proc/self`` that lives in ``own``."""
    mount, proc = folder / "mount", folder / "proc"
    group = mount / own.lstrip("/")
    group.mkdir(parents=True)
    if procs:
        (group / "cgroup.procs").write_text("1\n")
    proc.mkdir()
    (proc / "mountinfo").write_text(MOUNTS.format(mount=mount))
    (proc / "cgroup").write_text(f"4:memory:/elsewhere\n0::{own}\n")
    return group, proc


def test_the_groups_of_a_home_are_below_the_group_of_its_node(tmp_path: Path) -> None:
    group, proc = fake(tmp_path)
    found = find_cgroups("auto", tmp_path / "home", proc=proc)
    assert (found.root, found.why) == (group, "")
    assert str(group) in found.line
    assert sorted(path.name for path in group.iterdir()) == ["cgroup.procs"], "nothing is left of the look"
    other = find_cgroups("auto", tmp_path / "other", proc=proc)
    opened, problem = found.open("01abc")
    assert (problem, found.find("01abc") is not None, found.find("01abd")) == ("", True, None)
    assert opened is not None
    assert [each.path for each in found.left()] == [opened.path]
    assert other.left() == [], "another home's are its own business"


def test_another_folder_at_the_same_path_has_groups_of_its_own(tmp_path: Path) -> None:
    _, proc = fake(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    first = find_cgroups("auto", home, proc=proc)
    assert find_cgroups("auto", home, proc=proc).prefix == first.prefix
    opened, _ = first.open("01")
    assert opened is not None
    home.rename(tmp_path / "elsewhere")
    home.mkdir()
    assert find_cgroups("auto", home, proc=proc).left() == [], "as of two containers that share a group"


def test_looking_switches_nothing_on_and_the_first_run_does(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    control = tmp_path / "cgroup.subtree_control"
    control.touch()
    found = find_cgroups(str(tmp_path), tmp_path / "home", memory_bytes=5_000_000)
    assert (found.root, control.read_text()) == (tmp_path, "")
    found.open("01")
    assert control.read_text() == "+pids", "each is a write of its own, and a folder keeps the last"
    control.write_text("")
    Cgroups(tmp_path).open("02")
    assert control.read_text() == ""


def test_where_none_can_be_made_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    _, proc = fake(tmp_path, procs=False)
    assert "is no control group" in find_cgroups("auto", home, proc=proc).why
    assert "is no control group" in find_cgroups(str(tmp_path), home, proc=proc).why
    assert "[agent] cgroup is off" in find_cgroups("off", home, proc=proc).line
    (proc / "cgroup").write_text("0::/../other\n")
    assert "in no group" in find_cgroups("auto", home, proc=proc).why
    (proc / "mountinfo").write_text("")
    assert "version 2 is mounted" in find_cgroups("auto", home, proc=proc).why
    delegated = tmp_path / "delegated"
    delegated.mkdir()
    (delegated / "cgroup.procs").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "was not delegated" in find_cgroups(str(delegated), home).why
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Linux only" in find_cgroups("auto", home, proc=proc).why


def test_without_a_group_limits_are_said_to_be_missing() -> None:
    assert Cgroups(None, "off").open("01") == (None, "")
    assert Cgroups(None, "off", memory_bytes=1).open("01") == (None, "memory and processes are not bounded: off")


def test_limits_are_written_where_the_kernel_has_a_file_for_them(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path, memory_bytes=5_000_000, processes=9)
    group, problem = groups.open("01")
    assert group is not None
    assert problem == "", "a folder takes any file"
    assert {path.name: path.read_text() for path in group.path.iterdir()} == {"memory.max": "5000000", "memory.swap.max": "0", "pids.max": "9"}
    (group.path / "memory.max").unlink()
    (group.path / "memory.max").mkdir()
    assert groups.open("01")[1].startswith("memory.max: ")
    assert Cgroups(tmp_path / "gone").open("01")[1].startswith("no control group")


async def test_members_are_found_below_and_an_empty_group_is_removed(tmp_path: Path) -> None:
    group = RunGroup(tmp_path / "run")
    assert group.members() == []
    below = group.path / "made" / "by a command"
    below.mkdir(parents=True)
    (group.path / "cgroup.procs").write_text("12\n7\n")
    (below / "cgroup.procs").write_text("30\n")
    assert group.members() == [7, 12, 30]
    (group.path / "cgroup.kill").touch()
    group.kill()
    assert (group.path / "cgroup.kill").read_text() == "1"
    for file in (group.path / "cgroup.procs", below / "cgroup.procs", group.path / "cgroup.kill"):
        file.unlink()  # a kernel's files are no obstacle to rmdir(2)
    assert await group.end() == []
    assert not group.path.exists()
    assert await group.end() == [], "it is gone already"
