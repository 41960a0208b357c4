"""Register kinds and fields by name (docs/spec/merge.md). A test holds this equal to the core's own table."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "NOWHERE",
    "ClaimField",
    "ItemField",
    "Kind",
    "MemberField",
    "NodeField",
    "RequestField",
    "Role",
    "RotationField",
    "RunField",
    "StepField",
    "TombstoneField",
    "needed_role",
]

NOWHERE = [1, 1, bytes(32)]
"""The place that contains nothing (docs/spec/merge.md, "Authority"): a member record that names it binds its subject from the first op on."""


class Kind(IntEnum):
    """Register kinds."""

    ITEM = 1
    CLAIM = 2
    MEMBER = 3
    NODE = 4
    TOMBSTONE = 5
    RUN = 6
    ROTATION = 7
    STEP = 8
    REQUEST = 9


class ItemField(IntEnum):
    """Fields of a work item."""

    TITLE = 1
    BODY = 2
    STAGE = 3
    OUTCOME = 4
    LABELS = 5
    PRIORITY = 6
    DEPENDS_ON = 7
    CREATED_MS = 8
    HOLD = 9
    ATTEMPTS = 10
    PERSON_HOLD = 11
    CLAIM_HOLD = 12


class ClaimField(IntEnum):
    """The one field of a claim register."""

    CLAIM = 1


class MemberField(IntEnum):
    """The one field of a member register."""

    RECORD = 1


class RotationField(IntEnum):
    """The one field of a rotation register."""

    ROTATION = 1


class NodeField(IntEnum):
    """Fields that a node says of itself."""

    NAME = 1
    INFO = 2


class TombstoneField(IntEnum):
    """The one field of a tombstone."""

    TOMBSTONE = 1


class RunField(IntEnum):
    """The one field of a run."""

    SUMMARY = 1


class StepField(IntEnum):
    """The one field of a step."""

    STEP = 1


class RequestField(IntEnum):
    """A question to people, the answer, and that nobody waits for it any more (with what was done)."""

    QUESTION = 1
    ANSWER = 2
    WITHDRAWN = 3


class Role(IntEnum):
    """What a member may do. ``NONE`` is final: the key is out."""

    NONE = 0
    READER = 1
    AGENT = 2
    PEER = 3
    ADMIN = 4


_OF_WORK = {ItemField.STAGE, ItemField.OUTCOME, ItemField.ATTEMPTS, ItemField.HOLD, ItemField.PERSON_HOLD, ItemField.CLAIM_HOLD}
"""What agents write of an item."""


def needed_role(kind: int, field: int) -> Role:
    """The least role whose author may write this register (docs/spec/merge.md, "What an op without member records may write")."""
    match kind:
        case Kind.MEMBER:
            return Role.ADMIN
        case Kind.NODE | Kind.ROTATION:
            return Role.READER
        case Kind.CLAIM | Kind.RUN | Kind.STEP:
            return Role.AGENT
        case Kind.REQUEST if field != RequestField.ANSWER:
            return Role.AGENT
        case Kind.ITEM if field in _OF_WORK:
            return Role.AGENT
        case _:
            return Role.PEER
