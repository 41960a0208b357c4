"""Proofs: the core and the twin make the same bytes and give the same verdict on good and on damaged ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fabrik_twin import op, proof
from fabrik_twin.author import Author
from fabrik_twin.cbor import Refused, encode
from fabrik_twin.worlds import KEYS, MESH_GENESIS
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node import _core
from fabrik_node.errors import BadSignature, FabrikError

MESH = op.genesis_decode(MESH_GENESIS).mesh_id
EPOCH = 5


def log(titles: list[str]) -> Author:
    author = Author(MESH_GENESIS, KEYS[1], epoch=EPOCH)
    for title in titles:
        author.op((1, bytes(16), 1, title, None))
    return author


def verdict(call: Callable[[], object]) -> str:
    try:
        call()
    except (BadSignature, op.BadSignature):
        return "bad signature"
    except (FabrikError, Refused):
        return "refused"
    return "holds"


def damage(data: st.DataObject, good: bytes) -> bytes:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(bad) - 1))
        bad[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    return bytes(bad)


@pytest.mark.promise("J4", "I3")
@given(st.data(), st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_op_proofs(data: st.DataObject, titles: list[str]) -> None:
    author = log(titles)
    first = data.draw(st.integers(1, len(titles)))
    seq = data.draw(st.integers(first, len(titles)))
    segment = author.segment(first, len(titles))
    made = _core.op_proof(MESH, segment, seq)
    decoded = op.segment_decode(segment)
    assert made == proof.op_proof(MESH, decoded, decoded.ops[-1].lamport, seq)
    says, twin = _core.op_proof_verify(made), proof.op_proof_verify(made)
    assert (says["mesh_id"], says["author"], says["epoch"], says["seq"], says["op"]) == (MESH, KEYS[1].public, EPOCH, seq, author.bodies[seq - 1])
    assert (twin.author, twin.epoch, twin.op.seq, twin.op.lamport) == (says["author"], says["epoch"], says["seq"], says["lamport"])
    assert says["digest"] == op.digest(says["op"])
    assert says["writes"] == [(1, bytes(16), 1, titles[seq - 1], None)]
    bad = damage(data, made)
    found = verdict(lambda: proof.op_proof_verify(bad))
    assert verdict(lambda: _core.op_proof_verify(bad)) == found
    assert (found == "holds") == (bad == made)


@pytest.mark.promise("I3")
@given(st.data(), *[st.lists(st.text(max_size=4), max_size=3) for _ in range(3)])
def test_fork_proofs(data: st.DataObject, trunk: list[str], left: list[str], right: list[str]) -> None:
    one, other = log([*trunk, "left", *left]), log([*trunk, "right", *right])
    parts = [author.segment(data.draw(st.integers(1, len(author.bodies))), len(author.bodies)) for author in (one, other)]
    made = encode([1, MESH, *sorted(parts)])
    bad = damage(data, made)
    assert verdict(lambda: _core.fork_proof_verify(bad)) == verdict(lambda: proof.fork_proof_verify(bad))
    if verdict(lambda: proof.fork_proof_verify(made)) == "holds":
        assert _core.fork_proof(MESH, *parts) == _core.fork_proof(MESH, *reversed(parts)) == made
        assert _core.fork_proof_verify(made) == proof.fork_proof_verify(made)
    else:
        assert verdict(lambda: _core.fork_proof(MESH, *parts)) == "refused"


@given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.integers(1, 14), st.integers(200, 900))
def test_packing_and_cutting(titles: list[str], first: int, limit: int) -> None:
    author = log(titles)
    singles = [author.segment(seq, seq) for seq in range(1, len(titles) + 1)]
    packed = _core.pack(singles, limit)
    assert [data for data, _ in packed] == _core.coalesce(singles, limit)
    kept = {int.from_bytes(sigs[at : at + 8]): sigs[at + 8 : at + 72] for _, sigs in packed for at in range(0, len(sigs), 72)}
    kept |= {_core.segment_span(data)[3]: data[-64:] for data, _ in packed}
    assert kept == {seq: single[-64:] for seq, single in enumerate(singles, 1)}
    if first <= len(titles):
        assert _core.cut(author.segment(1, len(titles)), first) == author.segment(first, len(titles))


@given(st.lists(st.text(max_size=3), min_size=1, max_size=6), st.data())
def test_ops_are_found_by_their_digest(titles: list[str], data: st.DataObject) -> None:
    author = log(titles)
    segments = [author.segment(1, 1), b"junk", author.segment(1, len(titles))]
    wanted = op.digest(data.draw(st.sampled_from(author.bodies)))
    prefix = wanted.hex()[: data.draw(st.integers(0, 64))]
    everything = [(0, 1, op.digest(author.bodies[0])), *((2, seq, op.digest(body)) for seq, body in enumerate(author.bodies, 1))]
    assert _core.find_ops(segments, prefix) == [found for found in everything if found[2].hex().startswith(prefix)]
    assert _core.find_ops(segments, wanted.hex() + "0") == []
