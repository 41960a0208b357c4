"""What a run worked from: the digests, what goes into the summary, and what is told of differences."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from fabrik_node.domain.run_inputs import RunInputs, differences, inputs_from, inputs_summary, make_inputs, prompt_text


def made(**changes: Any) -> RunInputs:
    given: dict[str, Any] = {
        "title": "T",
        "body": "B",
        "labels": ["a", "b"],
        "command": ["make", "it"],
        "tests": "make test",
        "settings": {"timeout_s": 3600.0},
    }
    return make_inputs(**given | changes)


def test_the_digest_of_the_prompt_is_that_of_the_file() -> None:
    assert prompt_text("A\ntitle", "body \n\n") == "# A title\n\nbody\n"
    assert made().prompt == sha256(b"# T\n\nB\n").digest()


@pytest.mark.promise("A5")
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"title": "U"}, ["item text"]),
        ({"body": ""}, ["item text"]),
        ({"labels": ["a"]}, ["item labels"]),
        ({"labels": ["b", "a"]}, []),
        ({"command": "make it"}, ["command"]),
        ({"tests": ""}, ["tests"]),
        ({"settings": {"timeout_s": 60.0}}, ["settings"]),
        ({"title": "U", "labels": [], "command": ""}, ["item text", "item labels", "command"]),
    ],
)
def test_each_input_that_changed_is_named_with_both_digests(changes: dict[str, Any], what: list[str]) -> None:
    found = differences(made(), made(**changes))
    assert [each.what for each in found] == what
    for each in found:
        assert each.recorded != each.now
        assert each.text == f"{each.what}: recorded {each.recorded[:12]}, now {each.now[:12]}"


def test_what_is_not_known_is_no_difference_and_nor_is_the_base() -> None:
    one = replace(made(), base=bytes(20))
    assert differences(one, replace(one, base=b"\x01" * 20)) == []
    assert differences(one, RunInputs(prompt=one.prompt)) == []
    assert differences(None, one) == differences(one, None) == []


def test_a_summary_holds_them_and_keeps_them_when_they_are_not_at_hand() -> None:
    inputs = replace(made(), base=b"\x02" * 20)
    summary = {"state": "running", **inputs_summary(inputs, None)}
    assert inputs_from(summary) == inputs
    assert inputs_summary(None, summary) == inputs_summary(inputs, None)
    assert inputs_summary(None, None) == inputs_summary(None, 5) == {}


@pytest.mark.parametrize("value", [b"", bytes(31), "text", 5, None, [b"x" * 32]])
def test_what_another_version_says_is_not_believed(value: object) -> None:
    assert inputs_from({"input_prompt": value}) is None
    assert inputs_from({"input_base": value}) is None
    assert inputs_from({"input_labels": bytes(32), "input_prompt": value}) == RunInputs(labels=bytes(32))
