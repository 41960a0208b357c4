"""The secret of an invitation that is over is in no file of the store any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_doubles import HandClock
from store_steps import GENESIS, author_ops

from fabrik_node._core import mesh_id
from fabrik_node.ports import Invite
from fabrik_node.store.sqlite import SqliteStore


def found(folder: Path, secret: bytes) -> list[str]:
    """The files in which it stands."""
    return [path.name for path in sorted(folder.iterdir()) if secret in path.read_bytes()]


@pytest.mark.promise("I22")
@pytest.mark.parametrize("end", ["used", "withdrawn", "expired"])
async def test_secrets_are_gone_when_their_invitations_are_over(tmp_path: Path, end: str) -> None:
    store = await SqliteStore.open(tmp_path / "fabrik.db", HandClock(), mesh_id=mesh_id(GENESIS), create_missing=True)
    async with store:
        invites = [Invite(bytes([n]) * 16, bytes([0xA0, n]) * 16, 3, 1.0, "boot", created_ms=n) for n in range(200)]
        for invite in invites:  # enough of them to fill pages, which are split
            await store.put_invite(invite)
        await store.append(author_ops()[:50])
        kept, ended = invites[:3], invites[3:]
        assert await store.scrub()
        assert found(tmp_path, ended[7].secret) == ["fabrik.db"]
        if end == "used":
            for invite in ended:
                assert await store.use_invite(invite.token_id, b"k" * 32, 1)
        else:
            assert await store.end_invites([invite.token_id for invite in ended], end) == len(ended)
        assert "fabrik.db-wal" in found(tmp_path, ended[-1].secret) or "fabrik.db" in found(tmp_path, ended[-1].secret), "not yet folded"
        assert await store.scrub()
        assert [found(tmp_path, invite.secret) for invite in ended] == [[]] * len(ended)
        assert [found(tmp_path, invite.secret) for invite in kept] == [["fabrik.db"]] * len(kept)


async def test_the_log_is_left_alone_while_somebody_reads_it(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "fabrik.db", HandClock(), mesh_id=mesh_id(GENESIS), create_missing=True)
    async with store:
        await store.append(author_ops()[:5])
        batches = store.load(1)
        async for _ in batches:
            await store.set_meta("key", b"value")
            emptied = await store.scrub()
            break
        await batches.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert isinstance(emptied, bool)
        assert await store.get_meta("key") == b"value"
        assert await store.scrub()
