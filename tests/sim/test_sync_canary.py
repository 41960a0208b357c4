"""The test machine is tested: faults put into the protocol on purpose have to be found by the simulation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from sim.toy_store import MEMBER
from sim.world import World

from fabrik_sync import LogId
from fabrik_sync.receiving import Receiver
from fabrik_sync.sending import Sender
from fabrik_sync.session import Session
from fabrik_sync.wants import Wants
from fabrik_sync.window import Window

FAULTS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "new heads are not told": (Sender, "local_changed", lambda *_: None),
    "an earlier log is not asked for": (Receiver, "consider", lambda *_: None),
    "admission is not looked at again": (Receiver, "reconsider", lambda *_: None),
    "a lost peer keeps its takes, and nobody overtakes": (
        Wants,
        "take",
        lambda self, log, owner, **_: vars(self).setdefault("first", {}).setdefault(log, owner) is owner,
    ),
    "credit never comes back": (Window, "processed", lambda *_: None),
    "what the peer has is forgotten": (Sender, "learned", lambda *_: None),
    "read answers are lost": (Session, "handle_read", lambda *_: None),
}


def healthy(seed: int) -> bool:
    """A ring of four with a partition and a late member; true when it ends as it should, without waste."""
    world = World(seed)
    random = Random(seed)
    nodes = [world.add(f"n{i}") for i in range(4)]
    for i in range(4):
        world.link(nodes[i], nodes[(i + 1) % 4])
    for node in nodes:
        for _ in range(30):
            node.write(random.randbytes(60_000 if node is nodes[0] else 100))
        world.run(0.05)
    world.run(60.0)
    for conn in world.conns[:2]:
        world.cut(conn)
    for node in nodes:
        node.write(b"while apart")
    world.run(60.0)
    author = LogId(random.randbytes(32), 1)
    nodes[3].store.append(author, b"of one who is no member yet")
    nodes[3].hub.handle_heads(author, nodes[3].store.heads_of(author))
    nodes[3].pump_all()
    world.run(1.0)
    nodes[0].write(MEMBER + author.author)
    world.run(10.0)
    held, new = (sum(node.counts[name] for node in nodes) for name in ("held ops", "new ops"))
    return world.converged() and held < new / 10


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_a_fault_it_is_healthy(seed: int) -> None:
    assert healthy(seed)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, instead = FAULTS[name]
    monkeypatch.setattr(owner, method, instead)
    assert not all(healthy(seed) for seed in (1, 2, 3)), name
