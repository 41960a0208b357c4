"""Each cause for which an item waits, with what to type; and never an answer without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.requests import Asked
from fabrik_node.domain.run_state import RunVerdict
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.stages import STAGE_TYPES, Archived, ArchiveReason, Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.domain.why import AgentFacts, ClaimFacts, ItemFacts, Needed, why_item, why_run

AGENT = AgentFacts("alpha", Nearness.ALIVE, frozenset({"linux"}))
FACTS = ItemFacts("ITEM", Backlog(), None, None, frozenset(), (), 0, 0, (AGENT,))
CLAIM = ClaimFacts("beta/agent", "RUN", LeaseState.FRESH, 3.0, heard=True, takeover_s=135.0)


def at_work(state: RunState, evidence: str, lease: LeaseState | None = LeaseState.FRESH) -> ClaimFacts:
    """:data:`CLAIM` with what is known of its run."""
    return replace(CLAIM, lease=lease, verdict=RunVerdict(state, evidence))


def lost_heartbeat() -> ClaimFacts:
    """On its own node, cut off."""
    return replace(CLAIM, verdict=RunVerdict(RunState.RUNNING, "process 7 is alive", degraded="heartbeat lost"))


OPEN = Needed("OTHER", "the first part", Coding())

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("done", {"stage": Done(1, bytes(20))}, "done", "merged as 0000", ""),
    ("archived for good", {"stage": Archived(1, ArchiveReason.COMPLETED)}, "archived", "Completed", ""),
    ("archived", {"stage": Archived(1, ArchiveReason.REVIEW_HELD)}, "archived", "ReviewHeld", "items requeue ITEM"),
    ("archived and unclear", {"stage": Archived(1, ArchiveReason.BLOCKED), "hold": "x", "unclear": "s"}, "archived", "Blocked", "steps done ITEM s, or"),
    ("followed by none", {"is_last": True}, "last_claim", "none can follow it", "tombstone ITEM"),
    ("held", {"hold": "3 attempts failed"}, "held", "3 attempts failed", "items requeue ITEM"),
    ("held in Merge", {"hold": "merge conflict: a.txt", "stage": Merge("b", 1)}, "held", "merge conflict: a.txt", "items show ITEM"),
    ("claimed", {"claim": CLAIM}, "claimed", "beta/agent has it in hand, heard 3 s ago", "runs show RUN"),
    (
        "claimed, at work",
        {"claim": at_work(RunState.RUNNING, "last heard of 3.0 s ago")},
        "claimed",
        "beta/agent has it in hand: last heard of 3.0 s ago",
        "runs show RUN",
    ),
    ("claimed, degraded", {"claim": lost_heartbeat()}, "claimed", "in hand: process 7 is alive (heartbeat lost)", "runs show"),
    (
        "claimed, no remote",
        {"claim": at_work(RunState.WAITING, "no remote; heard")},
        "claimed",
        "in hand; its run is waiting: no remote; heard",
        "runs show RUN",
    ),
    (
        "claimed, silent",
        {"claim": at_work(RunState.UNREACHABLE, "silent")},
        "claimed",
        "beta/agent has claimed it; its run is unreachable: silent",
        "runs show",
    ),
    ("claimed, left", {"claim": at_work(RunState.INTERRUPTED, "gone", lease=None)}, "claimed", "claimed it; its run is interrupted: gone", "serve"),
    ("claimed, not known", {"claim": at_work(RunState.UNKNOWN, "x", lease=None)}, "claimed", "nobody knows here", "serve"),
    ("claimed, unheard", {"claim": replace(CLAIM, heard=False, run="")}, "claimed", "no heartbeat", "claims show ITEM"),
    ("claimed, unreachable", {"claim": replace(CLAIM, lease=LeaseState.UNREACHABLE, age_s=100.0)}, "holder_unreachable", "within 35 s", "claims release ITEM"),
    ("claimed, nobody listens", {"claim": replace(CLAIM, lease=None)}, "claimed", "nobody knows here", "serve"),
    ("depends on an open one", {"needs": (OPEN,)}, "depends", "waits for OTHER (the first part), which is in Coding", "why OTHER"),
    ("depends on an archived one", {"needs": (replace(OPEN, stage=Archived(1, ArchiveReason.ABANDONED)),)}, "depends", "Abandoned", "--no-depends-on"),
    ("depends on a deleted one", {"needs": (replace(OPEN, stage=None, deleted=True),)}, "depends", "was deleted", "--no-depends-on"),
    ("depends on an unknown one", {"needs": (replace(OPEN, stage=None),)}, "depends", "not known here", "status"),
    ("no agent", {"agents": ()}, "no_agent", "no node that is heard here takes work", "serve --command"),
    ("a silent agent", {"agents": (replace(AGENT, near=Nearness.SILENT),)}, "no_agent", "alpha took work", "--rendezvous"),
    ("labels", {"labels": frozenset({"gpu", "linux"})}, "labels", "(gpu, linux): alpha has linux", "--label"),
    ("a prevented agent", {"agents": (replace(AGENT, problem="no remote"),)}, "agent_problem", "alpha can not claim work: no remote", "status"),
    ("busy", {"agents": (replace(AGENT, slots=2, busy=2),), "ahead": 3}, "busy", "(alpha 2 of 2), and 3 items are before it", "runs list"),
    ("backoff", {"attempts": 2}, "backoff", "2 attempts failed: agents wait", "items show ITEM"),
    ("backoff, known", {"attempts": 1, "failure": ("RUN", "code 1")}, "backoff", "1 attempt failed, the last with code 1; agents wait", "runs logs RUN"),
    ("ready", {"ahead": 1}, "ready", "alpha may take it at the next look, and 1 item is before it", "events --follow"),
    ("ready: labels not said", {"labels": frozenset({"gpu"}), "agents": (replace(AGENT, labels=None),)}, "ready", "alpha", "events"),
    ("not served", {"listens": False}, "not_served", "no node runs here", "serve"),
]


@pytest.mark.promise("J6", "D52")
@pytest.mark.parametrize(("change", "code", "text", "then"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_cause_is_named_with_what_to_type(change: dict[str, Any], code: str, text: str, then: str) -> None:
    causes = why_item(replace(FACTS, **change))
    assert [cause.code for cause in causes] == [code]
    assert text in causes[0].text
    assert (then in causes[0].next) if then else causes[0].next == ""
    assert not then or causes[0].next.startswith("fabrik-node ")


@pytest.mark.promise("D52")
def test_a_question_to_people_comes_first_while_somebody_waits_for_its_answer() -> None:
    asks = Asked("deploy?", "fabrik-node approvals answer ID yes or no")
    [first, second] = why_item(replace(FACTS, claim=CLAIM, asks=asks))
    assert (first.code, first.text, first.next) == ("asks", "its run asks people: deploy?", asks.command)
    assert second.code == "claimed"
    waits = why_item(replace(FACTS, claim=at_work(RunState.WAITING, f"asks: {asks}; heard"), asks=asks))
    assert [cause.text for cause in waits] == [first.text, "beta/agent has it in hand, heard 3 s ago"], "said once"
    for nobody_waits in (None, replace(CLAIM, lease=LeaseState.LOST, age_s=500.0)):
        assert why_item(replace(FACTS, claim=nobody_waits, asks=asks))[-1].code == "ready"
    verdict = RunVerdict(RunState.WAITING, f"asks: {asks}; process 4711 is alive")
    assert why_run("RUN", "ITEM", verdict, own=False, asks=asks).next == asks.command


def test_all_that_blocks_is_named_and_agents_only_when_nothing_blocks() -> None:
    facts = replace(FACTS, hold="why", needs=(OPEN, replace(OPEN, item="DONE", done=True), replace(OPEN, item="THIRD")), agents=())
    assert [cause.code for cause in why_item(facts)] == ["held", "depends", "depends"]
    lost = replace(FACTS, claim=replace(CLAIM, lease=LeaseState.LOST, age_s=500.0))
    assert [cause.code for cause in why_item(lost)] == ["takeover", "ready"]


@pytest.mark.promise("E6")
def test_every_stage_has_an_answer() -> None:
    stages: list[Stage] = [Backlog(), Coding(), Qa(), Merge("b", 1), Done(1, bytes(20)), Archived(1, ArchiveReason.COMPLETED)]
    assert [type(stage) for stage in stages] == list(STAGE_TYPES)
    assert all(why_item(replace(FACTS, stage=stage)) for stage in stages)


@pytest.mark.promise("D52")
@pytest.mark.parametrize("own", [True, False])
def test_the_output_of_a_run_is_read_from_any_node(own: bool) -> None:
    assert why_run("RUN", "ITEM", RunVerdict(RunState.FAILED, "because"), own=own).next == "fabrik-node runs logs RUN"
    assert why_run("RUN", "ITEM", RunVerdict(RunState.RUNNING, "because"), own=own).next == "fabrik-node runs logs RUN --follow"


@pytest.mark.promise("D52")
@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("own", [True, False])
def test_every_state_of_a_run_has_evidence_and_a_next_command(state: RunState, own: bool) -> None:
    cause = why_run("RUN", "ITEM", RunVerdict(state, "because"), own=own)
    assert (cause.code, cause.text) == (state.value, "because")
    assert cause.next.startswith("fabrik-node ")
