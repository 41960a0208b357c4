"""``--dry-run``: what is asked, and how the answer looks."""

from __future__ import annotations

from typing import Any

import pytest

from fabrik_node.service.rehearsing import REHEARSED

ITEM = "01k8qj3v6w0000000000000001"
CALLS = {
    "approvals.answer": ["approvals", "answer", "01k8", "yes"],
    "claims.keep": ["claims", "keep", ITEM, "abcd"],
    "invitations.withdraw": ["invitations", "withdraw", "abcd"],
    "invite": ["invite"],
    "keys.recover": ["keys", "recover", "--recovery-key", "/media/efef.key"],
    "keys.rotate": ["keys", "rotate"],
    "items.add": ["items", "add", "T"],
    "items.edit": ["items", "edit", ITEM, "--title", "N"],
    "items.move": ["items", "move", ITEM, "qa"],
    "items.requeue": ["items", "requeue", ITEM],
    "items.resolve": ["items", "resolve", ITEM],
    "claims.release": ["claims", "release", ITEM],
    "tombstone": ["tombstone", ITEM],
    "nodes.approve": ["nodes", "approve", "efef"],
    "nodes.reject": ["nodes", "reject", "efef"],
    "nodes.role": ["nodes", "role", "beta", "peer"],
    "nodes.revoke": ["nodes", "revoke", "beta"],
    "nodes.retire": ["nodes", "retire", "beta"],
    "runs.cancel": ["runs", "cancel", "01k8"],
    "steps.done": ["steps", "done", ITEM, "deploy"],
    "steps.again": ["steps", "again", ITEM, "deploy"],
    "drain": ["drain"],
}
ANSWER = {
    "dry_run": True,
    "effects": ["the claim c1 of beta/agent on item i1 ends, and its work with it"],
    "writes": [
        {"kind": "item", "id": "i1", "field": "stage", "before": {"stage": "Coding"}, "after": {"stage": "Qa"}},
        {"kind": "item", "id": None, "field": "title", "before": None, "after": "T"},
    ],
}


@pytest.mark.promise("A11")
@pytest.mark.parametrize("op", sorted(REHEARSED - {"claims.expire"}))  # which says whose work it would stop, and needs --yes to do it
def test_every_change_can_be_tried(cli: Any, service: Any, op: str) -> None:
    service.patch = ANSWER
    printed = cli(*CALLS[op], "--dry-run")
    assert printed.status == 0, printed.err
    [(asked, args)] = service.asked
    assert (asked, args["dry_run"]) == (op, True)
    lines = printed.text.splitlines()
    assert lines[0] == "the claim c1 of beta/agent on item i1 ends, and its work with it"
    assert [line.split() for line in lines[1:4]] == [
        ["KIND", "ID", "FIELD", "NOW", "WOULD", "BE"],
        ["item", "i1", "stage", '{"stage":', '"Coding"}', '{"stage":', '"Qa"}'],
        ["item", "(new)", "title", "T"],
    ]
    assert lines[4] == "nothing was written: this is a dry run"


@pytest.mark.parametrize(("own", "before"), [("person_hold", None), ("claim_hold", {"reason": "x"})])
def test_a_hold_is_one_line(cli: Any, service: Any, own: str, before: Any) -> None:
    """It stands in two registers: builds of before know the common one alone."""
    said = {"kind": "item", "id": "i1", "before": before, "after": None}
    service.patch = {
        **ANSWER,
        "effects": [],
        "writes": [{**said, "field": "hold", "before": {"reason": "x"}}, {**said, "field": own}, {**said, "id": "i2", "field": own}],
    }
    lines = cli("items", "resolve", ITEM, "--dry-run").text.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["item", "i1", "hold"], ["item", "i2", own]]
    assert '{"reason": "x"}' in lines[1]


@pytest.mark.parametrize("call", [["next", "--move", "/media/next.key"], ["use", "/media/next.key"]])
def test_what_is_done_in_the_home_can_be_tried_too(cli: Any, hooks: Any, call: list[str]) -> None:
    printed = cli("keys", *call, "--dry-run")
    assert printed.status == 0, printed.err
    assert printed.text.splitlines()[-1] == "nothing was changed: this is a dry run"
    assert "would be" in printed.text
    assert printed.err == ""
    assert hooks.called[-1][1][-1] is True


def test_an_answer_that_is_no_dry_run_is_an_error(cli: Any, service: Any) -> None:
    printed = cli("tombstone", ITEM, "--dry-run")
    assert (printed.status, printed.out) == (1, b"")
    assert "tombstone was done" in printed.err
