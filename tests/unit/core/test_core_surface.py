"""Errors, keys, limits and the schema table: what the core promises beside merging."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabrik_twin.author import id16, new_genesis, seed
from fabrik_twin.cbor import Refused
from fabrik_twin.merge import STEP_MAX
from fabrik_twin.op import LIMIT, OP_BYTES_MAX, SEGMENT_BYTES_MAX, digest, ephemeral_sign, ephemeral_verify, genesis_decode, genesis_encode

from fabrik_node import _core, errors

MERGE_MD = Path(__file__).resolve().parents[3] / "docs" / "spec" / "merge.md"


# ---- errors ---------------------------------------------------------------------------------------------------------


def raised(mesh: Any, name: str) -> Callable[[], object]:
    key = mesh.key()
    doors: dict[str, Callable[[], object]] = {
        "encode a float": lambda: _core.cbor_encode(1.5),
        "encode a set": lambda: _core.cbor_encode({1}),
        "encode too deep": lambda: _core.cbor_encode([[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]),
        "encode lone surrogate": lambda: _core.cbor_encode("\ud800"),
        "encode a boolean key": lambda: _core.cbor_encode({True: 1}),
        "encode a tuple key": lambda: _core.cbor_encode({(1, 2): 1}),
        "decode nothing": lambda: _core.cbor_decode(b""),
        "decode a float": lambda: _core.cbor_decode(b"\xf9\x00\x00"),
        "verify": lambda: _core.verify(key.public, b"m", bytes(64)),
        "verify a segment of junk": lambda: mesh.replica.verify([b"junk"]),
        "verify the start of another mesh": lambda: _core.Replica(new_genesis(mesh.admin.key, "other", 1)).verify([mesh.first]),
        "verify a segment of another mesh": lambda: _core.Replica(new_genesis(mesh.admin.key, "other", 1)).verify([mesh.admin.segment(2, 2)]),
        "check junk of a short author": lambda: mesh.replica.check(b"junk", 1, 0, []),
        "history of junk": lambda: _core.history([b"junk"], bytes(16)),
        "effects of junk": lambda: _core.effects(mesh.replica, [b"junk"], bytes(16)),
        "coalesce junk": lambda: _core.coalesce([b"junk", b"junk"], 1000),
        "pack junk": lambda: _core.pack([b"junk", b"junk"], 1000),
        "cut junk": lambda: _core.cut(b"junk", 1),
        "cut all": lambda: _core.cut(mesh.first, 3),
        "prove an op of junk": lambda: _core.op_proof(mesh.id, b"junk", 1),
        "prove an op for another mesh": lambda: _core.op_proof(bytes(32), mesh.first, 1),
        "prove an op that is not there": lambda: _core.op_proof(mesh.id, mesh.first, 3),
        "prove a fork of one history": lambda: _core.fork_proof(mesh.id, mesh.first, mesh.first),
        "op proof of junk": lambda: _core.op_proof_verify(b"junk"),
        "fork proof of junk": lambda: _core.fork_proof_verify(b"junk"),
        "ephemeral junk": lambda: _core.ephemeral_verify(mesh.id, b"junk"),
        "ephemeral of another mesh": lambda: _core.ephemeral_verify(mesh.id, key.ephemeral(bytes(32), 1, {})),
        "ephemeral float": lambda: key.ephemeral(mesh.id, 1, {"x": 1.5}),
        "mesh id of junk": lambda: _core.mesh_id(b"junk"),
        "decode genesis": lambda: _core.Genesis.decode(b"\xa0"),
        "replica of junk": lambda: _core.Replica(b""),
        "draft a void op": lambda: mesh.replica.draft(mesh.key(1), 1).append([(3, bytes(32), 1, {1: 5}, None)], 1),
        "draft what others must write": lambda: mesh.replica.draft(mesh.key(1), 1).append([(3, bytes(32), 1, {1: 4}, None)], 1),
        "draft genesis twice": lambda: mesh.replica.draft(key, 1).genesis(1),
        "merge what does not fit": lambda: mesh.replica.merge(_core.Replica(mesh.genesis).draft(key, 1).append([], 1)),
    }
    return doors[name]


@pytest.mark.promise("E26")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encode a float", errors.InvalidOp),
        ("encode a set", errors.InvalidOp),
        ("encode too deep", errors.InvalidOp),
        ("encode lone surrogate", errors.InvalidOp),
        ("encode a boolean key", errors.InvalidOp),
        ("encode a tuple key", errors.InvalidOp),
        ("decode nothing", errors.InvalidOp),
        ("decode a float", errors.InvalidOp),
        ("verify", errors.BadSignature),
        ("verify a segment of junk", errors.InvalidOp),
        ("verify the start of another mesh", errors.BadSignature),
        ("verify a segment of another mesh", errors.BadSignature),
        ("check junk of a short author", errors.InvalidOp),
        ("history of junk", errors.InvalidOp),
        ("effects of junk", errors.InvalidOp),
        ("coalesce junk", errors.InvalidOp),
        ("pack junk", errors.InvalidOp),
        ("cut junk", errors.InvalidOp),
        ("cut all", errors.InvalidOp),
        ("prove an op of junk", errors.InvalidOp),
        ("prove an op for another mesh", errors.BadSignature),
        ("prove an op that is not there", errors.InvalidOp),
        ("prove a fork of one history", errors.InvalidOp),
        ("op proof of junk", errors.InvalidOp),
        ("fork proof of junk", errors.InvalidOp),
        ("ephemeral junk", errors.InvalidOp),
        ("ephemeral of another mesh", errors.BadSignature),
        ("ephemeral float", errors.InvalidOp),
        ("mesh id of junk", errors.BadGenesis),
        ("decode genesis", errors.BadGenesis),
        ("replica of junk", errors.BadGenesis),
        ("draft a void op", errors.InvalidOp),
        ("draft what others must write", errors.AuthError),
        ("draft genesis twice", errors.InvalidOp),
        ("merge what does not fit", errors.InvalidOp),
    ],
)
def test_errors_are_ours(mesh: Any, name: str, expected: type[errors.FabrikError]) -> None:
    with pytest.raises(errors.FabrikError) as caught:
        raised(mesh, name)()
    assert type(caught.value) is expected
    assert caught.value.message
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.hint, str)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.message, again.hint) == (expected, caught.value.message, caught.value.hint)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.SigningKey.from_seed(bytes(31)),
        lambda: _core.SigningKey.from_seed(bytes(33)),
        lambda: _core.genesis_encode(bytes(31), "m", bytes(16), 1),
        lambda: _core.genesis_encode(bytes(32), "", bytes(16), 1),
        lambda: _core.genesis_encode(bytes(32), "m" * 65, bytes(16), 1),
        lambda: _core.genesis_encode(bytes(32), "m", bytes(15), 1),
        lambda: _core.genesis_encode(bytes(32), "m", bytes(16), 2**53 + 1),
        lambda: _core.SigningKey.from_seed(bytes(32)).ephemeral(bytes(31), 1, {}),
        lambda: _core.ephemeral_verify(bytes(31), _core.SigningKey.from_seed(bytes(32)).ephemeral(bytes(32), 1, {})),
        lambda: _core.Replica(new_genesis_of_core()).draft(_core.SigningKey.from_seed(bytes(32)), 0).append([], 1),
        lambda: _core.Replica(new_genesis_of_core()).draft(_core.SigningKey.from_seed(bytes(32)), 2**53).append([], 1),
        lambda: _core.Replica(new_genesis_of_core()).draft(_core.SigningKey.from_seed(bytes(32)), 1).append([], 2**53 + 1),
    ],
)
def test_arguments_of_the_wrong_size_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(errors.FabrikError):
        call()


def new_genesis_of_core() -> bytes:
    return _core.genesis_encode(_core.SigningKey.from_seed(bytes(32)).public, "mesh", bytes(16), 1)


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
def test_genesis_and_ephemeral_messages_have_a_size_limit(mesh: Any, extra: int, fits: bool) -> None:
    def outcome(call: Callable[[], object]) -> bool:
        try:
            call()
        except errors.InvalidOp:
            return False
        return True

    overhead = len(ephemeral_sign(mesh.admin.key, mesh.id, 1, {"x": "x" * 60_000})) - 60_000
    message = ephemeral_sign(mesh.admin.key, mesh.id, 1, {"x": "x" * (OP_BYTES_MAX - overhead + extra)})
    assert outcome(lambda: _core.ephemeral_verify(mesh.id, message)) is outcome_of_twin(lambda: ephemeral_verify(mesh.id, message)) is fits
    overhead = len(genesis_encode(mesh.admin.key.public, "m", id16(0), 1, {6: "x" * 60_000})) - 60_000
    record = genesis_encode(mesh.admin.key.public, "m", id16(0), 1, {6: "x" * (OP_BYTES_MAX - overhead + extra)})
    assert outcome(lambda: _core.Genesis.decode(record)) is outcome_of_twin(lambda: genesis_decode(record)) is fits


def outcome_of_twin(call: Callable[[], object]) -> bool:
    try:
        call()
    except Refused:
        return False
    return True


def test_genesis_is_written_as_the_twin_does() -> None:
    key = _core.SigningKey.from_seed(seed(0))
    assert _core.genesis_encode(key.public, "mësh", id16(3), 77) == genesis_encode(key.public, "mësh", id16(3), 77)


def test_a_value_that_contains_itself_is_too_deep() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(errors.InvalidOp):
        _core.cbor_encode(endless)


def test_blake3_known_answers() -> None:
    assert _core.blake3(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    for size in (1, 63, 64, 65, 1023, 1024, 1025, 70_000):
        assert _core.blake3(b"x" * size) == digest(b"x" * size)


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_a_signing_key_never_shows_its_seed() -> None:
    secret = seed(7)
    key = _core.SigningKey.from_seed(secret)
    for text in (repr(key), str(key), f"{key}", repr(vars(key) if hasattr(key, "__dict__") else {}), repr(dir(key))):
        assert secret.hex() not in text.lower()
        assert repr(secret)[2:-1] not in text
    assert not any(secret in value for name in dir(key) if isinstance(value := getattr(key, name), bytes))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(key, protocol)
    with pytest.raises(TypeError):
        copy.deepcopy(key)


def test_signing_takes_exactly_32_bytes_and_is_deterministic() -> None:
    key = _core.SigningKey.from_seed(seed(7))
    assert key.sign(b"m") == _core.SigningKey.from_seed(seed(7)).sign(b"m")
    assert (len(key.public), len(key.sign(b""))) == (32, 64)


# ---- constants and the register table ----------------------------------------------------------------------------------


def test_limits_are_those_of_the_specification() -> None:
    assert (_core.SPEC_VERSION, _core.OP_BYTES_MAX, _core.SEGMENT_BYTES_MAX) == (1, OP_BYTES_MAX, SEGMENT_BYTES_MAX)
    assert (_core.LAMPORT_STEP_MAX, _core.LAMPORT_MAX) == (STEP_MAX, LIMIT)


def documented() -> list[tuple[str, int, int, list[tuple[str, int, str, bool]]]]:
    """The table under "Registers" of merge.md."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\d+) B[^|]* \| (.+) \|$", MERGE_MD.read_text("utf-8"), re.MULTILINE)
    table = []
    for kind, name, size, cell in rows:
        fields = [re.fullmatch(r"(\d+) (\w+) `([^`]+)`( F)?.*", part.strip()) for part in cell.split(";")]
        assert all(fields), cell
        table.append((name, int(kind), int(size), [(f[2], int(f[1]), f[3], f[4] is not None) for f in fields if f]))
    return table


@pytest.mark.promise("I3")
def test_the_schema_is_the_table_of_the_specification() -> None:
    assert len(documented()) == 9
    assert _core.schema() == documented()
