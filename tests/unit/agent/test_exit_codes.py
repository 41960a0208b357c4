from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from fabrik_node.agent.results import EXIT_CODES, REASON_CHARS_MAX, RESULT_RULES, Result, Verdict, judge_exit
from fabrik_node.domain.runs import FINAL_STATES

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "write-an-agent.md"


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (0, Result.OK),
        (1, Result.AGENT_FAILED),
        (2, Result.AGENT_FAILED),
        (75, Result.RATE_LIMITED),
        (76, Result.INFRA_LOST),
        (77, Result.AGENT_FAILED),
        (124, Result.TIMEOUT),
        (127, Result.AGENT_FAILED),
        (137, Result.AGENT_FAILED),
        (143, Result.INFRA_LOST),
        (255, Result.AGENT_FAILED),
        (-signal.SIGTERM, Result.INFRA_LOST),
        (-signal.SIGKILL, Result.AGENT_FAILED),
        (-signal.SIGSEGV, Result.AGENT_FAILED),
        (-63, Result.AGENT_FAILED),
    ],
)
def test_every_status_has_a_class(status: int, result: Result) -> None:
    verdict = judge_exit("coding", status)
    assert verdict.result is result
    assert verdict.exit_code == (status if status >= 0 else 128 - status)


def test_reasons_name_the_cause() -> None:
    assert judge_exit("qa", 3).line == "agent_failed: qa failed with exit code 3"
    assert judge_exit("coding", -9).line == "agent_failed: coding was ended by SIGKILL"
    assert judge_exit("coding", 75).line == "rate_limited: coding ended with exit code 75: it is rate limited; try again later"


def test_every_class_has_its_rule_and_only_two_charge() -> None:
    assert set(RESULT_RULES) == set(Result)
    assert {result for result, rule in RESULT_RULES.items() if rule.charges} == {Result.AGENT_FAILED, Result.TIMEOUT}
    assert {rule.state for rule in RESULT_RULES.values()} == FINAL_STATES


def test_a_reason_is_one_line_of_bounded_length() -> None:
    verdict = Verdict(Result.CONFLICT, "a\nb " + "x" * 5000, hold="y" * 5000).noting("more")
    assert verdict.reason.startswith("a b xxx")
    assert len(verdict.reason) == len(verdict.hold) == REASON_CHARS_MAX


def test_the_page_for_authors_lists_the_same_codes() -> None:
    rows = re.findall(r"^\| `(\d+)` \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code): result for code, result in rows} == {code: str(rule.result) for code, rule in EXIT_CODES.items()}


def test_the_page_for_authors_lists_the_environment() -> None:
    from fabrik_node.agent.environment import __file__ as source

    names = set(re.findall(r'"(FABRIK_\w+)"', Path(source).read_text(encoding="utf-8")))
    assert set(re.findall(r"^\| `(FABRIK_\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == names
