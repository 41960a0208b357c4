"""Commands of runs as callers: what is open to them, how long their token counts, and what is noticed without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from node_rig import NodeRig, Rigs

from fabrik_node.api.use_cases import STREAMS
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.errors import AuthError, ClaimLost, UsageError
from fabrik_node.ids import new_id, parse_id, show_id, show_key
from fabrik_node.ports import RunAccess
from fabrik_node.process import Peer, Standing, standing_of
from fabrik_node.service.callers import OPERATOR, RUN_OPERATIONS, Operator, RunCaller, must_run
from fabrik_node.service.passes import TOKEN_BYTES, Passes

ITEM, CLAIM, RUN = new_id(1), new_id(2), new_id(3)
CALLER = RunCaller(ITEM, CLAIM, RUN, "agent")
GONE = Peer(told=True)


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def at_work(rig: NodeRig) -> tuple[RunCaller, RunAccess]:
    """A run that holds its item, and what its command was given."""
    item = parse_id(await rig.add("its work")) or b""
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    row = RunRow(RUN, item, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await rig.pipeline.put_run(replace(row, branch="fabrik/a/b", worktree="/work/a-b"))
    return RunCaller(item, claim.claim_id, RUN, "agent"), rig.service.passes.issue(item, claim.claim_id, RUN, "agent")


@pytest.mark.promise("A8", "F15")
async def test_every_operation_of_the_node_is_open_to_runs_by_the_table_or_refused_with_code_7(rigs: Rigs) -> None:
    rig = await rigs.open()
    caller, _ = await at_work(rig)
    before = rig.facts()
    assert rig.service.names >= STREAMS
    assert rig.service.names >= set(RUN_OPERATIONS), "what is open is there"
    for op in sorted(rig.service.names - set(RUN_OPERATIONS)):
        with pytest.raises(AuthError, match="may not ask for") as refused:
            await anext(rig.service.stream(op, {}, caller)) if op in STREAMS else await rig.service.call(op, {}, caller)
        assert refused.value.exit_status == 7
        assert "whoami" in refused.value.hint
    assert rig.facts() == before
    assert not {"db.dump", "events", "items.list", "items.add", "invite", "keys.list", "status"} & set(RUN_OPERATIONS)


@pytest.mark.promise("A8")
async def test_a_run_sees_its_own_item_and_run_only(rigs: Rigs) -> None:
    rig = await rigs.open()
    other = await rig.add("not its work")
    caller, _ = await at_work(rig)
    own = show_id(caller.item)
    for op, rule in RUN_OPERATIONS.items():
        if rule is not None:
            for named in (other, other[:12], own[:12], "", 5):
                with pytest.raises(AuthError, match=f"its own {rule.what} only"):
                    await anext(rig.service.stream(op, {rule.name: named}, caller)) if op in STREAMS else await rig.service.call(op, {rule.name: named}, caller)
    for args in ({}, {"id": own}, {"id": own.upper()}):
        assert (await rig.service.call("items.show", args, caller))["item"]["id"] == own
        assert (await rig.service.call("why", args, caller))["id"] == own
    assert (await rig.service.call("runs.show", {}, caller))["run"]["run_id"] == show_id(RUN)


@pytest.mark.promise("H33")
async def test_whoami_is_the_run_for_its_command_and_the_node_for_its_operator(rigs: Rigs) -> None:
    rig = await rigs.open()
    caller, _ = await at_work(rig)
    for stands in ("/", "/work/a-b", "/work/another"):
        said = await rig.service.call("whoami", {"folder": stands}, caller)
        assert {name: said[name] for name in ("caller", "item", "claim", "run", "epoch", "attempt", "agent", "branch", "worktree", "node", "title")} == {
            "caller": "run", "item": show_id(caller.item), "claim": show_id(caller.claim_id), "run": show_id(RUN), "epoch": 1, "attempt": 1, "agent": "agent",
            "branch": "fabrik/a/b", "worktree": "/work/a-b", "node": "node0", "title": "its work",
        }  # fmt: skip
        assert said["may"] == sorted(RUN_OPERATIONS)
    for folder, inside in (("/work/a-b", True), ("/work/a-b/deep/er", True), ("/work/a-bc", False), ("/work", False), (None, False)):
        said = await rig.service.call("whoami", {"folder": folder})
        assert (said["caller"], said["node_id"], said["role"], said["mesh"]) == ("operator", show_key(rig.node.public), "admin", "test")
        assert (said["worktree_of"] is not None and said["worktree_of"]["run"] == show_id(RUN)) is inside
    for no_path in ("a\0b", "\ud800"):
        with pytest.raises(UsageError, match="folder is no path"):
            await rig.call("whoami", folder=no_path)
    assert (await (await rigs.open(1)).call("whoami"))["role"] in {"none", "agent"}


async def test_a_token_ends_with_its_command_and_with_its_claim(rigs: Rigs) -> None:
    rig = await rigs.open()
    caller, access = await at_work(rig)
    passes = rig.service.passes
    assert passes.caller(access.token, GONE) == caller
    again = passes.issue(caller.item, caller.claim_id, RUN, "agent")
    assert again.token != access.token
    passes.end(access)
    passes.end(access)
    for wrong in (access.token, "", again.token + "0", again.token[:-1], "\udcff", "x" * 100_000):
        with pytest.raises(AuthError, match="does not count"):
            passes.caller(wrong, GONE)
    await rig.call("claims.release", item=show_id(caller.item))
    with pytest.raises(ClaimLost, match="does not hold item"):
        passes.caller(again.token, GONE)


def test_a_token_has_32_bytes_and_shows_nowhere() -> None:
    passes = Passes("/run/node.sock", lambda _item, _claim: True)
    made = [passes.issue(ITEM, CLAIM, RUN, "agent") for _ in range(20)]
    assert len({access.token for access in made}) == 20
    for access in made:
        assert len(bytes.fromhex(access.token)) == TOKEN_BYTES == 32
        caller = passes.caller(access.token, GONE)
        told: list[Any] = [access, caller, passes, vars(passes), *vars(passes).values()]
        assert not any(access.token in repr(each) for each in told)


def here(*above: int, environment: bytes = b"", groups: str = "") -> Peer:
    return Peer(told=True, standing=Standing(above, environment, groups))


@pytest.mark.promise("A8")
def test_a_process_of_a_run_without_a_token_is_no_operator() -> None:
    passes = Passes("/run/node.sock", lambda _item, _claim: True)
    below, beside, of_node = here(50, 40, 30, 1), here(60, 1), here(70, os.getpid(), 1)
    assert isinstance(passes.caller(None, below), Operator), "no command runs"
    assert passes.caller(None, GONE) is OPERATOR
    access = passes.issue(ITEM, CLAIM, RUN, "agent")
    with pytest.raises(AuthError, match="process of run"):
        passes.caller(None, of_node)  # a command is being started, and it may be this one
    passes.began(access, 40)
    run = show_id(RUN)
    daemons = (here(50, 1, environment=f"A=b\0FABRIK_RUN={run}\0C=d".encode()), here(50, 1, groups=f"0::/user.slice/fabrik-{run}\n"))
    for peer in (below, *daemons):
        with pytest.raises(AuthError, match=f"process of run {run} and shows no token") as refused:
            passes.caller(None, peer)
        assert "--home" in refused.value.hint
        assert passes.caller(access.token, peer) == CALLER
        assert passes.run_of(peer) == run
    assert passes.run_of(beside) == passes.run_of(GONE) == ""
    for peer in (beside, of_node, here(os.getpid(), 1), here(60, 1, environment=b"FABRIK_RUN=another", groups="0::/\n"), Peer(told=False)):
        assert passes.caller(None, peer) is OPERATOR
    passes.end(access)
    assert passes.caller(None, below) is OPERATOR


@pytest.mark.promise("A8")
def test_while_a_command_runs_a_caller_that_can_not_be_found_is_refused() -> None:
    passes = Passes("/run/node.sock", lambda _item, _claim: True)
    access = passes.issue(ITEM, CLAIM, RUN, "agent")
    passes.began(access, 40)
    with pytest.raises(AuthError, match="nobody can tell whose process this call came from") as refused:
        passes.caller(None, GONE)
    assert refused.value.exit_status == 7
    assert passes.caller(access.token, GONE) == CALLER


def test_where_a_process_stands_is_found_and_one_that_is_gone_is_not() -> None:
    standing = standing_of(os.getpid())
    assert standing is not None
    assert standing.above[:2] == (os.getpid(), os.getppid())
    assert standing.environment
    program = "print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"FABRIK_RUN": "x"})
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"  # before that it has our environment, or none at all
        below = standing_of(child.pid)
        assert below is not None
        assert below.above == (child.pid, *standing.above)
        assert below.environment == b"FABRIK_RUN=x\0"
    finally:
        child.communicate(b"\n")
    assert standing_of(child.pid) is None
    assert standing_of(0) == Standing(())


def test_what_is_for_runs_says_so_to_an_operator() -> None:
    assert must_run(CALLER, "a step") is CALLER
    with pytest.raises(UsageError, match="a step is for the command of a run"):
        must_run(OPERATOR, "a step")
