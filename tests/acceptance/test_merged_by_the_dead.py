"""A holder that pushed its merge and vanished before anybody heard of it: the item is closed by others, and not merged again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, environment, git, make_remote

from fabrik_node.git.origin import Origin
from fabrik_node.git.runner import GitRunner
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ArbiterReceipt, ClaimIntent


async def merge_and_vanish(folder: Path, remote: Path, item: str) -> str:
    """What a node does up to its atomic push, and nothing after it; the merge commit."""
    origin = Origin(GitRunner(environment()), folder / "git", str(remote), "main", folder / "work", random.Random(1))
    claim = show_id(new_id(1_795_000_000_000))
    receipt = await origin.cas(b"", ClaimIntent(item, claim, 1, "ab" * 32, 1000))
    assert isinstance(receipt, ArbiterReceipt)
    workspace = await origin.create(item, claim)
    (workspace.path / "work.txt").write_text("done\n")
    git(workspace.path, "add", ".")
    git(workspace.path, "commit", "-q", "-m", "work")
    await workspace.push()
    outcome = await workspace.merge(receipt.oid, "the item")
    assert outcome.kind == "merged"
    return outcome.merge_commit.hex()


@pytest.mark.promise("J1", "F12")
def test_an_item_whose_merge_nobody_announced_is_closed_without_a_second_merge(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "git")
    host = fleet.host()
    item = host.add("merged by a node that is gone")
    commit = asyncio.run(merge_and_vanish(tmp_path / "gone", remote, item))
    fleet.agent(host, "anna", "--remote", str(remote), "--command", "echo again > again.txt; git add .; git commit -qm again")
    host.await_stage(item, "Done")
    assert host.ask("items", "show", item)["item"]["stage_data"]["merge_commit"] == commit
    merges = git(remote, "log", "--format=%H", f"--grep=Fabrik-Item: {item}", "main").split()
    assert merges == [commit]
