"""Work that a command has finished, and that nobody has tested and merged yet: what the outcome of an interrupted run says of it.

The commit may be on one host alone until its remote is back. Whoever goes on with the item does not run the command again, if it can have the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FinishedWork", "finished_facts", "finished_from", "without_finished"]

_COMMIT, _BRANCH, _PROMPT = "finished", "finished_branch", "finished_prompt"
_OID_BYTES = (20, 32)
_BRANCH_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class FinishedWork:
    """``commit`` is on ``branch``, here or on the remote. ``prompt``: SHA-256 of the text that it was made from (:mod:`fabrik_node.domain.run_inputs`); empty: not known."""

    commit: bytes
    branch: str
    prompt: bytes = b""

    def is_of(self, prompt: bytes) -> bool:
        """Whether it was made from this text, as far as that is known."""
        return not self.prompt or self.prompt == prompt


def finished_facts(work: FinishedWork | None) -> dict[str, Any]:
    """What an outcome says of it; nothing of None."""
    return {} if work is None else {_COMMIT: work.commit, _BRANCH: work.branch, **({_PROMPT: work.prompt} if work.prompt else {})}


def finished_from(outcome: object) -> FinishedWork | None:
    """Of what an outcome says; another version may say anything."""
    if not isinstance(outcome, Mapping):
        return None
    commit, branch, prompt = outcome.get(_COMMIT), outcome.get(_BRANCH), outcome.get(_PROMPT, b"")
    if not isinstance(commit, bytes) or len(commit) not in _OID_BYTES or not isinstance(prompt, bytes):
        return None
    return FinishedWork(commit, branch, prompt) if isinstance(branch, str) and 0 < len(branch) <= _BRANCH_CHARS_MAX else None


def without_finished(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The same outcome, of which nobody uses any work."""
    return {name: value for name, value in outcome.items() if name not in (_COMMIT, _BRANCH, _PROMPT)}
