"""One mesh for the tests of the core: an admin's log with two admitted agents."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from fabrik_twin.author import Author, new_genesis, seed
from fabrik_twin.op import Key, genesis_decode

from fabrik_node import _core

KEYS = [Key(seed(number)) for number in range(4)]


@dataclass
class Mesh:
    """Authors of the twin and a replica of the core. ``replica`` holds the admin's first two ops."""

    genesis: bytes = field(default_factory=lambda: new_genesis(KEYS[0]))

    def __post_init__(self) -> None:
        self.id = genesis_decode(self.genesis).mesh_id
        self.admin, self.bee, self.cat, self.stranger = (Author(self.genesis, key) for key in KEYS)
        self.admin.op(kind=2)
        self.admin.op((3, KEYS[1].public, 1, {1: 2}, None), (3, KEYS[2].public, 1, {1: 2}, None))
        self.first = self.admin.cut()
        self.replica = _core.Replica(self.genesis)
        self.take(self.first)

    def take(self, *segments: bytes) -> _core.ChainResult:
        """Verify, chain and merge in one batch."""
        result = self.replica.chain(self.replica.verify(segments))
        self.replica.merge(result.chained)
        return result

    def key(self, number: int = 0) -> _core.SigningKey:
        """The core's handle of a test author's key."""
        return _core.SigningKey.from_seed(KEYS[number].seed)


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()
