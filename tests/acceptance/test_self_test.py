"""No node serves with libraries that do not agree on what a signature is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, environment

DOCTORED = """
import sys
from nacl.signing import VerifyKey
from fabrik_node.app import main
honest = VerifyKey.verify
def lax(self, message, signature=None):
    try:
        return honest(self, message, signature)
    except Exception:
        return message
VerifyKey.verify = lax
sys.argv = ["fabrik-node", *sys.argv[1:]]
sys.exit(main())
"""


def start(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DOCTORED, "--home", str(home), *argv], env=environment(), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.promise("I3")
def test_a_node_tests_its_signatures_before_it_serves(fleet: Fleet) -> None:
    host = fleet.host("--log-level", "debug")
    assert any("signature self-test: 163 public edge cases, one verdict" in line for line in host.stderr)
    host.stop()
    refused = start(host.home, "serve")
    assert refused.returncode == 5
    assert refused.stderr.splitlines() == [
        "fabrik-node: Ed25519 can not be trusted here: case speccheck 0 is invalid; the core says invalid, libsodium says valid",
        "  try: install this program again, with the versions of requirements.lock; until then this host must not serve",
    ]
    rendezvous = start(host.home, "--rendezvous", "ws://127.0.0.1:9/crdt-sync")
    assert (rendezvous.returncode, rendezvous.stderr) == (5, refused.stderr)
    assert start(host.home, "status").returncode == 0, "reads judge no signatures of others"
    host.start()
