"""Proofs of what a node holds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fabrik_twin.author import seed, sign_segment
from fabrik_twin.op import Key, log_start, op_encode
from node_rig import Rigs, sync

from fabrik_node._core import blake3, fork_proof
from fabrik_node.domain.proofs import check_document, fork_document
from fabrik_node.errors import BrokenStore, Conflict, NotFound
from fabrik_node.ports import StoredSegment

KEYS = [Key(seed(number)) for number in range(2)]


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


@pytest.mark.promise("J4")
async def test_every_op_of_a_history_is_proven_wherever_it_was_written(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    item = await rig.add("old")
    await sync(rig, other)
    await other.call("items.edit", id=item, title="new")
    await sync(rig, other)
    changes = (await rig.call("items.history", id=item))["changes"]
    assert {change["node"] for change in changes} == {"node0", "node1"}
    for change in changes:
        for holder in (rig, other):
            answer = await holder.call("ops.proof", id=change["digest"][:12].upper())
            says = check_document(json.dumps(answer["proof"]).encode(), author=bytes.fromhex(change["author"]), mesh=rig.node.mesh_id)
            assert {name: says[name] for name in ("epoch", "seq", "lamport", "digest")} == {
                name: change[name] for name in ("epoch", "seq", "lamport", "digest")
            }
            assert answer["also"] == []


async def test_an_op_is_found_by_a_prefix_of_its_digest_only(rigs: Rigs) -> None:
    rig = await rigs.open()
    digests: list[str] = []
    for number in range(12):
        item = await rig.add(str(number))
        digests.append((await rig.call("items.history", id=item))["changes"][0]["digest"])
    for digest in digests:
        assert (await rig.call("ops.proof", id=digest))["proof"]["digest"] == digest
    for text in ("xyz", digests[0][:3], digests[0] + "0", "0" * 64, "é"):
        with pytest.raises(NotFound) as refused:
            await rig.call("ops.proof", id=text)
        assert "items history" in refused.value.hint


async def test_an_ambiguous_prefix_lists_what_it_could_be(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs.open()
    await rig.add()
    found = [(0, 1, bytes.fromhex("abcd" + digit * 60)) for digit in "01"]
    monkeypatch.setattr("fabrik_node.service.proving.find_ops", lambda *_: found)
    with pytest.raises(Conflict, match="'abcd' is ambiguous: abcd0000.*, abcd1111"):
        await rig.call("ops.proof", id="abcd")


async def test_the_same_bytes_at_two_places_are_told(rigs: Rigs) -> None:
    """One clock and one content: two authors write the same bytes at the same number of their logs."""
    rig, other = await rigs.open(), await rigs.open(1)
    while rig.node.replica.lamport < 20:
        await rig.add()
    await sync(rig, other)
    rows = {row.first_seq: row async for batch in rig.node.store.load() for row in batch if row.author == rig.node.public}
    row = rows[max(rows)]
    digest = (await rig.call("ops.proof", id=(await newest(rig))["digest"]))["proof"]["digest"]
    load = rig.node.store.load

    async def twice(batch_bytes: int = 1) -> AsyncIterator[list[StoredSegment]]:
        async for batch in load(batch_bytes):
            yield batch
        yield [replace(row, author=other.node.public)]

    rig.node.store.load = twice  # type: ignore[method-assign]
    answer = await rig.call("ops.proof", id=digest)
    assert answer["proof"]["author"] == rig.node.public.hex()
    assert answer["also"] == [{"author": other.node.public.hex(), "epoch": row.epoch, "seq": row.last_seq}]


async def newest(rig: Any) -> dict[str, Any]:
    items = (await rig.call("items.list"))["items"]
    changes = [change for item in items for change in (await rig.call("items.history", id=item["id"]))["changes"]]
    return dict(max(changes, key=lambda change: change["seq"]))


async def test_a_damaged_row_proves_nothing_and_is_named(rigs: Rigs) -> None:
    rig = await rigs.open()
    digest = (await rig.call("items.history", id=await rig.add()))["changes"][0]["digest"]
    load = rig.node.store.load

    async def damaged(batch_bytes: int = 1) -> AsyncIterator[list[StoredSegment]]:
        async for batch in load(batch_bytes):
            yield [replace(row, data=row.data[:-1] + bytes([row.data[-1] ^ 1])) for row in batch]

    rig.node.store.load = damaged  # type: ignore[method-assign]
    with pytest.raises(BrokenStore, match="are damaged in the store"):
        await rig.call("ops.proof", id=digest)


@pytest.mark.promise("I10")
async def test_forks_are_listed_with_proofs_that_hold_and_found_by_their_ids(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    assert (await rig.call("ops.forks"))["forks"] == []
    proofs = [fork(rig.node.mesh_id, epoch) for epoch in (3, 4)]
    for number, proof in enumerate(proofs):
        await rig.node.store.put_fork(KEYS[1].public, 3 + number, 2, proof, 1_000 * number)
    forks = (await rig.call("ops.forks"))["forks"]
    assert [(entry["author"], entry["epoch"], entry["seq"], entry["id"]) for entry in forks] == [
        (KEYS[1].public.hex(), 3 + number, 2, blake3(proof).hex()) for number, proof in enumerate(proofs)
    ]
    for entry, proof in zip(forks, proofs, strict=True):
        answer = await rig.call("ops.proof", id=entry["id"][:12])
        assert answer["proof"] == entry["proof"] == fork_document(proof)
        says = check_document(json.dumps(answer["proof"]).encode(), author=KEYS[1].public, mesh=rig.node.mesh_id)
        assert (says["proof"], says["epoch"], says["seq"]) == ("fork", entry["epoch"], 2)
    with pytest.raises(NotFound):
        await other.call("ops.proof", id=forks[0]["id"])


def fork(mesh: bytes, epoch: int) -> bytes:
    """Two histories of one log that part behind its first op."""
    segments = []
    for title in ("left", "right"):
        bodies = [op_encode(1, 1, [], wall_ms=1), op_encode(2, 2, [(1, bytes(16), 1, title, None)], wall_ms=1)]
        segments.append(sign_segment(KEYS[1], mesh, epoch, 1, log_start(mesh, KEYS[1].public, epoch), bodies))
    return fork_proof(mesh, *segments)
