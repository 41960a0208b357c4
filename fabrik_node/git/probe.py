"""Does a remote offer what the fence needs? Asked by trying, not by knowing forges."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from fabrik_node.errors import GitFailed
from fabrik_node.git.push import RefUpdate, push
from fabrik_node.git.repository import Repository

__all__ = ["RemoteProbe", "probe_remote"]

_PROBE_PREFIX = "refs/fabrik/probe/"


@dataclass(frozen=True, slots=True)
class RemoteProbe:
    """``custom_refs``: refs outside ``refs/heads/`` are taken. ``atomic``: several refs move together or not at all.

    ``fenced``: a lease with a stale object id is refused. ``reason`` says what the remote answered to the first thing that it did not do.
    """

    custom_refs: bool
    atomic: bool
    fenced: bool
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Claims and merges can be fenced here."""
        return self.custom_refs and self.atomic and self.fenced


async def probe_remote(repository: Repository) -> RemoteProbe:
    """Push two refs under ``refs/fabrik/probe/``, try to move them with a stale lease, and delete them again.

    Raises :class:`Unreachable`, and :class:`GitFailed` when the refs can not be deleted (it names them).
    """
    await repository.remote_refs(repository.base_ref)
    nonce = secrets.token_hex(8)
    refs = [f"{_PROBE_PREFIX}{nonce}-{number}" for number in (1, 2)]
    tree = await repository.empty_tree()
    first, second, third = [await repository.make_commit(tree, [], f"fabrik probe {nonce} {number}\n") for number in (1, 2, 3)]
    try:
        single = await push(repository, [RefUpdate(refs[0], first, "")], atomic=False)
        if not single.accepted:
            return RemoteProbe(False, False, False, single.reason)
        pair = await push(repository, [RefUpdate(refs[0], second, first), RefUpdate(refs[1], second, "")])
        if not pair.accepted:
            return RemoteProbe(True, False, False, pair.reason)
        # One lease is stale, so neither ref may move.
        stale = await push(repository, [RefUpdate(refs[0], third, first), RefUpdate(refs[1], third, second)])
        now = await repository.remote_refs(*refs)
        fenced = not stale.accepted and set(now.values()) == {second}
        return RemoteProbe(True, True, fenced, "" if fenced else "a push with a stale lease was not refused")
    finally:
        await _delete(repository, refs)


async def _delete(repository: Repository, refs: list[str]) -> None:
    left = await repository.remote_refs(*refs)
    if left:
        answer = await push(repository, [RefUpdate(ref, "", oid) for ref, oid in left.items()], atomic=False)
        if not answer.accepted:
            raise GitFailed(
                f"{' '.join(left)} can not be deleted on {repository.shown_remote}: {answer.reason}",
                f"git push {repository.shown_remote} --delete {' '.join(left)}",
            )
