"""The audit of states: what two nodes compare to find the registers that differ."""

from __future__ import annotations

from typing import Any

from blake3 import blake3
from fabrik_twin.author import id16

from fabrik_node import _core


def derived(context: str, data: bytes) -> bytes:
    return blake3(data, derive_key_context=context).digest()


def test_the_state_digest_is_made_of_the_bucket_digests(mesh: Any) -> None:
    for number in range(300):
        mesh.admin.op((1, id16(number), 1, f"item {number}", None))
    mesh.take(mesh.admin.cut())
    frontier, stale, buckets, entries = _core.audit(mesh.replica, [])
    assert (len(buckets), entries, stale, frontier) == (256, [], False, mesh.replica.frontier_digest())
    whole = mesh.replica.registers.to_bytes(8, "big") + b"".join(buckets)
    assert derived("fabrik 2026 v1 state", whole) == mesh.replica.state_digest()
    assert _core.digests(mesh.replica) == (frontier, mesh.replica.state_digest(), False)


def test_each_register_has_an_entry_in_the_bucket_of_its_id(mesh: Any) -> None:
    item = id16(7)
    mesh.admin.op((1, item, 1, "one", None), (1, item, 6, 3, None))
    mesh.take(mesh.admin.cut())
    _, _, _, (entries,) = _core.audit(mesh.replica, [item[-1]])
    ours = [(kind, key, field) for kind, key, field, _ in entries if key == item]
    assert ours == [(1, item, 1), (1, item, 6)]
    assert [entry[:3] for entry in entries] == sorted(entry[:3] for entry in entries)
    register = mesh.replica.get(1, item, 1)
    entry = _core.cbor_encode([1, item, 1]) + _core.cbor_encode([0, 0, b"", register.lamport, register.digest, "one"])
    assert next(each[3] for each in entries if each[:3] == (1, item, 1)) == derived("fabrik 2026 v1 state entry", entry)


def test_another_value_is_another_entry_and_bucket(mesh: Any) -> None:
    item = id16(7)
    mesh.admin.op((1, item, 1, "one", None))
    mesh.take(mesh.admin.cut())
    _, _, before, (old,) = _core.audit(mesh.replica, [item[-1]])
    mesh.admin.op((1, item, 1, "two", None))
    mesh.take(mesh.admin.cut())
    _, _, after, (new,) = _core.audit(mesh.replica, [item[-1]])
    assert [number for number in range(256) if before[number] != after[number]] == [item[-1]]
    assert [one[:3] for one, other in zip(old, new, strict=True) if one != other] == [(1, item, 1)]


def test_the_rules_of_a_build_have_a_name() -> None:
    assert len(_core.merge_rules()) == 32
    assert _core.merge_rules() == _core.merge_rules()
