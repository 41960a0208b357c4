"""How a run ended: the classes, what follows from each, and which exit code of a command means which. All of it data."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from fabrik_node.domain.runs import RunState
from fabrik_node.errors import AuthError

__all__ = [
    "EXIT_CODES",
    "REASON_CHARS_MAX",
    "RESULT_RULES",
    "SIGNALS",
    "ExitRule",
    "Pause",
    "Result",
    "ResultRule",
    "Verdict",
    "conflict",
    "judge_exit",
    "not_allowed",
    "unanswered",
]


class Result(StrEnum):
    """The class of a finished run. Everything that follows from it is in :data:`RESULT_RULES`."""

    OK = "ok"
    AGENT_FAILED = "agent_failed"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    INFRA_LOST = "infra_lost"
    LEASE_LOST = "lease_lost"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    NOT_ALLOWED = "not_allowed"
    UNANSWERED = "unanswered"


class Pause(Enum):
    """Who waits before the next try, besides the wait that every charged attempt brings."""

    NOBODY = "nobody"
    ITEM = "item"
    """This agent leaves the item alone for a while."""
    AGENT = "agent"
    """This agent takes nothing for a while."""


@dataclass(frozen=True, slots=True)
class ResultRule:
    """``charges``: an attempt is used up. ``state``: what the run's row says. ``pause``: see :class:`Pause`."""

    charges: bool
    state: RunState
    pause: Pause


RESULT_RULES: Mapping[Result, ResultRule] = {
    Result.OK: ResultRule(charges=False, state=RunState.COMPLETED, pause=Pause.NOBODY),
    Result.AGENT_FAILED: ResultRule(charges=True, state=RunState.FAILED, pause=Pause.NOBODY),
    Result.TIMEOUT: ResultRule(charges=True, state=RunState.FAILED, pause=Pause.NOBODY),
    Result.CONFLICT: ResultRule(charges=False, state=RunState.FAILED, pause=Pause.NOBODY),  # held, so nobody tries
    Result.RATE_LIMITED: ResultRule(charges=False, state=RunState.INTERRUPTED, pause=Pause.AGENT),
    Result.INFRA_LOST: ResultRule(charges=False, state=RunState.INTERRUPTED, pause=Pause.ITEM),
    Result.LEASE_LOST: ResultRule(charges=False, state=RunState.INTERRUPTED, pause=Pause.ITEM),
    Result.SUPERSEDED: ResultRule(charges=False, state=RunState.SUPERSEDED, pause=Pause.NOBODY),
    Result.CANCELLED: ResultRule(charges=False, state=RunState.CANCELLED, pause=Pause.NOBODY),
    Result.NOT_ALLOWED: ResultRule(charges=False, state=RunState.FAILED, pause=Pause.ITEM),  # and the agent is halted
    Result.UNANSWERED: ResultRule(charges=False, state=RunState.FAILED, pause=Pause.NOBODY),  # held, so nobody tries
}
"""Only ``agent_failed`` and ``timeout`` use up attempts: the others say nothing about the work."""


REASON_CHARS_MAX = 1000
"""Of a reason or hold: enough for a list of files, little enough for an op."""


@dataclass(frozen=True, slots=True)
class ExitRule:
    """One line of the documented table (docs/howto/write-an-agent.md)."""

    result: Result
    meaning: str


EXIT_CODES: Mapping[int, ExitRule] = {
    0: ExitRule(Result.OK, "the work is done and committed"),
    75: ExitRule(Result.RATE_LIMITED, "it is rate limited; try again later"),  # EX_TEMPFAIL of sysexits(3)
    76: ExitRule(Result.INFRA_LOST, "something that it depends on failed; the item is not to blame"),  # EX_PROTOCOL
    124: ExitRule(Result.TIMEOUT, "it ended itself for taking too long"),  # timeout(1)
    126: ExitRule(Result.AGENT_FAILED, "its shell could not run a program"),
    127: ExitRule(Result.AGENT_FAILED, "its shell did not find a program"),
    129: ExitRule(Result.INFRA_LOST, "its shell reports SIGHUP from outside"),
    130: ExitRule(Result.INFRA_LOST, "its shell reports SIGINT from outside"),
    143: ExitRule(Result.INFRA_LOST, "its shell reports SIGTERM from outside"),
}
"""Every other exit code is ``agent_failed``."""

SIGNALS: Mapping[int, ExitRule] = {
    signal.SIGHUP: ExitRule(Result.INFRA_LOST, "ended from outside"),
    signal.SIGINT: ExitRule(Result.INFRA_LOST, "ended from outside"),
    signal.SIGTERM: ExitRule(Result.INFRA_LOST, "ended from outside"),
}
"""Signals that the supervisor did not send. Every other one is ``agent_failed``, SIGKILL too: a command that always runs out of memory must not be tried for ever."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run, or one command of it, ended. ``reason`` is one line; ``hold`` is not empty when a person has to look at the item first."""

    result: Result
    reason: str
    exit_code: int | None = None
    hold: str = ""
    merge_commit: bytes = b""
    resolve: str = ""
    """Of a merge conflict: the commands that solve it by hand, one in a line."""
    unstartable: bool = False
    """The command could not even be started, and no item is to blame for that."""

    def __post_init__(self) -> None:
        """Reasons quote git and other programs: they are cut, because they become part of ops."""
        object.__setattr__(self, "reason", _cut(self.reason))
        object.__setattr__(self, "hold", _cut(self.hold))

    @property
    def line(self) -> str:
        """Class and reason, as shown everywhere."""
        return f"{self.result}: {self.reason}"

    def noting(self, note: str) -> Verdict:
        """The same, with something that went wrong besides."""
        return replace(self, reason=f"{self.reason}; {note}")


def conflict(reason: str, item: str, commands: str = "") -> Verdict:
    """Finished work that a person has to look at before it can be merged. ``commands``: of git, one in a line; ours, which lets agents merge, follows."""
    resolve = "\n".join(line for line in (commands, f"fabrik-node items resolve {item}") if line)
    return Verdict(Result.CONFLICT, reason, hold=reason, resolve=resolve)


def not_allowed(error: AuthError) -> Verdict:
    """This node may not write what a run has to write: another role, or removed from the mesh."""
    return Verdict(Result.NOT_ALLOWED, f"{error} ({error.hint})" if error.hint else str(error))


def unanswered(question: str, verdict: Verdict) -> Verdict:
    """Nobody answered what a command asked, and it had no answer for that case: its item is held, whatever ``verdict`` its end would be."""
    return Verdict(Result.UNANSWERED, question, verdict.exit_code, hold=question)


def judge_exit(what: str, status: int) -> Verdict:
    """The verdict on ``what`` from its wait status: an exit code, or minus the signal that ended it."""
    if status >= 0:
        rule = EXIT_CODES.get(status)
        if rule is None:
            return Verdict(Result.AGENT_FAILED, f"{what} failed with exit code {status}", status)
        return Verdict(rule.result, f"{what} ended with exit code {status}: {rule.meaning}", status)
    number = -status
    name = _signal_name(number)
    rule = SIGNALS.get(number)
    if rule is None:
        return Verdict(Result.AGENT_FAILED, f"{what} was ended by {name}", 128 + number)
    return Verdict(rule.result, f"{what} was ended by {name}: {rule.meaning}", 128 + number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= REASON_CHARS_MAX else f"{line[: REASON_CHARS_MAX - 4]} ..."
