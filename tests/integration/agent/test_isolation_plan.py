"""What a plan covers and shows, before any kernel is asked to do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabrik_node.agent.isolation import Isolation, other_ways_to
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
    monkeypatch.setattr(Path, "exists", lambda _: True)
    found = other_ways_to(Path("/data/home"), ELSEWHERE.strip())
    assert found == ["/mnt/data/home", "/mnt/disk", "/mnt/part", "/srv/with space"]
    assert other_ways_to(Path("/nowhere"), "") == []


def test_the_settings_are_taken_as_they_are() -> None:
    assert Isolation(on=False, paths=HomePaths(Path("/h"))).plan(Path("/h/work/x"), item="i", claim="c", run="r") == []
    assert AgentConfig().isolation == "off"
