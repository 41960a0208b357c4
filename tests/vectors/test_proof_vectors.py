"""Every committed proof against the Rust core and against the twin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fabrik_twin import cbor, proof

from fabrik_node import _core
from fabrik_node.errors import FabrikError

VECTORS = json.loads((Path(__file__).parent / "proof-v1.json").read_bytes())
OPS, FORKS = VECTORS["op_proofs"], VECTORS["fork_proofs"]
Case = dict[str, Any]


def named(cases: list[Case]) -> pytest.MarkDecorator:
    """One test per case, under its name."""
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


@pytest.mark.promise("J4", "I3")
@named(OPS["accepted"])
def test_op_proof_accepted(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    core, twin = _core.op_proof_verify(data), proof.op_proof_verify(data)
    for name in ("mesh_id", "author", "digest"):
        assert core[name].hex() == case[name]
    for name in ("epoch", "seq", "lamport", "wall_ms"):
        assert core[name] == case[name]
    assert (twin.mesh_id.hex(), twin.author.hex(), twin.epoch, twin.op.seq) == (case["mesh_id"], case["author"], case["epoch"], case["seq"])


@pytest.mark.promise("I3")
@named(FORKS["accepted"])
def test_fork_proof_accepted(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    for mesh, author, epoch, seq in (_core.fork_proof_verify(data), proof.fork_proof_verify(data)):
        assert (mesh.hex(), author.hex(), epoch, seq) == (case["mesh_id"], case["author"], case["epoch"], case["seq"])
    _, mesh, one, other = _core.cbor_decode(data)
    assert _core.fork_proof(mesh, one, other) == _core.fork_proof(mesh, other, one) == data


@pytest.mark.promise("J4", "I3")
@pytest.mark.parametrize("kind", ["op", "fork"])
def test_refused(kind: str) -> None:
    cases = {"op": OPS, "fork": FORKS}[kind]["refused"]
    assert len(cases) > 10
    for case in cases:
        data = bytes.fromhex(case["hex"])
        with pytest.raises(FabrikError) as core:
            getattr(_core, f"{kind}_proof_verify")(data)
        with pytest.raises(cbor.Refused) as twin:
            getattr(proof, f"{kind}_proof_verify")(data)
        assert (core.value.code, twin.value.verdict) == (case["verdict"], case["verdict"]), case["name"]
