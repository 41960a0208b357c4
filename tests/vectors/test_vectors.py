"""Every committed vector against the Rust core, against the twin, and against the script that made it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabrik_twin import cbor, op
from fabrik_twin.compare import Held, offer

from fabrik_node import _core
from fabrik_node.errors import FabrikError

HERE = Path(__file__).parent
CBOR = json.loads((HERE / "cbor-v1.json").read_bytes())
OP = json.loads((HERE / "op-v1.json").read_bytes())
MERGE = json.loads((HERE / "merge-v1.json").read_bytes())
AUTHORITY = json.loads((HERE / "authority-v1.json").read_bytes())
MESH = bytes.fromhex(OP["mesh_id"])
GENESIS = bytes.fromhex(MERGE["genesis"])

Case = dict[str, Any]


def named(cases: list[Case]) -> pytest.MarkDecorator:
    """One test per case, under its name."""
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def rust_verdict(call: Callable[[], object]) -> str:
    try:
        call()
    except FabrikError as error:
        return error.code
    return "ok"


def twin_verdict(call: Callable[[], object]) -> str:
    try:
        call()
    except cbor.Refused as error:
        return error.verdict
    return "ok"


def verifier() -> _core.Replica:
    return _core.Replica(GENESIS)


def test_generator_makes_the_committed_files() -> None:
    run = subprocess.run([sys.executable, str(HERE / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("path", sorted(HERE.glob("*.json")), ids=lambda path: path.name)
def test_every_vector_file_has_a_birth_certificate(path: Path) -> None:
    content = json.loads(path.read_bytes())
    assert all(content[field] for field in ("origin", "generator", "cross_check"))


# ---- CBOR -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("I3", "E27")
@named(CBOR["accepted"])
def test_cbor_accepted(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    value = cbor.decode(data)
    assert cbor.diagnostic(value) == case["diagnostic"]
    assert _core.cbor_decode(data) == cbor.plain(value)
    assert _core.cbor_encode(_core.cbor_decode(data)) == data
    assert _core.cbor_encode(cbor.plain(value)) == data


@pytest.mark.promise("I3", "I11")
@named(CBOR["refused"])
def test_cbor_refused(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    assert twin_verdict(lambda: cbor.decode(data)) == case["verdict"]
    assert rust_verdict(lambda: _core.cbor_decode(data)) == case["verdict"]


# ---- keys, genesis, segments, ephemeral messages -----------------------------------------------------------------------


@pytest.mark.promise("F2", "I3")
@pytest.mark.parametrize("case", OP["keys"], ids=lambda case: case["public"][:8])
def test_keys_sign_the_same(case: Case) -> None:
    key = _core.SigningKey.from_seed(bytes.fromhex(case["seed"]))
    message = bytes.fromhex(case["message"])
    assert key.public.hex() == case["public"]
    assert key.sign(message).hex() == case["signature"]
    _core.verify(key.public, message, key.sign(message))


@pytest.mark.promise("I3")
@named(OP["genesis"]["accepted"])
def test_genesis_accepted(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    ours, theirs = op.genesis_decode(data), _core.Genesis.decode(data)
    assert (theirs.mesh_id.hex(), _core.mesh_id(data).hex()) == (case["mesh_id"], case["mesh_id"])
    assert (theirs.admin, theirs.name, theirs.created_ms, theirs.mesh_id) == (ours.admin, ours.name, ours.created_ms, ours.mesh_id)
    assert _core.Replica(data).mesh_id == theirs.mesh_id


@pytest.mark.promise("I3")
@named(OP["genesis"]["refused"])
def test_genesis_refused(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    assert twin_verdict(lambda: op.genesis_decode(data)) == case["verdict"]
    for door in (_core.Genesis.decode, _core.mesh_id, _core.Replica):
        assert rust_verdict(lambda door=door: door(data)) == case["verdict"]  # type: ignore[misc]


@pytest.mark.promise("F2", "I3")
@named(OP["segments"]["accepted"])
def test_segment_accepted(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    ours = op.segment_verify(MESH, data)
    (verified,) = verifier().verify([data])
    assert (verified.author, verified.epoch, verified.first_seq, verified.ops) == (ours.author, ours.epoch, ours.first_seq, len(ours.ops))
    assert [_core.blake3(body).hex() for body in ours.bodies] == case["digests"]
    _core.verify(ours.author, bytes.fromhex(case["signed"]), bytes.fromhex(case["sig"]))
    if verified.first_seq == 1:
        replica = verifier()
        (chained,) = replica.chain([verified]).chained
        assert (chained.data, chained.prev.hex(), chained.head.hex()) == (data, case["prev"], case["head"])
        assert [digest.hex() for digest in chained.digests] == case["digests"]


@pytest.mark.promise("I3", "I11", "F3", "E26")
@named(OP["segments"]["refused"])
def test_segment_refused(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    replica = verifier()
    before = replica.state_digest(), replica.frontier_digest(), replica.lamport, replica.ops, replica.heads()
    assert twin_verdict(lambda: op.segment_verify(MESH, data)) == case["verdict"]
    assert rust_verdict(lambda: replica.verify([data])) == case["verdict"]
    assert (replica.state_digest(), replica.frontier_digest(), replica.lamport, replica.ops, replica.heads()) == before


@pytest.mark.promise("I3")
@named(OP["ephemeral"]["accepted"])
def test_ephemeral_accepted(case: Case) -> None:
    data, payload = bytes.fromhex(case["hex"]), bytes.fromhex(case["payload"])
    key = _core.SigningKey.from_seed(bytes.fromhex(OP["keys"][0]["seed"]))
    assert op.ephemeral_verify(MESH, data)[:2] == (key.public, case["counter"])
    assert _core.ephemeral_verify(MESH, data) == (key.public, case["counter"], cbor.plain(cbor.decode(payload)))
    assert key.ephemeral(MESH, case["counter"], _core.cbor_decode(payload)) == data


@pytest.mark.promise("I3")
@named(OP["ephemeral"]["refused"])
def test_ephemeral_refused(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    assert twin_verdict(lambda: op.ephemeral_verify(MESH, data)) == case["verdict"]
    assert rust_verdict(lambda: _core.ephemeral_verify(MESH, data)) == case["verdict"]


# ---- merge ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("I1", "I3", "I10", "I12", "E9", "E26")
@named(MERGE["scenarios"])
def test_scenario(case: Case) -> None:
    check_scenario(GENESIS, case)


@pytest.mark.promise("I3", "I14", "E28")
@named(AUTHORITY["scenarios"])
def test_authority_scenario(case: Case) -> None:
    check_scenario(bytes.fromhex(AUTHORITY["genesis"]), case)


def check_scenario(genesis: bytes, case: Case) -> None:
    held = Held(genesis)
    for number, step in enumerate(case["steps"]):
        verdict = offer(held, bytes.fromhex(step["hex"]))
        found = (verdict, 0, 0, 0) if isinstance(verdict, str) else (verdict.outcome, verdict.stored, verdict.duplicates, verdict.forked)
        assert (number, *found) == (number, step["verdict"], step["stored"], step["duplicates"], step["forked"])
    replica = held.replica
    for expected in case["registers"]:
        kind, id_, field = expected["register"]
        register = replica.get(kind, bytes.fromhex(id_), field)
        assert register is not None, expected
        shown = {
            "register": [kind, id_, field],
            "value": _core.cbor_encode(register.value).hex(),
            "lamport": register.lamport,
            "digest": register.digest.hex(),
            "author": register.author.hex(),
            "epoch": register.epoch,
            "seq": register.seq,
        }
        assert shown == expected
    assert (replica.registers, replica.ops, replica.voided, replica.lamport) == (len(case["registers"]), case["ops"], len(case["void"]), case["lamport"])
    assert sorted([head.author.hex(), head.epoch, head.seq, head.head.hex()] for head in replica.heads()) == case["heads"]
    assert [[author.hex(), epoch] for author, epoch in replica.suspended()] == case["suspended"]
    logs = sorted({(head.author, head.epoch) for head in replica.heads()})
    markers = [(*log, *marker) for log in logs if (marker := replica.marker(*log))]
    assert [[author.hex(), epoch, seq, h.hex()] for author, epoch, seq, h in markers] == case["markers"]
    assert all(replica.holds(*marker) for marker in markers)
    members = [replica.member(bytes.fromhex(key)) for key, *_ in case["members"]]
    assert [[member.role, member.level, member.named] for member in members] == [expected[1:] for expected in case["members"]]
    assert all(replica.tombstoned(bytes.fromhex(item)) for item in case["deleted"])
    assert replica.frontier_digest().hex() == case["frontier_digest"]
    assert replica.state_digest().hex() == case["state_digest"]
