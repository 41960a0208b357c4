"""Pages of many items: who makes them, and from what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.stages import Coding
from fabrik_node.errors import NotFound, UsageError
from fabrik_node.ids import parse_id
from fabrik_node.node.board import Board


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def claimed(rig: NodeRig, item: str) -> Claim:
    claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    return claim


async def test_no_look_at_all_items_is_made_in_the_event_loop(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, threads = await rigs.open(), list[int]()
    item, _ = await rig.add("first"), await rig.add("second")
    await claimed(rig, item)
    real = Board.items

    def items(board: Board) -> Any:
        threads.append(threading.get_ident())
        return real(board)

    monkeypatch.setattr(Board, "items", items)
    for op, args in (("items.list", {}), ("claims.list", {}), ("claims.list", {"all": True}), ("why", {"id": item})):
        await rig.call(op, **args)
    assert threads, "items list looks at all of them"
    assert threading.get_ident() not in threads
    threads.clear()
    monkeypatch.setattr(Board, "claims", lambda _: pytest.fail("a list of what is held looks at no claim that is over"))
    assert [each["title"] for each in (await rig.call("claims.list"))["claims"]] == ["first"]
    assert threads == []


@pytest.mark.promise("F12")
async def test_a_claim_is_shown_with_the_ttl_of_its_items_stage(rigs: Rigs) -> None:
    holder, other = await rigs.open(0, timing=replace(TIMING, stage_ttl_s={"Backlog": 20.0, "Coding": 200.0})), await rigs.open(1)
    await sync(holder, other)
    item = await holder.add()
    claim = await claimed(holder, item)
    for ttl_s in (20.0, 200.0):
        await sync(holder, other)
        for rig in (holder, other):
            shown = [
                *(await rig.call("claims.list"))["claims"],
                (await rig.call("claims.show", item=item))["claim"],
                (await rig.call("items.show", id=item))["item"]["claim"],
            ]
            assert [each["ttl_s"] for each in shown] == [ttl_s] * 3
        if ttl_s == 20.0:
            await holder.pipeline.move(parse_id(item) or b"", Coding(), claim)


async def test_a_filter_that_names_nothing_is_refused(rigs: Rigs) -> None:
    rig = await rigs.open()
    assert (await rig.call("runs.list", node="node0"))["runs"] == []
    assert (await rig.call("runs.list", node=rig.node.public.hex()[:6], state="Running"))["runs"] == []
    with pytest.raises(NotFound, match="no node 'nobody'"):
        await rig.call("runs.list", node="nobody")
    with pytest.raises(UsageError, match="no state 'done' of a run") as refused:
        await rig.call("runs.list", state="done")
    assert "completed" in refused.value.hint
    with pytest.raises(NotFound, match="no node 'nobody'"):
        await anext(rig.service.stream("runs.watch", {"node": "nobody"}))


async def test_lists_go_by_the_items_and_released_claims_are_shown_on_request(rigs: Rigs) -> None:
    rig = await rigs.open()
    items = [await rig.add(title) for title in ("one", "two", "three")]
    for item in reversed(items):
        await claimed(rig, item)
    await rig.call("claims.release", item=items[1])
    assert [each["item"] for each in (await rig.call("claims.list"))["claims"]] == sorted([items[0], items[2]])
    every = await rig.call("claims.list", all=True, limit=2)
    assert ([each["item"] for each in every["claims"]], every["total"]) == (sorted(items)[:2], 3)
