"""Forked logs: every branch reaches everybody, for a bounded number of questions and bytes, and then it is quiet."""

from __future__ import annotations

from random import Random

import pytest
from sim.pair import feed, frames, members, only, parsed, ready, shuttle
from sim.test_sync_replication import serve
from sim.toy_store import encode_segment
from sim.world import End, Node, World

from fabrik_sync import MARKER, Closed, Head, Limits, LogId, Reason, SegmentsReceived, State, Wants
from fabrik_sync.frames import HeadsFrame, Segment, Want, Wanted
from fabrik_sync.logbook import announced

SHAPES = [
    (10, 5, 5),  # the same length on both sides
    (10, 5, 100),  # hidden by lengths: the longer log is another one
    (10, 100, 5),
    (0, 1, 1),  # at seq 1
    (0, 700, 3),
    (1_000, 1, 3_000),
    (3_000, 40, 1),
    (5, 2_000, 2_000),
]


def extend(node: Node, log: LogId, count: int, word: str, at: tuple[int, int] | None = None) -> tuple[int, int]:
    """Ops behind ``at`` (behind branch 0), without telling anybody; where they end."""
    for n in range(count):
        at = node.store.append(log, f"{word} {n} ".encode() * 3, at)
    assert at is not None
    return at


def forked_pair(seed: int, common: int, left: int, right: int) -> tuple[World, Node, Node, LogId]:
    """Two nodes that hold a log whose first ``common`` ops are the same."""
    world = World(seed)
    a, b = world.add("a"), world.add("b")
    log = LogId(a.key, 7)
    for node, count in ((a, left), (b, right)):
        at = extend(node, log, common, "common") if common else (0, 0)
        extend(node, log, count, node.name, at)
    return world, a, b, log


def asked(*ends: End) -> list[int]:
    return [end.session.counters.wants_with_places_out for end in ends]


def is_quiet(world: World) -> bool:
    """A minute in which nothing but signs of life moves."""

    ends = [end for conn in world.conns for end in conn if end.session.state is State.LIVE]

    def moved() -> list[int]:
        return [end.session.counters.bytes_out for end in ends]

    before = moved()
    world.run(60.0)
    return all(after - was <= 60 / Limits().ping_s * 2 * 8 for was, after in zip(before, moved(), strict=True))


@pytest.mark.promise("I10")
@pytest.mark.parametrize(("common", "left", "right"), SHAPES)
def test_both_branches_reach_both_nodes_for_a_bounded_cost(common: int, left: int, right: int) -> None:
    world, a, b, log = forked_pair(1, common, left, right)
    ends = world.dial(a, b)
    assert world.run(20.0, until=world.converged), (a.counts, b.counts)
    world.run(1.0)
    for node, new, own in ((a, right, left), (b, left, right)):
        assert len(node.store.logs[log].branches) == 2
        assert node.counts["new ops"] == new
        # Behind the locator's place: at most as much before the fork as we have after it. Before that, what was under way by number alone.
        assert node.counts["held ops"] <= own + 1
        assert node.counts["stray ops"] <= new
    assert sum(asked(*ends)) <= 3
    assert max(asked(*ends)) <= 2
    assert all(end.session.is_caught_up and end.session.status().lag_out == 0 for end in ends)
    sent = sum(end.session.counters.bytes_out for end in ends)
    assert is_quiet(world)
    world.cut(ends)
    world.run(1.0)
    ends = world.dial(a, b)
    world.run(1.0)
    assert sum(end.session.counters.bytes_out for end in ends) <= 2_048, f"after {sent} bytes the first time, nothing is left to send"
    assert asked(*ends) == [0, 0]


@pytest.mark.promise("I10")
@pytest.mark.parametrize("who", ["the longer", "the shorter"])
def test_either_side_alone_finds_a_fork_that_lengths_hide(who: str) -> None:
    """The other side may not take the log, so it never asks."""
    world, a, b, log = forked_pair(2, 10, 5, 100)
    finder, other = (b, a) if who == "the longer" else (a, b)
    author = LogId(bytes(31) + b"\1", 1)
    for node in (a, b):
        node.store.logs[author] = node.store.logs.pop(log)
    finder.store.members.add(author.author)
    ends = world.dial(a, b)
    world.run(5.0)
    assert len(finder.store.logs[author].branches) == 2
    assert len(other.store.logs[author].branches) == 1
    assert sum(asked(*ends)) <= 2
    assert is_quiet(world)


@pytest.mark.promise("I10")
def test_forks_of_forks_and_more_branches_on_either_side() -> None:
    for seed in range(20):
        random = Random(seed)
        world, a, b, log = forked_pair(seed, 20, 10, 12)
        for node in (a, b):
            for n in range(random.randint(1, 12)):
                branches = node.store.logs[log].branches
                number = random.randrange(len(branches))
                place = (number, random.randint(branches[number].start + 1, branches[number].seq))
                extend(node, log, random.randint(1, 30), f"{node.name} {n}", place)
        every = len(a.store.logs[log].branches) + len(b.store.logs[log].branches)
        ends = world.dial(a, b)
        assert world.run(20.0, until=world.converged), f"seed {seed}: {a.counts} {b.counts}"
        world.run(1.0)
        assert len(a.store.logs[log].branches) == len(b.store.logs[log].branches) <= every
        assert max(asked(*ends)) <= 2, f"seed {seed}"
        assert is_quiet(world), f"seed {seed}"


@pytest.mark.promise("I10")
def test_a_fork_that_appears_while_ops_flow_is_not_missed() -> None:
    """Each side gets another op for the same place from elsewhere, in the moment before the other's arrives."""
    for seed in range(40):
        random = Random(seed)
        world, a, b, log = forked_pair(seed, 10, 0, 0)
        world.latency = random.choice([0.001, 0.02, 0.1])
        ends = world.dial(a, b)
        world.run(1.0)
        assert asked(*ends) == [0, 0]
        for node, count in ((a, random.randint(1, 5)), (b, random.randint(1, 50))):
            for n in range(count):
                node.write(f"{node.name} {n}".encode(), log)
                world.run(random.choice([0.0, 0.001]))
        assert world.run(5.0, until=world.converged), f"seed {seed}: {a.counts} {b.counts}"
        for n in range(10):  # and on, each on its own branch, over the same session
            for node in (a, b):
                node.write(f"{node.name} live {n}".encode(), log)
            world.run(0.5)
            assert world.converged(), f"seed {seed}"
        world.run(5.0)
        assert max(asked(*ends)) <= 3, f"seed {seed}: {asked(*ends)}"
        assert a.counts["held ops"] + b.counts["held ops"] <= 120, f"seed {seed}: nothing goes back for long"
        assert is_quiet(world), f"seed {seed}"


def test_a_segment_without_a_root_makes_us_ask_and_tell() -> None:
    """We took the peer for one that has all of ours, by its numbers; what it sends shows that it has not."""
    left, right = members("left", "right")
    log = right.log
    for n in range(10):
        for side in (left, right):
            side.store.append(log, b"%d" % n)
    a, b = ready(left, right)
    right.store.append(log, b"theirs 1")
    right.store.append(log, b"theirs 2")
    (_, _, data), *_ = right.store.read(log, 11, 1_000)
    feed(a, [Segment(log, 12, 12, data).encode()])  # the op before it was lost on the way
    left.store.append(log, b"ours")
    a.handle_heads(log, left.store.heads_of(log))
    assert a.poll_read() is None, "it seems to have as much"
    result = left.store.apply(log, only(a, SegmentsReceived).segments[0])
    assert result.unrooted
    a.handle_gap(log, left.store.seq(log), unrooted=True)
    want, *rest = parsed(a)
    assert isinstance(want, Want)
    assert set(want.logs[0].places or ()) == set(left.store.places(log))
    assert rest == [HeadsFrame(more=False, logs=((log, announced(left.store.heads_of(log))),))]
    assert b.state is State.LIVE


def test_live_ops_of_a_forked_log_do_not_go_back() -> None:
    world, a, b, log = forked_pair(3, 10, 5, 7)
    ends = world.dial(a, b)
    assert world.run(5.0, until=world.converged)
    world.run(1.0)
    held, questions = [node.counts["held ops"] for node in (a, b)], asked(*ends)
    for n in range(50):
        (a, b)[n % 2].write(b"live %d" % n, log)
        world.run(0.1)
        assert world.converged()
    assert [node.counts["held ops"] for node in (a, b)] == held
    assert asked(*ends) == questions


@pytest.mark.promise("I10")
def test_a_suspended_log_spreads_until_every_node_is_suspended_and_is_quiet_then() -> None:
    world = World(4)
    nodes = [world.add(f"n{i}") for i in range(4)]
    log = LogId(nodes[1].key, 7)
    for node in nodes:
        node.store.heads_max = 6
        extend(node, log, 10, "common")
    for number, node in ((0, nodes[0]), (3, nodes[3])):
        for n in range(5):
            extend(node, log, 3, f"{number} {n}", (0, n + 1))
    for i in range(3):
        world.link(nodes[i], nodes[i + 1])
    assert not nodes[0].store.logs[log].suspended
    assert world.run(60.0, until=lambda: world.converged() and nodes[1].store.logs[log].suspended), [node.counts for node in nodes]
    assert all(node.store.logs[log].suspended for node in nodes)
    world.run(5.0)
    assert max(asked(*(end for conn in world.conns for end in conn))) <= 2
    assert is_quiet(world)
    nodes[2].write(b"an author that goes on", log, (0, 10))
    world.run(5.0)
    assert world.converged()
    assert is_quiet(world)
    late = world.add("late")
    late.store.heads_max = 6
    world.link(late, nodes[0])
    assert world.run(10.0, until=world.converged)
    assert late.store.logs[log].suspended, "the branches of a suspended log are the proof that it is one"
    world.run(5.0)
    live = [end.session for conn in world.conns for end in conn if end.session.state is State.LIVE]
    assert all(session.is_caught_up and session.status().lag_in == session.status().lag_out == 0 for session in live), "nothing is missed any more"
    assert is_quiet(world)


def test_clones_of_one_key_write_through_different_nodes() -> None:
    for seed in range(10):
        random = Random(seed)
        world = World(seed)
        one, two, author = world.add("one"), world.add("two"), world.add("author")
        world.dial(one, two)
        world.dial(author, one)
        author.write(b"before")
        assert world.run(2.0, until=world.converged)
        copy = world.clone(author, "copy")
        world.dial(copy, two)
        for n in range(30):
            random.choice([author, copy]).write(b"%d" % n)
            world.run(random.choice([0.0, 0.003, 0.3]))
        assert world.run(10.0, until=world.converged), f"seed {seed}"
        assert len(one.store.logs[author.log].branches) == 2
        world.run(5.0)
        assert max(end.session.counters.wants_with_places_out for conn in world.conns for end in conn) <= 3, f"seed {seed}"
        assert is_quiet(world), f"seed {seed}"


def test_a_branch_that_another_peer_is_asked_for_is_left_to_it() -> None:
    left, right = members("left", "right")
    for side, word in ((left, b"one"), (right, b"two")):
        side.store.append(right.log, word)
    wants = Wants()
    wants.take(right.log, "another", have_seq=-1, up_to=1 << 53, now=0.0, defer_s=2.0)
    a, b = left.connect(wants=wants), right.accept()
    shuttle(a, b)
    assert a.counters.wants_out == 0
    assert a.next_timeout() == 2.0
    wants.note(right.log, "another", have_seq=1, up_to=5, now=1.9)
    a.handle_timeout(2.0)
    (want,) = parsed(a)
    assert want == Want((Wanted(right.log, 1, tuple(left.store.places(right.log))),)), "it brings other branches: two seconds are enough"


# ---- a peer that means no good


def deaf_heads(log: LogId, turn: int) -> bytes:
    return HeadsFrame(more=False, logs=((log, tuple(sorted(Head(5 + turn, bytes([turn % 250, n]) * 16) for n in range(3)))),)).encode()


@pytest.mark.promise("I10")
def test_heads_that_are_never_delivered_cost_a_few_questions() -> None:
    left, right = members("left", "right")
    left.store.append(right.log, b"one")
    a, _ = ready(left, right)
    frames(a)
    for turn in range(500):
        a.receive_frame(deaf_heads(right.log, turn), turn * 1.0)
        a.handle_timeout(turn * 1.0)
        frames(a)
    assert a.counters.wants_out == Limits().fork_asks
    assert a.state is State.LIVE
    left.store.append(right.log, b"two")
    a.handle_heads(right.log, left.store.heads_of(right.log))
    for turn in range(500, 1_000):
        a.receive_frame(deaf_heads(right.log, turn), turn * 1.0)
        frames(a)
    assert a.counters.wants_out <= 2 * Limits().fork_asks, "something came from elsewhere: it may try again"


@pytest.mark.promise("I10")
def test_segments_without_a_root_for_ever_cost_a_few_questions() -> None:
    left, right = members("left", "right")
    log = right.log
    for n in range(20):
        left.store.append(log, b"%d" % n)
    a, _ = ready(left, right)
    frames(a)
    for turn in range(2_000):
        stray = encode_segment(log, 10, turn.to_bytes(32, "big"), [b"stray"])
        a.receive_frame(Segment(log, 10, 10, stray).encode(), turn * 0.1)
        for event in a.poll_events():
            if isinstance(event, SegmentsReceived):
                result = left.store.apply(log, event.segments[0])
                a.handle_gap(log, left.store.seq(log), unrooted=result.unrooted)
                a.handle_processed(event.size_bytes)
        frames(a)
    assert a.counters.wants_out <= Limits().fork_asks
    assert a.state is State.LIVE


@pytest.mark.promise("I10")
def test_invented_places_bring_what_is_held_once_for_each_want_and_not_for_ever() -> None:
    left, right = members("left", "right")
    for n in range(20):
        right.store.append(right.log, b"%d" % n)
    a, b = ready(left, right, limits=Limits(rewinds=50))
    serve(b, right)
    frames(b)
    want = Want((Wanted(right.log, 3, ((7, b"x" * 16), (1 << 53, b"y" * 16))),)).encode()
    turns = 0
    while b.state is State.LIVE:
        feed(b, [want])
        serve(b, right)
        frames(b)
        turns += 1
    assert turns <= 51
    assert only(b, Closed).code == Reason.FLOW
    assert a.state is State.LIVE


def test_a_marker_that_leads_nowhere_costs_a_few_questions() -> None:
    left, right = members("left", "right")
    left.store.append(right.log, b"one")
    a, _ = ready(left, right)
    frames(a)
    for turn in range(50):
        heads = (MARKER,) if turn % 2 else (Head(1, bytes([turn]) * 32),)
        a.receive_frame(HeadsFrame(more=False, logs=((right.log, heads),)).encode(), turn * 5.0)
        frames(a)
    assert a.counters.wants_out <= Limits().fork_asks
    assert a.state is State.LIVE
