"""The names of registers and fields in Python are those of the core, which holds docs/spec/merge.md."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from fabrik_node import _core
from fabrik_node.domain.schema import (
    ClaimField,
    ItemField,
    Kind,
    MemberField,
    NodeField,
    RequestField,
    Role,
    RotationField,
    RunField,
    StepField,
    TombstoneField,
)

FIELDS: dict[Kind, type[IntEnum]] = {
    Kind.ITEM: ItemField,
    Kind.CLAIM: ClaimField,
    Kind.MEMBER: MemberField,
    Kind.NODE: NodeField,
    Kind.TOMBSTONE: TombstoneField,
    Kind.RUN: RunField,
    Kind.ROTATION: RotationField,
    Kind.STEP: StepField,
    Kind.REQUEST: RequestField,
}
PAGE = Path(__file__).parents[3] / "docs/spec/merge.md"


def test_kinds_are_the_cores() -> None:
    assert {kind.name.lower(): int(kind) for kind in Kind} == {name: kind for name, kind, _, _ in _core.schema()}
    assert set(FIELDS) == set(Kind)


@pytest.mark.parametrize("kind", list(Kind))
def test_fields_are_the_cores(kind: Kind) -> None:
    (of_core,) = [fields for _, number, _, fields in _core.schema() if number == kind]
    assert {field.name.lower(): int(field) for field in FIELDS[kind]} == {name: number for name, number, _, _ in of_core}


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\d+) B[^|]*\| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    written = [
        (name, int(kind), int(length), [(number, field) for number, field in re.findall(r"(\d+) (\w+)\b", fields)]) for kind, name, length, fields in rows
    ]
    assert [(name, kind, length) for name, kind, length, _ in written] == [(name, kind, length) for name, kind, length, _ in _core.schema()]
    for (_, _, _, on_page), (_, _, _, fields) in zip(written, _core.schema(), strict=True):
        assert [(str(number), name) for name, number, _, _ in fields] == [
            entry for entry in on_page if entry in {(str(number), name) for name, number, _, _ in fields}
        ]


def test_fences_stand_on_what_a_holder_owns() -> None:
    fenced = {(name, field) for name, _, _, fields in _core.schema() for field, _, _, is_fenced in fields if is_fenced}
    assert fenced == {("item", "stage"), ("item", "outcome"), ("item", "attempts"), ("item", "claim_hold"), ("step", "step")}


def test_roles_are_those_of_the_page() -> None:
    found = re.search(r"role: (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    assert dict(zip(found.group(1).split()[1::2], map(int, found.group(1).split()[::2]), strict=True)) == {role.name.lower(): int(role) for role in Role}
