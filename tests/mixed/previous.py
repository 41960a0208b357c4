"""The previous build of the product, from this repository's own history, so that a mesh of both can be tested.

``python tests/mixed/previous.py`` (what ``make previous`` runs) exports the sources of :data:`PREVIOUS` and builds their core, once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

__all__ = ["FOLDER", "LISTEN", "PREVIOUS", "ROOT"]

PREVIOUS = "4873418d50088571c628bc66315a708e537a9012"
"""The build that this one has to work with: the last one without TLS. Moved at each release, never to a commit that no user has."""
LISTEN = "127.0.0.1:0"
"""How it is told to listen on a free port of loopback without TLS."""
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "target" / "previous" / PREVIOUS
"""Its sources, with the core in place once it is built."""
_BUILD_S = 900


def main() -> int:
    """0 when it is there, or can not be because there is no history: the tests say so then."""
    if (FOLDER / "ready").exists():
        return 0
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, "Cargo.toml", "Cargo.lock", "rust", "fabrik_node", "sync"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        print(f"no previous build: {archive.stderr.decode().strip()}", file=sys.stderr)
        return 0
    shutil.rmtree(FOLDER.parent, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as sources:
        sources.extractall(FOLDER, filter="data")
    target = FOLDER.parent / "target"
    environment = os.environ | {"CARGO_TARGET_DIR": str(target), "PYO3_BUILD_EXTENSION_MODULE": "1", "PYO3_PYTHON": sys.executable}
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "-p", "fabrik-py"], cwd=FOLDER, env=environment, check=True, timeout=_BUILD_S)
    (built,) = [path for path in (target / "release").iterdir() if path.name in ("lib_core.so", "lib_core.dylib")]
    shutil.copy(built, FOLDER / "fabrik_node" / "_core.abi3.so")
    shutil.rmtree(target)
    (FOLDER / "ready").touch()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
