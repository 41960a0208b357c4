"""The recovery key makes an admin of any member, and puts the lost one out; nobody else's key does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fabrik_node._core import Genesis, SigningKey, next_key
from fabrik_node.app.flags import Entry
from fabrik_node.app.opening import make_home
from fabrik_node.app.running import Running
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.clock import SystemClock
from fabrik_node.domain.schema import NOWHERE, Kind, MemberField, Role
from fabrik_node.errors import AuthError, FabrikError, NotFound, Precondition
from fabrik_node.ids import show_key
from fabrik_node.node.node import Node
from fabrik_node.paths import HomePaths


class World:
    """The mesh's admin with its recovery key, and a member that knows it. ``open`` a home, and they know each other's logs."""

    def __init__(self, folder: Path) -> None:
        self.admin = HomePaths(folder / "admin")
        self.member = HomePaths(folder / "member")
        self.file = folder / "recovery.key"

    async def make(self) -> None:
        await make_home(self.admin, SystemClock(), name="alpha", mesh_name="mesh", recovery=self.file)
        genesis = (self.admin.identity / "genesis.cbor").read_bytes()
        made = await make_home(self.member, SystemClock(), name="beta", genesis=genesis)
        async with self.serve(self.admin) as running, self.serve(self.member) as other:
            record = {1: int(Role.PEER), 3: NOWHERE, 5: made.next_commitment}
            await running.node.write("member", lambda: [(Kind.MEMBER, made.key.public, MemberField.RECORD, record, None)])
            await exchange(running.node, other.node)

    def serve(self, paths: HomePaths) -> Running:
        return Running(paths.home, ServeOptions(), Entry())

    @property
    def seed(self) -> str:
        return self.file.read_text().strip()


async def exchange(one: Node, other: Node) -> None:
    """Both hold everything."""
    for source, target in ((one, other), (other, one)):
        for _ in range(2):  # whom a log names is known behind it
            for head in source.heads():
                rows = await source.store.read(head.author, head.epoch, 0, 1 << 20, head.branch)
                await target.ingest([row.data for row in rows], b"")


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.make()
    return made


async def fails(running: Running, kind: type[FabrikError], text: str, **args: Any) -> FabrikError:
    before = running.node.replica.ops
    with pytest.raises(kind, match=text) as caught:
        await running.service.call("keys.recover", args)
    assert caught.value.hint
    assert running.node.replica.ops == before
    return caught.value


@pytest.mark.promise("F8")
async def test_a_member_becomes_the_admin_and_the_lost_one_is_out(world: World) -> None:
    async with world.serve(world.admin) as lost, world.serve(world.member) as running:
        said = await running.service.call("keys.recover", {"recovery": world.seed, "revoke": ["alpha"]})
        assert [each["name"] for each in said["revoked"]] == ["alpha"]
        own, old = running.node.replica.member(running.node.public), running.node.replica.member(lost.node.public)
        assert (own.role, own.level) == (Role.ADMIN, 0)
        assert (old.role, old.revoked) == (Role.NONE, True)
        await exchange(running.node, lost.node)
        assert lost.node.replica.member(lost.node.public).revoked
        with pytest.raises(AuthError):
            await lost.service.call("items.add", {"title": "by a thief"})
        with pytest.raises(AuthError):
            await lost.service.call("nodes.revoke", {"key": "beta"})
        stranger = SigningKey.from_seed(bytes([9]) * 32).public
        await running.node.write("member", lambda: [(Kind.MEMBER, stranger, MemberField.RECORD, {1: int(Role.AGENT), 3: NOWHERE}, None)])
        assert running.node.is_admitted(stranger), "it admits others"
        await exchange(running.node, lost.node)
        assert lost.node.is_admitted(stranger)
        assert lost.node.replica.state_digest() == running.node.replica.state_digest()
        await fails(running, Precondition, "the mesh's admin already", recovery=world.seed)


@pytest.mark.promise("A11")
async def test_a_recovery_can_be_tried(world: World) -> None:
    async with world.serve(world.admin) as lost, world.serve(world.member) as running:
        before, ids = running.node.replica.state_digest(), [show_key(running.node.public), show_key(lost.node.public)]
        tried = await running.service.call("keys.recover", {"recovery": world.seed, "revoke": ["alpha"], "dry_run": True})
        assert running.node.replica.state_digest() == before
        assert [write["id"] for write in tried["writes"]] == ids
        assert ["becomes an admin" in tried["effects"][0], "is put out for good" in tried["effects"][1]] == [True, True]
        await fails(running, AuthError, "not the recovery key", recovery="05" * 32, dry_run=True)
        await running.service.call("keys.recover", {"recovery": world.seed, "revoke": ["alpha"]})
        rows = {show_key(key): row for key, row in running.node.replica.rows(Kind.MEMBER)}
        written = {write["id"]: write["after"] for write in tried["writes"]}
        assert {key: written[key]["role"] for key in ids} == {ids[0]: "admin", ids[1]: "none"}
        assert {key: len(written[key]) for key in ids} == {key: len(rows[key][MemberField.RECORD]) for key in ids}


@pytest.mark.promise("F8")
async def test_the_new_admin_can_rotate_and_the_recovery_key_works_again(world: World) -> None:
    async with world.serve(world.member) as running:
        await running.service.call("keys.recover", {"recovery": world.seed})
        await running.service.call("keys.rotate", {})
    async with world.serve(world.member) as running, world.serve(world.admin) as other:
        assert running.node.replica.member(running.node.public).level == 0
        await exchange(running.node, other.node)
        assert other.node.replica.member(other.node.public).role == Role.ADMIN, "who was not revoked stays"
        await running.service.call("keys.recover", {"recovery": world.seed, "revoke": ["alpha"]})
        await exchange(running.node, other.node)
        assert other.node.replica.member(other.node.public).revoked
        assert other.node.replica.state_digest() == running.node.replica.state_digest()


@pytest.mark.promise("F8")
async def test_who_rotated_and_is_made_an_admin_can_rotate_again(world: World) -> None:
    async with world.serve(world.member) as running:
        await running.service.call("keys.rotate", {})
    async with world.serve(world.member) as running, world.serve(world.admin) as admin:
        await exchange(running.node, admin.node)
        await admin.service.call("nodes.role", {"key": "beta", "role": "admin"})
        await exchange(running.node, admin.node)
        assert running.node.replica.member(running.node.public).level == 1
        await running.service.call("keys.rotate", {})
    async with world.serve(world.member) as running, world.serve(world.admin) as admin:
        await exchange(running.node, admin.node)
        for node in (running.node, admin.node):
            member = node.replica.member(running.node.public)
            assert (member.role, member.level) == (Role.ADMIN, 1)
            assert node.replica.voided == 0


@pytest.mark.promise("F8")
async def test_nobody_else_is_believed(world: World, tmp_path: Path) -> None:
    async with world.serve(world.member) as running:
        assert (await fails(running, AuthError, "not the recovery key of mesh", recovery="ab" * 32)).exit_status == 7
        assert (await fails(running, NotFound, "no member", recovery=world.seed, revoke=["nobody"])).exit_status == 3
    plain = HomePaths(tmp_path / "plain")
    await make_home(plain, SystemClock(), name="gamma", mesh_name="without")
    genesis = Genesis.decode((plain.identity / "genesis.cbor").read_bytes())
    assert genesis.recovery is None
    assert genesis.next == next_key(SigningKey.from_seed(bytes.fromhex(plain.next_key.read_text())).public)
    async with world.serve(plain) as running:
        assert (await fails(running, Precondition, "made without a recovery key", recovery=world.seed)).exit_status == 5


@pytest.mark.promise("F8", "I14")
async def test_who_recovers_and_puts_out_its_own_former_key_stays_in(world: World) -> None:
    """What is held stays, and the rotation is held: the new key is not cut off with the old one."""
    old = SigningKey.from_seed(bytes.fromhex(world.member.identity_key.read_text())).public
    async with world.serve(world.member) as running:
        await running.service.call("keys.rotate", {})
    async with world.serve(world.member) as running, world.serve(world.admin) as admin:
        await running.service.call("keys.recover", {"recovery": world.seed, "revoke": [old.hex()]})
        await exchange(running.node, admin.node)
        for node in (running.node, admin.node):
            assert node.replica.member(old).revoked
            assert node.is_admitted(running.node.public)
        await running.service.call("items.add", {"title": "goes on"})
