"""The test machine itself: random worlds do reach the hard cases, and a wrong rule in the twin is noticed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fabrik_twin import merge
from fabrik_twin.compare import same
from fabrik_twin.merge import Touch, Tree, clock_after, heads_of
from fabrik_twin.schema import CLAIM, ROTATION, TOMBSTONE, TYPES
from fabrik_twin.world import World
from fabrik_twin.worlds import Mesh, meshes
from hypothesis import HealthCheck, Phase, given, settings

from fabrik_node import _core


@pytest.fixture(scope="module")
def sample() -> list[Mesh]:
    """The same 250 meshes in every run."""
    found: list[Mesh] = []

    @settings(max_examples=250, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(meshes(branches_max=4))
    def collect(mesh: Mesh) -> None:
        found.append(mesh)

    collect()
    return found


def twin_of(mesh: Mesh) -> World:
    world = World(mesh.genesis)
    for author in mesh.logs:
        world.offer(author.segment(1, len(author.bodies)))
    return world


def branch_probes(tree: Tree, clocks: dict[bytes, int]) -> set[str]:
    """What of forks is in this log."""
    found: set[str] = set()
    ends = heads_of(tree)
    if len(ends) > 1:
        found.add("forked")
    forks = Counter(placed.prev for placed in tree.values())
    bases = [base for base, count in forks.items() if count > 1]
    if any(base not in tree for base in bases):
        found.add("forked at its first op")
    if len(bases) > 1:
        found.add("a branch of a branch, or two of one")
    if len({placed.op.body for placed in tree.values()}) < len(tree):
        found.add("one body on two branches")
    kept = Counter((placed.op.body, clocks[head] != clocks.get(placed.prev, 0)) for head, placed in tree.items())
    if any((body, not good) in kept for body, good in kept):
        found.add("one body that counts on one branch only")
    return found


def probes(world: World) -> set[str]:
    """Which hard cases decided something in this world."""
    found: set[str] = set()
    state, effects = world.state, []
    for log, tree in world.logs.items():
        for placed in tree.values():
            op, clock = placed.op, state.clocks[log].get(placed.prev, 0)
            after = clock_after(clock, op.lamport)
            if after == clock:
                found.add("clock stands still" if op.lamport <= clock else "clock jumps too far")
            elif op.lamport - clock == merge.STEP_MAX:
                found.add("full step")
            found |= {"unknown op kind"} if op.kind not in {1, 2, 3} else set()
        found |= branch_probes(tree, state.clocks[log])
        effects += list(state._effects(*log))
    if state.void:
        found.add("void")
    by_place: dict[Any, list[Touch]] = {}
    for touch in effects:
        by_place.setdefault((touch.write.kind, touch.write.id, touch.write.field), []).append(touch)
    for place, touches in by_place.items():
        winner = state.winners.get(place)
        if winner is None:
            found.add("deleted with its writes")
            continue
        for other in touches:
            if other is winner or other == winner:
                continue
            fences = (winner.fence, other.fence)
            if fences[0] is None or fences[1] is None:
                found |= {"fence over none"} if fences != (None, None) else set()
                found |= {"digest decides"} if fences == (None, None) and winner.op.lamport == other.op.lamport and winner.op is not other.op else set()
            elif fences[0][:2] == fences[1][:2] and fences[0] != fences[1]:
                found.add("rank decides")
            elif fences[0] == fences[1] and place[0] == CLAIM and winner.write.value[4] != other.write.value[4] and winner.op.lamport < other.op.lamport:
                found.add("claim state over clock")
            elif fences[0] != fences[1] and winner.op.lamport < other.op.lamport:
                found.add("fence over clock")
    if any(place[0] == TOMBSTONE and len(touches) > 1 for place, touches in by_place.items()):
        found.add("deleted twice")
    return found


EXPECTED = {
    "forked",
    "forked at its first op",
    "a branch of a branch, or two of one",
    "one body on two branches",
    "one body that counts on one branch only",
    "clock stands still",
    "clock jumps too far",
    "full step",
    "unknown op kind",
    "void",
    "deleted with its writes",
    "deleted twice",
    "fence over none",
    "fence over clock",
    "digest decides",
    "rank decides",
    "claim state over clock",
}


def test_random_worlds_reach_the_hard_cases(sample: list[Mesh]) -> None:
    hits: Counter[str] = Counter()
    for mesh in sample:
        hits.update(probes(twin_of(mesh)))
    assert set(hits) == EXPECTED, hits
    assert min(hits.values()) >= 3, hits


def test_every_register_type_is_in_the_worlds(sample: list[Mesh]) -> None:
    seen = {(place[0], place[2]) for mesh in sample for place in twin_of(mesh).state.winners}
    assert seen == set(TYPES) - {(ROTATION, 1)}  # rotations have worlds of their own: test_authority_agrees.py


def _lower_digest_wins(touch: Touch) -> tuple[Any, ...]:
    return (touch.op.lamport, bytes(255 - byte for byte in touch.op.digest), touch.index, touch.author, touch.epoch)


CANARIES: list[tuple[str, str, Any]] = [
    ("the lower digest wins", "_place", _lower_digest_wins),
    ("the clock decides between statements about one claim", "_strength", lambda touch: (merge._height(touch.write.id, touch.fence), *merge._place(touch))),
    ("no ranks", "_height", lambda item, fence: (0, 0, -1) if fence is None else (fence[0], fence[1], 0)),
    ("epoch before receipt", "_height", lambda item, fence: (0, 0, -1) if fence is None else (fence[1], fence[0], int.from_bytes(fence[2], "big"))),
    ("clocks step by one more", "clock_after", lambda clock, lamport: lamport if clock < lamport <= clock + merge.STEP_MAX + 1 else clock),
    ("void ops move the clock", "clock_after", lambda clock, lamport: max(clock, lamport)),
    ("nothing is void", "void_reason", lambda admin, author, op: None),
    ("one clock for all branches of a log", "clock_before", lambda clocks, placed: max(clocks.values(), default=0)),
    ("a forked log has no effect", "HEADS_MAX", 1),
]


def differs(mesh: Mesh) -> bool:
    replica = _core.Replica(mesh.genesis)
    replica.load([author.segment(1, len(author.bodies)) for author in mesh.logs])
    try:
        same(replica, twin_of(mesh))
    except (AssertionError, KeyError, TypeError, IndexError):
        return True
    return False


@pytest.mark.promise("I3")
@pytest.mark.parametrize(("rule", "wrong"), [(rule, wrong) for _, rule, wrong in CANARIES], ids=[name for name, _, _ in CANARIES])
def test_a_wrong_rule_is_noticed(sample: list[Mesh], monkeypatch: pytest.MonkeyPatch, rule: str, wrong: Any) -> None:
    monkeypatch.setattr(merge, rule, wrong)
    assert sum(differs(mesh) for mesh in sample) >= 3


def test_the_right_rules_are_not_noticed(sample: list[Mesh]) -> None:
    assert not any(differs(mesh) for mesh in sample)
