"""One rule for signatures, proven before a node serves: public edge cases through the core and through libsodium.

A node that takes a signature which its peers refuse, or the other way round, splits its mesh for good. Which edge cases a build accepts depends on
compilers, libraries and processors, so it is not enough to have tested it elsewhere. Ten milliseconds at each start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from fabrik_node import _core
from fabrik_node.errors import BadSignature, BrokenSignatures, Internal

__all__ = ["EdgeCase", "check_signatures", "core_accepts", "edge_cases", "sodium_accepts"]

_HINT = "install this program again, with the versions of requirements.lock; until then this host must not serve"

Accepts = Callable[[bytes, bytes, bytes], bool]
"""Whether a public key, a message and a signature belong together."""


@dataclass(frozen=True, slots=True)
class EdgeCase:
    """One public case: where it comes from, and the verdict that everybody must reach."""

    name: str
    public: bytes
    message: bytes
    signature: bytes
    valid: bool


def edge_cases() -> Iterator[EdgeCase]:
    """All packaged cases. Each file in ``edges`` names its origin."""
    for file in sorted(resources.files("fabrik_node.node").joinpath("edges").iterdir(), key=lambda file: file.name):
        name = file.name.removeprefix("ed25519-").partition(".")[0]
        for case in json.loads(file.read_bytes())["cases"]:
            public, message, signature = (bytes.fromhex(case[part]) for part in ("public", "message", "signature"))
            yield EdgeCase(f"{name} {case['id']}", public, message, signature, case["result"] == "valid")


def core_accepts(public: bytes, message: bytes, signature: bytes) -> bool:
    """The verdict of the Rust core."""
    try:
        _core.verify(public, message, signature)
    except BadSignature:
        return False
    return True


def sodium_accepts(public: bytes, message: bytes, signature: bytes) -> bool:
    """The verdict of libsodium, by PyNaCl."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError):  # ValueError: a key or signature of another length
        return False
    return True


def check_signatures(core: Accepts = core_accepts, sodium: Accepts = sodium_accepts) -> int:
    """How many cases got one and the expected verdict: all of them. Raises :class:`BrokenSignatures` for the first that did not."""
    count = 0
    for case in edge_cases():
        verdicts = [accepts(case.public, case.message, case.signature) for accepts in (core, sodium)]
        if verdicts != [case.valid, case.valid]:
            ours, theirs, right = ("valid" if verdict else "invalid" for verdict in (*verdicts, case.valid))
            raise BrokenSignatures(f"Ed25519 can not be trusted here: case {case.name} is {right}; the core says {ours}, libsodium says {theirs}", _HINT)
        count += 1
    if count == 0:
        raise Internal("no edge cases are packaged with this build", _HINT)
    return count
