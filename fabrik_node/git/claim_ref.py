"""The ``git-ref`` arbiter: one ref per item on the remote, moved by compare-and-swap only.

``refs/fabrik/claims/<item>`` holds a chain of commits without files; the newest says who holds the item, and its place in the chain is
the receipt number. The remote is the arbiter: no other service is needed, and what it refuses is refused for everybody.
Format and rules: docs/spec/claim-ref.md.
"""

from __future__ import annotations

from dataclasses import replace

from fabrik_node.errors import GitFailed, Internal, Unreachable
from fabrik_node.git.claim_record import ClaimRecord, ClaimRefState, format_claim, parse_claim
from fabrik_node.git.jitter import Pause
from fabrik_node.git.names import CLAIMS_PREFIX, check_id, queue_prefix
from fabrik_node.git.push import PushAnswer, RefUpdate, push
from fabrik_node.git.queue import MergeQueue
from fabrik_node.git.repository import Repository
from fabrik_node.ports import ArbiterReceipt, ArbiterTaken, ClaimIntent

__all__ = ["ClaimRef", "push_failed"]

_PUSH_TRIES = 6
"""Only for pushes that changed nothing although the ref is as expected: a busy lock on the remote, a broken connection, or a hook that refuses."""


class ClaimRef:
    """Claims on the items of one remote. Fills the :class:`~fabrik_node.ports.Arbiter` port.

    ``prefix`` is for forges that take no refs outside ``refs/heads/`` (see :func:`~fabrik_node.git.probe.probe_remote`); all nodes of a mesh must use the same.
    """

    def __init__(self, repository: Repository, pause: Pause, prefix: str = CLAIMS_PREFIX) -> None:
        self.repository = repository
        self._pause = pause
        self._prefix = prefix
        self.queue = MergeQueue(repository, queue_prefix(prefix), prefix)

    def ref(self, item: str) -> str:
        """The full name of the item's claim ref."""
        return f"{self._prefix}{check_id(item, 'an item')}"

    async def read(self, item: str) -> ClaimRecord | None:
        """The newest link, asked from the remote itself; None when the item was never claimed there.

        Raises :class:`Unreachable`, and :class:`GitFailed` when the ref holds something that is not this item's claim chain.
        """
        oid = await self.repository.fetch_ref(self.ref(item))
        return None if oid is None else await self._record(item, oid)

    async def read_advertised(self, item: str, oid: str | None) -> ClaimRecord | None:
        """The same when the remote was just asked and answered ``oid``: what is here already is not asked for again."""
        if oid is None or not await self.repository.has_object(oid):
            return await self.read(item)
        return await self._record(item, oid)

    async def current(self, item: str) -> ArbiterTaken | None:
        """See :meth:`fabrik_node.ports.Arbiter.current`. Errors as of :meth:`read`."""
        record = await self.read(item)
        return None if record is None else _taken(record)

    async def cas(self, expected: bytes, intent: ClaimIntent) -> ArbiterReceipt | ArbiterTaken:
        """Add a link to the chain if its newest link is still ``expected`` (empty: if there is no chain).

        Safe to repeat after an error: a link that this claim has already added is recognised, and its receipt is returned again.
        Nothing is ever added after ``merged``. Raises :class:`Unreachable` (the outcome may be unknown: repeat the call) and
        :class:`GitFailed` when the remote refuses for a reason of its own.
        """
        item, pinned = intent.item, expected.hex()
        previous = await self._expected(item, pinned)
        if previous is None and pinned:
            return await self._lost(item)
        if previous is not None and previous.state is ClaimRefState.MERGED:
            return _taken(previous)
        wanted = _link(previous, intent)
        oid = await self.write(wanted)
        answer = PushAnswer(False, False, "")
        for attempt in range(1, _PUSH_TRIES + 1):
            answer = await push(self.repository, [RefUpdate(self.ref(item), oid, pinned)])
            if answer.accepted:
                return ArbiterReceipt(wanted.number, bytes.fromhex(oid))
            now = await self.read(item)
            if now is not None and (now.claim_id, now.state, now.parent) == (wanted.claim_id, wanted.state, pinned):
                return ArbiterReceipt(now.number, bytes.fromhex(now.oid))
            if (now.oid if now else "") != pinned:
                return await self._lost(item) if now is None else _taken(now)
            await self._pause(attempt)
        raise push_failed(self.repository, answer)

    async def write(self, record: ClaimRecord) -> str:
        """The commit object of a link, not yet on the remote; its id."""
        tree = await self.repository.empty_tree()
        return await self.repository.make_commit(tree, [record.parent] if record.parent else [], format_claim(record))

    async def _expected(self, item: str, oid: str) -> ClaimRecord | None:
        if not oid:
            return None
        if not await self.repository.has_object(oid) and await self.repository.fetch_ref(self.ref(item)) is None:
            return None
        # An object that is still missing was never in the item's chain, or the chain was cut: not the newest link in either case.
        return await self._record(item, oid) if await self.repository.has_object(oid) else None

    async def _lost(self, item: str) -> ArbiterTaken:
        now = await self.read(item)
        if now is None:
            raise GitFailed(f"{self.ref(item)} was deleted on {self.repository.shown_remote}", "claim again; whoever deletes claim refs gives up their fence")
        return _taken(now)

    async def _record(self, item: str, oid: str) -> ClaimRecord:
        record = parse_claim(oid, await self.repository.git.run(self.repository.directory, "cat-file", "commit", oid))
        links = int(await self.repository.text("rev-list", "--count", oid))
        if record.item != item or record.number != links:
            told = f"item {record.item}, link {record.number} of {links}"
            raise GitFailed(f"{self.ref(item)} on {self.repository.shown_remote} is not the claim chain of this item ({told})", f"git show {oid}")
        return record


def merged_link(held: ClaimRecord, merge_commit: str) -> ClaimRecord:
    """The last link of a chain: ``held``, merged as ``merge_commit``."""
    return replace(held, number=held.number + 1, state=ClaimRefState.MERGED, merge=merge_commit, oid="", parent=held.oid)


def push_failed(repository: Repository, answer: PushAnswer) -> GitFailed | Unreachable:
    """The error for a push that changed nothing although nobody else was there first."""
    if answer.refused:
        return GitFailed(
            f"git remote {repository.shown_remote} refuses the push: {answer.reason}", "allow this node to push to refs/fabrik/* and the base on that remote"
        )
    return Unreachable(f"git remote {repository.shown_remote} takes no push: {answer.reason}", f"git ls-remote {repository.shown_remote}")


def _link(previous: ClaimRecord | None, intent: ClaimIntent) -> ClaimRecord:
    state = ClaimRefState(intent.state)
    if state is ClaimRefState.MERGED:
        raise Internal("only the fenced merge writes a merged link")
    if state is ClaimRefState.RELEASED and previous is None:
        raise Internal(f"claim {intent.claim_id} can not be released: there is no claim")
    return ClaimRecord(
        item=intent.item,
        claim_id=intent.claim_id,
        number=1 if previous is None else previous.number + 1,
        epoch=intent.epoch,
        node=intent.node,
        ttl_ms=intent.ttl_ms,
        state=state,
        parent="" if previous is None else previous.oid,
    )


def _taken(record: ClaimRecord) -> ArbiterTaken:
    return ArbiterTaken(
        number=record.number,
        oid=bytes.fromhex(record.oid),
        claim_id=record.claim_id,
        node=record.node,
        state=record.state.value,
        ttl_ms=record.ttl_ms,
        merged=bytes.fromhex(record.merge),
    )
