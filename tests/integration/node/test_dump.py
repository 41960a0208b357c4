"""``db dump``: all that a node holds, record by record, from its log to its counters."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import blake3, cbor_decode
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.errors import UsageError
from fabrik_node.ids import new_id, parse_id, show_id


async def dumped(rig: NodeRig, **args: Any) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(record, allow_nan=False)) async for record in rig.service.stream("db.dump", args)]


@pytest.mark.promise("E24")
async def test_a_dump_has_everything_that_the_node_holds(memory_rigs: Rigs) -> None:
    rig, other = await memory_rigs.open(0), await memory_rigs.open(1)
    items = [await rig.add(f"item {number}") for number in range(3)]
    await rig.call("tombstone", id=items[2])
    await sync(rig, other)
    claim: Any = await other.pipeline.claim(parse_id(items[0]) or b"", "agent")
    await other.pipeline.put_run(RunRow(new_id(1), parse_id(items[0]) or b"", claim.claim_id, other.node.public, "agent", RunState.RUNNING, "coding", 1))
    await sync(rig, other)
    other.node.presence.publish({"version": "9"})
    assert rig.node.ephemeral_in(other.node.presence.heard()[other.node.public].message)
    await rig.events_until("claim.taken")
    records = await dumped(rig)

    first, last = records[0], records[-1]
    assert (first["type"], first["source"], first["node"], first["version"]) == ("dump", "node", "node0", 1)
    by_type: dict[str, list[dict[str, Any]]] = {}
    for record in records[1:-1]:
        by_type.setdefault(record["type"], []).append(record)
    assert last == {"end": True, "counts": {name: len(found) for name, found in by_type.items()}}
    assert by_type.keys() >= {"status", "config", "limits", "store", "member", "presence", "lease", "head", "register", "run", "op", "event"}

    replica = rig.node.replica
    ops = by_type["op"]
    assert len(ops) == replica.ops
    bodies = {
        blake3(body).hex(): cbor_decode(body)
        for batch in [batch async for batch in rig.node.store.load()]
        for row in batch
        for body in cbor_decode(row.data)[5]
    }
    assert {op["digest"]: (op["lamport"], len(op["writes"])) for op in ops} == {digest: (body[2], len(body[5])) for digest, body in bodies.items()}
    assert {(head["author"], head["seq"], head["h"]) for head in by_type["head"]} == {(h.author.hex(), h.seq, h.head.hex()) for h in replica.heads()}
    assert len(by_type["register"]) == replica.registers
    assert [each["id"] for each in by_type["register"] if each["kind"] == "tombstone"] == [items[2]]
    title = next(each for each in by_type["register"] if each["id"] == items[1] and each["field"] == "title")
    assert (title["value"], title["author"]) == ("item 1", rig.node.public.hex())
    assert title["digest"] in bodies
    assert by_type["status"][0]["lamport"] == replica.lamport
    assert {each["author"] for each in by_type["presence"]} >= {other.node.public.hex()}
    assert [(each["item"], each["claim_id"]) for each in by_type["lease"]] == [(items[0], show_id(claim.claim_id))]
    assert [each["recorded_state"] for each in by_type["run"]] == ["running"]
    assert by_type["limits"][0]["hits"]["pending"] == 0
    assert [each["event"]["seq"] for each in by_type["event"]] == list(range(1, len(by_type["event"]) + 1))


async def test_a_part_of_a_dump_is_asked_for_by_type(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(0)
    await rig.add()
    counts = Counter(record.get("type", "end") for record in await dumped(rig, only=["head", "store"]))
    assert counts == {"dump": 1, "store": 1, "head": 1, "end": 1}
    for only in (["head", "identity"], "head", ["secrets"]):
        with pytest.raises(UsageError, match="a dump has no"):
            await dumped(rig, only=only)


async def test_a_row_that_can_not_be_read_is_named_and_does_not_end_the_dump(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(0)
    await rig.add()
    rows: Any = rig.node.store
    whole = [row async for batch in rows.load() for row in batch]

    async def torn(_: int = 0) -> Any:
        from dataclasses import replace

        yield [replace(whole[0], data=whole[0].data[:-9]), *whole[1:]]

    rows.load = torn
    records = await dumped(rig, only=["op"])
    assert "unreadable" in records[1]
    assert len(records) == 2 + len(whole)
