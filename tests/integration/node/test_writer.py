"""The one writer: group commit, refusals, and what a failed transaction leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, eventually, sync

from fabrik_node._core import Change, Head
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.errors import Conflict, InvalidOp, StoreFailed
from fabrik_node.ids import new_id

ITEM = bytes(range(16))


def title(item: bytes, text: str) -> Any:
    return (Kind.ITEM, item, ItemField.TITLE, text, None)


class Faults:
    """A store whose next commits break, or wait."""

    def __init__(self) -> None:
        self.point = ""
        self.commits = 0
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, point: str) -> None:
        self.commits += point == "before_commit"
        if point == "before_commit":
            self.entered.set()
            assert self.go.wait(BOUND_S)
        if point == self.point:
            raise OSError(5, "Input/output error")

    def hold(self) -> None:
        self.entered.clear()
        self.go.clear()


@pytest.fixture
def faults() -> Faults:
    return Faults()


async def blocked(rig: NodeRig, faults: Faults) -> asyncio.Task[Any]:
    """A write that stands in the middle of its transaction."""
    await quiet(rig)
    faults.hold()
    first = asyncio.create_task(rig.node.write("first", lambda: [title(new_id(1), "first")]))
    await asyncio.to_thread(faults.entered.wait, BOUND_S)
    return first


async def quiet(rig: NodeRig) -> None:
    """Until the events of what was written are stored: nothing else waits for the disk."""
    last = 0

    async def told() -> bool:
        nonlocal last
        return (await rig.node.store.events_upto())[1] == rig.node.replica.ops

    for _ in range(2000):
        if await told():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("events do not come")


async def test_waiting_commands_share_one_transaction(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)
    rest = [asyncio.create_task(rig.node.write(n, lambda n=n: [title(new_id(n), f"item {n}")])) for n in range(50)]  # type: ignore[misc]
    await asyncio.sleep(0)
    batches: list[int] = []
    rig.node.on_changes(lambda changes: batches.append(len(changes)))
    faults.go.set()
    done = await asyncio.gather(first, *rest)
    assert batches == [1, 50], "the fifty that waited were one batch"
    seqs = sorted(chained[0].first_seq for chained in done)
    assert seqs == list(range(seqs[0], seqs[0] + 51)), "each has a sequence number of its own, without holes"


async def test_commands_with_one_key_see_each_other(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)

    def longer() -> list[Any]:
        register = rig.node.replica.get(Kind.ITEM, ITEM, ItemField.TITLE)
        return [title(ITEM, ("" if register is None else register.value) + "x")]

    rest = [asyncio.create_task(rig.node.write(ITEM, longer)) for _ in range(20)]
    await asyncio.sleep(0)
    faults.go.set()
    await asyncio.gather(first, *rest)
    register = rig.node.replica.get(Kind.ITEM, ITEM, ItemField.TITLE)
    assert register is not None
    assert register.value == "x" * 20


async def test_a_command_that_refuses_or_breaks_refuses_only_itself(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)

    def refuses() -> list[Any]:
        raise Conflict("no")

    def breaks() -> list[Any]:
        raise ZeroDivisionError("oops")

    tasks = [
        asyncio.create_task(rig.node.write(number, build))
        for number, build in enumerate(
            [
                lambda: [title(new_id(1), "a")],
                refuses,
                breaks,
                lambda: [title(new_id(2), "b" * 201)],
                lambda: [title(b"short", "c")],
                lambda: [title(new_id(3), "d")],
            ]
        )
    ]
    await asyncio.sleep(0)
    faults.go.set()
    await first
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done] == [list, Conflict, type(done[2]), InvalidOp, InvalidOp, list]
    assert "ZeroDivisionError" in str(done[2])
    assert {view.title for view in rig.node.board.items()} == {"first", "a", "d"}
    await rig.node.write("after", lambda: [title(new_id(4), "the node goes on")])


async def test_a_command_without_writes_makes_no_op(rigs: Rigs) -> None:
    rig = await rigs.open()
    before = rig.facts()
    assert await rig.node.write("nothing", list) == []
    assert rig.facts() == before


@pytest.mark.promise("E13")
@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_a_failed_transaction_is_told_and_stops_the_node(rigs: Rigs, faults: Faults, kind: str) -> None:
    rig, other = await rigs.open(faults=faults), await rigs.open(1)
    await sync(rig, other)
    await other.add("from elsewhere")
    await quiet(rig)
    before = rig.facts()
    published: list[Any] = []
    rig.node.on_committed(published.append)
    rig.node.on_changes(published.append)
    faults.point = "before_commit"
    with pytest.raises(StoreFailed, match="Input/output error"):
        if kind == "local":
            await rig.add("never there")
        else:
            await sync(rig, other)
    assert rig.facts() == before, "memory is as it was"
    assert published == [], "nobody was told"
    assert rig.running is not None
    with pytest.raises(ExceptionGroup) as stopped:
        await asyncio.wait_for(rig.running, BOUND_S)
    assert stopped.group_contains(StoreFailed)
    with pytest.raises(StoreFailed, match="stopped writing"):
        await rig.add("later")
    faults.point = ""
    await rig.node.store.close()
    again = await rigs.open()
    assert again.facts() == before, "nor is anything on the disk"
    await again.add("after the restart")


async def test_everybody_who_waits_is_told_of_the_failure(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)
    faults.point = "before_commit"
    rest = [asyncio.create_task(rig.node.write("one key", lambda: [title(new_id(1), "x")])) for _ in range(5)]
    await asyncio.sleep(0)
    faults.go.set()
    done = await asyncio.wait_for(asyncio.gather(first, *rest, return_exceptions=True), BOUND_S)
    assert all(isinstance(each, StoreFailed) for each in done), done


async def test_a_caller_that_leaves_changes_nothing_for_the_others(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)
    gone = asyncio.create_task(rig.node.write("gone", lambda: [title(ITEM, "gone before its turn")]))
    stays = asyncio.create_task(rig.node.write("stays", lambda: [title(new_id(2), "stays")]))
    await asyncio.sleep(0)
    first.cancel()  # its transaction is under way: it happens
    gone.cancel()  # its turn has not come: it does not
    faults.go.set()
    await stays
    assert {view.title for view in rig.node.board.items()} == {"first", "stays"}
    await rig.node.store.close()
    again = await rigs.open()
    assert again.facts() == rig.facts(), "memory and disk agree"


async def test_a_cancelled_node_leaves_memory_and_disk_alike(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)
    waits = asyncio.create_task(rig.node.write("waits", lambda: [title(new_id(2), "waits")]))
    await asyncio.sleep(0)
    assert rig.running is not None
    rig.running.cancel()
    await asyncio.sleep(0)
    faults.go.set()
    await asyncio.wait_for(asyncio.gather(rig.running, return_exceptions=True), BOUND_S)
    await asyncio.wait_for(first, BOUND_S)
    with pytest.raises(StoreFailed):
        await asyncio.wait_for(waits, BOUND_S)
    await rig.node.store.close()
    again = await rigs.open()
    assert again.facts() == rig.facts()
    assert [view.title for view in again.node.board.items()] == ["first"]


async def test_a_follower_that_breaks_stops_the_node_and_leaves_nobody_waiting(rigs: Rigs) -> None:
    rig = await rigs.open()

    def broken(_: Sequence[Change]) -> None:
        raise ZeroDivisionError("a bug")

    rig.node.on_changes(broken)
    done = await asyncio.wait_for(asyncio.gather(*(rig.add(str(n)) for n in range(3)), return_exceptions=True), BOUND_S)
    assert all(isinstance(each, Exception) for each in done)
    assert rig.running is not None
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(rig.running, BOUND_S)


@pytest.mark.promise("I5")
async def test_nothing_is_published_before_it_is_durable(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    seen: list[str] = []
    rig.node.on_committed(lambda heads: seen.append("committed"))
    rig.node.on_changes(lambda changes: seen.append("changes"))
    await quiet(rig)
    before = rig.facts()
    heads = [(head.author, head.seq) for head in rig.node.heads()]
    first = await blocked(rig, faults)
    rig.node.beat_now()
    await asyncio.sleep(0.01)
    assert seen == [], "the transaction is not over: nobody was told"
    assert rig.facts() == before
    assert [(head.author, head.seq) for head in rig.node.heads()] == heads
    rows, _ = await rig.node.read(rig.node.public, rig.node.epoch, 0, heads[0][1], 262_144)
    assert rows == [], "and no peer can read it"
    assert rig.node.presence.heard()[rig.node.public].payload.get("leases") == []
    faults.go.set()
    await first
    assert seen == ["committed", "changes"]


async def test_closing_finishes_what_was_accepted_with_its_events(rigs: Rigs, faults: Faults) -> None:
    rig = await rigs.open(faults=faults)
    first = await blocked(rig, faults)
    rest = [asyncio.create_task(rig.node.write(n, lambda n=n: [title(new_id(n), f"item {n}")])) for n in range(5)]  # type: ignore[misc]
    await asyncio.sleep(0)
    await rig.node.close()
    with pytest.raises(StoreFailed, match="stopping"):
        await rig.node.write("late", lambda: [title(ITEM, "late")])
    faults.go.set()
    await asyncio.gather(first, *rest)
    assert rig.running is not None
    await asyncio.wait_for(rig.running, BOUND_S)
    assert len(await rig.events("item.added")) == 6, "their events are in the stream"
    assert (await rig.node.store.events_upto())[1] > 0


async def test_a_stress_of_callers_is_equal_on_a_peer(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    heads: list[Head] = []
    one.node.on_committed(heads.extend)

    async def caller(number: int) -> None:
        for turn in range(6):
            item = await one.add(f"{number}.{turn}", labels=[f"l{number}"])
            await one.call("items.edit", id=item, priority=turn, body="b" * turn)
            if turn % 3 == 0:
                await one.call("items.move", id=item, to="Coding")

    await asyncio.gather(*(caller(number) for number in range(32)))
    await sync(one, two)
    assert one.facts()[:2] == two.facts()[:2]
    items = two.node.board.items()
    assert len(items) == 32 * 6
    assert {view.title: view.priority for view in items} == {f"{n}.{t}": t for n in range(32) for t in range(6)}
    seqs = [head.seq for head in heads if head.author == one.node.public]
    assert seqs == sorted(seqs), "heads only rise"
    await eventually(lambda: one.node.stream.last >= 32 * (6 * 2 + 2), "all events")
    events = await one.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_events_that_can_not_be_stored_stop_the_node_too(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream with holes would be worse. The op itself was durable before: it is acknowledged, and told at the next start."""
    rig = await memory_rigs.open()
    await rig.add("before")
    await rig.events_until("item.added")

    async def broken(*_: object) -> list[Any]:
        raise StoreFailed("the disk is gone", "look at it")

    with monkeypatch.context() as patched:
        patched.setattr(rig.node.store, "append_events", broken)
        await rig.add("acknowledged")
        assert rig.running is not None
        with pytest.raises(ExceptionGroup) as stopped:
            await asyncio.wait_for(rig.running, BOUND_S)
    assert stopped.group_contains(StoreFailed)
    with pytest.raises(StoreFailed):
        await asyncio.wait_for(rig.add("after the end"), BOUND_S)
    again = await memory_rigs.open()
    found = await again.events_until("item.added", 2)
    assert [event.data["title"] for event in found] == ["before", "acknowledged"]
