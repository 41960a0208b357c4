"""A node rotates its key: refused with the reason, or done, and never anything in between, wherever it was cut off."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fabrik_node._core import Replica, SigningKey, genesis_encode, next_key
from fabrik_node.app import running as running_module
from fabrik_node.app.flags import Entry
from fabrik_node.app.key_use import _try, _use
from fabrik_node.app.opening import make_home
from fabrik_node.app.rotation import STEPS, settle
from fabrik_node.app.running import Running
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.clock import SystemClock
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import NOWHERE, Kind, MemberField, Role
from fabrik_node.errors import AuthError, Conflict, FabrikError, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, show_id, show_key
from fabrik_node.paths import HomePaths


class Cut(BaseException):
    """The process is gone."""


@pytest.fixture
async def paths(tmp_path: Path) -> HomePaths:
    made = HomePaths(tmp_path / "home")
    await make_home(made, SystemClock(), name="alpha", mesh_name="mesh", recovery=tmp_path / "recovery.key")
    return made


@asynccontextmanager
async def served(paths: HomePaths) -> AsyncIterator[Running]:
    async with Running(paths.home, ServeOptions(), Entry()) as running:
        yield running


async def rotate(running: Running, **args: Any) -> dict[str, Any]:
    return await running.service.call("keys.rotate", args)


def key_in(file: Path) -> SigningKey:
    return SigningKey.from_seed(bytes.fromhex(file.read_text()))


def lying(paths: HomePaths) -> dict[str, bytes]:
    """Every file of the home, without the index that SQLite leaves with a reader."""
    found = (path for path in sorted(paths.home.rglob("*")) if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path.relative_to(paths.home)): path.read_bytes() for path in found}


def states(lines: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["node"], each["state"], each["name"]) for each in lines["keys"]]


async def fails(attempt: Awaitable[Any], kind: type[FabrikError], text: str) -> FabrikError:
    with pytest.raises(kind, match=text) as caught:
        await attempt
    assert caught.value.hint, "and what to type next"
    return caught.value


@pytest.mark.promise("F8")
async def test_the_logs_of_earlier_runs_stay_readable(paths: HomePaths) -> None:
    file = paths.home / "log"
    file.write_text("it worked\n")
    async with served(paths) as running:
        row = RunRow(new_id(1), new_id(2), new_id(3), running.node.public, "agent", RunState.COMPLETED, "qa", 1, ended_ms=2, log=str(file))
        await running.pipeline.put_run(row)
        await rotate(running)
    async with served(paths) as running:
        said = [part async for part in running.service.stream("runs.logs", {"id": show_id(row.run_id)})]
        assert said[0]["text"] == "it worked\n"


@pytest.mark.promise("F8")
async def test_a_node_goes_on_under_its_next_key(paths: HomePaths) -> None:
    old, new = key_in(paths.identity_key).public, key_in(paths.next_key).public
    async with served(paths) as running:
        item = (await running.service.call("items.add", {"title": "before"}))["item"]["id"]
        said = await rotate(running)
        assert (said["old"], said["new"]) == (show_key(old), show_key(new))
        await fails(running.service.call("items.add", {"title": "under the old key"}), AuthError, "rotated away")
        await fails(rotate(running), Precondition, "was rotated to")
        assert any("was rotated to" in line for line in (await running.service.call("status", {}))["warnings"]), "a clone that goes on is told"
        assert running._stop.get_nowait() is None, "the next start follows"
    async with served(paths) as running:
        assert running.node.public == new == key_in(paths.identity_key).public
        assert states(await running.service.call("keys.list", {})) == [(show_key(old), "rotated", "alpha"), (show_key(new), "current", "alpha")]
        assert running.node.replica.member(new).role == Role.ADMIN
        assert running.findings == []
        await running.service.call("items.edit", {"id": item, "title": "after"})
        assert running.node.replica.voided == 0
        third = key_in(paths.next_key).public
        await rotate(running)
    async with served(paths) as running:
        assert running.node.public == third, "and once more"
        assert [state for _, state, _ in states(await running.service.call("keys.list", {}))] == ["rotated", "rotated", "current"]
        assert [line["name"] for line in (await running.service.call("nodes.list", {}))["nodes"] if line["successor"] is None] == ["alpha"]


@pytest.mark.promise("A11")
async def test_a_rotation_can_be_tried(paths: HomePaths, tmp_path: Path) -> None:
    elsewhere = tmp_path / "next.key"
    async with served(paths) as running:
        seed, before = paths.next_key.read_text(), running.node.replica.ops
        said = await rotate(running, dry_run=True)
        assert (said["writes"], len(said["effects"])) == ([], 1)
        paths.next_key.rename(elsewhere)
        await fails(rotate(running, dry_run=True), NotFound, "is not in")
        await fails(rotate(running, dry_run=True, next="05" * 32), Precondition, "is not the one to which")
        await rotate(running, dry_run=True, next=seed.strip())
        assert not paths.next_key.exists()
        assert not paths.after_key.exists()
        assert running.node.replica.ops == before
        assert running._stop.empty()
        elsewhere.rename(paths.next_key)
        assert show_key(key_in(paths.next_key).public)[:16] in said["effects"][0]
        await rotate(running)


@pytest.mark.promise("F8", "I9")
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_between_any_two_steps_ends_in_the_new_key(paths: HomePaths, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    new = key_in(paths.next_key).public
    async with served(paths) as running:
        await rotate(running)
    reached: list[str] = []

    def cut(at: str) -> None:
        reached.append(at)
        if at == step:
            raise Cut

    monkeypatch.setattr(running_module, "settle", partial(settle, reach=cut))
    with pytest.raises(Cut):
        async with served(paths):
            raise AssertionError("it was cut off before")
    assert reached == list(STEPS[: STEPS.index(step) + 1])
    monkeypatch.setattr(running_module, "settle", settle)
    for _ in range(2):
        async with served(paths) as running:
            assert running.node.public == new
            assert running.node.epochs.doubt == ""
            assert len(running.node.epochs.own_heads()) == 1
            await running.service.call("items.add", {"title": "goes on"})
    assert next_key(key_in(paths.next_key).public).hex() in (await _listed(paths))["next_commitments"]


async def learn(running: Running, logs: list[bytes]) -> None:
    """What a peer would bring, whichever log names whom."""
    for _ in range(2):
        await running.node.ingest(logs, b"")


async def _listed(paths: HomePaths) -> dict[str, Any]:
    async with served(paths) as running:
        return await running.service.call("keys.list", {})


@pytest.mark.promise("F8")
async def test_a_crash_before_the_op_is_durable_leaves_the_old_key(paths: HomePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = key_in(paths.identity_key).public, key_in(paths.next_key).public

    async def lost(*_: object) -> int:
        raise Cut

    async with served(paths) as running:
        with monkeypatch.context() as patch:
            patch.setattr(running.node.writer, "rotate", lost)
            with pytest.raises(Cut):
                await rotate(running)
    assert paths.after_key.exists()
    after = key_in(paths.after_key).public
    async with served(paths) as running:
        assert running.node.public == old
        await running.service.call("items.add", {"title": "still writes"})
        await rotate(running)
    async with served(paths) as running:
        assert running.node.public == new
        assert key_in(paths.next_key).public == after, "what was made for the first try is used by the second"


@pytest.mark.promise("F8")
async def test_a_next_key_that_was_moved_away_is_asked_for_and_must_fit(paths: HomePaths, tmp_path: Path) -> None:
    seed = paths.next_key.read_text().strip()
    new = key_in(paths.next_key).public
    paths.next_key.unlink()
    async with served(paths) as running:
        before = running.node.replica.ops
        assert (await fails(rotate(running), NotFound, "the next key is not in")).exit_status == 3
        assert (await fails(rotate(running, next="ab" * 32), Precondition, "is not the one to which this node is committed")).exit_status == 5
        assert (await fails(rotate(running, next="zz"), UsageError, "64 hex digits")).exit_status == 2
        paths.next_key.write_text("ab" * 32)
        await fails(rotate(running), Precondition, "next.key .* is not the one")
        assert running.node.replica.ops == before
        assert not paths.after_key.exists()
        await rotate(running, next=seed)
    async with served(paths) as running:
        assert running.node.public == new


@pytest.mark.promise("F8")
async def test_what_keeps_a_node_from_rotating_is_said(paths: HomePaths) -> None:
    async with served(paths) as running:
        node = running.node
        await node.epochs.suspect("the home was copied")
        await fails(rotate(running), Precondition, "doubts its own log")
        item = (await running.service.call("items.add", {"title": "opens a new epoch"}))["item"]["id"]
        claimed = await running.pipeline.claim(bytes(running.reader.find_item(item)), "agent")
        assert (await fails(rotate(running), Precondition, f"holds 1 claim.*{item}")).exit_status == 5
        assert claimed is not None
        await running.service.call("claims.release", {"item": item})
        await rotate(running)
    async with served(paths) as running:
        assert len({head.epoch for head in running.node.replica.heads()}) == 3, "the epoch before the doubt is kept, too"
        assert running.node.replica.voided == 0
        assert (await running.service.call("items.show", {"id": item}))["item"]["title"] == "opens a new epoch"


def _of_a_member(paths: HomePaths, record: dict[int, Any]) -> Callable[[Running], Awaitable[None]]:
    async def admit(running: Running) -> None:
        """What the mesh's admin wrote about this node."""
        admin = SigningKey.from_seed(bytes([7]) * 32)
        replica = Replica(running.identity.genesis)
        draft = replica.draft(admin, 1)
        key = running.node.public
        chained = [*draft.genesis(1), *draft.append([(Kind.MEMBER, key, MemberField.RECORD, {1: int(Role.PEER), 3: NOWHERE} | record, None)], 2)]
        await running.node.ingest([each.data for each in chained], b"")

    return admit


@pytest.mark.promise("F8")
async def test_only_a_member_with_a_commitment_rotates(tmp_path: Path) -> None:
    genesis = genesis_encode(SigningKey.from_seed(bytes([7]) * 32).public, "mesh", bytes(16), 1)
    paths = HomePaths(tmp_path / "home")
    await make_home(paths, SystemClock(), name="beta", genesis=genesis)
    new = key_in(paths.next_key).public
    async with served(paths) as running:
        assert (await fails(rotate(running), AuthError, "no member")).exit_status == 7
        await _of_a_member(paths, {})(running)
        await fails(rotate(running), Precondition, "never told the mesh of a next key")
    other = HomePaths(tmp_path / "other")
    await make_home(other, SystemClock(), name="gamma", genesis=genesis)
    async with served(other) as running:
        await _of_a_member(other, {5: next_key(key_in(other.next_key).public)})(running)
        assert running.node.replica.member(new).role == Role.NONE
        await rotate(running)
    async with served(other) as running:
        assert running.node.replica.member(running.node.public).role == Role.PEER
        assert running.node.name_of(running.node.public) == "gamma"


@pytest.mark.promise("F8")
@pytest.mark.parametrize("told", [True, False])
async def test_a_home_from_a_backup_takes_up_the_key_that_it_was_rotated_to(paths: HomePaths, tmp_path: Path, told: bool) -> None:
    """``told``: the store that was put back has the rotation, the key files are older; else all of it is."""
    shutil.copytree(paths.home, tmp_path / "backup")
    async with served(paths) as running:
        await rotate(running)
    async with served(paths) as running:
        await running.service.call("items.add", {"title": "under the new key"})
        logs = [each.data for head in running.node.heads() for each in (await running.store.read(head.author, head.epoch, 0, 1 << 20, 0))]
    if told:
        shutil.rmtree(paths.identity)
        shutil.copytree(tmp_path / "backup" / "identity", paths.identity)
        paths.store.unlink(missing_ok=False)
    else:
        shutil.rmtree(paths.home)
        shutil.copytree(tmp_path / "backup", paths.home)
    if told:
        shutil.copytree(tmp_path / "backup" / "store", paths.store.parent, dirs_exist_ok=True)
        async with served(paths) as running:
            await learn(running, logs)
        refused = await fails(_listed(paths), Precondition, "was rotated to")
        assert str(paths.next_key) in refused.hint
    old, new = key_in(paths.identity_key).public, key_in(paths.next_key).public
    with pytest.raises(Precondition, match="does not follow"):
        await _use(paths, bytes([5]) * 32)
    assert key_in(paths.identity_key).public == old
    before = lying(paths)
    with pytest.raises(Precondition, match="does not follow"):
        await _try(paths, bytes([5]) * 32)
    tried = await _try(paths, bytes.fromhex(paths.next_key.read_text()))
    assert (tried["new"], tried["dry_run"]) == (show_key(new), True)
    assert lying(paths) == before
    assert (await _use(paths, bytes.fromhex(paths.next_key.read_text())))["new"] == show_key(new)
    assert not paths.next_key.exists()
    async with served(paths) as running:
        assert running.node.public == new
        await learn(running, logs)
        assert running.node.epochs.doubt, "what was written since may be with the peers"
        await running.service.call("items.add", {"title": "after the backup"})
        assert running.node.replica.voided == 0
        assert len(running.node.epochs.own_heads()) == 2
        assert sorted(view.title for view in running.node.board.items()) == ["after the backup", "under the new key"]
    with pytest.raises(Conflict, match="already"):
        await _use(paths, bytes.fromhex(paths.identity_key.read_text()))


@pytest.mark.promise("F8")
async def test_a_home_that_took_up_its_next_key_without_a_rotation_comes_back(paths: HomePaths) -> None:
    async with served(paths) as running:
        await running.service.call("items.add", {"title": "before"})
    old, new = key_in(paths.identity_key).public, key_in(paths.next_key).public
    await _use(paths, bytes.fromhex(paths.next_key.read_text()))
    async with served(paths) as running:
        assert (running.node.public, running.node.is_admitted(new)) == (new, False)
    with pytest.raises(Precondition, match="does not follow"):
        await _use(paths, bytes([5]) * 32)
    (former,) = paths.former_keys.iterdir()
    assert (await _use(paths, bytes.fromhex(former.read_text())))["new"] == show_key(old)
    assert (key_in(paths.identity_key).public, key_in(paths.next_key).public) == (old, new)
    async with served(paths) as running:
        await running.service.call("items.add", {"title": "after"})
        assert sorted(view.title for view in running.node.board.items()) == ["after", "before"]
        await rotate(running)
    async with served(paths) as running:
        assert (running.node.public, running.node.replica.voided) == (new, 0)
    with pytest.raises(Precondition, match="does not follow"):
        await _use(paths, bytes.fromhex(former.read_text()))
