"""``ops``: proofs are printed and read byte for byte, and checked without a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fabrik_twin.author import Author, id16, new_genesis, seed
from fabrik_twin.op import Key, genesis_decode

from fabrik_node import _core
from fabrik_node.domain.proofs import op_document
from fabrik_node.ids import show_id

KEY = Key(seed(1))
GENESIS = new_genesis(KEY)
MESH = genesis_decode(GENESIS).mesh_id


def proof() -> dict[str, Any]:
    author = Author(GENESIS, KEY, epoch=7)
    author.op((1, id16(3), 1, "a \x1b[31mred\x1b[0m title", (1, 2, id16(9))))
    return op_document(_core.op_proof(MESH, author.segment(1, 1), 1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(proof()))
    return path


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_proof_is_printed_by_itself(cli: Any, service: Any, flags: list[str]) -> None:
    service.patch = {"proof": proof(), "also": []}
    printed = cli("ops", "proof", "9f9f", *flags)
    assert (printed.status, printed.err) == (0, "")
    assert printed.data == proof()
    assert service.asked == [("ops.proof", {"id": "9f9f"})]


def test_other_places_of_the_same_bytes_are_told_on_stderr(cli: Any, service: Any) -> None:
    service.patch = {"proof": proof(), "also": [{"author": "cd" * 32, "epoch": 4, "seq": 9}]}
    printed = cli("ops", "proof", "9f9f")
    assert printed.data == proof()
    assert f"also written by {'cd' * 32} in epoch 4 as op 9" in printed.err


@pytest.mark.promise("J4")
def test_a_proof_is_verified_with_no_home_and_no_node(cli: Any, hooks: Any, file: Path) -> None:
    printed = cli("ops", "verify", str(file), "--author", KEY.public.hex(), "--mesh", MESH.hex(), at_home=False)
    assert (printed.status, printed.err, hooks.called) == (0, "", [])
    assert printed.text.splitlines() == [
        "the proof holds: this author signed this op",
        f"mesh        {MESH.hex()}",
        f"author      {KEY.public.hex()} ({'-'.join(KEY.public.hex()[at : at + 4] for at in range(0, 16, 4))})",
        f"op          {proof()['digest']}",
        "place       epoch 7, op 1, lamport 1",
        "written at  2025-06-15T15:06:40.001Z, by the author's own clock",
        f"write 1     item {show_id(id16(3))} title = a \\x1b[31mred\\x1b[0m title under claim {show_id(id16(9))}",
    ]


def test_without_an_author_it_says_what_is_not_known(cli: Any, file: Path) -> None:
    printed = cli("ops", "verify", str(file), "--json")
    assert printed.data["holds"] is True
    assert "which key signed, not whose key it is" in printed.err


def test_a_fork_proof_is_verified_too(cli: Any, tmp_path: Path) -> None:
    logs = [Author(GENESIS, KEY, epoch=7) for _ in range(2)]
    for number, log in enumerate(logs):
        log.op((1, id16(3), 1, str(number), None))
    path = tmp_path / "fork"
    path.write_bytes(_core.fork_proof(MESH, logs[0].segment(1, 1), logs[1].segment(1, 1)))
    printed = cli("ops", "verify", str(path))
    assert printed.status == 0
    assert printed.text.splitlines()[0] == "the proof holds: this author signed two different histories of one log, at op 1 or before"


@pytest.mark.parametrize(
    ("argv", "status", "cause"),
    [
        (["--author", "ab" * 32], 7, "the proof holds, but for author"),
        (["--mesh", "ab" * 32], 7, "the proof holds, but for mesh"),
        (["--author", "abcd"], 2, "--author takes 64 hex digits, not 'abcd'"),
        (["--mesh", "xy" * 32], 2, "--mesh takes 64 hex digits"),
    ],
)
def test_whose_proof_it_must_be(cli: Any, file: Path, argv: list[str], status: int, cause: str) -> None:
    printed = cli("ops", "verify", str(file), *argv)
    assert (printed.status, printed.out) == (status, b"")
    assert cause in printed.err


def test_a_changed_proof_is_refused_by_its_cause(cli: Any, file: Path) -> None:
    good = proof()
    for name, value, status in (("sig", "00" * 64, 7), ("seq", 2, 1), ("op", "a0", 1)):
        file.write_text(json.dumps({**good, name: value}))
        printed = cli("ops", "verify", str(file))
        assert (printed.status, printed.out) == (status, b""), name


def test_files_that_can_not_be_read(cli: Any, tmp_path: Path) -> None:
    assert cli("ops", "verify", str(tmp_path / "none")).status == 3
    printed = cli("ops", "verify", str(tmp_path))
    assert printed.status == 2
    assert "can not read" in printed.err


def test_forks_are_a_table_with_ids_that_ops_proof_takes(cli: Any, service: Any) -> None:
    assert cli("ops", "forks").text.splitlines()[:3] == [
        "ID            SEEN                      BY     KEY               EPOCH       OP",
        "7d7d7d7d7d7d  2026-11-20T09:00:00.000Z  alpha  abababababababab  4294967300  7",
        "7e7e7e7e7e7e  2026-11-20T09:00:00.000Z  alpha  abababababababab  4294967300  7",
    ]
    service.patch = {"forks": []}
    assert cli("ops", "forks").text.splitlines()[0] == "no log has two histories"


def row(pos: int, why: str, branch: int = 0) -> dict[str, Any]:
    return {"row": pos, "author": "ab" * 32, "name": "alpha", "epoch": 4, "branch": branch, "first_seq": 7, "last_seq": 9, "why": why}


@pytest.mark.promise("I11")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_check_ends_with_1_when_anything_is_damaged(cli: Any, service: Any, flags: list[str]) -> None:
    assert cli("ops", "check", *flags).status == 0
    service.patch = {"sound": False, "damaged": [row(12, "a flipped bit")], "aside": [row(13, "lost", branch=2)], "next": "wait for a peer"}
    printed = cli("ops", "check", *flags)
    assert (printed.status, printed.err) == (1, "")
    if not flags:
        assert printed.text.splitlines()[:4] == [
            "damaged    row 12: ops 7 to 9 of alpha (abababababababab) epoch 4: a flipped bit",
            "set aside  row 13: ops 7 to 9 of alpha (abababababababab) epoch 4 branch 2: lost",
            "3 rows, 38 ops, 7000 bytes read: 2 not sound",
            "wait for a peer",
        ]
