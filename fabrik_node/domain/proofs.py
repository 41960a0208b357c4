"""Proofs as documents: what ``fabrik-node ops proof`` prints and ``ops verify`` reads, and what a proof that holds says.

A document is JSON with the fields of the proof in ``docs/spec/op.cddl``, bytes as hex, and what can be read from them (``seq``, ``digest``).
Reading one builds the proof's bytes again, lets the core verify them, and refuses a document that says anything else than they do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from fabrik_node._core import cbor_decode, cbor_encode, fork_proof_verify, op_proof_verify
from fabrik_node.domain.schema import ClaimField, ItemField, Kind, MemberField, NodeField, RequestField, RotationField, RunField, StepField, TombstoneField
from fabrik_node.errors import AuthError, BadSignature, InvalidOp
from fabrik_node.ids import show_key, show_value

__all__ = ["DOCUMENT_BYTES_MAX", "check_document", "fork_document", "op_document", "write_says"]

DOCUMENT_BYTES_MAX = 4_194_304
"""Of a proof as text: twice its bytes in hex, and room for names."""

_OP, _FORK = "fabrik op proof", "fabrik fork proof"
_AGAIN = "ask whoever gave it to you for it again: fabrik-node ops proof ID"
_FIELDS: Mapping[int, type[IntEnum]] = {
    Kind.ITEM: ItemField,
    Kind.CLAIM: ClaimField,
    Kind.MEMBER: MemberField,
    Kind.NODE: NodeField,
    Kind.TOMBSTONE: TombstoneField,
    Kind.RUN: RunField,
    Kind.ROTATION: RotationField,
    Kind.STEP: StepField,
    Kind.REQUEST: RequestField,
}


def op_document(proof: bytes) -> dict[str, Any]:
    """The document of an op proof. Raises InvalidOp or BadSignature for one that does not hold."""
    says = op_proof_verify(proof)
    _, _, _, _, prev, op, after, lamport, sig = cbor_decode(proof)
    return {
        "type": _OP,
        "version": 1,
        "mesh": says["mesh_id"].hex(),
        "author": says["author"].hex(),
        "epoch": says["epoch"],
        "seq": says["seq"],
        "digest": says["digest"].hex(),
        "prev": prev.hex(),
        "op": op.hex(),
        "after": [digest.hex() for digest in after],
        "lamport": lamport,
        "sig": sig.hex(),
    }


def fork_document(proof: bytes) -> dict[str, Any]:
    """The document of a fork proof. Raises InvalidOp or BadSignature for one that does not hold."""
    mesh, author, epoch, seq = fork_proof_verify(proof)
    _, _, one, other = cbor_decode(proof)
    return {"type": _FORK, "version": 1, "mesh": mesh.hex(), "author": author.hex(), "epoch": epoch, "seq": seq, "segments": [one.hex(), other.hex()]}


def check_document(data: bytes, *, author: bytes = b"", mesh: bytes = b"") -> dict[str, Any]:
    """What a document, or the bytes of a proof, proves: ``proof`` (op or fork), ``mesh``, ``author``, ``epoch``, ``seq`` and more.

    Raises :class:`InvalidOp` for what is no proof, :class:`BadSignature` for one that does not hold, and :class:`AuthError` for one that
    holds, but for another author or mesh than asked for.
    """
    try:
        says = _says(data)
    except BadSignature as error:
        raise BadSignature(f"this proves nothing: {error}", _AGAIN) from error
    except InvalidOp as error:
        raise InvalidOp(f"this is no proof: {error}", _AGAIN) from error
    for what, wanted in (("author", author), ("mesh", mesh)):
        if wanted and says[what] != show_key(wanted):
            raise AuthError(f"the proof holds, but for {what} {says[what]}, not {show_key(wanted)}", "do not take it for theirs")
    return says


def _says(data: bytes) -> dict[str, Any]:
    if len(data) > DOCUMENT_BYTES_MAX:
        raise InvalidOp(f"more than {DOCUMENT_BYTES_MAX} bytes")
    document = None if data[:1] in (b"\x84", b"\x89") else _parse(data)
    proof = data if document is None else _proof_of(document)
    if data[:1] == b"\x84" or (document is not None and document["type"] == _FORK):
        made = fork_document(proof)
        says = {"proof": "fork", **{name: made[name] for name in ("mesh", "author", "epoch", "seq")}}
    else:
        made = op_document(proof)
        says = _op_says(proof)
    wrong = None if document is None else next((name for name in made if document[name] != made[name]), None)
    if wrong is not None:
        raise InvalidOp(f"its {wrong} is not what was signed")
    return says


def _op_says(proof: bytes) -> dict[str, Any]:
    says = op_proof_verify(proof)
    return {
        "proof": "op",
        "mesh": says["mesh_id"].hex(),
        "author": says["author"].hex(),
        "epoch": says["epoch"],
        "seq": says["seq"],
        "lamport": says["lamport"],
        "wall_ms": says["wall_ms"],
        "digest": says["digest"].hex(),
        "kind": says["kind"],
        "writes": [write_says(*write) for write in says["writes"]],
    }


def write_says(kind: int, id: bytes, field: int, value: Any, fence: Any) -> dict[str, Any]:
    """One write of an op in the words of the schema; of another version, by its numbers."""
    known = kind in list(Kind)
    fields = list(_FIELDS[kind]) if known else []
    said = {
        "kind": Kind(kind).name.lower() if known else f"kind {kind}",
        "id": show_value(id),
        "field": _FIELDS[kind](field).name.lower() if field in fields else f"field {field}",
        "value": show_value(value),
    }
    return said if fence is None else {**said, "fence": {"receipt": fence[0], "epoch": fence[1], "claim_id": show_value(fence[2])}}


def _parse(data: bytes) -> Mapping[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise InvalidOp("a field is there twice")
        return dict(pairs)

    try:
        document: Any = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InvalidOp("neither JSON nor the bytes of a proof") from error
    fields = {_OP: _OP_FIELDS, _FORK: _FORK_FIELDS}.get(str(document.get("type"))) if isinstance(document, dict) else None
    if fields is None:
        raise InvalidOp(f"its type is neither {_OP!r} nor {_FORK!r}")
    for name, shape in fields.items():
        if type(document.get(name)) is not shape:
            raise InvalidOp(f"its {name} is missing or not {_SHAPES[shape]}")
    strange = sorted(document.keys() - fields.keys())
    if strange:
        raise InvalidOp(f"a proof has no field {strange[0]!r}")
    if document["version"] != 1:
        raise InvalidOp(f"version {document['version']} is not known to this program")
    return dict(document)


_SHAPES = {str: "text", int: "a number", list: "a list"}
_FORK_FIELDS = {"type": str, "version": int, "mesh": str, "author": str, "epoch": int, "seq": int, "segments": list}
_OP_FIELDS = {
    **dict.fromkeys(("type", "mesh", "author", "digest", "prev", "op", "sig"), str),
    **dict.fromkeys(("version", "epoch", "seq", "lamport"), int),
    "after": list,
}


def _proof_of(document: Mapping[str, Any]) -> bytes:
    def raw(name: str) -> bytes:
        return _unhex(name, document[name])

    if document["type"] == _FORK:
        return cbor_encode([1, raw("mesh"), *(_unhex("segments", one) for one in document["segments"])])
    after = [_unhex("after", one) for one in document["after"]]
    return cbor_encode([1, raw("mesh"), raw("author"), document["epoch"], raw("prev"), raw("op"), after, document["lamport"], raw("sig")])


def _unhex(name: str, text: Any) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise InvalidOp(f"its {name} is not written in hex") from error
    if raw.hex() != text:
        raise InvalidOp(f"its {name} is not written in lower-case hex")
    return raw
