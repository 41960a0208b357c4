"""What a run worked from: digests of everything that it was given, and how that differs from what it would be given now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["ENGINE", "Difference", "RunInputs", "differences", "engine", "inputs_from", "inputs_summary", "make_inputs", "one_line", "prompt_text"]

_PREFIX = "input_"
_DIGEST_BYTES = 32
_OID_BYTES = (20, 32)
_PROGRAM = "fabrik-node"
ENGINE = "engine"
"""What differs when a node has another version than the one that ran it."""


@dataclass(frozen=True, slots=True)
class RunInputs:
    """SHA-256 of each; ``base`` is the id of the git commit at which the work began. Empty: not known, or not yet."""

    prompt: bytes = b""
    """Of the prompt file: title and body of the item, as :func:`prompt_text` writes them."""
    labels: bytes = b""
    command: bytes = b""
    """Of the command line as it stands in the settings, as JSON."""
    tests: bytes = b""
    settings: bytes = b""
    """Of the other settings that matter to the work, as JSON."""
    base: bytes = b""


@dataclass(frozen=True, slots=True)
class Difference:
    """``what`` was ``recorded`` when the run began and is ``now`` something else."""

    what: str
    recorded: str
    now: str

    @property
    def text(self) -> str:
        """For people, one line."""
        if self.what == ENGINE:
            return f"{ENGINE}: ran with {self.recorded}, its node has {self.now}"
        return f"{self.what}: recorded {self.recorded[:12]}, now {self.now[:12]}"


_SPOKEN = {"prompt": "item text", "labels": "item labels", "command": "command", "tests": "tests", "settings": "settings"}
"""All but the base: that the base branch moves on is no drift."""


def engine(version: str) -> str:
    """How a run names the program that ran it."""
    return f"{_PROGRAM} {version}"


def one_line(text: str) -> str:
    """``text`` without control characters: it goes into environment variables, messages and log lines."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def prompt_text(title: str, body: str) -> str:
    """Markdown: the title as heading, then the body."""
    return f"# {one_line(title)}\n\n{body}".rstrip() + "\n"


def make_inputs(
    *, title: str, body: str, labels: Sequence[str], command: Sequence[str] | str, tests: Sequence[str] | str, settings: Mapping[str, Any]
) -> RunInputs:
    """Of a run that begins now; its base is not known yet."""
    return RunInputs(
        prompt=_sha256(prompt_text(title, body).encode("utf-8", "replace")),
        labels=_digest(sorted(labels)),
        command=_digest(command),
        tests=_digest(tests),
        settings=_digest(dict(settings)),
    )


def inputs_summary(inputs: RunInputs | None, known: object) -> dict[str, Any]:
    """Keys of the run's replicated summary. ``inputs`` None: not at hand any more, so what the summary ``known`` says of them stays."""
    if inputs is None:
        return {name: value for name, value in known.items() if str(name).startswith(_PREFIX)} if isinstance(known, Mapping) else {}
    return {f"{_PREFIX}{field.name}": value for field in fields(inputs) if (value := getattr(inputs, field.name))}


def inputs_from(summary: Mapping[str, Any]) -> RunInputs | None:
    """The inputs in a summary; another version may say anything. None: nothing that can be read."""
    found = RunInputs()
    for field in fields(RunInputs):
        value = summary.get(f"{_PREFIX}{field.name}")
        if isinstance(value, bytes) and len(value) in (_OID_BYTES if field.name == "base" else (_DIGEST_BYTES,)):
            found = replace(found, **{field.name: value})
    return None if found == RunInputs() else found


def differences(recorded: RunInputs | None, now: RunInputs | None) -> list[Difference]:
    """Where both are known and differ. The base is left out."""
    if recorded is None or now is None:
        return []
    pairs = [(spoken, getattr(recorded, name), getattr(now, name)) for name, spoken in _SPOKEN.items()]
    return [Difference(spoken, one.hex(), other.hex()) for spoken, one, other in pairs if one and other and one != other]


def _digest(value: object) -> bytes:
    return _sha256(json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> bytes:
    from hashlib import sha256  # late: the command line draws what was recorded, and digests nothing

    return sha256(data).digest()
