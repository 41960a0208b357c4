"""The test machine is tested: faults put into the protocol on purpose have to be found by the simulation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from sim import test_sync_crowds as crowds
from sim import test_sync_forks as forks
from sim.toy_store import MEMBER
from sim.world import World

from fabrik_sync import CROWDED_SEQ, MARKER, Heads, LogId
from fabrik_sync.frames import FrontierFrame
from fabrik_sync.logbook import LogBook, LogRow
from fabrik_sync.receiving import Receiver
from fabrik_sync.sending import Sender
from fabrik_sync.session import Session
from fabrik_sync.wants import Wants
from fabrik_sync.window import Window


def _without_marker(set_local: Callable[[LogRow, Heads], bool]) -> Callable[[LogRow, Heads], bool]:
    return lambda row, heads: set_local(row, tuple(head for head in heads if head != MARKER))


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
    """A ring of four and a fifth that only one of them reaches, with a partition and a late member; true when it ends as it should, without waste."""
    world = World(seed)
    random = Random(seed)
    nodes = [world.add(f"n{i}") for i in range(4)]
    for i in range(4):
        world.link(nodes[i], nodes[(i + 1) % 4])
    world.link(world.add("tail"), nodes[0])
    for node in nodes:
        for _ in range(30):
            node.write(random.randbytes(60_000 if node is nodes[0] else 100))
        world.run(0.05)
    world.run(60.0)
    apart = [frozenset(("n0", "n1")), frozenset(("n1", "n2")), frozenset(("n0", "tail"))]
    world.blocked.update(apart)
    for conn in world.conns:
        if frozenset((conn[0].node.name, conn[1].node.name)) in apart:
            world.cut(conn)
    for node in nodes:
        node.write(b"while apart")
    world.run(1.0)
    world.blocked.clear()
    world.run(60.0)
    author = LogId(random.randbytes(32), 1)
    nodes[3].store.append(author, b"of one who is no member yet")
    nodes[3].hub.handle_heads(author, nodes[3].store.heads_of(author))
    nodes[3].pump_all()
    world.run(1.0)
    nodes[0].write(MEMBER + author.author)
    world.run(10.0)
    held, new = (sum(node.counts[name] for node in nodes) for name in ("held ops", "new ops"))
    given_up = sum(node.counts["ended no_progress"] for node in nodes)
    return world.converged() and held < new / 10 and not given_up


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_a_fault_it_is_healthy(seed: int) -> None:
    assert healthy(seed)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, instead = FAULTS[name]
    monkeypatch.setattr(owner, method, instead)
    assert not all(healthy(seed) for seed in (1, 2, 3)), name


def _speculate(self: Sender, log: LogId, row: LogRow, seq: int) -> None:
    """As if a number stood for an op in a forked log too."""
    if row.fork is not None and row.fork.cursors is not None:
        for tip in row.local:
            row.fork.cursors[tip.branch] = max(row.fork.cursors.get(tip.branch, 0), min(seq, tip.seq))


def _trusting(holds: Callable[..., bool]) -> Callable[..., bool]:
    return lambda self, log, row, head: head.seq == CROWDED_SEQ or holds(self, log, row, head)


def _forgetful(compare: Callable[[LogBook, FrontierFrame], bool]) -> Callable[[LogBook, FrontierFrame], bool]:
    def forget(self: LogBook, theirs: FrontierFrame) -> bool:
        self._ends.clear()
        return compare(self, theirs)

    return forget


FORK_FAULTS: dict[str, tuple[type, str, Any]] = {
    "an older head that a longer log does not contain is taken for held": (Receiver, "_holds", lambda self, log, row, head: head.seq <= row.local_seq),
    "what does not fit is never asked for": (Receiver, "gap", lambda *_, **__: None),
    "places are ignored": (Sender, "_cursors", lambda self, log, row, places: {tip.branch: 0 if tip.base is None else tip.base[1] for tip in row.local}),
    "numbers stand for ops in a forked log": (Sender, "learned", _speculate),
    "a fork is not told": (Sender, "forked", lambda *_: None),
    "what a peer brought goes back to it": (Sender, "taken_from_peer", lambda *_: None),
    "questions have no end": (Receiver, "_spent", lambda *_: False),
    "an asked peer is asked again at once": (Receiver, "_ask_for_heads", lambda self, log, row, fork, now: self._ask_with_places(log, row, fork, now)),
    "a later digest of a crowded log is not told": (LogRow, "outdated", property(lambda _: False)),
    "a crowded log is taken for held": (Receiver, "_holds", _trusting(Receiver._holds)),
    "what a digest stood for is forgotten": (LogBook, "compare", _forgetful(LogBook.compare)),
    "marks of a suspended log are for nobody": (LogRow, "set_local", _without_marker(LogRow.set_local)),
}


GUARDS: list[Callable[[], None]] = [
    lambda: forks.test_both_branches_reach_both_nodes_for_a_bounded_cost(10, 5, 100),
    lambda: forks.test_either_side_alone_finds_a_fork_that_lengths_hide("the shorter"),
    lambda: forks.test_either_side_alone_finds_a_fork_that_lengths_hide("the longer"),
    forks.test_a_fork_that_appears_while_ops_flow_is_not_missed,
    forks.test_a_segment_without_a_root_makes_us_ask_and_tell,
    forks.test_live_ops_of_a_forked_log_do_not_go_back,
    forks.test_a_suspended_log_spreads_until_every_node_is_suspended_and_is_quiet_then,
    forks.test_heads_that_are_never_delivered_cost_a_few_questions,
    lambda: crowds.test_parts_of_a_crowded_log_become_equal_in_a_bounded_number_of_trips((0, 70), (35, 105)),
    crowds.test_a_crowded_log_grows_on_both_sides_of_a_line_without_further_questions,
]


def first_alarm() -> str:
    """What the first of the tests of forks says that fails; empty when all pass."""
    for guard in GUARDS:
        try:
            guard()
        except AssertionError as error:
            return f"{error}" or "an assertion"
    return ""


@pytest.mark.parametrize("name", list(FORK_FAULTS))
def test_a_fault_with_forks_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, instead = FORK_FAULTS[name]
    monkeypatch.setattr(owner, method, instead)
    assert first_alarm(), name
