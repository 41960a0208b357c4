"""Nodes that hold the same ops and make different states of them find it, say so on both sides, and name the registers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from diverged import planted, tell_each_other
from node_rig import BOUND_S, NodeRig, Rigs, eventually, sync

from fabrik_node._core import digests, merge_rules
from fabrik_node.node.presence import MESSAGE_BYTES_MAX


async def apart(rigs: Rigs, changes: dict[str, str], items: int = 40) -> tuple[NodeRig, NodeRig, dict[str, str]]:
    """Two nodes with equal frontiers, the second with planted differences in the titles of items; ids by title."""
    one, two = await rigs.open(0), await rigs.open(1)
    ids = {f"title {number:04}": await one.add(f"title {number:04}") for number in range(items)}
    await sync(one, two)
    assert await two.node.stream.stored(two.node.writer.pos), "what a snapshot holds was told"
    snapshot = two.node.replica.snapshot()
    await two.stop()
    if rigs.folder is not None:
        await two.node.store.close()
    two = await rigs.open(1, snapshots=planted(snapshot, changes))
    assert two.node.loaded.snapshot == "used"
    assert one.node.frontier_digest() == two.node.frontier_digest()
    assert one.node.replica.state_digest() != two.node.replica.state_digest()
    return one, two, ids


def _little(room: Callable[[Mapping[str, Any]], int], payload: Mapping[str, Any]) -> int:
    """Room for the buckets and one register or two."""
    return min(room(payload), 4_096 + 128 + 64 + 100)


async def beat(*rigs: NodeRig) -> None:
    """Each says something new."""
    for rig in rigs:
        counter = partial(_counter, rig)
        last = counter()
        rig.node.beat_now()
        await eventually(lambda: counter() > last)  # noqa: B023 - asked before the next turn


def _counter(rig: NodeRig) -> int:
    own = rig.node.presence.heard().get(rig.node.public)
    return -1 if own is None else own.counter


async def told(rig: NodeRig, kind: str, count: int = 1) -> list[dict[str, Any]]:
    return [dict(event.data) for event in await rig.events_until(kind, count)]


async def test_a_planted_difference_is_an_alarm_on_both_nodes_and_named(memory_rigs: Rigs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    one, two, ids = await apart(memory_rigs, {"title 0007": "title BAD!"})
    tell_each_other(memory_rigs, one, two)
    one.node.beat_now()
    two.node.beat_now()
    wanted = f"item {ids['title 0007']} title"
    for rig, other in ((one, "node1"), (two, "node0")):
        assert [(each["name"], each["registers"], each["more"]) for each in await told(rig, "state.registers")] == [(other, [wanted], False)]
        assert [each["name"] for each in await told(rig, "state.diverged")] == [other]
        status = await rig.call("status")
        assert [(each["name"], each["registers"]) for each in status["diverged"]] == [(other, [wanted])]
        (warning,) = [line for line in status["warnings"] if "the same ops" in line]
        assert other in warning
        assert wanted in warning
        line = next(node for node in (await rig.call("nodes.list"))["nodes"] if node["name"] == other)
        assert line["diverged"] is True
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("is not that of" in text for text in errors) == 2
    assert sum(wanted in text for text in errors) == 2
    assert "BAD!" not in caplog.text, "a register is named, its value is not"


async def test_the_alarm_is_raised_once_and_ends_with_the_divergence(memory_rigs: Rigs) -> None:
    one, two, _ = await apart(memory_rigs, {"title 0007": "title BAD!"})
    tell_each_other(memory_rigs, one, two)
    one.node.beat_now()
    two.node.beat_now()
    await told(one, "state.registers")
    await told(two, "state.registers")
    for _ in range(5):
        await beat(one, two)
    assert len(await one.events("state.diverged")) == 1
    assert len(await one.events("state.registers")) == 1
    await two.stop()
    two = await memory_rigs.open(1)  # without the bad snapshot
    tell_each_other(memory_rigs, one, two)
    two.node.beat_now()
    while one.node.audit.diverged:
        await beat(one)
    assert [each["name"] for each in await told(one, "state.agrees")] == ["node1"]
    assert (await one.call("status"))["diverged"] == []


async def test_many_differences_are_named_up_to_the_bound(memory_rigs: Rigs) -> None:
    changes = {f"title {number:04}": f"wrong {number:04}" for number in range(600)}
    one, two, ids = await apart(memory_rigs, changes, items=900)
    tell_each_other(memory_rigs, one, two)
    one.node.beat_now()
    two.node.beat_now()
    names = {f"item {ids[title]} title" for title in changes}
    for rig in (one, two):
        assert len(rig.node.presence.heard()[rig.node.public].message) <= MESSAGE_BYTES_MAX
        (found,) = await told(rig, "state.registers")
        assert 4 <= len(found["registers"]) <= 32
        assert set(found["registers"]) <= names


async def test_a_bucket_larger_than_a_message_is_compared_in_pages(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, ids = await apart(memory_rigs, {"title 0007": "title BAD!"}, items=8)
    for rig in (one, two):
        monkeypatch.setattr(rig.node.presence, "room", partial(_little, rig.node.presence.room))
    tell_each_other(memory_rigs, one, two)
    one.node.beat_now()
    two.node.beat_now()
    wanted = f"item {ids['title 0007']} title"
    for rig in (one, two):
        for _ in range(60):
            if await rig.events("state.registers"):
                break
            await beat(one, two)
        assert [each["registers"] for each in await told(rig, "state.registers")] == [[wanted]]


async def test_states_of_different_moments_or_rules_are_not_compared(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(one, two)
    await eventually(lambda: one.node.audit.seen is not None)
    key, mesh = memory_rigs.keys[1], one.node.mesh_id
    frontier, other = one.node.frontier_digest(), bytes(32)
    rules = merge_rules()[:16]
    harmless: list[dict[str, Any]] = [
        {"frontier": bytes(32), "state": other, "rules": rules},
        {"frontier": frontier, "state": other, "rules": bytes(16)},
        {"frontier": frontier, "state": other},
        {"frontier": frontier, "state": one.node.replica.state_digest(), "rules": rules},
        {"frontier": frontier[:-1], "state": other, "rules": rules},
        {"frontier": 1, "state": 2, "rules": 3, "audit": 4},
    ]
    for number, payload in enumerate(harmless, start=2**40):
        assert one.node.ephemeral_in(key.ephemeral(mesh, number, payload)) is not None
        await one.node.audit.look()
        assert one.node.audit.diverged == {}, payload
    bad: dict[str, Any] = {"frontier": frontier, "state": other, "rules": rules}
    pages: list[Any] = [
        [7], [[1]], [[300, None, True, []]], [[1, None, True, [[1, bytes(16), 1, b"x"]]]], [[1, 7, True, []]], [[1, [1], True, []]], [[1, None, 7, []]],
        [[0, None, True, [[1, bytes(16), "x", bytes(16)]]]], [[0, None, True, [["x"]]]], [[0, [1, bytes(16), 1], False, []]] * 50,
    ]  # fmt: skip
    parts: list[Any] = [
        None,
        7,
        {},
        {"frontier": frontier},
        {"frontier": frontier, "buckets": bytes(5), "entries": []},
        *({"frontier": frontier, "buckets": bytes(4_096), "entries": entries} for entries in pages),
    ]
    for number, part in enumerate(parts, start=2**41):
        assert one.node.ephemeral_in(key.ephemeral(mesh, number, bad if part is None else bad | {"audit": part})) is not None
        await one.node.audit.look()
        await one.node.audit.part(9_000)
        assert list(one.node.audit.diverged) == [key.public], part
        assert not one.node.audit.diverged[key.public].registers, part


async def test_a_liar_gets_no_more_answers_than_time_allows(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(one, two)
    await eventually(lambda: one.node.audit.seen is not None)
    start = one.node.presence.heard()[one.node.public].counter
    key, mesh, frontier = memory_rigs.keys[1], one.node.mesh_id, one.node.frontier_digest()
    for number in range(200):  # at one moment of our clock
        payload = {"frontier": frontier, "state": number.to_bytes(32, "big"), "rules": merge_rules()[:16]}
        assert one.node.ephemeral_in(key.ephemeral(mesh, 2**40 + number, payload)) is not None
        await one.node.audit.look()
    assert one.node.presence.heard()[one.node.public].counter - start <= 2
    await eventually(lambda: one.node.stream.last > 0)
    assert one.node.audit.alarms == 1, "one alarm, however often the lie changes"


async def test_who_is_no_member_any_more_is_no_alarm(memory_rigs: Rigs) -> None:
    from fabrik_node.domain.schema import Kind, MemberField

    one, two, _ = await apart(memory_rigs, {"title 0007": "title BAD!"})
    tell_each_other(memory_rigs, one, two)
    one.node.beat_now()
    two.node.beat_now()
    await told(one, "state.registers")
    await one.node.write("out", lambda: [(Kind.MEMBER, two.node.public, MemberField.RECORD, {1: 0}, None)])
    await eventually(lambda: not one.node.audit.diverged)
    assert two.node.public not in one.node.presence.heard(), "and its last message is not kept for new peers"
    assert [author for author, _, _ in one.node.ephemerals()] == [one.node.public]


@pytest.mark.promise("I20")
async def test_a_busy_core_delays_no_message_and_so_no_lease(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await memory_rigs.open()
    await eventually(lambda: _counter(rig) > 0)
    go, asked = threading.Event(), list[int]()

    def busy(replica: Any) -> Any:
        asked.append(1)
        assert go.wait(BOUND_S)
        return digests(replica)

    monkeypatch.setattr("fabrik_node.node.audit.digests", busy)
    rig.node.audit.patience_s = 0.01
    for _ in range(5):
        await beat(rig)
        said = rig.node.presence.heard()[rig.node.public].payload
        assert "leases" in said
        assert "state" not in said
        assert "frontier" not in said
    assert len(asked) == 1, "one look is under way, however many messages leave"
    assert rig.node.audit.skipped == 5
    go.set()
    rig.node.audit.patience_s = BOUND_S
    await beat(rig)
    assert rig.node.presence.heard()[rig.node.public].payload["state"] == rig.node.replica.state_digest()


async def test_a_member_that_says_now_this_now_that_fills_no_disk(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(one, two)
    await eventually(lambda: one.node.audit.seen is not None)
    key, mesh, frontier, state = memory_rigs.keys[1], one.node.mesh_id, one.node.frontier_digest(), one.node.replica.state_digest()
    for number in range(100):
        payload = {"frontier": frontier, "state": state if number % 2 else bytes(32), "rules": merge_rules()[:16]}
        assert one.node.ephemeral_in(key.ephemeral(mesh, 2**40 + number, payload)) is not None
        await one.node.audit.look()
        memory_rigs.clock.advance(1)
    assert one.node.audit.alarms == 50
    await one.node.close()
    await eventually(lambda: one.running is not None and one.running.done())
    assert [len(await one.events(kind)) for kind in ("state.diverged", "state.agrees")] == [5, 5]
    assert one.node.audit.told.left_out == 90
