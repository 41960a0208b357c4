"""Steps of the work on an item, and which of them may run again. Pure: a register's value in, a verdict out.

A step is known by its item and its name, whichever run works on it. What is done is not done again; what was begun and has no end is begun again, unless it has effects
outside its files: nobody knows then how far it came, and a person decides. An end by a signal is no end of such a step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from shlex import quote
from typing import Any

from fabrik_node._core import blake3, cbor_encode
from fabrik_node.errors import Conflict, Precondition, UsageError
from fabrik_node.ids import show_id, show_key

__all__ = [
    "COMMAND_BYTES_MAX",
    "NAME_BYTES_MAX",
    "UNCLEAR",
    "Step",
    "StepState",
    "Wanted",
    "check_name",
    "decode_step",
    "encode_step",
    "inputs_digest",
    "is_cut_off",
    "is_typable",
    "judge_begin",
    "reopened",
    "unclear_line",
]

NAME_BYTES_MAX = 100
COMMAND_BYTES_MAX = 1_000
"""Of the command as it is kept for people; what is longer is cut. The digest is of the whole."""
_ATTEMPT_MAX = 2**53 - 1
"""Where counting ends; no command gets there, but a member may write any number."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_BY_SIGNAL = range(129, 193)
"""Exit statuses that say 128 and the number of a signal, as shells do."""
UNCLEAR = "step_unclear"
"""Word at the begin of the reason of such a hold."""


class StepState(IntEnum):
    """As on the wire (docs/spec/merge.md)."""

    STARTED = 0
    DONE = 1
    FAILED = 2
    AGAIN = 3


@dataclass(frozen=True, slots=True)
class Step:
    """What is known of a step: its last attempt. ``commit``: the git commit with its files, empty when there is none; ``exit_status`` None: it has not ended."""

    item: bytes
    name: str
    state: StepState
    inputs: bytes
    attempt: int
    claim_id: bytes
    run_id: bytes
    wall_ms: int
    commit: bytes = b""
    exit_status: int | None = None
    side_effects: bool = False
    command: str = ""

    @property
    def is_unended(self) -> bool:
        """Begun, with effects outside its files, and never ended, as far as the register says: unclear unless its run still goes on."""
        return self.state is StepState.STARTED and self.side_effects


@dataclass(frozen=True, slots=True)
class Wanted:
    """A step that a run wants to begin."""

    item: bytes
    name: str
    inputs: bytes
    claim_id: bytes
    run_id: bytes
    wall_ms: int
    side_effects: bool
    command: str

    def begun(self, attempt: int) -> Step:
        """The register's value from now on."""
        return Step(
            self.item,
            self.name,
            StepState.STARTED,
            self.inputs,
            attempt,
            self.claim_id,
            self.run_id,
            self.wall_ms,
            side_effects=self.side_effects,
            command=self.command,
        )


def check_name(value: Any) -> str:
    """``value`` as the name of a step: one line of 1 to 100 bytes. Raises :class:`UsageError`."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        raise UsageError(f"the name of a step is one line of 1 to {NAME_BYTES_MAX} bytes", "fabrik-node step NAME -- COMMAND")
    return value


def is_typable(name: str) -> bool:
    """A step's name that people can type in a shell. Another one was written by no ``step`` command, and counts for nothing: nobody could say what became of it."""
    return _CONTROL.search(name) is None


def inputs_digest(texts: Sequence[str], command: Sequence[str], inputs: Sequence[str]) -> bytes:
    """32 bytes of all that a step's result depends on: the item's ``texts``, the command with its arguments, and what its caller named as inputs, in any order."""
    return blake3(cbor_encode([1, list(texts), list(command), sorted(inputs)]))


def encode_step(step: Step) -> dict[int, Any]:
    """The register's value (docs/spec/merge.md)."""
    value: dict[int, Any] = {
        1: step.item,
        2: step.name,
        3: int(step.state),
        4: step.inputs,
        5: step.attempt,
        6: step.claim_id,
        7: step.run_id,
        10: step.wall_ms,
    }
    optional = {8: step.commit or None, 9: step.exit_status, 11: step.side_effects or None, 12: step.command or None}
    return value | {key: part for key, part in optional.items() if part is not None}


def decode_step(value: dict[int, Any]) -> Step:
    """Of a value that the core let in."""
    return Step(
        item=value[1],
        name=value[2],
        state=StepState(value[3]),
        inputs=value[4],
        attempt=value[5],
        claim_id=value[6],
        run_id=value[7],
        wall_ms=value[10],
        commit=value.get(8, b""),
        exit_status=value.get(9),
        side_effects=value.get(11, False),
        command=value.get(12, ""),
    )


def judge_begin(known: Step | None, wanted: Wanted, *, running: str, has_files: bool, changed_ok: bool) -> Step:
    """The step as it is after ``wanted`` asked to begin it: begun by it, or ``known`` as it is when that is done and has to be left alone.

    ``running``: who runs ``known`` at this moment, empty when nobody does. ``has_files``: the commit of ``known`` is in the asker's worktree. Of a done step
    with effects outside its files that does not count: they have happened.
    Raises :class:`Conflict` when it is being run, :class:`Precondition` when it is done with other inputs. What is unclear is found out before (:attr:`Step.is_unended`).
    """
    if known is None:
        return wanted.begun(1)
    if known.state is StepState.STARTED and running:
        raise Conflict(f"step {known.name!r} is being run by {running}", "wait for its end: it runs once")
    if known.state is StepState.DONE and known.inputs != wanted.inputs and not changed_ok:
        raise Precondition(
            f"step {known.name!r} was done with other inputs: {show_key(known.inputs)} by run {show_id(known.run_id)}, and now they are {show_key(wanted.inputs)}",
            f"to do it again: fabrik-node steps again {show_id(known.item)} {quote(known.name)}, or fabrik-node step {quote(known.name)} --changed-ok -- COMMAND",
        )
    if known.state is StepState.DONE and known.inputs == wanted.inputs and (has_files or known.side_effects):
        return known
    return wanted.begun(min(known.attempt + 1, _ATTEMPT_MAX))


def is_cut_off(step: Step, exit_status: int, *, told_to_end: bool) -> bool:
    """This end says nothing of how far ``step`` came: a signal ended its command, or it was told to end. Only of a step with effects outside its files; another one just runs again."""
    return step.side_effects and (told_to_end or exit_status in _BY_SIGNAL)


def reopened(step: Step, wall_ms: int) -> Step:
    """After its result was found wanting: it may run again, but what has effects outside its files stays done. No work begins at its commit any more."""
    if step.state is StepState.DONE and not step.side_effects:
        return replace(step, state=StepState.AGAIN, commit=b"", wall_ms=wall_ms)
    return replace(step, commit=b"")


def unclear_line(step: Step) -> str:
    """Why nobody goes on with its item, and what a person types when it is known what became of the step."""
    item, name = show_id(step.item), quote(step.name)
    return (
        f"{UNCLEAR}: step {step.name!r} has effects outside its files, and of attempt {step.attempt} in run {show_id(step.run_id)} nobody knows how far it came; "
        f"fabrik-node steps done {item} {name} if it has happened, fabrik-node steps again {item} {name} if not; then fabrik-node items requeue {item}"
    )
