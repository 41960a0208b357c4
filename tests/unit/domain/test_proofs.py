"""Proofs as documents: what they say is what was signed, and nothing else passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fabrik_twin.author import Author, id16, new_genesis, seed
from fabrik_twin.op import Key, genesis_decode

from fabrik_node import _core
from fabrik_node.domain.proofs import DOCUMENT_BYTES_MAX, check_document, fork_document, op_document
from fabrik_node.errors import AuthError, BadSignature, FabrikError, InvalidOp
from fabrik_node.ids import show_id

KEY = Key(seed(1))
GENESIS = new_genesis(KEY)
MESH = genesis_decode(GENESIS).mesh_id


def log(*titles: str) -> Author:
    author = Author(GENESIS, KEY, epoch=7)
    for title in titles:
        author.op((1, id16(3), 1, title, None), (1, id16(3), 3, [2], (1, 2, id16(9))), (9, b"x", 44, {1: b"y"}, None))
    return author


def op_proof() -> bytes:
    return _core.op_proof(MESH, log("one", "two", "three").segment(1, 3), 2)


def fork_proof() -> bytes:
    return _core.fork_proof(MESH, log("one", "two").segment(1, 2), log("one", "other").segment(1, 2))


DOCUMENTS: list[dict[str, Any]] = [op_document(op_proof()), fork_document(fork_proof())]


def check(document: object) -> dict[str, Any]:
    return check_document(json.dumps(document).encode())


@pytest.mark.promise("J4")
def test_an_op_proof_says_who_wrote_what_and_when() -> None:
    says = check(DOCUMENTS[0])
    assert says == check_document(op_proof()) == check_document(op_proof(), author=KEY.public, mesh=MESH)
    assert (says["proof"], says["mesh"], says["author"], says["epoch"], says["seq"], says["lamport"]) == ("op", MESH.hex(), KEY.public.hex(), 7, 2, 2)
    assert says["wall_ms"] == 1_750_000_000_002
    assert says["writes"] == [
        {"kind": "item", "id": show_id(id16(3)), "field": "title", "value": "two"},
        {"kind": "item", "id": show_id(id16(3)), "field": "stage", "value": [2], "fence": {"receipt": 1, "epoch": 2, "claim_id": show_id(id16(9))}},
        {"kind": "request", "id": b"x".hex(), "field": "field 44", "value": {"1": b"y".hex()}},
    ]


def test_a_fork_proof_says_whose_log_has_two_histories() -> None:
    assert check(DOCUMENTS[1]) == {"proof": "fork", "mesh": MESH.hex(), "author": KEY.public.hex(), "epoch": 7, "seq": 2}
    assert check_document(fork_proof()) == check(DOCUMENTS[1])


@pytest.mark.promise("J4")
@pytest.mark.parametrize("document", DOCUMENTS, ids=["op", "fork"])
@pytest.mark.parametrize("other", [{"author": bytes(32)}, {"mesh": bytes(32)}])
def test_a_proof_of_somebody_else_is_told_apart(document: dict[str, Any], other: dict[str, bytes]) -> None:
    with pytest.raises(AuthError, match="the proof holds, but for") as refused:
        check_document(json.dumps(document).encode(), **other)
    assert type(refused.value) is AuthError


def _flip(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def _changed(value: Any) -> Any:
    match value:
        case str():
            return _flip(value)
        case int():
            return value + 1
        case _:
            return [_flip(value[0]), *value[1:]]


@pytest.mark.promise("J4")
@pytest.mark.parametrize(("document", "name"), [(document, name) for document in DOCUMENTS for name in document])
def test_no_field_can_be_changed_or_left_out(document: dict[str, Any], name: str) -> None:
    changed = _changed(document[name])
    with pytest.raises(FabrikError) as refused:
        check({**document, name: changed})
    assert type(refused.value) in {InvalidOp, BadSignature}
    assert refused.value.hint
    with pytest.raises(InvalidOp, match=f"its {name} is missing|its type is neither"):
        check({other: value for other, value in document.items() if other != name})


@pytest.mark.parametrize("name", ["mesh", "author", "prev", "sig", "lamport", "epoch", "after"])
def test_what_was_signed_is_judged_by_the_signature(name: str) -> None:
    with pytest.raises(BadSignature, match="this proves nothing"):
        check({**DOCUMENTS[0], name: _changed(DOCUMENTS[0][name])})


OP = DOCUMENTS[0]
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "neither JSON nor"),
    "noise": (lambda: b"\xff\xfe", "neither JSON nor"),
    "deep": (lambda: b"[" * 100_000, "neither JSON nor"),
    "a list": (lambda: b"[]", "its type is neither"),
    "another type": (lambda: json.dumps({**OP, "type": "receipt"}).encode(), "its type is neither"),
    "a type of another type": (lambda: json.dumps({**OP, "type": ["x"]}).encode(), "its type is neither"),
    "more": (lambda: json.dumps({**OP, "wall": 1}).encode(), "a proof has no field 'wall'"),
    "twice": (lambda: json.dumps(OP).encode()[:-1] + b', "seq": 2}', "a field is there twice"),
    "another version": (lambda: json.dumps({**OP, "version": 2}).encode(), "version 2 is not known"),
    "a boolean": (lambda: json.dumps({**OP, "seq": True}).encode(), "its seq is missing or not a number"),
    "capitals": (lambda: json.dumps({**OP, "op": OP["op"].upper()}).encode(), "its op is not written in lower-case hex"),
    "no hex": (lambda: json.dumps({**OP, "sig": "xy"}).encode(), "its sig is not written in hex"),
    "no text in a list": (lambda: json.dumps({**OP, "after": [5]}).encode(), "its after is not written in hex"),
    "a number that does not fit": (lambda: json.dumps({**OP, "epoch": 2**64}).encode(), "this is no proof"),
    "a negative number": (lambda: json.dumps({**OP, "lamport": -1}).encode(), "this is no proof"),
    "three segments": (lambda: json.dumps({**DOCUMENTS[1], "segments": [*DOCUMENTS[1]["segments"], "00"]}).encode(), "this is no proof"),
    "seven segments": (lambda: json.dumps({**DOCUMENTS[1], "segments": ["00"] * 7}).encode(), "this is no proof"),
    "cut bytes": (lambda: op_proof()[:-1], "this is no proof"),
    "cut bytes of a fork": (lambda: fork_proof()[:-1], "this is no proof"),
    "too much": (lambda: b" " * (DOCUMENT_BYTES_MAX + 1), "more than 4194304 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_proof_is_refused_with_its_cause(name: str) -> None:
    make, cause = BAD[name]
    with pytest.raises(InvalidOp, match=cause) as refused:
        check_document(make())
    assert type(refused.value) is InvalidOp
    assert "\n" not in str(refused.value)
