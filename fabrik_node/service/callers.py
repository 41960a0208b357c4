"""Who calls: the operator, or a command of a run; and the one table of what a command may ask of its node.

A command shows a token that its node made for it alone (:mod:`~fabrik_node.service.passes`). Everything that is not in :data:`RUN_OPERATIONS` is refused to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fabrik_node.errors import AuthError, UsageError
from fabrik_node.ids import parse_id, show_id

__all__ = ["OPERATOR", "RUN_OPERATIONS", "Caller", "Operator", "Own", "RunCaller", "admit", "must_run"]


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever can open the socket: it may do everything that this node may."""


@dataclass(frozen=True, slots=True)
class RunCaller:
    """A command of a run that lives on this node and holds its item."""

    item: bytes
    claim_id: bytes
    run_id: bytes
    agent: str


Caller: TypeAlias = Operator | RunCaller
OPERATOR = Operator()


@dataclass(frozen=True, slots=True)
class Own:
    """The argument ``name`` names something, and of that a command sees only its own; left out, it is filled in."""

    name: str
    what: Literal["item", "run"]


RUN_OPERATIONS: Mapping[str, Own | None] = {
    "ask": None,
    "ask.wait": None,
    "claims.show": Own("item", "item"),
    "items.history": Own("id", "item"),
    "items.show": Own("id", "item"),
    "runs.logs": Own("id", "run"),
    "runs.show": Own("id", "run"),
    "step.begin": None,
    "step.end": None,
    "whoami": None,
    "why": Own("id", "item"),
}
"""What a command of a run may ask. None: the use case itself looks at the caller. A use case that is new is closed until it stands here."""


def admit(caller: Caller, op: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments with which ``caller`` may call ``op``. Raises AuthError for what is not open to it."""
    match caller:
        case Operator():
            return args
        case RunCaller():
            if op not in RUN_OPERATIONS:
                raise AuthError(
                    f"a command of a run may not ask for {op!r}: it works on item {show_id(caller.item)} and nothing else",
                    f"fabrik-node whoami says what is open to it; an operator can do the rest outside of run {show_id(caller.run_id)}",
                )
            rule = RUN_OPERATIONS[op]
            return args if rule is None else {**args, rule.name: _own(caller, rule, args.get(rule.name))}


def must_run(caller: Caller, what: str) -> RunCaller:
    """``caller``, which must be a command of a run. Raises UsageError that says so of ``what``."""
    if isinstance(caller, RunCaller):
        return caller
    raise UsageError(f"{what} is for the command of a run, and this caller is an operator", "call it inside the agent's command: docs/howto/write-an-agent.md")


def _own(caller: RunCaller, rule: Own, given: object) -> str:
    own = show_id(caller.item if rule.what == "item" else caller.run_id)
    if given is None:
        return own
    whole = parse_id(given) if isinstance(given, str) else None
    if whole is not None and show_id(whole) == own:
        return own
    raise AuthError(f"a command of a run sees its own {rule.what} only, by its whole id", f"use {own}")
