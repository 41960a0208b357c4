"""What is read of an item when its registers do not say it alone, against the twin: holds, and what a superseded holder wrote late."""

from __future__ import annotations

from collections import Counter

import pytest
from fabrik_twin.reading import attempts_of, hold_of, outcome_of, stage_of
from fabrik_twin.world import World
from fabrik_twin.worlds import ITEMS, MESH_GENESIS, Mesh, meshes
from hypothesis import given

from fabrik_node import _core
from fabrik_node.domain.stages import Stage, encode_stage
from fabrik_node.node.board import Board


@pytest.mark.promise("I3", "I15")
@given(meshes(branches_max=2))
def test_holds_stages_outcomes_and_attempts_are_read_alike(mesh: Mesh) -> None:
    world, replica = World(MESH_GENESIS), _core.Replica(MESH_GENESIS)
    segments = [author.segment(1, len(author.bodies)) for author in mesh.logs]
    for segment in segments:
        world.offer(segment)
    replica.load(segments)
    board, stages = Board(replica), Counter[type[Stage]]()
    for item in ITEMS:
        view = board.item(item)
        if view is not None:
            read = (view.hold, view.outcome, view.attempts, encode_stage(view.stage))
            assert read == (*(of(world.state, item) for of in (hold_of, outcome_of, attempts_of)), stage_of(world.state, item))
            stages[type(view.stage)] += 1
            assert view.stage == board.stage(item)
    assert board.stages() == stages
