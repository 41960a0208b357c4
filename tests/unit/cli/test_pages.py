"""How pages look: honest about age and source, safe on a terminal, no wider than it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.cli.render_claims import holder
from fabrik_node.cli.render_items import Board
from fabrik_node.cli.render_runs import run_state
from fabrik_node.cli.table import Screen, age, clean, short_ids
from fabrik_node.domain.runs import FINAL_STATES, RunState
from fabrik_node.ids import new_id, show_id


def test_the_board(cli: Any, service: Any) -> None:
    assert cli("items", "list").text.splitlines() == [
        "ID           STAGE   TITLE          HOLDER                           AGE",
        "01k8qj3v6w0  Coding  Mend the roof  beta/agent fenced, heard 3s ago  60m",
        "01k8qj3v6wz  Coding  Paint it       held: 3 attempts failed          60m",
        "as of 2026-11-20T10:00:00.000Z, from node alpha, 2 peers connected",
    ]


def test_a_limited_list_says_that_it_is(cli: Any, service: Any) -> None:
    service.patch = {"total": 7}
    assert cli("items", "list", "--limit", "2").text.splitlines()[-2] == "2 of 7"


def test_an_item_shows_the_finished_work_that_an_interrupted_run_left(cli: Any, service: Any) -> None:
    shown = json.loads(cli("items", "show", "01k8", "--json").out)["item"]
    left = {"result": "cancelled", "reason": "the node was stopped", "finished": "ab" * 20, "finished_branch": "fabrik/x/y"}
    service.patch = {"item": shown | {"outcome": left}}
    assert "cancelled: the node was stopped; finished, to be tested and merged: commit abababababab" in cli("items", "show", "01k8").text
    service.patch = {"item": shown | {"outcome": left | {"finished": 5}}}
    assert "finished, to be" not in cli("items", "show", "01k8").text


def test_a_claim_without_effect_is_called_so_with_the_reason(cli: Any, service: Any) -> None:
    shown = json.loads(cli("claims", "show", "01k8", "--all", "--json").out)
    void = shown["claim"] | {"label": "without effect", "without_effect": "beta is no member", "first_at": "2026-11-20T09:00:00.000Z"}
    service.patch = {"claims": [*shown["claims"], void]}
    counted, without = cli("claims", "show", "01k8", "--all").text.splitlines()[-3:-1]
    assert "without effect" not in counted
    assert "  without effect  " in without
    assert without.endswith("  beta is no member")
    service.patch = {"claim": None, "conflicts": [], "claims": [void]}
    lines = cli("claims", "show", "01k8", "--all").text.splitlines()
    assert lines[0] == f"no claim on item {shown['item']['id']} {shown['item']['title']} has effect"
    assert lines[2].endswith("  beta is no member")


def test_a_requeue_says_where_the_item_goes_on(cli: Any, service: Any) -> None:
    service.patch = {"note": "goes on in Merge: the finished work on branch x is tested and merged"}
    for verb in ("requeue", "resolve"):
        assert "goes on in Merge: the finished work" in cli("items", verb, "01k8").text


def test_a_run_shows_what_it_worked_from_and_what_is_something_else_now(cli: Any, service: Any) -> None:
    drift = {"what": "item text", "recorded": "ab" * 32, "now": "cd" * 32, "text": "item text: recorded abababababab, now cdcdcdcdcdcd"}
    service.patch = {
        "inputs": {"prompt": "ab" * 32, "base": "12" * 20},
        "drift": [drift],
        "before": {"run_id": "01k8", "engine": "fabrik-node 0.0.9", "state": "failed"},
    }
    text = cli("runs", "show", "01k8").text
    for line in (
        f"prompt sha256  {'ab' * 32}",
        f"began at       {'12' * 20}",
        "01k8 (failed), fabrik-node 0.0.9",
        "drift: item text: recorded abababababab, now cdcdcdcdcdcd",
    ):
        assert line in text
    service.patch = {"drift": [{"run_id": "01k8qj4v6w0000000000000009", **drift}]}
    assert "drift of run 01k8qj4v6w000: item text: recorded" in cli("items", "show", "01k8").text


def test_a_move_says_whose_work_it_stops(cli: Any, service: Any) -> None:
    assert "this stops the work of beta/agent" in cli("items", "move", "01k8", "qa").text


@pytest.mark.promise("B1")
@pytest.mark.parametrize("state", [state for state in RunState if state not in FINAL_STATES])
@pytest.mark.parametrize(("known", "news"), [(3.4, "heard 3s ago"), (None, "age not known")])
def test_a_run_elsewhere_is_never_shown_without_the_age_of_the_news(state: RunState, known: float | None, news: str) -> None:
    shown = run_state({"state": state.value, "age_s": known, "own": False, "degraded": ""})
    assert shown == f"{state.value}, {news}"


def test_an_unreachable_run_says_since_when_and_that_it_is_stale() -> None:
    entry = {"state": "unreachable", "recorded_state": "running", "age_s": 400.0, "own": False, "degraded": "", "unreachable_since": "T", "stale": True}
    assert run_state(entry) == "unreachable since T, heard 6m ago, stale"


def test_a_degraded_run_says_what_is_lost() -> None:
    assert run_state({"state": "running", "age_s": 0.0, "own": True, "degraded": "heartbeat lost"}) == "running, seen now, heartbeat lost"


def test_a_holder_that_was_never_heard_is_not_shown_as_heard() -> None:
    held = {"node_name": "b", "agent": "a", "label": "confirmed", "lease": "fresh", "lease_age_s": 3.0, "lease_heard": False, "stale": True}
    assert holder(held) == "b/a confirmed, no heartbeat here in 3s"
    assert holder({**held, "lease": "lost", "lease_age_s": 700.0}) == "b/a confirmed, lost, no heartbeat here in 11m"
    assert holder({**held, "lease": "lost", "lease_age_s": 700.0, "lease_heard": True}) == "b/a confirmed, lost, last heard 11m ago, stale"


@pytest.mark.parametrize(
    ("lease", "heard", "shown"),
    [
        ("fresh", 3.0, "b/a confirmed, heard 3s ago"),
        ("unreachable", 130.0, "b/a confirmed, unreachable, last heard 2m ago"),
        ("lost", 700.0, "b/a confirmed, lost, last heard 11m ago"),
        (None, None, "b/a confirmed, lease not known here"),
    ],
)
def test_a_holder_is_shown_with_what_is_known_of_the_lease(lease: str | None, heard: float | None, shown: str) -> None:
    assert holder({"node_name": "b", "agent": "a", "label": "confirmed", "lease": lease, "lease_age_s": heard}) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "?"), (0, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_799, "47h"), (172_800, "2d"), (-1, "0s")],
)
def test_ages_have_one_unit(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_short_ids_tell_all_rows_apart(steps: list[int]) -> None:
    ids = [show_id(new_id(1_700_000_000_000 + sum(steps[: at + 1]))) for at in range(len(steps))]
    short = short_ids(ids)
    assert len(set(short.values())) == len(set(ids))
    assert all(len(text) >= 8 and whole.startswith(text) for whole, text in short.items())


@given(st.text(max_size=60))
def test_foreign_text_is_one_line_and_moves_no_cursor(text: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]", clean(text))


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("title", ["a" * 150, "漢字" * 60, "e\u0301" * 90])
def test_a_table_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, title: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Screen(color=False, tty=True)
    screen.table(("ID", "TITLE", "AGE"), [("01k8qj3v", title, "4s")], flexible="TITLE")
    from fabrik_node.cli.table import _width

    assert max(map(_width, screen.text().splitlines())) <= columns


def test_why_an_item_is_held_leaves_room_for_its_title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    item = {
        "id": "01k8qj3v6w0000000000000001",
        "title": "Convert miles to kilometres",
        "stage": "Coding",
        "age_s": 4.0,
        "hold": {"reason": "the tests fail " * 9},
    }
    texts = {}
    for tty in (True, False):
        screen = Screen(color=False, tty=tty)
        Board(filtered=False)(screen, {"items": [item], "as_of": "2026-11-20T10:00:00.000Z", "source": "node", "node": "alpha"})
        texts[tty] = screen.text()
    assert "Convert miles to kilometres  held: the tests fail the tests fail" in texts[True]
    assert max(map(len, texts[True].splitlines())) <= 100
    assert ("the tests fail " * 9).strip() in texts[False], "whole, for who searches it"


def test_nothing_is_cut_without_a_terminal() -> None:
    screen = Screen(color=False, tty=False)
    screen.table(("TITLE",), [("a" * 500,)], flexible="TITLE")
    assert "a" * 500 in screen.text()


def test_colours_go_with_the_flag_and_the_variable(monkeypatch: pytest.MonkeyPatch, cli: Any, service: Any) -> None:
    import sys

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "\x1b[1m" in cli("items", "list").text
    assert "\x1b" not in cli("items", "list", "--no-color").text
    assert "\x1b" not in cli("--no-color", "items", "list").text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in cli("items", "list").text


@pytest.mark.promise("B3")
def test_a_difference_between_copy_and_owner_is_shown_with_both_values_and_the_winner(cli: Any, service: Any) -> None:
    owner = {"asked": True, "answered": True, "why": ""}
    service.patch = {
        "owner": owner,
        "differs": [{"field": "state", "here": "running", "owner": "failed"}, {"field": "reason", "here": "", "owner": "no tests"}],
    }
    lines = cli("runs", "show", "01k8").text.splitlines()
    assert "differs: state: known here: running; its own node says, and that counts: failed" in lines
    assert "differs: reason: known here: nothing; its own node says, and that counts: no tests" in lines
    assert any(line.split() == ["owner", "answered", "now"] for line in lines)


@pytest.mark.promise("B4")
def test_a_list_with_a_node_that_did_not_answer_is_partial_and_says_whose(cli: Any, service: Any) -> None:
    [row] = json.loads(cli("runs", "list", "--json").out)["runs"]
    silent = {**row, "owner": {"asked": True, "answered": False, "why": "its node did not answer"}}
    service.patch = {"partial": True, "runs": [silent, row]}
    printed = cli("runs", "list", "--ask")
    assert printed.status == 6
    assert [("did not answer" in line) for line in printed.text.splitlines()[1:3]] == [True, False]
