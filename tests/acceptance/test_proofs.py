"""A proof leaves the mesh: whoever has it checks it with the author's key alone, without our program if he likes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from acceptance.fleet import PROGRAM, Fleet, NodeProcess, environment
from tidy.tree import ROOT

PAGE = ROOT / "docs" / "howto" / "prove-an-op.md"


def independent(folder: Path) -> Path:
    """The check of the page, as a program: PyNaCl and the reference BLAKE3, nothing of ours."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "fabrik_node" not in code
    program = folder / "check.py"
    program.write_text(code)
    return program


def run(*argv: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Away from every home: a HOME in which there is nothing, and no settings."""
    return subprocess.run(
        [str(part) for part in argv], env=environment(Path("/nonexistent")), capture_output=True, text=True, check=False, input=stdin, timeout=60
    )


def proof_of(node: NodeProcess, item: str, field: str) -> dict[str, Any]:
    changes = node.ask("items", "history", item)["changes"]
    (change,) = [change for change in changes if change["field"] == field and change["won"]]
    done = node.run("ops", "proof", change["digest"][:12])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.promise("J4")
def test_a_proof_of_one_op_verifies_offline_with_the_public_key_alone(fleet: Fleet, tmp_path: Path) -> None:
    host = fleet.host()
    member = fleet.member(host, "member")
    item = member.add("written by the member")
    fleet.await_equal([host, member])
    author = member.ask("status")["node_id"]
    proof = proof_of(host, item, "title")
    assert proof["author"] == author
    host.stop()
    assert proof_of(host, item, "title") == proof, "also with no node running"
    member.stop()

    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof))
    verified = run(PROGRAM, "ops", "verify", file, "--author", author, "--json")
    assert verified.returncode == 0, verified.stderr
    says = json.loads(verified.stdout)
    assert (says["holds"], says["author"], says["seq"], says["digest"]) == (True, author, proof["seq"], proof["digest"])
    assert {"kind": "item", "id": item, "field": "title", "value": "written by the member"} in says["writes"]
    assert run(PROGRAM, "ops", "verify", "-", stdin=json.dumps(proof)).returncode == 0

    check = independent(tmp_path)
    checked = run(sys.executable, "-I", check, file)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith(f"{author} signed {proof['op']}")

    for name in ("mesh", "author", "prev", "op", "digest", "sig"):
        bits = bytearray.fromhex(proof[name])
        bits[len(bits) // 2] ^= 4
        file.write_text(json.dumps({**proof, name: bits.hex()}))
        ours, theirs = run(PROGRAM, "ops", "verify", file), run(sys.executable, "-I", check, file)
        assert ours.returncode in {1, 7}, (name, ours.stdout)
        assert "this is no proof" in ours.stderr or "this proves nothing" in ours.stderr
        assert theirs.returncode != 0, name
    assert run(PROGRAM, "ops", "verify", tmp_path / "nothing.json").returncode == 3
