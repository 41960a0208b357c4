"""What a session says that its peer lacks: to the op, counting what is on its way until the peer says that it has it."""

from __future__ import annotations

from random import Random

import pytest
from sim.pair import feed, frames, members, ready, shuttle
from sim.world import World

from fabrik_sync import SegmentsReceived, Session, State
from fabrik_sync.flight import Flight


def serve(session: Session, side: object) -> None:
    while (request := session.poll_read()) is not None:
        session.handle_read(request, side.store.read(request.log, request.after_seq, request.max_bytes, request.branch))  # type: ignore[attr-defined]


def test_what_is_on_its_way_is_lacked_until_it_is_processed() -> None:
    left, right = members("left", "right")
    a, b = ready(left, right)
    for number in range(3):
        left.store.append(left.log, b"op %d" % number)
        a.handle_heads(left.log, left.store.heads_of(left.log))
        shuttle(a, b)
    serve(a, left)
    status = a.status()
    assert (status.lag_out + status.unacked_ops, status.unacked_ops) == (3, 3)
    assert min(seq for log, _, seq in a.status().lag_behind if log == left.log) == 0
    feed(b, frames(a))
    assert a.status().unacked_ops == 3, "sent is not held"
    received = [event for event in b.poll_events() if isinstance(event, SegmentsReceived)]
    for event in received:
        b.handle_processed(event.size_bytes)
    feed(a, frames(b))
    status = a.status()
    assert (status.lag_out, status.unacked_ops, list(a.status().lag_behind)) == (0, 0, [])


@pytest.mark.parametrize("seed", range(20))
def test_lag_is_what_the_peer_lacks_in_any_network(seed: int) -> None:
    random = Random(seed)
    world = World(seed)
    a, b = world.add("a"), world.add("b")
    ends = world.dial(a, b)
    world.run(1.0)
    for _ in range(30):
        for _ in range(random.randint(0, 5)):
            a.write(random.randbytes(random.randint(1, 2_000)))
        world.run(random.choice([0.0, 0.001, 0.01, 0.1]))
        status = ends[0].session.status()
        held = b.store.logs[a.log].branches[0].seq if a.log in b.store.logs else 0
        have = a.store.logs[a.log].branches[0].seq if a.log in a.store.logs else 0
        assert status.lag_out + status.unacked_ops >= have - held, f"seed {seed}: more is lacked than said"
        behind = [seq for log, _, seq in ends[0].session.status().lag_behind if log == a.log]
        assert min(behind, default=have) <= held, f"seed {seed}: the oldest that it lacks is older than said"
    assert world.run(10.0, until=world.converged)
    world.run(1.0)
    status = ends[0].session.status()
    assert (status.lag_out, status.unacked_ops, list(ends[0].session.status().lag_behind)) == (0, 0, []), f"seed {seed}"


def test_a_window_of_tiny_segments_is_few_entries() -> None:
    flight, log = Flight(), members("x")[0].log
    for number in range(5_000):
        flight.add(log, 0, number + 1, number + 1, begin=number * 200, end=number * 200 + 200)
    assert flight.ops == 5_000
    assert len(flight._parts) <= 32
    flight.acked(500_000)
    assert 2_500 <= flight.ops <= 2_500 + 164, "a joined part counts until its last byte"
    flight.acked(1_000_000)
    assert (flight.ops, list(flight.behind())) == (0, [])


@pytest.mark.parametrize("seed", range(40))
def test_nobody_is_said_to_lack_what_everybody_holds(seed: int) -> None:
    """Who got a log from elsewhere says so to a peer that announced it: in a mesh each log comes from one of several."""
    random = Random(seed)
    world = World(seed)
    nodes = [world.add(name) for name in "abcd"]
    for _ in range(random.randint(0, 5)):
        for node in nodes:
            node.write(b"before they meet")
    for one, other in ((0, 1), (1, 2), (0, 2), (2, 3), (1, 3)):
        world.link(nodes[one], nodes[other])
        world.run(random.choice([0.0, 0.01, 0.5]))
    for _ in range(20):
        random.choice(nodes).write(random.randbytes(random.randint(1, 500)))
        world.run(random.choice([0.0, 0.001, 0.1]))
    assert world.run(60.0, until=world.converged)
    world.run(5.0)
    live = [end.session.status() for conn in world.conns for end in conn if end.session.state is State.LIVE]
    assert [(status.lag_out, status.lag_in) for status in live] == [(0, 0)] * 10, f"seed {seed}"
