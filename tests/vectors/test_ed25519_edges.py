"""One Ed25519 rule everywhere: public edge cases through the Rust core and through libsodium (PyNaCl)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fabrik_twin.op import BadSignature as TwinBadSignature
from fabrik_twin.op import verify as sodium_verify

from fabrik_node import _core
from fabrik_node.errors import BadSignature
from fabrik_node.node import self_test

HERE = Path(__file__).parent
PACKAGED = Path(self_test.__file__).parent / "edges"
"""Of the self-test at each start."""


def file(name: str) -> dict[str, Any]:
    path = HERE / f"ed25519-{name}.json"
    found: dict[str, Any] = json.loads((path if path.exists() else PACKAGED / path.name).read_bytes())
    return found


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = file(name)["cases"]
    return found


def by_rust(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        _core.verify(public, message, signature)
    except BadSignature:
        return False
    return True


def by_sodium(public: bytes, message: bytes, signature: bytes) -> bool:
    if len(signature) != 64:
        return False  # PyNaCl refuses these with ValueError before it reaches the curve
    try:
        sodium_verify(public, message, signature)
    except TwinBadSignature:
        return False
    return True


@pytest.mark.promise("I3")
def test_speccheck_only_case_three_verifies() -> None:
    rows = [(bytes.fromhex(c["public"]), bytes.fromhex(c["message"]), bytes.fromhex(c["signature"])) for c in cases("speccheck")]
    assert "".join("V" if by_rust(*row) else "X" for row in rows) == "XXXVXXXXXXXX"
    assert "".join("V" if by_sodium(*row) else "X" for row in rows) == "XXXVXXXXXXXX"
    assert [c["result"] for c in cases("speccheck")] == ["valid" if index == 3 else "invalid" for index in range(12)]


@pytest.mark.promise("I3")
@pytest.mark.parametrize("case", cases("wycheproof"), ids=lambda case: str(case["id"]))
def test_wycheproof(case: dict[str, Any]) -> None:
    row = (bytes.fromhex(case["public"]), bytes.fromhex(case["message"]), bytes.fromhex(case["signature"]))
    assert (by_rust(*row), by_sodium(*row)) == (case["result"] == "valid", case["result"] == "valid")


@pytest.mark.promise("I3")
def test_cctv_points_get_the_same_verdict() -> None:
    rows = [(bytes.fromhex(c["public"]), c["message"].encode(), bytes.fromhex(c["signature"])) for c in cases("cctv")]
    different = [c["id"] for c, row in zip(cases("cctv"), rows, strict=True) if by_rust(*row) != by_sodium(*row)]
    assert different == []
    assert 0 < sum(by_rust(*row) for row in rows) < len(rows)


@pytest.mark.promise("I3")
@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(BadSignature):
        _core.verify(bytes(size), b"message", bytes(64))


@pytest.mark.promise("I3")
@pytest.mark.parametrize("size", [0, 63, 65])
def test_signatures_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(BadSignature):
        _core.verify(_core.SigningKey.from_seed(bytes(32)).public, b"message", bytes(size))


@pytest.mark.promise("I3")
@pytest.mark.parametrize(("name", "count"), [("speccheck", 12), ("wycheproof", 151), ("cctv", 914)])
def test_no_case_is_left_out_and_each_file_names_its_origin(name: str, count: int) -> None:
    """The counts are those of the original files; their hashes stand in ours."""
    assert [case["id"] for case in cases(name)] == list(range(name == "wycheproof", count + (name == "wycheproof")))
    assert file(name)["origin"].startswith("https://github.com/")
    assert "sha256 of the original file: " in file(name)["generator"]
