"""A log with more heads than a frame lists, and that is not suspended (the genesis admin's): a digest of its heads announces it, and every branch gets through."""

from __future__ import annotations

import pytest
from sim.pair import feed, frames, members, parsed, ready
from sim.test_sync_forks import asked, is_quiet
from sim.world import Node, World

from fabrik_sync import CROWDED_SEQ, HEADS_PER_LOG_MAX, Head, Limits, LogId, State
from fabrik_sync.frames import HeadsFrame, Segment, Want


def bush(node: Node, log: LogId, numbers: range, stem: int = 3) -> None:
    """A common stem, and one branch of an op or two for each number, the same on whatever node; nobody is told."""
    at = (0, 0)
    for n in range(stem):
        at = node.store.append(log, b"stem %d" % n, at)
    for n in numbers:
        end = node.store.append(log, b"twig %d" % n, (0, 1 + n % (stem - 1)))
        if n % 3 == 0:
            node.store.append(log, b"leaf %d" % n, end)


def crowd(seed: int, left: range, right: range) -> tuple[World, Node, Node, LogId]:
    """Two nodes that hold parts of the admin's log; who the admin is, is node a."""
    world = World(seed)
    a, b = world.add("a"), world.add("b")
    log = LogId(a.key, 7)
    bush(a, log, left)
    bush(b, log, right)
    return world, a, b, log


def branches(node: Node, log: LogId) -> int:
    return len(node.store.logs[log].branches)


def level(world: World) -> bool:
    """Nobody takes himself for behind."""
    live = [end.session for conn in world.conns for end in conn if end.session.state is State.LIVE]
    return all(session.is_caught_up and session.status().lag_in == session.status().lag_out == 0 for session in live)


@pytest.mark.promise("I10")
@pytest.mark.parametrize(
    ("left", "right"), [((0, 70), (35, 105)), ((0, 70), (0, 5)), ((0, 5), (0, 70)), ((0, 40), (40, 80)), ((0, 63), (1, 64)), ((0, 1), (1, 400))]
)
def test_parts_of_a_crowded_log_become_equal_in_a_bounded_number_of_trips(left: tuple[int, int], right: tuple[int, int]) -> None:
    world, a, b, log = crowd(1, range(*left), range(*right))
    world.latency = 0.1
    total = 1 + len(set(range(*left)) | set(range(*right)))  # and the stem
    ends = world.dial(a, b)
    assert world.run(2.5, until=lambda: world.converged() and branches(a, log) == total), (a.counts, b.counts)
    world.run(1.0)
    assert (branches(a, log), branches(b, log)) == (total, total)
    assert max(asked(*ends)) <= 2
    assert a.counts["held ops"] + b.counts["held ops"] <= 2 * 5, "nothing that a place names is sent twice; where a place names nothing, the stem is"
    assert level(world)
    assert is_quiet(world)
    world.cut(ends)
    world.run(1.0)
    ends = world.dial(a, b)
    world.run(3.0)
    assert (asked(*ends), sum(end.session.counters.segments_out for end in ends)) == ([0, 0], 0), "equal digests: nothing is sent"
    assert sum(end.session.counters.bytes_out for end in ends) <= 2_048
    a.write(b"and on", log, (0, 3))
    b.write(b"a new branch", log, (0, 1))
    assert world.run(3.0, until=world.converged)
    world.run(1.0)
    assert (asked(*ends), sum(end.session.counters.segments_out for end in ends)) == ([0, 0], 2)
    assert level(world)
    assert is_quiet(world)


@pytest.mark.promise("I10")
def test_more_branches_than_places_cost_duplicates_and_become_equal() -> None:
    world, a, b, log = crowd(2, range(1_300), range(100, 1_400))
    ends = world.dial(a, b)
    assert world.run(60.0, until=lambda: world.converged() and branches(a, log) == 1_401), (a.counts, b.counts)
    world.run(2.0)
    assert sum(asked(*ends)) == 2
    assert a.counts["held ops"] + b.counts["held ops"] <= 2 * 2 * 300, "of the branches that no place names, an op or two each"
    assert level(world)
    assert is_quiet(world)


@pytest.mark.promise("I10")
def test_a_crowded_log_grows_on_both_sides_of_a_line_without_further_questions() -> None:
    world, a, b, log = crowd(3, range(70), range(30, 100))
    late = world.add("late")
    world.link(a, b)
    world.link(late, b)
    assert world.run(30.0, until=lambda: world.converged() and branches(late, log) == 101)
    world.run(5.0)
    questions = asked(*(end for conn in world.conns for end in conn))
    assert max(questions) <= 2
    for n in range(200):
        (a, b, late)[n % 3].write(b"live %d" % n, log, (0, 1 + n % 3))
        world.run((0.0, 0.001, 0.3)[n % 7 % 3])
    assert world.run(5.0, until=world.converged)
    world.run(5.0)
    assert branches(late, log) >= 230
    assert asked(*(end for conn in world.conns for end in conn)) == questions
    assert a.counts["held ops"] + b.counts["held ops"] + late.counts["held ops"] <= 40, "what crossed on the way"
    assert level(world)
    assert is_quiet(world)


@pytest.mark.promise("I10")
def test_a_log_gets_crowded_while_both_stream_it() -> None:
    world, a, b, log = crowd(4, range(20), range(10, 30))
    ends = world.dial(a, b)
    assert world.run(5.0, until=world.converged)
    questions = asked(*ends)
    for n in range(100, 200):
        (a, b)[n % 2].write(b"twig %d" % n, log, (0, 1 + n % 2))
        world.run(0.01)
    assert world.run(5.0, until=world.converged)
    world.run(2.0)
    assert branches(a, log) == branches(b, log) == 131
    assert asked(*ends) == questions
    assert level(world)
    assert is_quiet(world)


def test_a_digest_that_leads_nowhere_costs_a_few_questions() -> None:
    """And none of an ordinary log's author is taken for a place of his log."""
    left, right = members("left", "right")
    left.store.append(right.log, b"one")
    a, _ = ready(left, right)
    frames(a)
    for turn in range(200):
        heads = (Head(CROWDED_SEQ, bytes([turn]) * 32),) if turn % 3 else (Head(1, bytes([turn]) * 32),)
        a.receive_frame(HeadsFrame(more=False, logs=((right.log, heads),)).encode(), turn * 5.0)
        for frame in parsed(a):
            assert isinstance(frame, Want | HeadsFrame)
    assert 1 <= a.counters.wants_out <= Limits().fork_asks
    assert a.state is State.LIVE
    assert a.status().lag_in <= 1


def test_segments_that_do_not_fit_a_crowded_log_are_no_reason_to_ask_at_once() -> None:
    """Each digest is another one, so that it is one says nothing new."""
    left, right = members("left", "right")
    log = LogId(left.signer.public, 3)
    for n in range(20):
        left.store.append(log, b"%d" % n)
    a, _ = ready(left, right)
    frames(a)
    for turn in range(60):
        a.receive_frame(HeadsFrame(more=False, logs=((log, (Head(CROWDED_SEQ, bytes([turn]) * 32),)),)).encode(), turn * 0.1)
        feed(a, [Segment(log, 10, 10, b"stray").encode()], turn * 0.1)
        a.handle_gap(log, 20, unrooted=True)
        frames(a)
    assert a.counters.wants_out == 1


def test_the_sim_lists_as_many_heads_as_a_frame() -> None:
    world = World(5)
    assert world.add("a").store.heads_max == HEADS_PER_LOG_MAX
