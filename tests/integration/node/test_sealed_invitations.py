"""While an invitation is open its secret is in no file of the store: a copy of the database lets nobody in."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_rig import NodeRig, Rigs

from fabrik_node._core import SigningKey
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, Precondition
from fabrik_node.node.sealing import SealKey
from fabrik_node.ports import Invite

PLAIN = b"a secret that lies there in plain"[:32]
STRANGER = SigningKey.from_seed(b"\xc0" * 32).public


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Rigs]:
    (tmp_path / "store").mkdir()
    made = Rigs(tmp_path / "store")
    yield made
    await made.close()


def key_file(tmp_path: Path) -> Path:
    return tmp_path / "identity" / "invitations.key"


async def served(rigs: Rigs, tmp_path: Path) -> NodeRig:
    rig = await rigs.open(start=False)
    rig.listen_url = "ws://127.0.0.1:9/crdt-sync"
    await rig.node.invitations.start(key_file(tmp_path))
    rig.start()
    return rig


def found(tmp_path: Path, secret: bytes) -> list[str]:
    """Files of the store in which it stands, as bytes or as hex digits."""
    return [path.name for path in sorted((tmp_path / "store").iterdir()) if secret in (data := path.read_bytes()) or secret.hex().encode() in data]


async def invited(rig: NodeRig) -> JoinToken:
    return JoinToken.decode((await rig.call("invite", reusable=True))["token"])


async def join(rig: NodeRig, token_id: bytes, secret: bytes) -> None:
    await rig.node.redeem(token_id, STRANGER, lambda known: known == secret)


@pytest.mark.promise("I22")
async def test_the_secret_of_an_open_invitation_is_in_no_file_of_the_store(rigs: Rigs, tmp_path: Path) -> None:
    rig = await served(rigs, tmp_path)
    assert not key_file(tmp_path).exists(), "made on first need"
    made = await invited(rig)
    stored = await rig.node.store.invite(made.token_id)
    assert stored is not None
    for folded in (False, True):
        if folded:
            assert await rig.node.store.scrub()
        assert found(tmp_path, made.secret) == []
        assert found(tmp_path, stored.secret), "what is searched is where an invitation would be"
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file(tmp_path).parent.stat().st_mode) == 0o700
    for thief in (stored.secret, stored.secret[:32], stored.secret[-32:], b""):
        with pytest.raises(AuthError, match="could not prove"):
            await join(rig, made.token_id, thief)
    await rig.stop()
    again = await served(rigs, tmp_path)
    await join(again, made.token_id, made.secret)
    assert again.node.is_admitted(STRANGER)


@pytest.mark.promise("I22")
async def test_what_an_older_build_stored_in_plain_is_sealed_at_the_first_start(rigs: Rigs, tmp_path: Path) -> None:
    rig = await rigs.open()
    for number in range(100):  # enough of them to fill pages
        await rig.node.store.put_invite(Invite(bytes([number]) * 16, PLAIN, 3, rigs.clock.now() + 60, "boot", 0))
    assert found(tmp_path, PLAIN)
    await rig.stop()
    again = await served(rigs, tmp_path)
    assert found(tmp_path, PLAIN) == []
    assert again.node.invitations.voided == 0
    await join(again, b"\x07" * 16, PLAIN)
    assert again.node.is_admitted(STRANGER)


@pytest.mark.promise("I22")
@pytest.mark.parametrize("lost", ["gone", "another", "damaged"])
async def test_without_its_key_file_an_open_invitation_is_void(rigs: Rigs, tmp_path: Path, lost: str) -> None:
    rig = await served(rigs, tmp_path)
    made, path = await invited(rig), key_file(tmp_path)
    path.unlink()
    if lost == "another":
        SealKey(path).seal(b"", b"")
    if lost == "damaged":
        path.write_text("no key\n")
    with pytest.raises(AuthError, match="the invitation is void: the key file"):
        await join(rig, made.token_id, made.secret)
    if lost == "damaged":
        with pytest.raises(Precondition, match=r"can not be used.*is no key file"):
            await invited(rig)
    await rig.stop()
    again = await served(rigs, tmp_path)
    assert again.node.invitations.voided == 1
    (shown,) = (await again.call("invitations.list", all=True))["invitations"]
    assert shown["state"] == "void"
    with pytest.raises(AuthError, match="is void"):
        await join(again, made.token_id, made.secret)


def test_a_seal_is_of_one_invitation(tmp_path: Path) -> None:
    key = SealKey(key_file(tmp_path))
    sealed = key.seal(b"a" * 16, PLAIN)
    assert key.open(b"a" * 16, sealed) == PLAIN
    assert [key.open(b"b" * 16, sealed), key.open(b"a" * 16, sealed[:-1]), key.open(b"a" * 16, b""), SealKey().open(b"a" * 16, sealed)] == [None] * 4
    assert sealed != key.seal(b"a" * 16, PLAIN)
    key_file(tmp_path).chmod(0o644)
    assert key.open(b"a" * 16, sealed) == PLAIN
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
