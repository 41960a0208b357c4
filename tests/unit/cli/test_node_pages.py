"""How nodes are drawn: with the age of what is known, and never as alive on old news."""

from __future__ import annotations

from typing import Any

import pytest

from fabrik_node.cli.render_nodes import _lag, _marks, _presence
from fabrik_node.cli.render_page import footer
from fabrik_node.cli.table import Screen
from fabrik_node.domain.nearness import Nearness


@pytest.mark.promise("F7")
def test_the_members(cli: Any, service: Any) -> None:
    lines = cli("nodes", "list").text.splitlines()
    assert lines[0].split() == ["NAME", "ROLE", "FINGERPRINT", "PRESENCE", "LAG", "VERSION", "NOTE"]
    assert "this node" in lines[1]
    assert "abab-abab-abab-abab" in lines[1]
    assert "silent since 2026-11-20T09:53:20.000Z, heard 6m ago" in lines[2]
    assert "lacks 3 for 6m, has 1 more" in lines[2]
    assert "STATE DIFFERS" in lines[2]
    assert lines[-1].startswith("as of 2026-11-20T10:00:00.000Z, from node alpha")


@pytest.mark.promise("I25")
@pytest.mark.parametrize("state", [state for state in Nearness if state is not Nearness.SELF])
def test_every_state_has_words_that_say_how_old_the_news_is(state: Nearness) -> None:
    shown = _presence({"state": state.value, "last_contact_s": 12.0, "silent_since": "T"})
    assert "12s ago" in shown or state in (Nearness.NEVER, Nearness.UNKNOWN)
    assert ("alive" in shown) == (state is Nearness.ALIVE)


def test_a_connected_node_that_said_nothing_yet_is_connected() -> None:
    assert _presence({"state": "alive", "last_contact_s": None}) == "connected"


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"lag_out": 0, "lag_in": 0, "lag_s": 0.0}, "0 ops"),
        ({"lag_out": 3, "lag_in": 0, "lag_s": None}, "lacks 3"),
        ({"lag_out": 0, "lag_in": 2, "lag_s": 0.0}, "has 2 more"),
        ({"lag_out": None, "lag_in": None, "lag_ops": None}, ""),
        ({"lag_ops": 4}, "4 ops"),
    ],
)
def test_lag_says_who_lacks_what(entry: dict[str, Any], shown: str) -> None:
    assert _lag(entry) == shown


def test_marks_are_for_people() -> None:
    entry = {"diverged": True, "stale": True, "last_contact_s": 400.0, "clock_warning": True, "clock_skew_s": 75.0}
    assert _marks(entry) == "STATE DIFFERS, stale, its clock is 75 s ahead"
    assert _marks({"stale": True, "last_contact_s": None}) == ""
    assert _marks({"agent_problem": "operator: new disk"}) == "can not claim work: operator: new disk"


@pytest.mark.promise("I25")
@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"peers_connected": 2, "behind_ops": 0, "last_news_s": 3.0}, "2 peers connected"),
        ({"peers_connected": 1, "behind_ops": 12, "last_news_s": 3.0}, "1 peer connected, 12 ops behind"),
        ({"peers_connected": 0, "behind_ops": None, "last_news_s": 400.0}, "0 peers connected, last news of another node 6m ago"),
        ({"peers_connected": 0, "behind_ops": None, "last_news_s": None}, "0 peers connected"),
    ],
)
def test_every_page_ends_with_what_it_rests_on(known: dict[str, Any], shown: str) -> None:
    screen = Screen(color=False, tty=False)
    footer(screen, {"as_of": "T", "source": "node", "node": "alpha", **known})
    assert screen.text() == f"as of T, from node alpha, {shown}"
