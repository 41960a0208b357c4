"""Write the test vectors beside this file from the twin in ``tests/twin``: ``python tests/vectors/generate.py [--check]``.

All inputs are fixed, so the files come out byte for byte the same; ``--check`` writes nothing and fails when they do not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "twin"), str(HERE.parent)]

from vectors import authority_cases, cbor_cases, merge_cases, op_cases, proof_cases  # noqa: E402

FILES = {
    "cbor-v1.json": ("docs/spec/op.cddl, encoding rules", cbor_cases.cases),
    "op-v1.json": ("docs/spec/op.cddl", op_cases.cases),
    "proof-v1.json": ("docs/spec/op.cddl, proofs", proof_cases.cases),
    "merge-v1.json": ("docs/spec/merge.md", merge_cases.cases),
    "authority-v1.json": ("docs/spec/merge.md, authority", authority_cases.cases),
}


def content(specification: str, cases: dict[str, Any], test: str) -> bytes:
    """One vector file: where it comes from, then the cases."""
    birth = {
        "origin": "generated for this project by tests/vectors/generate.py from the Python twin in tests/twin",
        "generator": "tests/vectors/generate.py",
        "specification": specification,
        "cross_check": f"tests/vectors/{test} compares fabrik_node._core with every case",
    }
    return (json.dumps(birth | cases, indent=1, ensure_ascii=True) + "\n").encode()


def main(arguments: list[str]) -> int:
    """Write or, with ``--check``, compare. The exit status is the number of files that differ."""
    different = 0
    for name, (specification, cases) in FILES.items():
        test = "test_proof_vectors.py" if name == "proof-v1.json" else "test_vectors.py"
        made, path = content(specification, cases(), test), HERE / name
        if "--check" not in arguments:
            path.write_bytes(made)
        elif not path.exists() or path.read_bytes() != made:
            print(f"{name} differs from what the generator makes", file=sys.stderr)
            different += 1
    return different


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
