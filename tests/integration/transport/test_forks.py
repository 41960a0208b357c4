"""Forked logs between real nodes over real sockets: every branch, in any delivery, to every node, for a bounded number of questions."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from random import Random

import pytest
from fabrik_twin.author import Author
from fabrik_twin.op import Key
from net_rig import Net, are_level, are_quiet
from node_rig import NodeRig, eventually, sync

from fabrik_node.domain.schema import ItemField, Kind, MemberField, Role
from fabrik_node.ids import new_id
from fabrik_node.transport.mesh import Mesh

EPOCH = 9
ITEM = new_id(3)


def author(net: Net) -> Author:
    """A log of node 5, which takes no part."""
    return Author(net.rigs.genesis, Key(bytes([6]) * 32), epoch=EPOCH)


def branch(net: Net, of: Author | None, upto: int, count: int, word: str) -> Author:
    """A log that goes on in its own way behind the first ``upto`` ops of another."""
    log = author(net)
    if of is not None:
        log.bodies, log.clock = of.bodies[:upto], upto
    for n in range(count):
        log.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), f"{word} {n}", None))
    return log


def asked(*meshes: Mesh) -> int:
    """WANTs with places, all in all."""
    return sum(session.counters.wants_with_places_out for mesh in meshes for session in mesh._hub.sessions)


def segments_moved(*meshes: Mesh) -> int:
    return sum(session.counters.segments_out for mesh in meshes for session in mesh._hub.sessions)


def heads(rig: NodeRig, log: Author) -> set[tuple[int, bytes]]:
    return {(head.seq, head.head) for head in rig.node.heads_of(log.key.public, log.epoch)}


async def line(net: Net, count: int) -> tuple[list[NodeRig], list[Mesh], list[str]]:
    """Nodes that know the members, each with its mesh and URL."""
    found = [await net.listening(number) for number in range(count)]
    rigs = [rig for rig, _, _ in found]
    await sync(*rigs)
    return rigs, [mesh for _, mesh, _ in found], [url for _, _, url in found]


@pytest.mark.promise("I10")
@pytest.mark.parametrize(("common", "left", "right"), [(10, 5, 5), (10, 3, 400), (10, 400, 3), (0, 1, 1), (300, 1, 1)])
async def test_two_branches_become_one_state_whatever_their_lengths(net: Net, common: int, left: int, right: int) -> None:
    rigs, meshes, urls = await line(net, 2)
    trunk = branch(net, None, 0, common, "common")
    branches = [branch(net, trunk, common, count, word) for count, word in ((left, "left"), (right, "right"))]
    for rig, log in zip(rigs, branches, strict=True):
        await rig.node.ingest(log.split([7, common, common + 2]), log.key.public)
    meshes[1].dial(urls[0])
    await are_level(*rigs)
    assert heads(rigs[0], trunk) == heads(rigs[1], trunk)
    assert sorted(seq for seq, _ in heads(rigs[0], trunk)) == sorted([common + left, common + right])
    assert asked(*meshes) <= 3
    status = await rigs[0].call("status")
    assert [fork["branches"] for fork in status["forks"]] == [2]


@pytest.mark.promise("I10")
@pytest.mark.parametrize("seed", range(4))
async def test_forks_of_forks_reach_every_node_of_a_ring(net: Net, seed: int) -> None:
    random = Random(seed)
    rigs, meshes, urls = await line(net, 4)
    logs = [branch(net, None, 0, 12, "trunk")]
    for number in range(9):
        of = random.choice(logs)
        logs.append(branch(net, of, random.randint(0, len(of.bodies)), random.randint(1, 9), f"branch {number}"))
    for log in logs:
        for rig in random.sample(rigs, random.randint(1, 2)):
            await rig.node.ingest(log.split([random.randint(1, len(log.bodies)) for _ in range(3)]), log.key.public)
    for number, mesh in enumerate(meshes):
        mesh.dial(urls[(number + 1) % 4])
    await are_level(*rigs)
    assert len({frozenset(heads(rig, logs[0])) for rig in rigs}) == 1
    live = random.choice(logs)  # and one of them goes on while all are connected
    for _ in range(5):
        live.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), "live", None))
        await random.choice(rigs).node.ingest([live.segment(len(live.bodies), len(live.bodies))], live.key.public)
        await are_level(*rigs)
    assert asked(*meshes) <= 2 * 2 * 4, "two for each end of a connection"


@pytest.mark.promise("I10")
async def test_too_many_heads_suspend_a_log_on_every_node_and_then_it_is_quiet(net: Net) -> None:
    rigs, meshes, urls = await line(net, 3)
    trunk = branch(net, None, 0, 3, "trunk")
    log = (trunk.key.public, EPOCH)
    for number in range(80):
        rig = rigs[0] if number < 40 else rigs[2]
        await rig.node.ingest(branch(net, trunk, 2, 1, f"branch {number}").split([]), trunk.key.public)
    assert not any(rig.node.suspended() for rig in rigs)
    meshes[1].dial(urls[0])
    meshes[2].dial(urls[1])
    await eventually(lambda: all(log in rig.node.suspended() for rig in rigs), "suspended everywhere")
    await are_level(*rigs)
    await are_quiet(*meshes)
    assert rigs[0].node.replica.row(Kind.ITEM, ITEM) == {}, "nothing of it has an effect"
    questions, moved = asked(*meshes), segments_moved(*meshes)
    assert questions <= 8
    await rigs[1].node.ingest(branch(net, trunk, 2, 2, "one more").split([]), trunk.key.public)
    await rigs[1].add("others go on")
    await are_level(*rigs)
    assert asked(*meshes) == questions
    assert segments_moved(*meshes) <= moved + 2 * 2 * 2, "the item's op on each connection, and perhaps the answer"


@pytest.mark.promise("I10")
async def test_the_admins_log_keeps_its_effect_on_every_node_however_many_heads_it_has(net: Net) -> None:
    (*rigs, late_rig), (*meshes, late_mesh), urls = await line(net, 4)
    admin, stranger = Key(bytes([1]) * 32), Key(bytes([8]) * 32)
    trunk = Author(net.rigs.genesis, admin, epoch=EPOCH)
    for n in range(3):
        trunk.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), f"trunk {n}", None))
    twigs = []
    for number in range(110):
        twig = trunk.branch(2)
        twig.op((int(Kind.ITEM), ITEM, int(ItemField.PRIORITY), number, None))
        if number == 100:
            twig.op((int(Kind.MEMBER), stranger.public, int(MemberField.RECORD), {1: int(Role.AGENT)}, None))
        twigs.append(twig.segment(1, len(twig.bodies)))
    for rig, part in ((rigs[0], twigs[:70]), (rigs[2], twigs[40:])):
        await rig.node.ingest([trunk.segment(1, 3)], admin.public)
        for data in part:
            await rig.node.ingest([data], admin.public)
    meshes[1].dial(urls[0])
    meshes[2].dial(urls[1])
    await are_level(*rigs)
    assert [len(heads(rig, trunk)) for rig in rigs] == [111] * 3
    assert len({rig.node.replica.marker(admin.public, EPOCH) for rig in rigs}) == 1
    await are_quiet(*meshes)
    assert not any(rig.node.suspended() for rig in rigs)
    questions = asked(*meshes)
    assert questions <= 8
    work = Author(net.rigs.genesis, stranger)
    work.op((int(Kind.ITEM), new_id(4), int(ItemField.TITLE), "of one whom a twig admits", None))
    await rigs[0].node.ingest([work.segment(1, 1)], stranger.public)
    late = trunk.branch(1)
    late.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), "one more head", None))
    await rigs[2].node.ingest([late.segment(1, 2)], admin.public)
    await are_level(*rigs)
    assert [len(heads(rig, trunk)) for rig in rigs] == [112] * 3
    assert all("of one whom a twig admits" in {view.title for view in rig.node.board.items()} for rig in rigs)
    assert asked(*meshes) == questions
    late_mesh.dial(urls[2])
    await are_level(*rigs, late_rig)
    await are_quiet(late_mesh)


@pytest.mark.promise("I10")
async def test_a_home_and_its_copy_write_on_over_one_hub_and_everybody_has_all(net: Net, tmp_path: Path) -> None:
    hub, _, url = await net.listening(0)
    one = await net.rigs.open(1)
    await sync(hub, one)
    await one.add("before the copy")
    await one.stop()
    await one.node.store.close()
    net.rigs.rigs.remove(one)
    net.rigs.keys[6] = net.rigs.keys[1]
    shutil.copy(tmp_path / "1.db", tmp_path / "6.db")
    one, copy = await net.rigs.open(1), await net.rigs.open(6)
    await asyncio.gather(one.add("in the home"), copy.add("in the copy"))  # apart: two ops for one place
    meshes = [(await net.up(number, rig=rig))[1] for number, rig in ((1, one), (6, copy))]
    for mesh in meshes:
        mesh.dial(url)
        assert await mesh.first_sync(url) is None
    await are_level(hub, one, copy)
    for turn in range(10):
        await asyncio.gather(one.add(f"home {turn}"), copy.add(f"copy {turn}"))
        await are_level(hub, one, copy)
    titles = {view.title for view in hub.node.board.items()}
    assert len(titles) == 23
    assert {"before the copy", "in the home", "in the copy"} <= titles
    assert {mesh.connected for mesh in meshes} == {1}, "side by side"
    assert asked(*meshes) <= 4
