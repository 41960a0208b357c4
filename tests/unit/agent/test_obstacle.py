"""What keeps an agent from taking work, as other nodes hear it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fabrik_node.agent.halt import Halt, HaltCode
from fabrik_node.agent.obstacle import TEXT_CHARS, obstacle

HALT = Halt(HaltCode.OPERATOR, "new disk", 1)
FREE: dict[str, Any] = {"stopping": False, "disk": "", "refused": "", "wait_s": 0.0}


@pytest.mark.promise("J6")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"wait_s": 29.6}, "it waits 30 s after a rate limit or failures in a row"),
        ({"refused": "no remote", "wait_s": 5.0}, "no remote"),
        ({"disk": "the disk is full", "refused": "x"}, "the disk is full: nothing is written until there is space"),
        ({"stopping": True, "disk": "x"}, "its node is stopping and takes nothing new"),
    ],
)
def test_what_is_in_the_way_is_named(change: dict[str, Any], said: str) -> None:
    assert obstacle(None, **(FREE | change)) == said


@pytest.mark.promise("J6")
def test_a_halt_comes_first_and_always_with_what_lifts_it() -> None:
    assert obstacle(HALT, stopping=True, disk="x", refused="y", wait_s=1.0) == "operator: new disk (fabrik-node drain --off)"
    long = obstacle(replace(HALT, reason="r" * 1000), **FREE)
    assert long.endswith("r (fabrik-node drain --off)")
    assert len(long) <= TEXT_CHARS
    assert len(obstacle(None, **(FREE | {"refused": "r" * 1000}))) == TEXT_CHARS
