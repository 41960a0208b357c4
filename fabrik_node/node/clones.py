"""Signs that a log has two histories, or that somebody else writes with our key: proven where it can be, told once, never glossed over.

Nothing here stops anybody: both branches of a fork are kept and merged. What the node does about its own log is decided in
:mod:`fabrik_node.node.epochs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fabrik_node._core import ChainResult, Fork, Replica, fork_proof
from fabrik_node.clock import Clock
from fabrik_node.errors import FabrikError, StoreFull
from fabrik_node.ids import show_key
from fabrik_node.node.epochs import Epochs
from fabrik_node.node.repair import Repair
from fabrik_node.ports import OpStore

__all__ = ["Clones"]

_UNPROVEN_MAX = 16
"""Forks that wait for space, with a segment each: 4 MiB at most. Further ones are told, and proven only by what the peers have."""


class Clones:
    """``tell(kind, data)`` gets the events. From the writer's turn only."""

    def __init__(
        self,
        replica: Replica,
        store: OpStore,
        epochs: Epochs,
        own: bytes,
        clock: Clock,
        tell: Callable[[str, Mapping[str, Any]], None],
        name_of: Callable[[bytes], str],
        repair: Repair,
    ) -> None:
        self._replica = replica
        self._store = store
        self._epochs = epochs
        self._own = own
        self._clock = clock
        self._tell = tell
        self._name_of = name_of
        self._repair = repair
        self.learned_ops = 0
        """Ops of our own log that came from peers since the start, and were in no row that was set aside here."""
        self.cloned_epochs: set[int] = set()
        """Epochs of our key, other than our current one, in which ops came from peers while we were not in doubt."""
        self._unproven: list[Fork] = []
        self._suspended = set(replica.suspended())

    async def chained(self, result: ChainResult, peer: bytes) -> None:
        """What a peer sent has been merged: write down what it proves."""
        for fork in result.forks:
            proof = await self._prove(fork)
            who = {"author": show_key(fork.author), "name": self._name_of(fork.author), "own": fork.author == self._own}
            self._tell("log.forked", {**who, "epoch": fork.epoch, "op_seq": fork.seq, "peer": self._name_of(peer), "proven": proof})
        for author, epoch in result.suspended:
            self._suspended.add((author, epoch))
            self._tell_suspended(author, epoch)
        self._learned(result, peer)

    async def note_suspended(self, logs: Sequence[tuple[bytes, int]]) -> None:
        """A load found these to have too many heads: a crash came before the note."""
        for author, epoch in logs:
            await self._store.suspend(author, epoch)
            self._tell_suspended(author, epoch)

    def resumed(self) -> set[tuple[bytes, int]]:
        """Logs that are suspended no more, because their author was revoked or made an admin; each once. What peers have of them can be asked for again."""
        if not self._suspended:
            return set()
        before, self._suspended = self._suspended, set(self._replica.suspended())
        for author, epoch in before - self._suspended:
            self._tell("log.resumed", {"author": show_key(author), "name": self._name_of(author), "own": author == self._own, "epoch": epoch})
        return before - self._suspended

    async def prove_again(self) -> None:
        """There is space again: store the proofs for which there was none. Raises StoreFull."""
        while self._unproven:
            fork = self._unproven[0]
            await self._try_prove(fork)
            self._unproven.remove(fork)

    def _tell_suspended(self, author: bytes, epoch: int) -> None:
        self._tell("log.suspended", {"author": show_key(author), "name": self._name_of(author), "own": author == self._own, "epoch": epoch})

    def _learned(self, result: ChainResult, peer: bytes) -> None:
        by_epoch: dict[int, int] = {}
        for each in result.chained:
            if each.author == self._own:
                ops = self._repair.unlost(each.author, each.epoch, each.first_seq, each.last_seq)
                if ops:
                    by_epoch[each.epoch] = by_epoch.get(each.epoch, 0) + ops
        for epoch, ops in by_epoch.items():
            self.learned_ops += ops
            self._tell("node.own_ops_learned", {"ops": ops, "epoch": epoch, "peer": self._name_of(peer)})
            if epoch != self._epochs.current and not self._epochs.doubt and epoch not in self.cloned_epochs:
                if not self.cloned_epochs:
                    self._tell("node.cloned", {"epoch": epoch, "own_epoch": self._epochs.current, "peer": self._name_of(peer)})
                self.cloned_epochs.add(epoch)

    async def _prove(self, fork: Fork) -> bool:
        """Store a proof that anybody can check; False when the segments here show none, or the disk is full: then it waits for space."""
        try:
            return await self._try_prove(fork)
        except StoreFull:
            if len(self._unproven) < _UNPROVEN_MAX:
                self._unproven.append(fork)
            return False

    async def _try_prove(self, fork: Fork) -> bool:
        try:
            for branch in self._branches(fork):
                rows = await self._store.read(fork.author, fork.epoch, fork.seq - 1, 1, branch)
                if rows and rows[0].first_seq <= fork.seq:
                    proof = fork_proof(self._replica.mesh_id, rows[0].data, fork.segment)
                    await self._store.put_fork(fork.author, fork.epoch, fork.seq, proof, self._clock.wall_ms())
                    return True
        except StoreFull:
            raise
        except FabrikError as error:
            self._tell("log.fork_unproven", {"author": show_key(fork.author), "epoch": fork.epoch, "op_seq": fork.seq, "message": error.message})
        return False

    def _branches(self, fork: Fork) -> list[int]:
        """Where our other op at ``fork.seq`` may be: on the branch that was left, or on one that left it at the same place before."""
        heads = [head for head in self._replica.heads() if (head.author, head.epoch) == (fork.author, fork.epoch) and head.branch != fork.branch]
        same = [head.branch for head in heads if head.base == (fork.base_branch, fork.seq - 1)]
        return [fork.base_branch, *same]
