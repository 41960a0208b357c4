"""Stages: every pair of them, every reason, and the page that is drawn from the table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.stages import (
    REASON_NAMES,
    RESUMABLE_REASONS,
    STAGE_TYPES,
    TRANSITIONS,
    Archived,
    ArchiveReason,
    Backlog,
    Coding,
    Done,
    Merge,
    Qa,
    Stage,
    check_move,
    decode_stage,
    encode_stage,
    parse_reason,
    stage_fields,
    stage_type,
)
from fabrik_node.errors import IllegalMove, InvalidOp, NoCommits, UsageError

PAGE = Path(__file__).parents[3] / "docs/spec/stages.md"

SAMPLES: list[Stage] = [
    Backlog(),
    Coding(),
    Qa(),
    Merge("fabrik/x/y", 1),
    Done(1_700_000_000_000, b"\x01" * 20),
    *(Archived(1_700_000_000_000, reason) for reason in ArchiveReason),
]
"""One of each kind, and one archived for each reason."""

LEGAL = {
    ("Backlog", "Coding"), ("Backlog", "Archived"),
    ("Coding", "Qa"), ("Coding", "Backlog"), ("Coding", "Archived"),
    ("Qa", "Merge"), ("Qa", "Coding"), ("Qa", "Backlog"), ("Qa", "Archived"),
    ("Merge", "Done"), ("Merge", "Coding"), ("Merge", "Backlog"), ("Merge", "Archived"),
    ("Done", "Archived"),
    ("Archived", "Backlog"), ("Archived", "Coding"), ("Archived", "Qa"), ("Archived", "Merge"),
}  # fmt: skip
"""Written out by hand a second time: a change of the table has to be made on purpose."""


def _is_legal(old: Stage, new: Stage) -> bool:
    if isinstance(old, Archived) and old.reason not in {ArchiveReason.BLOCKED, ArchiveReason.MERGE_FAILED, ArchiveReason.REVIEW_HELD}:
        return False
    return (old.name, new.name) in LEGAL


@pytest.mark.promise("E1")
@pytest.mark.parametrize(("old", "new"), list(product(SAMPLES, SAMPLES)), ids=lambda stage: f"{stage.name}{getattr(stage, 'reason', '')}")
def test_every_pair_of_stages(old: Stage, new: Stage) -> None:
    if _is_legal(old, new):
        check_move(old, new)
        return
    with pytest.raises(IllegalMove) as refused:
        check_move(old, new)
    named = refused.value.hint.rpartition(": ")[2]
    assert named == (", ".join(cls.name for cls in STAGE_TYPES if any(_is_legal(old, sample) for sample in SAMPLES if isinstance(sample, cls))) or "nowhere")
    assert old.name in str(refused.value)
    assert new.name in str(refused.value)


@pytest.mark.promise("E1")
def test_the_table_knows_every_stage_and_no_other() -> None:
    assert set(TRANSITIONS) == set(STAGE_TYPES)
    assert {(old.name, new.name) for old, targets in TRANSITIONS.items() for new in targets} == LEGAL


@pytest.mark.promise("E1")
def test_every_stage_can_be_reached_and_left() -> None:
    reached: set[type[Stage]] = {Backlog}
    while (more := reached | {new for old in reached for new in TRANSITIONS[old]}) != reached:
        reached = more
    assert reached == set(STAGE_TYPES)
    assert all(TRANSITIONS[cls] for cls in STAGE_TYPES)


@pytest.mark.promise("E2")
@pytest.mark.parametrize("commits", [0, -1, -(2**40)])
def test_a_merge_of_nothing_can_not_even_be_said(commits: int) -> None:
    with pytest.raises(NoCommits, match=f"{commits} commits ahead"):
        Merge("branch", commits)
    with pytest.raises(InvalidOp):
        decode_stage([3, "branch", commits])


def test_a_merge_needs_a_branch_and_done_a_commit() -> None:
    with pytest.raises(UsageError):
        Merge("", 1)
    for length in (0, 19, 21, 31, 33):
        with pytest.raises(UsageError):
            Done(1, b"x" * length)


@pytest.mark.promise("E3")
@pytest.mark.parametrize("reason", list(ArchiveReason))
def test_each_reason_is_reached_shown_and_read_back(reason: ArchiveReason) -> None:
    for old in (Backlog(), Coding(), Qa(), Merge("b", 2), Done(1, b"x" * 32)):
        check_move(old, Archived(5, reason))
    name = REASON_NAMES[reason]
    assert stage_fields(Archived(5, reason)) == {"archived_at_ms": 5, "reason": name}
    assert decode_stage(encode_stage(Archived(5, reason))) == Archived(5, reason)
    for spelling in (name, name.lower(), name.upper(), reason.name, reason.name.lower().replace("_", "-")):
        assert parse_reason(spelling) is reason


@pytest.mark.promise("E3")
def test_there_are_six_reasons_and_no_flag_beside_them() -> None:
    assert len(ArchiveReason) == len(REASON_NAMES) == 6
    assert set(REASON_NAMES) == set(ArchiveReason)
    assert {field.name for cls in STAGE_TYPES for field in dataclasses.fields(cls) if field.type in (bool, "bool")} == set()


@pytest.mark.parametrize("text", ["", "Finished", "Completed!", "Block", "5"])
def test_another_reason_is_refused_with_the_right_ones(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_reason(text)
    assert all(name in refused.value.hint for name in REASON_NAMES.values())


@pytest.mark.promise("E7")
@pytest.mark.parametrize("cls", STAGE_TYPES)
def test_a_stage_is_read_from_text_in_any_case(cls: type[Stage]) -> None:
    assert stage_type(cls.name) is stage_type(cls.name.lower()) is stage_type(cls.name.upper()) is cls


@pytest.mark.parametrize("text", ["", "Codin", "Coding ", "1", "Review"])
def test_another_stage_is_refused_with_the_right_ones(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        stage_type(text)
    assert all(cls.name in refused.value.hint for cls in STAGE_TYPES)


STAGES: st.SearchStrategy[Stage] = st.one_of(
    st.just(Backlog()),
    st.just(Coding()),
    st.just(Qa()),
    st.builds(Merge, st.text(min_size=1, max_size=50), st.integers(1, 2**32 - 1)),
    st.builds(Done, st.integers(0, 2**53), st.one_of(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32))),
    st.builds(Archived, st.integers(0, 2**53), st.sampled_from(ArchiveReason)),
)


@given(STAGES)
def test_a_stage_survives_its_wire_form(stage: Stage) -> None:
    value = encode_stage(stage)
    assert value[0] == STAGE_TYPES.index(type(stage))
    assert decode_stage(value) == stage
    assert all(isinstance(name, str) for name in stage_fields(stage))


@pytest.mark.parametrize("value", [[], [6], [99, 1, 2], [3], [3, "b", 1, 2], [4, 1], [5, 1, 6], [5, 1]])
def test_a_stage_of_a_newer_version_says_so(value: Sequence[Any]) -> None:
    with pytest.raises(InvalidOp, match="newer version"):
        decode_stage(list(value))


@pytest.mark.promise("E6")
def test_the_core_accepts_the_stages_of_the_table_and_no_other() -> None:
    from fabrik_node._core import Replica, SigningKey, genesis_encode

    key = SigningKey.from_seed(b"s" * 32)
    replica = Replica(genesis_encode(key.public, "m", b"n" * 16, 1))
    draft = replica.draft(key, 1)
    draft.genesis(1)
    for stage in SAMPLES:
        draft.append([(1, b"i" * 16, 3, encode_stage(stage), None)], 1)
    for tag in range(len(STAGE_TYPES), len(STAGE_TYPES) + 3):
        for rest in ([], [1], [1, 1], ["b", 1], [1, b"x" * 20]):
            with pytest.raises(InvalidOp):
                draft.append([(1, b"i" * 16, 3, [tag, *rest], None)], 1)
    with pytest.raises(InvalidOp):
        draft.append([(1, b"i" * 16, 3, [3, "b", 0], None)], 1)
    with pytest.raises(InvalidOp):
        draft.append([(1, b"i" * 16, 3, [5, 1, len(ArchiveReason)], None)], 1)


# ---- the page ---------------------------------------------------------------------------------------------


def _rows(*rows: Sequence[str]) -> str:
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows) + "\n"


def _draw() -> dict[str, str]:
    stages = [
        (str(tag), f"`{cls.name}`", " ".join(f"`{field.name}`" for field in dataclasses.fields(cls)))  # the order of the fields is that of the wire
        for tag, cls in enumerate(STAGE_TYPES)
    ]
    yes = {cls: "(yes)" if cls is Archived else "yes" for cls in STAGE_TYPES}
    moves = [(old.name, *(yes[old] if new in TRANSITIONS[old] else "" for new in STAGE_TYPES)) for old in STAGE_TYPES]
    reasons = [(str(int(reason)), f"`{name}`", "yes" if reason in RESUMABLE_REASONS else "no") for reason, name in REASON_NAMES.items()]
    return {"The stages": _rows(*stages), "Legal moves": _rows(*moves), "Reasons": _rows(*reasons)}


@pytest.mark.parametrize("title", list(_draw()))
def test_the_page_is_drawn_from_the_data(title: str) -> None:
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section
    rows = re.findall(r"^\|.*\|\n", section.group(1), re.MULTILINE)
    assert "".join(rows[2:]) == _draw()[title], f"docs/spec/stages.md, {title}: the rows should be\n{_draw()[title]}"
