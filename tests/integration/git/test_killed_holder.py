from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from integration.git.forge import Node, NodeFactory, Remote, fresh

from fabrik_node.git import AlreadyMerged, FencedMerge, Merged, MergeRequest, Worktree, fenced_merge, pause_from
from fabrik_node.ports import ArbiterReceipt, ArbiterTaken

HOLDER = Path(__file__).with_name("holder.py")


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"never happened: {what}")


async def start_holder(node: Node, remote: Remote, environ: dict[str, str], held: list[tuple[Worktree, bytes]]) -> asyncio.subprocess.Process:
    rows = [",".join((tree.item, tree.claim_id, oid.hex(), await tree.head_oid(), "")) for tree, oid in held]
    env = environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return await asyncio.create_subprocess_exec(sys.executable, str(HOLDER), str(node.home), str(remote.path), *rows, env=env, stdout=asyncio.subprocess.PIPE)


async def kill(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """SIGKILL to the holder alone; its git, in a session of its own, lives on. Returns what it leaves behind: nothing if it was done before."""
    left: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        left = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    await process.wait()
    return left


async def take_over(node: Node, tree: Worktree) -> FencedMerge | ArbiterTaken:
    """What another node does with the item of a lost holder."""
    current = await node.claims.read(tree.item)
    assert current is not None
    claim_id = fresh()
    receipt = await node.claim(tree.item, claim_id, bytes.fromhex(current.oid))
    if isinstance(receipt, ArbiterTaken):
        return receipt
    own = await node.work(tree.item, claim_id, {f"{tree.item}.txt": "second\n"})
    return await fenced_merge(
        node.repository, node.claims, MergeRequest(tree.item, claim_id, receipt.oid.hex(), await own.head_oid(), ""), pause_from(random.Random(2))
    )


async def claim_and_work(node: Node, count: int) -> list[tuple[Worktree, bytes]]:
    held = []
    for _ in range(count):
        item, claim_id = fresh(), fresh()
        receipt = await node.claim(item, claim_id)
        assert isinstance(receipt, ArbiterReceipt)
        held.append((await node.work(item, claim_id, {f"{item}.txt": "first\n"}), receipt.oid))
    return held


def assert_merged_once(remote: Remote, held: list[tuple[Worktree, bytes]]) -> None:
    assert [len(remote.merges(tree.item)) for tree, _ in held] == [1] * len(held)
    assert len(remote.merges()) == len(held)


@pytest.mark.promise("J1")
@pytest.mark.parametrize("seed", range(6))
async def test_a_holder_killed_in_a_push_loop_leaves_exactly_one_merge_per_item(
    make_node: NodeFactory, remote: Remote, environ: dict[str, str], seed: int
) -> None:
    """The moment of the kill is a number of lines that the holder printed and a number of turns of the loop, both from the seed."""
    rng = random.Random(seed)
    alice, bob = await make_node("alice"), await make_node("bob")
    held = await claim_and_work(alice, 3)
    holder = await start_holder(alice, remote, environ, held)
    assert holder.stdout is not None
    for _ in range(rng.randint(1, 5)):
        await holder.stdout.readline()
    for _ in range(rng.randint(0, 3000)):
        await asyncio.sleep(0)
    await kill(holder)
    # Some of its pushes may still be under way: the takeover does not wait for them.
    outcomes = [await take_over(bob, tree) for tree, _ in held]
    for outcome in outcomes:
        if isinstance(outcome, ArbiterTaken):
            assert outcome.state == "merged"
        else:
            assert isinstance(outcome, Merged | AlreadyMerged)
    assert_merged_once(remote, held)


def block_first_merge(remote: Remote) -> tuple[Path, Path]:
    """The remote stops inside the first push that moves the base, until the second file exists. Returns both files."""
    inside, go = remote.path / "inside", remote.path / "go"
    remote.hook("pre-receive", f"grep -q refs/heads/main && mkdir {inside} 2>/dev/null && while [ ! -e {go} ]; do sleep 0.02; done; exit 0")
    return inside, go


@pytest.mark.promise("J1")
async def test_a_push_of_a_dead_holder_that_arrives_after_the_takeover_is_refused(make_node: NodeFactory, remote: Remote, environ: dict[str, str]) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    held = await claim_and_work(alice, 1)
    inside, go = block_first_merge(remote)
    holder = await start_holder(alice, remote, environ, held)
    await until(inside.exists, "the push reached the remote")
    left = await kill(holder)
    assert any(process.is_running() for process in left)
    outcome = await take_over(bob, held[0][0])
    assert isinstance(outcome, Merged)
    after = remote.refs()
    go.touch()
    await until(lambda: not psutil.wait_procs(left, timeout=0)[1], "the dead holder's push ended")
    assert remote.refs() == after
    assert_merged_once(remote, held)
    assert remote.file(f"{held[0][0].item}.txt") == "second"


@pytest.mark.promise("J1")
async def test_a_push_of_a_dead_holder_that_lands_before_the_takeover_is_found(make_node: NodeFactory, remote: Remote, environ: dict[str, str]) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    held = await claim_and_work(alice, 1)
    inside, go = block_first_merge(remote)
    holder = await start_holder(alice, remote, environ, held)
    await until(inside.exists, "the push reached the remote")
    left = await kill(holder)
    go.touch()
    await until(lambda: not psutil.wait_procs(left, timeout=0)[1], "the dead holder's push ended")
    outcome = await take_over(bob, held[0][0])
    assert isinstance(outcome, ArbiterTaken)
    assert (outcome.state, outcome.merged.hex()) == ("merged", remote.ref("main"))
    assert_merged_once(remote, held)


async def test_a_takeover_during_the_merge_of_a_live_holder_stops_it(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    [(tree, oid)] = await claim_and_work(alice, 1)
    inside, go = block_first_merge(remote)
    request = MergeRequest(tree.item, tree.claim_id, oid.hex(), await tree.head_oid(), "")
    merging: Awaitable[FencedMerge] = asyncio.create_task(fenced_merge(alice.repository, alice.claims, request, pause_from(random.Random(3))))
    await until(inside.exists, "the push reached the remote")
    receipt = await bob.claim(tree.item, fresh(), oid)
    assert isinstance(receipt, ArbiterReceipt)
    before = remote.refs()
    go.touch()
    outcome = await merging
    assert type(outcome).__name__ == "ClaimSuperseded"
    assert remote.refs() == before
    assert remote.merges() == []
