"""Every state of small worlds: what may go wrong between two claimers, in any order, and the counterexamples that the rules are there for.

``SMALL_CLAIMS=1`` takes larger worlds too (minutes, and some GiB). Counts are printed with ``-s``.
"""

from __future__ import annotations

import os

import pytest
from model.claims_world import Bounds, World
from model.search import Count, Counterexample, search

WORLDS = {
    "a git remote": Bounds(claims=1),
    "a git remote, and an operator who has none": Bounds(claims=1, crashes=0, deaf=True),
    "a git remote, and an operator who keeps other work": Bounds(claims=1, crashes=0, keeps=1),
    "no arbiter": Bounds(claims=1, overrides=0, arbiter=False),
    "a git remote, and an operator who archives the item": Bounds(claims=1, overrides=0, crashes=0, archives=1),
    "no arbiter, and an operator who archives the item": Bounds(claims=1, overrides=0, crashes=0, archives=1, arbiter=False),
    "no arbiter, and an operator who moves the item": Bounds(claims=1, overrides=0, crashes=0, moves=1, arbiter=False, whole=True),
    "a third node": Bounds(nodes=3, claims=1, overrides=0, crashes=0, whole=True),
}
LARGE = {
    "no arbiter, and an operator who keeps other work": Bounds(claims=1, crashes=0, keeps=1, arbiter=False),
    "a deaf operator and a crash": Bounds(claims=1, deaf=True),
    "no arbiter, and an operator": Bounds(claims=1, arbiter=False),
    "twice each": Bounds(claims=2, overrides=0, crashes=0, whole=True),
    "a third node and an operator": Bounds(nodes=3, claims=1, crashes=0, whole=True),
    "a third node, and no arbiter": Bounds(nodes=3, claims=1, overrides=0, crashes=0, arbiter=False, whole=True),
}


def searched(name: str, bounds: Bounds) -> Count:
    count = search(World(bounds))
    print(f"{name}: {count}")
    return count


@pytest.mark.promise("I15")
@pytest.mark.parametrize("name", WORLDS)
def test_every_state_of_two_claimers_with_a_claim_each(name: str) -> None:
    count = searched(name, WORLDS[name])
    assert count.states > 5_000, "the world became smaller: what can not happen any more?"
    assert min(count.converged, count.merged) > 400, "it never comes to its end"


@pytest.mark.skipif(not os.environ.get("SMALL_CLAIMS"), reason="by hand: SMALL_CLAIMS=1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LARGE)
def test_every_state_of_larger_worlds(name: str) -> None:
    searched(name, LARGE[name])


BROKEN = {
    "the remote does not compare": (
        WORLDS["a git remote"],
        "nobody merges whose claim the remote granted to another since",
        ["A begins to work", "B asks the remote", "B is granted the item", "A merges"],
    ),
    "a merge leaves the claim ref where it is": (
        WORLDS["a git remote"],
        "who claims a merged item is told that it is merged",
        ["A merges", "A ends the claim at the remote"],
    ),
    "stages are not fenced": (
        WORLDS["no arbiter"],
        "of the stage is read what the winning claim found, until it moves the item",
        ["A begins to work", "B claims"],
    ),
    "a claim does not say what it found": (
        WORLDS["no arbiter"],
        "of outcome and attempts is read what the winning claim found or wrote",
        ["A begins to work", "A fails and gives it back", "B claims"],
    ),
    "a claim does not say in which stage it found the item": (
        WORLDS["no arbiter"],
        "of the stage is read what the winning claim found, until it moves the item",
        ["A begins to work", "B claims"],
    ),
    "a claim writes the stage again": (
        WORLDS["no arbiter, and an operator who archives the item"],
        "an archived item stays so, unless somebody moved it under a claim above the archivist's",
        ["A claims", "B is told by its operator to archive the item"],
    ),
    "a claim does not say that the one before had ended": (
        WORLDS["no arbiter, and an operator who moves the item"],
        "what people say of the stage under a claim that ended stands until the next one moves the item",
        ["A claims", "B is told by its operator to move the item"],
    ),
    "nobody looks whether it is merged": (
        WORLDS["no arbiter"],
        "an item is merged at most once",
        ["A merges", "B claims", "B confirms its claim", "B merges"],
    ),
}
"""A rule that is broken, in which world, what then does not hold, and steps of the shortest way there, in order."""


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_found_and_the_shortest_way_to_it_told(broken: str) -> None:
    bounds, rule, way = BROKEN[broken]
    with pytest.raises(Counterexample) as found:
        search(World(bounds, broken))
    assert found.value.rule == rule
    steps = iter(found.value.steps)
    assert all(step in steps for step in way), found.value.steps


def test_with_a_remote_the_claim_ref_alone_keeps_merges_at_one() -> None:
    """Two doors, each enough by itself: the search for a merge on the base, and the claim ref that moves with it."""
    search(World(Bounds(claims=1, overrides=0, crashes=0), "nobody looks whether it is merged"))
