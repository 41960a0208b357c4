"""The stages of an item, typed, and the one table of legal moves.

A stage is never a string inside the product: text comes in through :func:`stage_type` and goes out through
``stage.name``. A new stage must be added to :data:`STAGE_TYPES` and :data:`TRANSITIONS`; every consumer that matches
on stages ends in ``assert_never``, and a test lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, TypeAlias, assert_never

from fabrik_node.errors import FabrikError, IllegalMove, InvalidOp, NoCommits, UsageError

__all__ = [
    "REASON_NAMES",
    "RESUMABLE_REASONS",
    "STAGE_TYPES",
    "TRANSITIONS",
    "ArchiveReason",
    "Archived",
    "Backlog",
    "Coding",
    "Done",
    "Merge",
    "Qa",
    "Stage",
    "check_holder_move",
    "check_in_merge",
    "check_move",
    "decode_stage",
    "encode_stage",
    "is_working",
    "parse_reason",
    "stage_fields",
    "stage_type",
    "stage_value",
]


class ArchiveReason(IntEnum):
    """Why an item left the pipeline. These six replace every flag of older systems."""

    COMPLETED = 0
    ABANDONED = 1
    SUPERSEDED = 2
    BLOCKED = 3
    MERGE_FAILED = 4
    REVIEW_HELD = 5


REASON_NAMES: dict[ArchiveReason, str] = {
    ArchiveReason.COMPLETED: "Completed",
    ArchiveReason.ABANDONED: "Abandoned",
    ArchiveReason.SUPERSEDED: "Superseded",
    ArchiveReason.BLOCKED: "Blocked",
    ArchiveReason.MERGE_FAILED: "MergeFailed",
    ArchiveReason.REVIEW_HELD: "ReviewHeld",
}

RESUMABLE_REASONS = frozenset({ArchiveReason.BLOCKED, ArchiveReason.MERGE_FAILED, ArchiveReason.REVIEW_HELD})
"""Only these may come back from the archive; the others are final."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Waiting for somebody."""

    name: ClassVar[str] = "Backlog"


@dataclass(frozen=True, slots=True)
class Coding:
    """A holder is changing the program on a branch."""

    name: ClassVar[str] = "Coding"


@dataclass(frozen=True, slots=True)
class Qa:
    """The program's tests run on the branch."""

    name: ClassVar[str] = "Qa"


@dataclass(frozen=True, slots=True)
class Merge:
    """Ready to be merged. Invariant: ``commits_ahead >= 1``."""

    feature_branch: str
    commits_ahead: int
    name: ClassVar[str] = "Merge"

    def __post_init__(self) -> None:
        """Raises :class:`NoCommits` for zero commits ahead."""
        if self.commits_ahead < 1:
            raise NoCommits(
                f"branch {self.feature_branch!r} is {self.commits_ahead} commits ahead: there is nothing to merge", "commit the work on the branch first"
            )
        if not self.feature_branch:
            raise UsageError("a merge needs the name of its feature branch", "--branch NAME")


@dataclass(frozen=True, slots=True)
class Done:
    """Merged: ``merge_commit`` (20 or 32 bytes) is on the base branch."""

    merged_at_ms: int
    merge_commit: bytes
    name: ClassVar[str] = "Done"

    def __post_init__(self) -> None:
        """Raises :class:`UsageError` for something that is not a git object id."""
        if len(self.merge_commit) not in (20, 32):
            raise UsageError("a merge commit is 40 or 64 hex digits", "--merge-commit OID")


@dataclass(frozen=True, slots=True)
class Archived:
    """Out of the pipeline, with the reason."""

    archived_at_ms: int
    reason: ArchiveReason
    name: ClassVar[str] = "Archived"


Stage: TypeAlias = Backlog | Coding | Qa | Merge | Done | Archived

STAGE_TYPES: tuple[type[Stage], ...] = (Backlog, Coding, Qa, Merge, Done, Archived)
"""In pipeline order; the position is the tag on the wire."""

_BRANCH_BYTES_MAX = 255

TRANSITIONS: Mapping[type[Stage], frozenset[type[Stage]]] = {
    Backlog: frozenset({Coding, Archived}),
    Coding: frozenset({Qa, Backlog, Archived}),
    Qa: frozenset({Merge, Coding, Backlog, Archived}),
    Merge: frozenset({Done, Coding, Backlog, Archived}),
    Done: frozenset({Archived}),
    Archived: frozenset({Backlog, Coding, Qa, Merge}),  # only from RESUMABLE_REASONS, and only by people: check_holder_move
}
"""Which stage may follow which. Staying in a stage is not a move."""


def stage_type(name: str) -> type[Stage]:
    """The stage class of a name, in any case. Raises :class:`UsageError`."""
    for cls in STAGE_TYPES:
        if cls.name.lower() == name.lower():
            return cls
    raise UsageError(f"no stage {name!r}", "stages: " + ", ".join(cls.name for cls in STAGE_TYPES))


def parse_reason(text: str) -> ArchiveReason:
    """The reason of a name, in any case and with or without separators. Raises :class:`UsageError`."""
    wanted = text.replace("-", "").replace("_", "").lower()
    for reason, name in REASON_NAMES.items():
        if name.lower() == wanted:
            return reason
    raise UsageError(f"no archive reason {text!r}", "reasons: " + ", ".join(REASON_NAMES.values()))


def check_move(old: Stage, new: Stage | type[Stage]) -> None:
    """Returns when the table allows the move (to a stage, or to any stage of a type); raises :class:`IllegalMove` with the legal ones otherwise."""
    target = new if isinstance(new, type) else type(new)
    legal = TRANSITIONS[type(old)]
    if isinstance(old, Archived) and old.reason not in RESUMABLE_REASONS:
        legal = frozenset()
    if target not in legal:
        names = [cls.name for cls in STAGE_TYPES if cls in legal]
        where = f"{old.name} ({REASON_NAMES[old.reason]})" if isinstance(old, Archived) else old.name
        raise IllegalMove(f"an item can not move from {where} to {target.name}", f"from {where} it can go to: {', '.join(names) or 'nowhere'}")


def check_holder_move(old: Stage, new: Stage | type[Stage]) -> None:
    """:func:`check_move` for whoever works on the item: the archive is left on the word of people alone, never by a run that was still under way."""
    if isinstance(old, Archived):
        raise IllegalMove(f"the item was archived meanwhile ({REASON_NAMES[old.reason]})", "fabrik-node items requeue ID brings it back")
    check_move(old, new)


def check_in_merge(stage: Stage) -> None:
    """Returns for an item in Merge, whose branch may be changed without a move; raises :class:`IllegalMove` for any other."""
    if not isinstance(stage, Merge):
        raise IllegalMove(f"an item in {stage.name} has no branch that could be changed", "fabrik-node items show ID")


def encode_stage(stage: Stage) -> list[Any]:
    """The CBOR form of merge.md."""
    tag = STAGE_TYPES.index(type(stage))
    match stage:
        case Backlog() | Coding() | Qa():
            return [tag]
        case Merge():
            return [tag, stage.feature_branch, stage.commits_ahead]
        case Done():
            return [tag, stage.merged_at_ms, stage.merge_commit]
        case Archived():
            return [tag, stage.archived_at_ms, int(stage.reason)]
        case _:
            assert_never(stage)


def decode_stage(value: list[Any]) -> Stage:
    """Inverse of :func:`encode_stage`. Raises :class:`InvalidOp` (the core voids such values, so this is a newer format)."""
    try:
        cls = STAGE_TYPES[value[0]]
        if cls is Archived:
            return Archived(value[1], ArchiveReason(value[2]))
        stage: Stage = cls(*value[1:])
    except (IndexError, TypeError, ValueError, FabrikError) as error:
        raise InvalidOp(f"stage value {value!r} is of a newer version", "upgrade this node") from error
    return stage


def is_working(value: Any) -> bool:
    """False for the CBOR form of Done and Archived; ``value`` is one of a stage."""
    return bool(value[0] <= STAGE_TYPES.index(Merge))


def stage_value(value: Any) -> tuple[Any, ...] | None:
    """A value that nobody checked, if it is the CBOR form of a stage, as merge.md has it; else None."""
    shape = [type(part) for part in value] if isinstance(value, list) else []
    match value if shape[:1] == [int] else None:
        case [0 | 1 | 2]:
            return tuple(value)
        case [3, str(branch), ahead] if shape[2] is int and 1 <= ahead < 2**32 and 1 <= len(branch.encode()) <= _BRANCH_BYTES_MAX:
            return tuple(value)
        case [4, at, bytes(commit)] if shape[1] is int and at >= 0 and len(commit) in (20, 32):
            return tuple(value)
        case [5, at, reason] if shape[1:] == [int, int] and at >= 0 and 0 <= reason < len(ArchiveReason):
            return tuple(value)
        case _:
            return None


def stage_fields(stage: Stage) -> dict[str, Any]:
    """The stage's own data for people and JSON (without its name)."""
    match stage:
        case Backlog() | Coding() | Qa():
            return {}
        case Merge():
            return {"feature_branch": stage.feature_branch, "commits_ahead": stage.commits_ahead}
        case Done():
            return {"merged_at_ms": stage.merged_at_ms, "merge_commit": stage.merge_commit.hex()}
        case Archived():
            return {"archived_at_ms": stage.archived_at_ms, "reason": REASON_NAMES[stage.reason]}
        case _:
            assert_never(stage)
