"""``ask``: the answer alone on stdout, whatever else is to say on stderr, and exit codes that a script can go by."""

from __future__ import annotations

from typing import Any

from fabrik_node.errors import Precondition

QUESTION = "01k8qj4v6w0000000000000007"
ANSWER = f"fabrik-node approvals answer {QUESTION} slate|tin"


def test_the_answer_alone_is_printed_and_what_to_type_meanwhile_goes_to_stderr(cli: Any, service: Any) -> None:
    printed = cli("ask", "Slate or tin?", "--option", "slate", "--option", "tin", "--timeout", "1h", "--default", "tin")
    assert (printed.status, printed.out) == (0, b"slate\n")
    assert printed.err == f"fabrik-node: waits for an answer of a person: Slate or tin?\n  try: {ANSWER}\n"
    asked = {"text": "Slate or tin?", "options": ["slate", "tin"], "timeout_ms": 3_600_000, "default": "tin"}
    assert service.asked == [("ask", asked), ("ask.wait", {"id": QUESTION, "follow": True})]


def test_json_is_the_question_with_its_answer(cli: Any, service: Any) -> None:
    printed = cli("ask", "Slate or tin?", "--json")
    assert (printed.data["answer"], printed.data["request"]["end"]["answered_by"]) == ("slate", "alpha")
    assert "end" not in printed.data


def test_without_waiting_an_open_question_ends_with_5(cli: Any, service: Any) -> None:
    printed = cli("ask", "Slate or tin?", "--no-wait")
    assert (printed.status, printed.out) == (5, b"")
    assert printed.err == f"fabrik-node: nobody has answered yet: Slate or tin?\n  try: {ANSWER}\n"
    assert [op for op, _ in service.asked] == ["ask"]


def test_a_question_that_nobody_answered_in_time_ends_with_5(cli: Any, service: Any) -> None:
    service.fail = Precondition("nobody answered within 60 s: Slate or tin?", "fabrik-node items requeue x")
    assert cli("ask", "Slate or tin?").status == 5


def test_a_long_question_is_shown_with_its_lines(cli: Any, service: Any) -> None:
    [asked] = cli("approvals", "list", "--json").data["requests"]
    service.patch = {"request": asked | {"text": "Which?\n- slate\x1b[2J\n- tin"}}
    assert "    Which?\n    - slate" in (page := cli("approvals", "show", QUESTION).out.decode())
    assert "\x1b" not in page


def test_pages_say_who_was_too_late(cli: Any) -> None:
    page = cli("approvals", "show", QUESTION).out.decode()
    assert "tin, by gamma at 2026-11-20T09:59:00.000Z: cheap (too late: the run does not go by it)" in page
    assert "beta says that its run goes by 'slate' of alpha since 2026-11-20T09:58:30.000Z" in page
    assert "60m, then goes by 'tin'" in page
    listed = cli("approvals", "list").out.decode()
    assert "Slate or tin?" in listed
    assert "fabrik-node approvals answer ID ANSWER" in listed
