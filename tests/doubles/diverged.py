"""A node whose state is really another one although its ops are the same: its snapshot was changed and sealed again."""

from __future__ import annotations

from functools import partial

from blake3 import blake3
from node_rig import NodeRig, Rigs

__all__ = ["KeptSnapshot", "planted", "tell_each_other"]

_SEAL_BYTES = 32


class KeptSnapshot:
    """A snapshot in memory."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data


def planted(snapshot: bytes, changes: dict[str, str]) -> KeptSnapshot:
    """A snapshot with other texts of the same length in its registers, and a digest that fits."""
    body = snapshot[:-_SEAL_BYTES]
    for old, new in changes.items():
        assert len(old) == len(new)
        assert body.count(old.encode()) == 1, f"{old!r} has to be there once"
        body = body.replace(old.encode(), new.encode())
    return KeptSnapshot(body + blake3(body, derive_key_context="fabrik 2026 v1 snapshot").digest())


def tell_each_other(rigs: Rigs, *told: NodeRig) -> None:
    """From now on each hears what the others say of themselves; half a second passes with each message."""

    def hears(listener: NodeRig) -> None:
        for speaker in told:
            if speaker is not listener:
                speaker.node.on_ephemeral(partial(_hear, rigs, listener))

    for each in told:
        hears(each)


def _hear(rigs: Rigs, listener: NodeRig, author: bytes, _: int, message: bytes) -> None:
    if author != listener.node.public:
        rigs.clock.advance(0.5)
        listener.node.ephemeral_in(message)
