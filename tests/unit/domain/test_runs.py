from __future__ import annotations

from dataclasses import replace

import pytest

from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.runs import FINAL_STATES, ProcessId, RunRow, RunSignals, RunState, judge_run

PROCESS = ProcessId(4711, "12345", "boot")
ROW = RunRow(b"r" * 16, b"i" * 16, b"c" * 16, b"n" * 32, "agent", RunState.RUNNING, "coding", 1, PROCESS)
OWN = RunSignals(own=True, process_alive=True, lease=LeaseState.FRESH, lease_age_s=1.0, progress_age_s=1.0, claim_wins=True)
FOREIGN = RunSignals(own=False, process_alive=None, lease=LeaseState.FRESH, lease_age_s=1.0, progress_age_s=1.0, claim_wins=True)


@pytest.mark.promise("C1")
@pytest.mark.parametrize("lease", [LeaseState.UNREACHABLE, LeaseState.LOST, None])
def test_a_lost_heartbeat_with_a_live_process_is_degraded_not_dead(lease: LeaseState | None) -> None:
    verdict = judge_run(ROW, replace(OWN, lease=lease))
    assert (verdict.state, verdict.degraded) == (RunState.RUNNING, "heartbeat lost")
    assert "4711 is alive" in verdict.evidence


def test_alive_with_everything_fresh() -> None:
    verdict = judge_run(ROW, OWN)
    assert (verdict.state, verdict.degraded) == (RunState.RUNNING, "")


@pytest.mark.promise("C4")
def test_a_process_that_is_gone_without_a_result_was_interrupted() -> None:
    verdict = judge_run(ROW, replace(OWN, process_alive=False))
    assert verdict.state is RunState.INTERRUPTED
    assert verdict.evidence == "process 4711 is gone and left no result"


def test_a_missing_signal_is_unknown_never_a_guess() -> None:
    assert judge_run(ROW, replace(OWN, process_alive=None)).state is RunState.UNKNOWN
    assert judge_run(ROW, replace(FOREIGN, lease=None)).state is RunState.UNKNOWN
    assert judge_run(ROW, replace(FOREIGN, lease_age_s=None)).state is RunState.UNKNOWN


def test_a_phase_without_a_command_is_the_nodes_own_work() -> None:
    verdict = judge_run(replace(ROW, process=None, phase="merging"), OWN)
    assert verdict.state is RunState.RUNNING
    assert verdict.evidence == "no command runs in phase merging: the node itself is at work"


@pytest.mark.parametrize("signals", [OWN, FOREIGN])
def test_no_progress_is_quiet_then_stalled(signals: RunSignals) -> None:
    assert judge_run(ROW, replace(signals, progress_age_s=59.0)).state is RunState.RUNNING
    assert judge_run(ROW, replace(signals, progress_age_s=60.0)).state is RunState.QUIET
    assert judge_run(ROW, replace(signals, progress_age_s=900.0)).state is RunState.STALLED


@pytest.mark.parametrize(
    ("lease", "state"),
    [(LeaseState.FRESH, RunState.RUNNING), (LeaseState.UNREACHABLE, RunState.UNREACHABLE), (LeaseState.LOST, RunState.LOST)],
)
def test_another_node_knows_only_the_lease(lease: LeaseState, state: RunState) -> None:
    verdict = judge_run(ROW, replace(FOREIGN, lease=lease, lease_age_s=100.0))
    assert verdict.state is state
    assert verdict.evidence.startswith("last heard of 100.0 s ago")


def test_another_claim_that_wins_says_superseded_whatever_the_signals() -> None:
    for signals in (OWN, FOREIGN, replace(OWN, process_alive=False)):
        assert judge_run(ROW, replace(signals, claim_wins=False)).state is RunState.SUPERSEDED


@pytest.mark.parametrize("state", sorted(FINAL_STATES, key=str))
def test_what_has_ended_stays_as_it_was_written(state: RunState) -> None:
    row = replace(ROW, state=state, reason="because")
    for signals in (OWN, FOREIGN, replace(FOREIGN, claim_wins=False, lease=LeaseState.LOST)):
        verdict = judge_run(row, signals)
        assert (verdict.state, verdict.evidence) == (state, "because")
