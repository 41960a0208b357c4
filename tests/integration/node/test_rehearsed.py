"""Dry runs: of every operation that has one, nothing changes, and what it says would be written is what is written then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from node_rig import BOUND_S, FakeArbiter, NodeRig, Rigs, sync

from fabrik_node._core import SigningKey
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.domain.stages import Coding, Merge, Qa
from fabrik_node.errors import AuthError, Conflict, FabrikError, IllegalMove, NotFound, Precondition, UsageError
from fabrik_node.ids import fingerprint, new_id, parse_id, show_id, show_key
from fabrik_node.service.callers import RunCaller
from fabrik_node.service.rehearsing import REHEARSED


@dataclass
class World:
    """An admin with a remote, a working member, and an item in each state that the operations need."""

    rig: NodeRig
    arbiter: FakeArbiter
    folder: Path
    free: str = ""
    held: str = ""
    """Claimed by the member, with the run :attr:`run`."""
    stuck: str = ""
    """Held for a person, in Merge."""
    run: str = ""
    lost: str = ""
    """A claim on :attr:`held` whose work was not kept."""
    question: str = ""
    """Of the run :attr:`run`."""
    stepped: str = ""
    """With the step "deploy" that is done, "send" that failed, and "test" that its run is at."""

    async def claimed(self, worker: NodeRig, item: str) -> Claim:
        claim = await asyncio.wait_for(worker.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
        assert isinstance(claim, Claim)
        return claim

    async def facts(self) -> tuple[Any, ...]:
        """Whatever a dry run may not change: registers, log, database files, events, the remote."""
        await self.rig.node.stream.settled()  # what was told before is stored by now
        store = self.rig.node.store
        files = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(self.folder.glob("0.db*")) if not path.name.endswith("-shm")}
        return (
            *self.rig.facts(),
            files,
            await store.events(0, 10_000),
            dict(self.arbiter.held),
            await store.get_meta("agent_halt"),
            self.rig.node.knocks.waiting(),
        )

    def knocking(self) -> str:
        """A stranger that waits to be let in."""
        stranger = SigningKey.from_seed(bytes([77]) * 32).public
        assert self.rig.node.knock(stranger, "ada", b"", "10.0.0.7").code == "approval_pending"
        return show_key(stranger)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    rigs, arbiter = Rigs(tmp_path), FakeArbiter()
    admin, worker = await rigs.open(0, arbiter=arbiter), await rigs.open(1, arbiter=arbiter)
    made = World(admin, arbiter, tmp_path)
    made.free, made.held, made.stuck = await admin.add("free", labels=["a"]), await admin.add("held"), await admin.add("stuck")
    await sync(admin, worker)
    claim = await made.claimed(worker, made.held)
    row = RunRow(new_id(1), parse_id(made.held) or b"", claim.claim_id, worker.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await worker.pipeline.put_run(row)
    await worker.pipeline.move(row.item, Coding(), claim)
    made.run = show_id(row.run_id)
    other = replace(row, run_id=new_id(3), claim_id=new_id(4), state=RunState.FAILED, branch="fabrik/other/work")
    await worker.pipeline.put_run(other)
    made.lost = show_id(other.claim_id)
    asked = await worker.service.call("ask", {"text": "deploy?", "options": ["yes", "no"]}, RunCaller(row.item, claim.claim_id, row.run_id, "agent"))
    made.question = asked["request"]["id"]
    claim = await made.claimed(worker, made.stuck)
    stuck = parse_id(made.stuck) or b""
    for stage in (Coding(), Qa(), Merge("fabrik/x/y", 1)):
        await worker.pipeline.move(stuck, stage, claim)
    await worker.pipeline.finish(stuck, claim, "conflict", {"result": "conflict", "reason": "conflict"}, charge_attempt=False, hold="merge conflict")
    made.stepped = await admin.add("stepped")
    await sync(admin, worker)
    claim = await made.claimed(worker, made.stepped)
    await worker.pipeline.move(parse_id(made.stepped) or b"", Coding(), claim)
    caller = RunCaller(parse_id(made.stepped) or b"", claim.claim_id, new_id(5), "agent")
    for name, status in (("deploy", 0), ("send", 3), ("test", None)):
        begun = await worker.service.call("step.begin", {"name": name, "command": ["make"]}, caller)
        if status is not None:
            await worker.service.call("step.end", {"name": name, "attempt": begun["step"]["attempt"], "exit_status": status}, caller)
    await sync(admin, worker)
    yield made
    await rigs.close()


UNWRITTEN = {"drain", "invitations.withdraw", "invite", "keys.recover", "keys.rotate", "nodes.reject"}
"""They write no op as a rehearsal has them, or a rig can not do them: tests of their own."""
CASES: Mapping[str, Callable[[World], dict[str, Any]]] = {
    "approvals.answer": lambda world: {"id": world.question, "answer": "yes", "note": "go"},
    "claims.keep": lambda world: {"item": world.held, "claim": world.lost},
    "claims.expire": lambda world: {"item": world.held, "yes": True},
    "claims.release": lambda world: {"item": world.held, "reason": "stuck"},
    "items.add": lambda world: {"title": "new", "labels": ["x"], "depends_on": [world.free], "on": "node1"},
    "items.edit": lambda world: {"id": world.free, "title": "another", "labels": []},
    "items.move": lambda world: {"id": world.held, "to": "Archived", "reason": "Abandoned"},
    "items.requeue": lambda world: {"id": world.stuck},
    "items.resolve": lambda world: {"id": world.stuck, "branch": "mended"},
    "nodes.approve": lambda world: {"key": world.knocking(), "role": "peer"},
    "nodes.retire": lambda _: {"key": "node1"},
    "nodes.revoke": lambda _: {"key": "node1"},
    "nodes.role": lambda _: {"key": "node1", "role": "reader"},
    "runs.cancel": lambda world: {"id": world.run},
    "steps.again": lambda world: {"id": world.stepped, "name": "deploy"},
    "steps.done": lambda world: {"id": world.stepped, "name": "send"},
    "tombstone": lambda world: {"id": world.held, "reason": "double"},
}


@pytest.mark.promise("A11")
@pytest.mark.parametrize("op", sorted(REHEARSED - UNWRITTEN))
async def test_a_dry_run_changes_nothing_and_says_what_is_written_then(world: World, op: str) -> None:
    args = CASES[op](world)
    before = await world.facts()
    said = await world.rig.call(op, dry_run=True, **args)
    assert await world.facts() == before
    assert (said["dry_run"], said["op"], bool(said["writes"])) == (True, op, True)
    named = [effect for effect in said["effects"] if "node1" in effect]
    to_node1 = {"claims.expire", "claims.keep", "claims.release", "items.move", "nodes.retire", "nodes.revoke", "nodes.role", "runs.cancel"}
    assert bool(named) is (op in to_node1)
    done = await world.rig.call(op, **args)
    dump = {(row["kind"], row["id"], row["field"]): row async for row in registers(world.rig)}
    for write in said["writes"]:
        item = write["id"] or done["item"]["id"]
        now = dump[write["kind"], item, write["field"]]["value"]
        if write["kind"] == "claim":
            assert now["state"] == write["after"]["state"] == "released"
            assert write["before"]["state"] == "confirmed"
        else:
            assert now == write["after"], write
            # The same stage under the claim that ends the run's: its late moves do not count. And a person's end of a hold that was none of a person's.
            again = (op, write["field"]) == ("runs.cancel", "stage") or (write["field"] == "person_hold" and write["before"] is write["after"] is None)
            assert (write["before"] == write["after"]) is again


@pytest.mark.parametrize(
    ("op", "args", "says"),
    [
        (
            "nodes.role",
            {"role": "reader"},
            "gets the role reader, instead of agent: for what this node does not hold of it yet; what it holds stays as it was judged",
        ),
        ("nodes.role", {"role": "agent"}, "keeps the role agent: for what this node does not hold of it yet; what it holds stays as it was judged"),
        ("nodes.retire", {}, "can not connect any more; all that it wrote stays"),
        ("nodes.revoke", {}, "is put out for good, on every node; what this node holds of it now stays, and whatever else it wrote or writes is void"),
        (
            "nodes.revoke",
            {"keep": ["first"]},
            "is put out for good, on every node; what it wrote up to 1 place stays, and whatever else it wrote or writes is void",
        ),
        ("nodes.revoke", {"keep_nothing": True}, "is put out for good, on every node; nothing stays, and whatever else it wrote or writes is void"),
    ],
)
async def test_what_becomes_of_a_member_is_said(world: World, op: str, args: dict[str, Any], says: str) -> None:
    said = await world.rig.call(op, dry_run=True, key="node1", **args)
    (effect,) = said["effects"]
    assert effect.startswith("node1 (")
    assert effect.endswith(f") {says}")


async def test_an_expiry_says_once_how_old_its_news_are(world: World) -> None:
    with pytest.raises(Precondition, match="this stops run") as refused:
        await world.rig.call("claims.expire", item=world.held)
    assert str(refused.value).count("heard of it") == 1, refused.value


async def registers(rig: NodeRig) -> AsyncIterator[dict[str, Any]]:
    """Every register in the words of a dry run."""
    from fabrik_node.service.rehearsing import write_shown

    for kind in Kind:
        for name, row in rig.node.replica.rows(kind):
            for field, value in row.items():
                said = write_shown(rig.reader, (kind, name, field, value, None))
                yield {"kind": said["kind"], "id": said["id"], "field": said["field"], "value": said["after"]}


@pytest.mark.promise("A11")
@pytest.mark.parametrize(
    ("op", "args", "error"),
    [
        ("items.add", {"title": ""}, UsageError),
        ("items.add", {"title": "x", "on": "nowhere"}, NotFound),
        ("items.edit", {"id": "free", "body": "x" * 40_000}, UsageError),
        ("items.move", {"id": "free", "to": "Done", "merge_commit": "ab" * 20}, IllegalMove),
        ("items.requeue", {"id": "free"}, Precondition),
        ("claims.release", {"item": "free"}, Precondition),
        ("claims.expire", {"item": "held"}, Precondition),
        ("claims.keep", {"item": "held", "claim": "run"}, NotFound),
        ("claims.keep", {"item": "held", "claim": "lost", "new_item": True}, Precondition),
        ("approvals.answer", {"id": "question", "answer": "perhaps"}, UsageError),
        ("invite", {"url": "wss://h.example:1", "role": "admin"}, UsageError),
        ("invite", {}, Precondition),
        ("invitations.withdraw", {"id": "zzzz"}, NotFound),
        ("nodes.approve", {"key": "abcd"}, NotFound),
        ("nodes.approve", {"key": "abcd", "role": "admin"}, UsageError),
        ("nodes.reject", {"key": "abcd"}, NotFound),
        ("nodes.role", {"key": "nobody", "role": "peer"}, NotFound),
        ("steps.done", {"id": "stepped", "name": "build"}, NotFound),
        ("steps.again", {"id": "stepped", "name": "test"}, Conflict),
        ("steps.again", {"id": "stepped"}, UsageError),
        ("drain", {}, Precondition),
        ("tombstone", {"id": "zzzz"}, NotFound),
    ],
)
async def test_a_dry_run_is_refused_as_the_thing_itself(world: World, op: str, args: dict[str, Any], error: type[FabrikError]) -> None:
    args = {name: getattr(world, value) if name in {"id", "item", "claim"} and value != "zzzz" else value for name, value in args.items()}
    before, said = await world.facts(), []
    for dry in ({"dry_run": True}, {}):
        with pytest.raises(error) as refused:
            await world.rig.call(op, **args, **dry)
        said.append((str(refused.value), refused.value.hint))
    assert said[0] == said[1]
    assert await world.facts() == before


@pytest.mark.promise("A11")
async def test_whatever_has_no_dry_run_refuses_one_and_does_nothing(world: World) -> None:
    before = await world.facts()
    streams = {"ask.wait", "db.dump", "events", "runs.logs", "runs.watch"}
    for op in sorted(world.rig.service.names - REHEARSED - streams - {"runs.clean"}):
        with pytest.raises(UsageError, match="can not be tried without doing it"):
            await world.rig.call(op, dry_run=True)
    assert await world.facts() == before


async def test_a_member_without_the_right_learns_it_from_the_dry_run(tmp_path: Path) -> None:
    rigs = Rigs(tmp_path)
    try:
        admin, other = await rigs.open(0), await rigs.open(1)
        await sync(admin, other)
        with pytest.raises(AuthError):
            await other.call("nodes.retire", key="node0", dry_run=True)
    finally:
        await rigs.close()


async def test_a_node_without_a_remote_says_that_the_holder_can_still_merge(tmp_path: Path) -> None:
    rigs = Rigs(tmp_path)
    try:
        admin, worker = await rigs.open(0), await rigs.open(1, arbiter=FakeArbiter())
        item = await admin.add("held")
        await sync(admin, worker)
        assert isinstance(await asyncio.wait_for(worker.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S), Claim)
        await sync(admin, worker)
        tried = await admin.call("claims.release", item=item, dry_run=True)
        assert tried["effects"][1] == "node1 (agent) is stopped when it hears of this, and can still merge until then: this node has no [git] remote"
        assert "can still merge until it hears of this" in (await admin.call("claims.release", item=item))["note"]
    finally:
        await rigs.close()


async def test_a_drain_says_what_goes_on_and_halts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.rig.agent, "describe", lambda: {"enabled": True, "running": ["r1", "r2"], "halt": None})
    said = await world.rig.call("drain", dry_run=True)
    assert said["effects"] == ["the agent takes nothing new, also after a restart; 2 runs go on to their ends"]
    assert (await world.rig.call("drain", dry_run=True, off=True))["effects"] == ["nothing changes: the agent takes work"]


async def test_an_invitation_that_is_only_tried_opens_no_door(world: World) -> None:
    before = await world.facts()
    said = await world.rig.call("invite", dry_run=True, url="wss://h.example:1", role="peer", max_uses=3, ttl_s=60)
    assert said["effects"] == ["a secret token lets 3 nodes into the mesh as peer, within 60 s"]
    assert "token" not in said
    assert (await world.rig.call("invitations.list", all=True))["invitations"] == []
    assert await world.facts() == before


@pytest.mark.promise("A11")
async def test_an_invitation_whose_withdrawal_is_only_tried_stays_open(world: World) -> None:
    token = (await world.rig.call("invite", url="wss://h.example:1", max_uses=3))["id"]
    before = await world.facts()
    said = await world.rig.call("invitations.withdraw", dry_run=True, id=token[:8])
    assert said["effects"] == [f"nobody gets in with the invitation {token} (role agent) any more"]
    assert await world.facts() == before
    assert [each["state"] for each in (await world.rig.call("invitations.list"))["invitations"]] == ["open"]
    assert (await world.rig.call("invitations.withdraw", id=token))["state"] == "withdrawn"
    refused = []
    for dry in ({"dry_run": True}, {}):
        with pytest.raises(Precondition, match="is over: withdrawn") as over:
            await world.rig.call("invitations.withdraw", id=token, **dry)
        refused.append((str(over.value), over.value.hint))
    assert refused[0] == refused[1]


@pytest.mark.promise("A11")
async def test_who_knocks_hears_nothing_of_an_answer_that_is_only_tried(world: World) -> None:
    key = world.knocking()
    shown = f"ada ({fingerprint(bytes.fromhex(key))})"
    before = await world.facts()
    rejected = await world.rig.call("nodes.reject", dry_run=True, key=key[:8])
    assert (rejected["writes"], rejected["effects"]) == ([], [f"{shown} is told that it is not wanted, until this node stops; a token lets it in all the same"])
    approved = await world.rig.call("nodes.approve", dry_run=True, key=key[:8], role="peer")
    assert approved["effects"] == [f"{shown} is let into the mesh as peer"]
    assert (approved["writes"][0]["id"], approved["writes"][0]["after"]["role"], approved["writes"][0]["after"]["name"]) == (key, "peer", "ada")
    assert await world.facts() == before
    assert world.knocking() == key, "it still waits, and is neither in nor turned away"
    assert await world.rig.node.store.joins() == []


async def test_who_was_let_in_elsewhere_meanwhile_only_waits_no_more(world: World) -> None:
    key = world.knocking()
    other = SigningKey.from_seed(bytes([77]) * 32).public
    await world.rig.node.write("elsewhere", lambda: [(Kind.MEMBER, other, MemberField.RECORD, {1: int(Role.AGENT)}, None)])
    said = await world.rig.call("nodes.approve", dry_run=True, key=key, role="peer")
    assert (said["writes"], said["effects"]) == ([], [f"ada ({fingerprint(other)}) is a member already, and does not wait any more"])


@pytest.mark.parametrize(
    ("op", "name", "says"),
    [
        ("steps.done", "send", "counts as done, and no run does it"),
        ("steps.again", "deploy", "may run again, with whatever inputs"),
        ("steps.done", "deploy", ""),
    ],
)
async def test_what_becomes_of_a_step_is_said(world: World, op: str, name: str, says: str) -> None:
    said = await world.rig.call(op, dry_run=True, id=world.stepped, name=name)
    assert said["effects"] == ([f"step {name} of item {world.stepped} {says}"] if says else [])
    states = [(each["before"]["state"], each["after"]["state"], each["after"]["item"]) for each in said["writes"]]
    assert states == ([("failed", "done", world.stepped) if op == "steps.done" else ("done", "again", world.stepped)] if says else [])


async def test_the_work_that_would_be_merged_on_top_is_shown_as_the_new_item(world: World) -> None:
    for stage, more in (("Qa", {}), ("Merge", {"branch": "b", "commits_ahead": 1}), ("Done", {"merge_commit": "ab" * 20})):
        await world.rig.call("items.move", id=world.held, to=stage, **more)
    before = await world.facts()
    said = await world.rig.call("claims.keep", item=world.held, claim=world.lost, new_item=True, dry_run=True)
    assert await world.facts() == before
    shown = {write["field"]: write["after"] for write in said["writes"]}
    assert {write["id"] for write in said["writes"]} == {None}
    done = (await world.rig.call("claims.keep", item=world.held, claim=world.lost, new_item=True))["item"]
    assert (shown["title"], shown["stage"]["stage"], done["hold"]) == (done["title"], done["stage"], None)
    assert "hold" not in shown
    assert "stays merged" in said["effects"][0]


async def test_two_calls_at_once_do_not_see_each_other_s_dry_run(world: World) -> None:
    calls: list[Awaitable[dict[str, Any]]] = []
    for number in range(20):
        calls += [world.rig.call("items.add", title=f"dry {number}", dry_run=True), world.rig.call("items.add", title=f"real {number}")]
    await asyncio.gather(*calls)
    titles = [item["title"] for item in (await world.rig.call("items.list"))["items"]]
    assert sorted(title for title in titles if title.startswith(("dry", "real"))) == sorted(f"real {number}" for number in range(20))


async def test_a_run_of_this_node_is_not_told_of_a_dry_cancel(world: World) -> None:
    told: list[bytes] = []

    async def cancel(run_id: bytes, _reason: str) -> bool:
        told.append(run_id)
        return True

    world.rig.agent.on_cancel = cancel
    claim = await world.claimed(world.rig, world.free)
    row = RunRow(new_id(2), parse_id(world.free) or b"", claim.claim_id, world.rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await world.rig.pipeline.put_run(replace(row, agent="agent"))
    said = await world.rig.call("runs.cancel", id=show_id(row.run_id), dry_run=True)
    assert told == []
    assert said["effects"][0].startswith(f"run {show_id(row.run_id)} on this node ends with all of its processes")
    assert [write["field"] for write in said["writes"]] == ["hold", "person_hold"]
