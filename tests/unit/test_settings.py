"""Each documented setting is read, and what it changes has a test: a table of all of them. A new setting that is not in it fails here."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.agent.environment import CommandContext, command_environment
from fabrik_node.agent.guard import CrashGuard
from fabrik_node.agent.results import Result, Verdict
from fabrik_node.config import AgentConfig, Config, GitConfig, LeaseConfig, MetricsConfig
from fabrik_node.domain.claims import Claim, ClaimState
from fabrik_node.domain.leases import LeaseTable, LeaseTiming
from fabrik_node.domain.retention import KeptRun, Retention, plan_cleanup
from fabrik_node.domain.stages import Backlog
from fabrik_node.ports import ItemView
from fabrik_node.service.views import Views

ROOT = Path(__file__).parents[2]


def environment(git: GitConfig) -> dict[str, str]:
    claim = Claim(b"c" * 16, 1, 0, ClaimState.CONFIRMED, b"n" * 32, "agent", 1, "x")
    view = ItemView(b"i" * 16, "t", "", Backlog(), [], 0, [], 0, 0, None, None, claim)
    return command_environment(CommandContext(view, claim, b"r" * 16, "branch", "Coding", 1, Path("p")), git, None)


def halts(crash_s: float, crash_count: int) -> bool:
    guard = CrashGuard(crash_s, crash_count)
    return "".join(guard.note(bytes([number]), Verdict(Result.AGENT_FAILED, "x"), 5.0) for number in range(3)) != ""


def removed(**settings: Any) -> int:
    runs = [KeptRun(str(number), bytes([number]), 100, 0, finished=True) for number in range(3)]
    return len(plan_cleanup(runs, Retention(**settings), 2 * 86_400_000))


def is_stale(stale_s: float) -> object:
    leases = LeaseTable(LeaseTiming())
    leases.observe(b"c" * 16, 1, 1, b"", 0.0)
    claim = Claim(b"c" * 16, 1, 0, ClaimState.CONFIRMED, b"n" * 32, "agent", 1, "x")
    return Views(name_of=lambda _: "", leases=leases, now=100.0, wall_ms=0, stale_s=stale_s).claim(b"i" * 16, claim)["stale"]


PROBES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "node.stale_s": lambda: (is_stale(50.0), is_stale(300.0)),
    "lease.beat_s": lambda: (LeaseConfig(beat_s=1).timing().nap_s, LeaseConfig(beat_s=20).timing().nap_s),
    "lease.grace_s": lambda: (LeaseConfig(grace_s=1).timing().takeover_after_s(90), LeaseConfig(grace_s=2).timing().takeover_after_s(90)),
    "git.author_name": lambda: (environment(GitConfig(author_name="a"))["GIT_AUTHOR_NAME"], environment(GitConfig())["GIT_AUTHOR_NAME"]),
    "git.author_email": lambda: (environment(GitConfig(author_email="a"))["GIT_COMMITTER_EMAIL"], environment(GitConfig())["GIT_COMMITTER_EMAIL"]),
    "agent.crash_s": lambda: (halts(10.0, 3), halts(1.0, 3)),
    "agent.crash_count": lambda: (halts(10.0, 3), halts(10.0, 4)),
    "runs.keep_days": lambda: (removed(keep_days=1.0), removed(keep_days=3.0)),
    "runs.keep_bytes": lambda: (removed(keep_bytes=100), removed(keep_bytes=1000)),
    "metrics.listen": lambda: (MetricsConfig(listen="127.0.0.1:1").address(), MetricsConfig().address()),
}
"""What a setting decides, with two values of it."""

TESTS: dict[str, str] = {
    "node.name": "tests/acceptance/test_between_machines.py: --name",
    "node.listen": "tests/acceptance/test_mesh_of_nodes.py: --listen",
    "node.peers": "tests/acceptance/test_both_finish.py: --peer",
    "node.quiet_s": "tests/integration/node/test_runs_shown.py: test_the_thresholds_are_those_of_the_configuration",
    "node.stall_s": "tests/integration/node/test_runs_shown.py: test_the_thresholds_are_those_of_the_configuration",
    "lease.ttl_s": "tests/unit/domain/test_leases.py: ttl_s",
    "lease.lock_delay_s": "tests/unit/domain/test_leases.py: lock_delay_s",
    "lease.settle_s": "tests/integration/node/test_pipeline.py: settle_s",
    "lease.stage_ttl_s": "tests/integration/agent/test_lost_claims.py: stage_ttl_s",
    "lease.stage_beat_s": "tests/unit/agent/test_lease_keeper.py: test_the_beat_is_that_of_the_stage",
    "lease.minority_waits": "tests/integration/node/test_pipeline.py: minority_waits=False",
    "lease.mass_loss": "tests/integration/node/test_pipeline.py: mass_loss",
    "claims.limits": "tests/integration/node/test_claim_limits.py: limits",
    "git.remote": "tests/acceptance/test_both_finish.py: --remote",
    "git.base": "tests/integration/git/test_repository.py: base",
    "agent.command": "tests/integration/agent/test_run_results.py: command=",
    "agent.qa": "tests/integration/agent/test_run_results.py: qa=",
    "agent.name": "tests/integration/agent/test_run_results.py: test_a_run_carries_the_name_of_its_agent",
    "agent.slots": "tests/integration/agent/test_claim_loop.py: slots=",
    "agent.labels": "tests/integration/agent/test_claim_loop.py: labels=",
    "agent.timeout_s": "tests/integration/agent/test_run_results.py: timeout_s=0.3",
    "agent.stage_timeout_s": "tests/integration/agent/test_run_results.py: stage_timeout_s=",
    "agent.max_attempts": "tests/integration/agent/test_run_results.py: max_attempts=1",
    "agent.backoff_s": "tests/unit/agent/test_backoff.py: Backoff(",
    "agent.kill_grace_s": "tests/integration/agent/test_run_results.py: kill_grace_s=",
    "agent.log_bytes_max": "tests/integration/agent/test_run_results.py: log_bytes_max=",
    "agent.remote_wait_s": "tests/integration/agent/test_run_results.py: remote_wait_s=",
    "agent.keep_worktrees": "tests/acceptance/test_agents_at_work.py: keep_worktrees",
    "agent.cgroup": "tests/integration/agent/test_cgroups.py: find_cgroups(",
    "agent.isolation": "tests/integration/agent/test_isolation.py: isolation=",
    "agent.network": "tests/integration/agent/test_isolation.py: network=",
    "agent.processes_max": "tests/unit/agent/test_cgroup.py: processes=9",
    "agent.memory_bytes_max": "tests/unit/agent/test_cgroup.py: memory_bytes=5_000_000",
    "agent.max_interruptions": "tests/integration/agent/test_stopped_on_purpose.py: max_interruptions=",
    "events.rotate_bytes": "tests/integration/store/test_event_export.py: rotate_bytes",
    "events.keep_files": "tests/integration/store/test_event_export.py: keep_files",
    "metrics.public": "tests/unit/test_config.py: public",
}
"""A test of what a setting changes: ``file: text that stands in it``."""


def settings() -> dict[str, Any]:
    """Every key with its default."""
    return {
        f"{table}.{key}": getattr(getattr(Config(), table), key) for table in Config.__struct_fields__ for key in getattr(Config(), table).__struct_fields__
    }


@cache
def attributes_read() -> frozenset[str]:
    """Every attribute that a file of the product beside the configuration looks at."""
    own = ROOT / "fabrik_node" / "config.py"
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "fabrik_node").rglob("*.py") if path != own]
    return frozenset(node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def test_the_table_has_every_setting_and_no_other() -> None:
    assert not PROBES.keys() & TESTS.keys()
    assert PROBES.keys() | TESTS.keys() == settings().keys(), "name a test of what the setting changes in TESTS, or write a probe"


@pytest.mark.parametrize("key", PROBES)
def test_it_decides_something(key: str) -> None:
    one, other = PROBES[key]()
    assert one != other


@pytest.mark.parametrize("key", TESTS)
def test_what_it_changes_has_a_test(key: str) -> None:
    file, _, text = TESTS[key].partition(": ")
    assert text in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("key", settings())
def test_it_is_read_outside_of_the_configuration(key: str) -> None:
    name = key.partition(".")[2]
    through_the_configuration = {"lease.minority_waits", "lease.mass_loss", "metrics.listen", "metrics.public", "agent.timeout_s", "agent.stage_timeout_s"}
    """By a method of theirs, which others call."""
    assert name in attributes_read() or key in through_the_configuration, "nobody reads it"


@pytest.mark.parametrize("key", settings())
def test_it_is_documented_with_its_default(key: str) -> None:
    table, _, name = key.partition(".")
    page = (ROOT / "docs/howto/configure.md").read_text(encoding="utf-8")
    section = page.split(f"\n## [{table}]\n")[1].split("\n## ")[0]
    row = re.search(rf"^\| `{name}` \| (.*?) \|", section, re.MULTILINE)
    assert row is not None, "it stands in no table"
    default, said = settings()[key], row[1].strip("`")
    if isinstance(default, bool | str) or not isinstance(default, int | float):
        assert said in {str(default), "none", "the host's name"} or (default == [] and said == "[]")
    else:
        assert float(said) == default


def test_a_timing_is_made_of_all_lease_settings() -> None:
    """By position it would be easy to give one for another."""
    given = LeaseConfig(
        beat_s=1, ttl_s=11, grace_s=2, lock_delay_s=3, settle_s=4, stage_ttl_s={"Qa": 12.0}, minority_waits=False, mass_loss=5, stage_beat_s={"Qa": 0.5}
    )
    timing = given.timing()
    assert {name: getattr(timing, name) for name in given.__struct_fields__} == {name: getattr(given, name) for name in given.__struct_fields__}
    assert replace(timing, beat_s=1) == timing


def test_the_command_of_a_stage_has_its_own_time() -> None:
    config = AgentConfig(timeout_s=5, stage_timeout_s={"Qa": 7.0})
    assert (config.timeout_in_s("Coding"), config.timeout_in_s("Qa")) == (5, 7.0)
