"""Which epoch of our own log we write in, and why we may not go on in it.

A home that was copied or restored from an older image must not number ops from what it finds: a peer may hold others of the same numbers.
While there is **doubt**, the next local write opens a new epoch first, in the same transaction. The doubt is durable before anything that
follows from it, and is over only when the new epoch is durable; a crash in between costs one more epoch, never a number used twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fabrik_node._core import ChainResult, Head, Replica
from fabrik_node.errors import Internal
from fabrik_node.ports import OpStore

__all__ = ["DOUBT_KEY", "EPOCH_KEY", "EPOCH_MAX", "Epochs", "doubt_about", "next_epoch"]

EPOCH_MAX = 2**53 - 1
"""Of the op format."""
EPOCH_KEY = "own_epoch"
"""Where the store keeps the epoch in which we write."""
DOUBT_KEY = "doubt"
"""Where the store keeps why our log is doubtful; empty while it is not."""


def next_epoch(known: int, random32: int) -> int:
    """The epoch after the highest ``known`` one: its count plus one, and 32 random bits, so that two copies of a home do not meet."""
    epoch = (known >> 32) + 1 << 32 | random32
    if epoch > EPOCH_MAX:
        raise Internal("this key has no epochs left", "make a new node: fabrik-node --home DIR join TOKEN")
    return epoch


def doubt_about(result: ChainResult, own: bytes, epoch: int) -> str:
    """Why what a peer sent makes our own current log doubtful; empty when it does not."""
    if (own, epoch) in result.suspended:
        return "this node's log has too many branches: it is suspended"
    if any((fork.author, fork.epoch) == (own, epoch) for fork in result.forks):
        return "this node's log has two branches: its home was copied, or restored from an older image and written to"
    if any((each.author, each.epoch) == (own, epoch) for each in result.chained):
        return "its peers hold ops of this node's log that it did not: its home was copied, or restored from an older image"
    return ""


class Epochs:
    """``tell(kind, data)`` gets the events. From the writer's turn only, so that no op is drafted while this moves; :meth:`save` from anywhere on the loop."""

    def __init__(self, replica: Replica, store: OpStore, own: bytes, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._replica = replica
        self._store = store
        self._own = own
        self._tell = tell
        self.current = 0
        """The epoch in which we write; 0 while we never wrote."""
        self.doubt = ""
        """Why the next write opens a new one; empty while it does not."""
        self._stored = (0, "")
        self._saving = asyncio.Lock()
        """Also the watch over a full disk saves: the end of an old doubt may not be written over a new one that is told to be durable."""

    async def start(self, damaged: Iterable[int] = ()) -> None:
        """Read what an earlier start left behind. Without it: the newest epoch that the store holds of us, rows of ``damaged`` epochs included."""
        saved = await self._store.get_meta(EPOCH_KEY)
        self.current = max((*(head.epoch for head in self.own_heads()), *damaged), default=0) if saved is None else int.from_bytes(saved, "big")
        self.doubt = (await self._store.get_meta(DOUBT_KEY) or b"").decode("utf-8", "replace")
        self._stored = (self.current, self.doubt)

    def own_heads(self) -> list[Head]:
        """Of all our epochs and their branches."""
        return [head for head in self._replica.heads() if head.author == self._own]

    async def suspect(self, reason: str) -> None:
        """Doubt our own log from now on, durably. Raises what the store raises: there is doubt then, too, and :meth:`save` notes it before the next write."""
        if not self.doubt:
            self.doubt = reason
            self._tell("node.doubt", {"reason": reason, "epoch": self.current})
        await self.save()

    def fresh(self) -> tuple[int, tuple[int, int, bytes] | None]:
        """A new epoch, and ``(epoch, seq, head)`` of the log that it goes on from; None when we know none of ours."""
        heads = self.own_heads()
        taken = {head.epoch for head in heads}
        while (epoch := next_epoch(max(taken | {self.current}), secrets.randbits(32))) in taken:
            continue
        before = [head for head in heads if head.epoch == self.current] or heads
        last = max(before, key=lambda head: (head.epoch, head.seq, head.head), default=None)
        return epoch, None if last is None else (last.epoch, last.seq, last.head)

    async def opened(self, epoch: int) -> None:
        """The first op of ``epoch`` is durable: there is no doubt any more. Raises what the store raises."""
        self._tell("node.epoch_opened", {"from": self.current, "to": epoch, "reason": self.doubt})
        self.current, self.doubt = epoch, ""
        await self.save()

    async def save(self) -> None:
        """Write down what is not yet: first the epoch, then whether there is doubt. While there is, no own op may be signed before this returned."""
        async with self._saving:
            epoch, doubt = self.current, self.doubt
            if self._stored[0] != epoch:
                await self._store.set_meta(EPOCH_KEY, epoch.to_bytes(8, "big"))
                self._stored = (epoch, self._stored[1])
            if self._stored[1] != doubt:
                await self._store.set_meta(DOUBT_KEY, doubt.encode())
                self._stored = (epoch, doubt)
