"""A member may write anything that the format allows, and void ops with anything at all: no node stops for it, and every list is still shown."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from fabrik_twin.author import Author
from fabrik_twin.op import Key, op_encode
from node_rig import BOUND_S, NodeRig, Rigs

from fabrik_node._core import SigningKey, cbor_encode
from fabrik_node.domain.requests import Question, encode_question
from fabrik_node.domain.schema import ItemField, Kind, RequestField, RunField
from fabrik_node.domain.steps import Step, StepState, encode_step
from fabrik_node.ids import new_id, show_id
from fabrik_node.service.following import event_json
from fabrik_node.store.event_file import EventFile

FAR_MS = 2**53
RUN = new_id(5)
ITEM = new_id(6)


def author(rigs: Rigs, number: int = 2) -> Author:
    return Author(rigs.genesis, Key(bytes([number + 1]) * 32), epoch=7)


async def is_sound(rig: NodeRig, item: str) -> None:
    """Everything can be shown, on this node and by its events, and it writes on."""
    await all_is_shown(rig, item)
    assert rig.running is not None
    assert not rig.running.done(), rig.running
    await rig.add("it goes on")
    await rig.events_until("item.added", 1)
    lines = [event_json(event) for event in await rig.events()]
    json.dumps(lines, allow_nan=False)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line for line in lines if line["type"] == "events.untold"] == []


async def all_is_shown(rig: NodeRig, item: str) -> None:
    """Each list, and all that is known of one item."""
    for op in ("status", "items.list", "claims.list", "claims.conflicts", "tombstones.list", "nodes.list", "runs.list", "runs.recovery", "approvals.list"):
        json.dumps(await rig.call(op, all=True), allow_nan=False)
    for op in ("items.history", "items.show", "why", "steps.list"):
        json.dumps(await rig.call(op, id=item), allow_nan=False)


STRANGE: dict[str, list[Any]] = {
    "an outcome with the keys of an event": [
        (Kind.ITEM, ITEM, ItemField.OUTCOME, {"seq": 99, "at": "now", "type": "x", "item": "y", "by": "z", "op": 1, "why": "w"}, None)
    ],
    "an outcome of bytes and lists": [(Kind.ITEM, ITEM, ItemField.OUTCOME, {"a": b"\xff", "b": [b"x" * 16, None], "c": 2**64 - 1}, None)],
    "a hold without a text": [(Kind.ITEM, ITEM, ItemField.HOLD, {"reason": b"\xff"}, None)],
    "a hold with nothing": [(Kind.ITEM, ITEM, ItemField.HOLD, {}, None)],
    "a tombstone reason of bytes": [(Kind.TOMBSTONE, new_id(9), 1, {"reason": b"\xff", "seq": 1}, None)],
    "a time of no calendar": [(Kind.ITEM, ITEM, ItemField.CREATED_MS, 2**64 - 1, None)],
    "a large priority": [(Kind.ITEM, ITEM, ItemField.PRIORITY, -(2**63), None), (Kind.ITEM, ITEM, ItemField.ATTEMPTS, 2**64 - 1, None)],
    "dependencies on nothing": [(Kind.ITEM, ITEM, ItemField.DEPENDS_ON, [new_id(1), ITEM], None)],
    "an empty title": [(Kind.ITEM, ITEM, ItemField.TITLE, "\x00\x1b[31m\u202e", None)],
    "a done of the far future": [(Kind.ITEM, ITEM, ItemField.STAGE, [4, 2**64 - 1, bytes(20)], None)],
    "a register of a newer version": [(Kind.ITEM, ITEM, 99, b"\xff", None), (77, b"\xff", 1, {1: b""}, None)],
}
SUMMARIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "bytes for texts": {"state": b"\xff", "phase": b"\xff", "agent": [b""], "reason": {"a": b"\xff"}, "exit_code": b"\xff", "item": b"short"},
    "numbers for bytes": {"state": "running", "item": 2**62, "claim": 2**62, "started_ms": 1},
    "times of no calendar": {"state": "completed", "item": ITEM, "claim": RUN, "started_ms": 2**64 - 1, "ended_ms": 2**64 - 1, "exit_code": 2**64 - 1},
    "times before time": {"state": "running", "item": ITEM, "claim": RUN, "started_ms": -(2**63), "ended_ms": "x", "exit_code": "y", "branch": 7},
    "a state of a newer version": {"state": "dreaming", "item": ITEM, "claim": RUN, "started_ms": 1},
}


@pytest.mark.parametrize("name", [*STRANGE, *(f"a run: {name}" for name in SUMMARIES)])
async def test_strange_values_of_a_member_stop_nobody(rigs: Rigs, tmp_path: Path, name: str) -> None:
    rig = await rigs.open(sink=EventFile(tmp_path / "events.ndjson", 1_000_000, 2))
    log = author(rigs)
    writes = STRANGE.get(name)
    if writes is None:
        summary = {"node": log.key.public, **SUMMARIES[name.removeprefix("a run: ")]}
        writes = [(Kind.RUN, RUN, RunField.SUMMARY, summary, None)]
    log.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), "an item", None))
    log.op(*((int(kind), identifier, int(field), value, fence) for kind, identifier, field, value, fence in writes))
    await rig.node.ingest([log.cut()], log.key.public)
    assert rig.node.replica.voided == 0, "the case is about ops with effect"
    await is_sound(rig, show_id(ITEM))
    await rig.node.close()
    await rig.node.store.close()
    await is_sound(await rigs.open(sink=EventFile(tmp_path / "events.ndjson", 1_000_000, 2)), show_id(ITEM))


async def test_a_wall_clock_beyond_every_calendar_stops_nobody(rigs: Rigs, tmp_path: Path) -> None:
    rig = await rigs.open(sink=EventFile(tmp_path / "events.ndjson", 1_000_000, 2))
    log = author(rigs)
    body = op_encode(1, 1, [(int(Kind.ITEM), ITEM, int(ItemField.TITLE), "late", None)], wall_ms=FAR_MS)
    log.bodies.append(body)
    await rig.node.ingest([log.segment(1, 1)], log.key.public)
    await is_sound(rig, show_id(ITEM))
    assert '"at":"9999-12-31' in (tmp_path / "events.ndjson").read_text()


VOID: dict[str, tuple[int, bytes, int, Any]] = {
    "a stage that is none": (Kind.ITEM, ITEM, ItemField.STAGE, {1: 2}),
    "a stage with a wrong tag": (Kind.ITEM, ITEM, ItemField.STAGE, [9]),
    "a stage with bytes": (Kind.ITEM, ITEM, ItemField.STAGE, [5, b"\xff", 1]),
    "a done with text": (Kind.ITEM, ITEM, ItemField.STAGE, [4, 1, "a" * 20]),
    "a merge of nothing": (Kind.ITEM, ITEM, ItemField.STAGE, [3, "b", 0]),
    "a claim that is a list": (Kind.CLAIM, ITEM, 1, [1, 2]),
    "a claim that is a number": (Kind.CLAIM, ITEM, 1, 5),
    "a claim of wrong types": (Kind.CLAIM, ITEM, 1, {1: 5, 2: b"\xff", 3: b"\xff", 4: 1, 5: 7, 6: b"\xff", 7: "x", 8: 9}),
    "a claim with bytes for numbers": (Kind.CLAIM, ITEM, 1, {1: b"\xff", 2: b"\xff", 3: b"\xff", 4: 1, 5: b"\xff", 6: b"\xff", 7: 1, 8: "x", 9: b"\xff"}),
    "a title of bytes": (Kind.ITEM, ITEM, ItemField.TITLE, b"\xff"),
    "a tombstone of text": (Kind.TOMBSTONE, ITEM, 1, "x"),
}


@pytest.mark.promise("I12")
@pytest.mark.parametrize("name", VOID)
async def test_a_void_op_has_no_effect_and_is_still_shown_in_the_history(memory_rigs: Rigs, name: str) -> None:
    rig = await memory_rigs.open()
    log = author(memory_rigs)
    log.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), "an item", None))
    kind, identifier, field, value = VOID[name]
    log.op((int(kind), identifier, int(field), value, None))
    log.op((int(Kind.ITEM), ITEM, int(ItemField.BODY), "a later op of the same author", None))
    await rig.node.ingest([log.cut()], log.key.public)
    assert rig.node.replica.voided == 1
    shown = (await rig.call("items.show", id=show_id(ITEM)))["item"]
    assert (shown["title"], shown["stage"], shown["claim"]) == ("an item", "Backlog", None)
    assert shown["body"] == "a later op of the same author"
    changes = (await rig.call("items.history", id=show_id(ITEM)))["changes"]
    assert [change["won"] for change in changes] == [True, False, True]
    await is_sound(rig, show_id(ITEM))


PAYLOADS: list[dict[str, Any]] = [
    {"leases": 5},
    {"leases": "text"},
    {"leases": {"a": 1}},
    {"leases": [5, None, [], [1, 2, 3, 4, 5], [b"", b"", -1, -1, b""], [b"x" * 16, b"y", 1, 1, b""]]},
    {"name": 5, "version": b"\xff", "url": ["x"], "lamport": "x"},
    {"version": "v" * 5_000},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
async def test_strange_presence_of_a_member_stops_nobody(memory_rigs: Rigs, payload: dict[str, Any]) -> None:
    rig = await memory_rigs.open()
    item = await rig.add()
    key = SigningKey.from_seed(bytes([3]) * 32)
    assert rig.node.ephemeral_in(key.ephemeral(rig.node.mesh_id, 1, payload)) is not None
    await is_sound(rig, item)
    nodes = (await rig.call("nodes.list"))["nodes"]
    assert max(len(node["version"]) for node in nodes) <= 200


async def test_a_bad_value_in_a_segment_of_another_author_is_no_excuse(memory_rigs: Rigs) -> None:
    """The strange op's author goes on, and its later ops count."""
    rig = await memory_rigs.open()
    log = author(memory_rigs)
    for number in range(20):
        value = cbor_encode({"n": number})
        log.op((int(Kind.ITEM), ITEM, int(ItemField.OUTCOME), {"raw": value}, None), (int(Kind.ITEM), ITEM, int(ItemField.TITLE), f"t{number}", None))
    await asyncio.wait_for(rig.node.ingest([log.cut()], log.key.public), BOUND_S)
    assert [view.title for view in rig.node.board.items()] == ["t19"]


VALUES: tuple[Any, ...] = (
    None,
    0,
    1,
    -1,
    2**64 - 1,
    -(2**63),
    True,
    "",
    "x",
    "\x1b[2J\x00",
    b"",
    RUN,
    ITEM,
    bytes(32),
    b"y" * 32,
    [],
    {},
    [[]],
    {"a": []},
    {1: 2},
)
CLAIMS, RUNS, REQUEST = [new_id(11) for _ in range(3)], [new_id(100) for _ in range(8)], new_id(21)
NAMES = {
    (Kind.RUN, RunField.SUMMARY): (
        "item claim state started_ms agent ended_ms exit_code phase reason branch engine asks claim_epoch claim_receipt claim_follows input_prompt input_base"
    ),
    (Kind.ITEM, ItemField.HOLD): "reason since_ms run result",
    (Kind.ITEM, ItemField.OUTCOME): "result reason run agent merge_commit exit_code duration_ms resolve branch",
    (Kind.REQUEST, RequestField.WITHDRAWN): "kind wall_ms said reason run answered_by",
}
LIKELY: dict[str, tuple[Any, ...]] = {
    "item": (ITEM,),
    "claim": tuple(CLAIMS),
    "state": ("running", "superseded", "completed", "waiting"),
    "started_ms": (1, 5),
    "claim_epoch": (0, 1, 2, -1),
    "claim_receipt": (0, 1, 2**64 - 1),
    "claim_follows": (b"", CLAIMS[0]),
    "asks": (REQUEST,),
    "kind": ("taken", "timeout"),
}


def _bent(value: dict[int, Any], rng: random.Random) -> dict[int, Any]:
    """With one or two of its values replaced by anything."""
    return value | {rng.choice(list(value)): rng.choice(VALUES) for _ in range(rng.choice((1, 2)))}


@pytest.mark.promise("I12", "I20")
@pytest.mark.parametrize("seed", range(4))
async def test_maps_of_anything_stop_nobody(memory_rigs: Rigs, seed: int) -> None:
    """Each register that members fill with maps, with every kind of value at every name: everything is still shown and told."""
    rng = random.Random(seed)
    rig = await memory_rigs.open()
    log = author(memory_rigs)
    log.op((int(Kind.ITEM), ITEM, int(ItemField.TITLE), "an item", None))
    for _ in range(250):
        (kind, field), names = rng.choice(list(NAMES.items()))
        said: dict[Any, Any] = {"node": log.key.public}
        for name in names.split():
            pool = LIKELY.get(name, VALUES) if rng.random() < 0.7 else VALUES
            if rng.random() < 0.8:
                said[name] = rng.choice(pool)
        identifier = {Kind.ITEM: ITEM, Kind.RUN: rng.choice(RUNS), Kind.REQUEST: REQUEST}[kind]
        log.op((int(kind), identifier, int(field), said, None))
    question = encode_question(Question(ITEM, RUNS[0], CLAIMS[0], "may it?", ("yes", "no")))
    step = encode_step(Step(ITEM, "build", StepState.STARTED, bytes(32), 1, CLAIMS[0], RUNS[0], 1))
    log.op((int(Kind.REQUEST), REQUEST, int(RequestField.QUESTION), question, None))
    for number in range(60):
        request = new_id(200 + number)
        log.op((int(Kind.REQUEST), request, int(RequestField.QUESTION), question if number % 2 else _bent(question, rng), None))
        log.op((int(Kind.REQUEST), request, int(RequestField.WITHDRAWN), {"kind": rng.choice(VALUES), "wall_ms": rng.choice(VALUES)}, None))
        log.op((int(Kind.STEP), new_id(300 + number), 1, _bent(step, rng), None))
    for first in range(1, len(log.bodies) + 1, 20):  # several batches: what is told depends on what was there before
        await rig.node.ingest([log.segment(first, min(first + 19, len(log.bodies)))], log.key.public)
        await all_is_shown(rig, show_id(ITEM))
    assert rig.node.replica.voided == 0, "the case is about ops with effect"
    assert len((await rig.call("approvals.list", all=True))["requests"]) > 20
    await is_sound(rig, show_id(ITEM))
