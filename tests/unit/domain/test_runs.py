"""The one function for the state of a run: never somebody at work without fresh evidence, and always with evidence and what is expected next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.requests import Asked
from fabrik_node.domain.run_state import RunSignals, judge_run
from fabrik_node.domain.runs import FINAL_STATES, WORK_STATES, ProcessId, RunRow, RunState

PROCESS = ProcessId(4711, "12345", "boot")
ROW = RunRow(b"r" * 16, b"i" * 16, b"c" * 16, b"n" * 32, "agent", RunState.RUNNING, "coding", 1, PROCESS)
OWN = RunSignals(own=True, process_alive=True, in_hand=True, lease=LeaseState.FRESH, lease_age_s=1.0, progress_age_s=1.0, claim_wins=True)
FOREIGN = RunSignals(
    own=False, lease=LeaseState.FRESH, lease_age_s=1.0, progress_age_s=1.0, claim_wins=True, owner=Nearness.ALIVE, owner_age_s=1.0, renews=True
)

YES_NO = (True, False)
MAYBE = (True, False, None)
LEASES = {"claim_wins": MAYBE, "claim_released": YES_NO, "lease": (None, *LeaseState), "lease_age_s": (None, 5.0, 500.0), "lease_heard": YES_NO}
PROGRESS = {"progress_age_s": (None, 5.0, 100.0, 1_000.0), "draining": YES_NO}
OWN_WORLDS = {**LEASES, **PROGRESS, "own": (True,), "in_hand": MAYBE, "process_alive": MAYBE}
FOREIGN_WORLDS = {**LEASES, **PROGRESS, "own": (False,), "owner": tuple(Nearness), "owner_age_s": (None, 5.0, 50.0), "renews": YES_NO}


def worlds(axes: dict[str, tuple[Any, ...]]) -> Iterator[RunSignals]:
    """All there are."""
    for values in itertools.product(*axes.values()):
        yield RunSignals(**dict(zip(axes, values, strict=True)))


@pytest.mark.promise("B5")
@pytest.mark.parametrize("process", [PROCESS, None])
@pytest.mark.parametrize("axes", [OWN_WORLDS, FOREIGN_WORLDS], ids=["own", "foreign"])
def test_nobody_is_said_to_be_at_work_without_fresh_evidence(process: ProcessId | None, axes: dict[str, tuple[Any, ...]]) -> None:
    row = replace(ROW, process=process)
    at_work = 0
    for known in worlds(axes):
        verdict = judge_run(row, known)
        assert verdict.evidence
        assert verdict.next, f"something is always expected of a run without an end: {known}"
        assert verdict.age_s is not None or verdict.stale, f"no news are stale news: {known}"
        if verdict.state not in WORK_STATES:
            continue
        at_work += 1
        assert verdict.age_s is not None
        assert known.claim_wins is not False, known
        if known.own:
            assert known.in_hand, known
            assert process is None or known.process_alive is not None, known
            assert verdict.degraded or process is None or (known.process_alive and known.lease is LeaseState.FRESH), known
        else:
            assert (known.owner, known.lease, known.lease_heard, known.renews) == (Nearness.ALIVE, LeaseState.FRESH, True, True), known
            assert not known.claim_released, known
    assert at_work > 50


@pytest.mark.promise("C1")
@pytest.mark.parametrize("lease", [LeaseState.UNREACHABLE, LeaseState.LOST, None])
def test_a_lost_heartbeat_with_a_live_process_is_degraded_not_dead(lease: LeaseState | None) -> None:
    verdict = judge_run(ROW, replace(OWN, lease=lease))
    assert (verdict.state, verdict.degraded) == (RunState.RUNNING, "heartbeat lost")
    assert "4711 is alive" in verdict.evidence


def test_alive_with_everything_fresh() -> None:
    verdict = judge_run(ROW, OWN)
    assert (verdict.state, verdict.degraded, verdict.age_s, verdict.stale) == (RunState.RUNNING, "", 0.0, False)


@pytest.mark.promise("C4")
@pytest.mark.parametrize("in_hand", [False, None])
def test_a_process_that_is_gone_without_a_result_was_interrupted(in_hand: bool | None) -> None:
    verdict = judge_run(ROW, replace(OWN, process_alive=False, in_hand=in_hand))
    assert verdict.state is RunState.INTERRUPTED
    assert verdict.evidence == "process 4711 is gone and left no result"


def test_between_two_commands_the_agent_has_the_run_in_hand() -> None:
    verdict = judge_run(ROW, replace(OWN, process_alive=False))
    assert (verdict.state, verdict.degraded) == (RunState.RUNNING, "no process")


@pytest.mark.parametrize(("in_hand", "who"), [(None, "no node watches it"), (False, "does not have the run in hand")])
def test_a_process_that_nobody_watches_is_an_orphan(in_hand: bool | None, who: str) -> None:
    verdict = judge_run(ROW, replace(OWN, in_hand=in_hand))
    assert verdict.state is RunState.ORPHANED
    assert who in verdict.evidence


def test_a_missing_signal_is_unknown_never_a_guess() -> None:
    assert judge_run(ROW, replace(OWN, process_alive=None)).state is RunState.UNKNOWN
    assert judge_run(ROW, replace(FOREIGN, lease=None)).state is RunState.UNKNOWN
    assert judge_run(ROW, replace(FOREIGN, lease_age_s=None)).state is RunState.UNKNOWN


@pytest.mark.promise("D30")
@pytest.mark.parametrize("signals", [OWN, FOREIGN], ids=["own", "foreign"])
def test_a_run_that_asks_people_waits_however_long_it_does_not_move(signals: RunSignals) -> None:
    asks = Asked("deploy?", "fabrik-node approvals answer ID yes or no")
    row = replace(ROW, state=RunState.WAITING)
    for still_s in (1.0, 100_000.0):
        verdict = judge_run(row, replace(signals, asks=asks, progress_age_s=still_s))
        assert (verdict.state, verdict.next) == (RunState.WAITING, "an answer of a person")
        assert verdict.evidence.startswith("asks: deploy? (fabrik-node approvals answer ID yes or no); ")
    assert judge_run(row, replace(signals, asks=asks, draining=True)).evidence.endswith("and the node drains")
    answered = judge_run(row, signals)
    assert (answered.state, answered.next) == (RunState.WAITING, "it goes on")
    assert "its question is not open any more" in answered.evidence
    assert judge_run(replace(row, reason="waits with finished work"), signals).evidence.startswith("waits with finished work; ")


@pytest.mark.promise("D30")
def test_a_question_is_no_sign_of_life() -> None:
    asks, row = Asked("deploy?", "fabrik-node approvals answer ID yes or no"), replace(ROW, state=RunState.WAITING)
    assert judge_run(row, replace(OWN, asks=asks, in_hand=False)).state is RunState.ORPHANED
    assert judge_run(row, replace(FOREIGN, asks=asks, lease=LeaseState.LOST)).state is RunState.LOST
    assert judge_run(row, replace(FOREIGN, asks=asks, claim_wins=False)).state is RunState.SUPERSEDED


def test_a_phase_without_a_command_is_the_nodes_own_work() -> None:
    row = replace(ROW, process=None, phase="merging")
    verdict = judge_run(row, OWN)
    assert verdict.state is RunState.RUNNING
    assert verdict.evidence == "no command runs in phase merging: the node itself is at work"
    assert judge_run(row, replace(OWN, in_hand=False)).state is RunState.INTERRUPTED
    assert judge_run(row, replace(OWN, in_hand=None)).state is RunState.UNKNOWN, "nobody serves this home"


@pytest.mark.parametrize("known", [OWN, FOREIGN])
def test_no_progress_is_quiet_then_stalled(known: RunSignals) -> None:
    assert judge_run(ROW, replace(known, progress_age_s=59.0)).state is RunState.RUNNING
    quiet = judge_run(ROW, replace(known, progress_age_s=60.0))
    assert (quiet.state, quiet.since_s, quiet.next_s) == (RunState.QUIET, 60.0, 840.0)
    assert judge_run(ROW, replace(known, progress_age_s=900.0)).state is RunState.STALLED


def test_a_node_that_drains_says_so_of_its_runs() -> None:
    assert judge_run(ROW, replace(OWN, draining=True)).state is RunState.DRAINING
    assert judge_run(ROW, replace(OWN, draining=True, progress_age_s=900.0)).state is RunState.STALLED


@pytest.mark.parametrize(
    ("lease", "state"),
    [(LeaseState.FRESH, RunState.RUNNING), (LeaseState.UNREACHABLE, RunState.UNKNOWN), (LeaseState.LOST, RunState.LOST)],
)
def test_another_node_knows_only_the_lease(lease: LeaseState, state: RunState) -> None:
    verdict = judge_run(ROW, replace(FOREIGN, lease=lease, lease_age_s=100.0))
    assert verdict.state is state
    assert verdict.evidence.startswith("last heard of 100.0 s ago")


@pytest.mark.promise("B5")
@pytest.mark.parametrize("lease", [LeaseState.FRESH, LeaseState.UNREACHABLE])
def test_a_run_of_a_silent_node_is_unreachable_since_it_was_last_heard(lease: LeaseState) -> None:
    verdict = judge_run(ROW, replace(FOREIGN, owner=Nearness.SILENT, owner_age_s=31.0, lease=lease, lease_age_s=35.0))
    assert (verdict.state, verdict.since_s, verdict.age_s, verdict.next_s) == (RunState.UNREACHABLE, 35.0, 35.0, 100.0)
    assert verdict.evidence == "last heard of 35.0 s ago: its node says nothing for 31.0 s"


@pytest.mark.parametrize(
    ("owner", "state", "words"),
    [
        (Nearness.ALIVE, RunState.UNKNOWN, "has not spoken of it yet"),
        (Nearness.UNCONFIRMED, RunState.UNKNOWN, "perhaps an old one"),
        (Nearness.NEVER, RunState.UNKNOWN, "never heard here"),
        (Nearness.SILENT, RunState.UNREACHABLE, "says nothing"),
    ],
)
def test_an_observer_that_just_began_to_watch_does_not_take_that_for_a_heartbeat(owner: Nearness, state: RunState, words: str) -> None:
    verdict = judge_run(ROW, replace(FOREIGN, lease_heard=False, renews=False, owner=owner, owner_age_s=None if owner is Nearness.NEVER else 40.0))
    assert (verdict.state, verdict.age_s, verdict.stale) == (state, None, True)
    assert words in verdict.evidence


def test_one_message_that_others_may_have_kept_is_no_evidence() -> None:
    assert judge_run(ROW, replace(FOREIGN, owner=Nearness.UNCONFIRMED)).state is RunState.UNKNOWN


def test_a_run_that_its_own_node_does_not_name_any_more_is_an_orphan() -> None:
    verdict = judge_run(ROW, replace(FOREIGN, renews=False))
    assert verdict.state is RunState.ORPHANED
    assert "does not name it" in verdict.evidence


def test_a_claim_that_was_given_back_has_nobody_at_work() -> None:
    assert judge_run(ROW, replace(FOREIGN, claim_released=True)).state is RunState.UNKNOWN


@pytest.mark.promise("B7")
@pytest.mark.parametrize(("age_s", "stale"), [(0.0, False), (300.0, False), (300.1, True)])
def test_news_are_stale_beyond_the_threshold(age_s: float, stale: bool) -> None:
    assert judge_run(ROW, replace(FOREIGN, lease_age_s=age_s, owner=Nearness.SILENT, owner_age_s=age_s)).stale is stale


def test_another_claim_that_wins_says_superseded_whatever_the_signals() -> None:
    for known in (OWN, FOREIGN, replace(OWN, process_alive=False)):
        assert judge_run(ROW, replace(known, claim_wins=False)).state is RunState.SUPERSEDED


@pytest.mark.promise("B5")
@pytest.mark.parametrize(
    ("owner", "age_s", "stale"),
    [(Nearness.SILENT, 26.0, False), (Nearness.ALIVE, 26.0, False), (Nearness.UNCONFIRMED, None, True), (Nearness.NEVER, None, True)],
)
def test_a_superseded_run_whose_lease_nobody_watches_any_more_is_as_old_as_the_words_of_its_node(owner: Nearness, age_s: float | None, stale: bool) -> None:
    """A first message of its node may be days old, and says nothing."""
    known = replace(FOREIGN, claim_wins=False, lease=None, lease_age_s=None, lease_heard=False, owner=owner, owner_age_s=26.0)
    verdict = judge_run(ROW, known)
    assert (verdict.state, verdict.age_s, verdict.stale) == (RunState.SUPERSEDED, age_s, stale)


@pytest.mark.promise("B5")
@pytest.mark.parametrize(
    ("change", "since_s"),
    [
        ({"lease_heard": True}, 500.0),
        ({}, None),
        ({"owner": Nearness.NEVER}, None),
        ({"owner": Nearness.ALIVE}, None),
        ({"owner": Nearness.SILENT, "owner_age_s": 90.0}, 90.0),
    ],
    ids=["heard", "not heard", "its node neither", "its node is there", "its node once"],
)
@pytest.mark.parametrize("lease", [LeaseState.UNREACHABLE, LeaseState.LOST])
def test_since_when_nobody_hears_it_is_not_the_start_of_the_observer(lease: LeaseState, change: dict[str, Any], since_s: float | None) -> None:
    known = replace(FOREIGN, lease=lease, lease_age_s=500.0, lease_heard=False, owner=Nearness.UNCONFIRMED)
    assert judge_run(ROW, replace(known, **change)).since_s == since_s


@pytest.mark.parametrize("state", sorted(FINAL_STATES, key=str))
def test_what_has_ended_stays_as_it_was_written(state: RunState) -> None:
    row = replace(ROW, state=state, reason="because")
    for known in (OWN, FOREIGN, replace(FOREIGN, claim_wins=False, lease=LeaseState.LOST)):
        verdict = judge_run(row, known)
        assert (verdict.state, verdict.evidence) == (state, "because")
