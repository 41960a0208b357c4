"""What moves, and what does not: bulk, delta, live, relay, slow peers, forks, presence."""

from __future__ import annotations

from random import Random

import pytest
from sim.pair import Side, feed, frames, members, only, parsed, ready, shuttle
from sim.toy_store import MEMBER
from sim.world import End, World

from fabrik_sync import CaughtUp, Closed, EphemeralReceived, Head, Limits, LogId, PeerReady, Reason, SegmentsReceived, Session, State, Wants
from fabrik_sync.frames import Ack, Ephemeral, FrameType, HeadsFrame, Segment, Stop, Want, Wanted
from fabrik_sync.parsing import decode_frame

KIB = 1024


def kinds(data: list[bytes]) -> list[int]:
    return [decode_frame(frame).TYPE for frame in data]  # type: ignore[union-attr]


def serve(session: Session, side: Side) -> None:
    """Answer every read that is asked for now."""
    while (request := session.poll_read()) is not None:
        session.handle_read(request, side.store.read(request.log, request.after_seq, request.max_bytes, request.branch))


def wire_bytes(ends: tuple[End, End]) -> int:
    return ends[0].out.bytes_total + ends[1].out.bytes_total


def seeded_logs(world: World, count: int) -> None:
    """``count`` logs, the same on every node."""
    random = Random(world.seed)
    for _ in range(count):
        log = LogId(random.randbytes(32), 1)
        ops = [random.randbytes(50) for _ in range(random.randint(1, 5))]
        for node in world.nodes.values():
            node.store.members.add(log.author)
            for op in ops:
                node.store.append(log, op)


@pytest.mark.promise("E16")
def test_equal_replicas_exchange_one_round_trip_and_2_kib() -> None:
    world = World(1)
    a, b = world.add("a"), world.add("b")
    seeded_logs(world, 1_000)
    ends = world.dial(a, b)
    world.run(1.0)
    assert [end.session.state for end in ends] == [State.LIVE, State.LIVE]
    assert wire_bytes(ends) <= 2 * KIB
    # HELLO, ANSWER, AUTH, READY, and one FRONTIER each way: the sync itself is one round trip.
    assert [end.session.counters.frames_out for end in ends] == [3, 3]
    assert all(end.session.is_caught_up for end in ends)
    assert a.store.reads == b.store.reads == 0


@pytest.mark.promise("E16")
def test_a_reconnect_sends_only_the_missing_ops() -> None:
    world = World(2)
    a, b = world.add("a"), world.add("b")
    seeded_logs(world, 1_000)
    for _ in range(30):
        a.store.append(a.log, world.random.randbytes(100))
        b.store.append(b.log, world.random.randbytes(100))
    ends = world.dial(a, b)
    assert world.run(2.0, until=world.converged)
    assert [node.counts["new ops"] for node in (a, b)] == [30, 30]
    assert [node.counts["held ops"] for node in (a, b)] == [0, 0]
    assert wire_bytes(ends) > 2 * 30 * 100
    heads = 2 * (2 * 1_000 // 16 + 60) * 92  # two unequal buckets of 16, from either side
    assert wire_bytes(ends) < 2 * 30 * 104 + heads + 3 * KIB
    sent = wire_bytes(ends)

    world.cut(ends)
    world.run(1.0)
    ends = world.dial(a, b)
    world.run(1.0)
    assert wire_bytes(ends) <= 2 * KIB, f"after {sent} bytes the first time, nothing is left to send"


@pytest.mark.promise("E15")
def test_a_new_peer_gets_everything() -> None:
    world = World(3)
    a, b = world.add("a"), world.add("b", member=False)
    a.write(MEMBER + b.key)
    a.store.segment_ops = 1_000
    authors = [world.random.randbytes(32) for _ in range(20)]
    for author in authors:
        a.write(MEMBER + author)
        for _ in range(world.random.randint(1, 600)):
            a.store.append(LogId(author, 1), world.random.randbytes(200))
    ends = world.dial(a, b)
    assert world.run(60.0, until=world.converged)
    world.run(1.0)
    assert b.counts["held ops"] == b.counts["gaps"] == 0
    assert ends[1].events.count(CaughtUp()) == 1
    assert ends[1].session.status().lag_in == 0
    total = sum(len(op) for log in a.store.logs.values() for op in log.ops)
    assert total > 1_000 * KIB, "more than one window"
    assert wire_bytes(ends) < total * 1.1
    first = next(event for event in ends[1].events if isinstance(event, SegmentsReceived))
    assert first.log == a.log, "the admin's log comes first: it says who is a member"


@pytest.mark.promise("E17")
def test_live_ops_travel_through_a_relay() -> None:
    world = World(4)
    a, relay, c = world.add("a"), world.add("relay"), world.add("c")
    relay.store.members |= {c.key}
    world.dial(a, relay)
    world.dial(c, relay)
    assert world.run(5.0, until=world.converged)
    world.run(1.0)
    held = relay.counts["held ops"]
    for n in range(20):
        author = (a, c)[n % 2]
        author.write(b"op %d" % n)
        began = world.now
        assert world.run(1.0, until=world.converged), f"op {n} did not arrive within a second"
        assert world.now - began < 0.1, "two hops of 5 ms and two commits"
    world.run(1.0)
    assert relay.counts["held ops"] == held == 0
    assert a.counts["held ops"] == c.counts["held ops"] == 0, "nothing goes back to where it came from"


def test_ops_committed_while_the_handshake_runs_are_not_missed() -> None:
    for steps in range(30):
        world = World(100 + steps)
        a, b = world.add("a"), world.add("b")
        for n in range(3):
            a.write(b"before %d" % n)
        world.dial(a, b)
        world.run(steps * 0.001)
        a.write(b"meanwhile")
        b.write(b"meanwhile")
        assert world.run(2.0, until=world.converged), steps


def test_several_peers_are_not_asked_for_the_same() -> None:
    world = World(5)
    a, b, c, new = (world.add(name) for name in ("a", "b", "c", "new"))
    for node in (a, b, c):
        for n in range(2_000):
            node.store.append(LogId(a.key, 7), b"%d" % n * 20)
        for op in a.store.logs[a.log].ops[node.store.seq(a.log) :]:
            node.store.append(a.log, op)
    for other in (a, b, c):
        world.dial(new, other)
    assert world.run(30.0, until=lambda: new.store.seq(LogId(a.key, 7)) == 2_000)
    assert new.counts["held ops"] == 0
    assert sum(end.session.counters.wants_deferred for end in new.ends) > 0


def test_a_log_left_to_a_peer_that_brings_nothing_is_fetched_from_another() -> None:
    left, right = members("left", "right")
    right.store.append(right.log, b"op")
    wants = Wants()
    assert wants.take(right.log, "a liar", have_seq=0, up_to=10, now=0.0, defer_s=2.0)
    a, b = left.connect(wants=wants), right.accept()
    shuttle(a, b)
    assert a.counters.wants_deferred == 1
    assert not a.is_caught_up
    assert a.next_timeout() == 2.0
    a.handle_timeout(2.0)
    assert [type(frame) for frame in parsed(a)] == [Want]


def test_what_is_held_already_can_not_be_sent_for_ever_to_keep_others_from_bringing_more() -> None:
    wants, log = Wants(), LogId(b"a" * 32, 1)
    assert wants.take(log, "a liar", have_seq=5, up_to=10, now=0.0, defer_s=2.0)
    for now in (0.5, 1.0, 1.5):
        wants.note(log, "a liar", have_seq=5, up_to=5, now=now)
    assert not wants.take(log, "another", have_seq=5, up_to=6, now=1.9, defer_s=2.0)
    assert wants.take(log, "another", have_seq=5, up_to=6, now=2.0, defer_s=2.0)
    wants.note(log, "another", have_seq=5, up_to=6, now=3.0)
    assert not wants.take(log, "a third", have_seq=5, up_to=10, now=4.9, defer_s=2.0)


def test_of_an_urgent_log_counts_what_was_committed() -> None:
    wants, log = Wants(), LogId(b"a" * 32, 1)
    assert wants.take(log, "a liar", have_seq=5, up_to=10, now=0.0, defer_s=0.25, urgent=True)
    wants.note(log, "a liar", have_seq=5, up_to=9, now=0.2)
    assert wants.take(log, "another", have_seq=5, up_to=20, now=0.25, defer_s=0.25, urgent=True)
    for now, seq in ((0.3, 5), (0.4, 6), (0.5, 6)):  # the first says what there was, the last is of something that came again
        wants.held(log, (Head(seq, bytes(32)),), now)
    assert wants.take(log, "a third", have_seq=5, up_to=20, now=0.65, defer_s=0.25, urgent=True)
    wants.held(log, (Head(6, bytes(32)),), 0.7)
    wants.held(log, (Head(7, bytes(32)),), 0.8)
    assert not wants.take(log, "a fourth", have_seq=5, up_to=20, now=1.0, defer_s=0.25, urgent=True)


def test_a_log_left_to_a_peer_that_goes_away_is_fetched_at_once() -> None:
    left, right = members("left", "right")
    right.store.append(right.log, b"op")
    wants = Wants()
    wants.take(right.log, "gone", have_seq=0, up_to=10, now=0.0, defer_s=2.0)
    a, b = left.connect(wants=wants), right.accept()
    shuttle(a, b)
    wants.release("gone")
    a.handle_peers_changed()
    assert [type(frame) for frame in parsed(a)] == [Want]


def test_logs_of_unadmitted_authors_wait_for_their_admission() -> None:
    left, right = members("left", "right")
    log = LogId(b"u" * 32, 1)
    right.store.append(log, b"op")
    a, b = ready(left, right)
    assert b.poll_read() is None
    assert a.status().unadmitted_logs == 1
    assert a.is_caught_up, "nothing that we may take is missing"
    left.store.members.add(log.author)
    a.handle_admitted_changed()
    assert a.status().lag_in == 1
    shuttle(a, b)
    serve(b, right)
    shuttle(a, b)
    assert only(a, SegmentsReceived).log == log


def test_segments_of_an_unadmitted_author_are_dropped_and_stopped() -> None:
    left, right = members("left", "right")
    log = LogId(b"u" * 32, 1)
    a, b = ready(left, right)
    a.poll_events()
    a.receive_frame(Segment(log, 1, 1, b"data").encode(), 0.0)
    assert a.poll_events() == []
    assert a.counters.segments_dropped == 1
    assert parsed(a) == [Ack(4), Stop(log)]
    assert b.state is State.LIVE


def test_a_gap_is_asked_for_again_once() -> None:
    left, right = members("left", "right")
    for n in range(10):
        right.store.append(right.log, b"op %d" % n)
    a, b = ready(left, right)
    serve(b, right)
    shuttle(a, b)
    a.poll_events()
    for _ in range(3):
        a.handle_gap(right.log, 0)
    assert parsed(a) == [Want((Wanted(right.log, 0),))]
    feed(b, [Want((Wanted(right.log, 0),)).encode()])
    serve(b, right)
    shuttle(a, b)
    again = only(a, SegmentsReceived)
    assert (again.first_seq, again.last_seq) == (1, 10)


def test_what_was_lost_is_sent_again_by_one_peer_and_not_to_the_end_of_the_log() -> None:
    world = World(11)
    node, one, two = (world.add(name) for name in ("node", "one", "two"))
    log = LogId(node.key, 7)
    for each in (node, one, two):
        each.store.segment_ops = 10
        for n in range(2_000):
            each.store.append(log, b"%d" % n * 1_000)
    conns = [world.dial(node, other) for other in (one, two)]
    world.run(2.0)
    assert [end.session.counters.segments_in for end in (conns[0][0], conns[1][0])] == [0, 0]
    asked = [node.hub.handle_lost(log, 100, world.now) for _ in range(3)]
    assert asked.count(None) == 2, "one peer, once"
    node.pump_all()
    world.run(10.0)
    again = [end.session.counters.segment_bytes_in for end in (conns[0][0], conns[1][0])]
    assert min(again) == 0
    assert 4 * 262_144 <= max(again) <= 9 * 262_144, "what can hold a damaged row, and a window that was under way; not eight megabytes"
    assert node.counts["held ops"] > 0
    assert node.hub.handle_lost(log, 100, world.now + 60.0) is not asked[0], "it brought nothing: the other one"
    node.pump_all()
    world.run(10.0)
    node.write(b"more", log)
    assert world.run(5.0, until=world.converged)
    held = node.counts["held ops"]
    one.write(b"and more", log)
    assert world.run(5.0, until=world.converged), "the cursors stand at the end again"
    assert node.counts["held ops"] == held


def test_a_stalled_peer_costs_a_bounded_outbox_and_recovers() -> None:
    world = World(6)
    a, slow, quick = world.add("a"), world.add("slow"), world.add("quick")
    to_slow = world.dial(a, slow)
    world.dial(a, quick)
    world.run(5.0)
    assert world.converged()
    to_slow[0].out.stalled = True
    for _ in range(400):
        a.write(world.random.randbytes(5_000))
        world.run(0.01)
        status = to_slow[0].session.status()
        assert status.outbox_bytes <= a.limits.outbox_bytes
        assert status.outbox_bytes + to_slow[0].out.in_flight <= 256 * KIB + 2 * 262_144
    assert world.run(1.0, until=lambda: quick.store.digest() == a.store.digest()), "the healthy peer is served"
    assert to_slow[0].session.status().behind
    reads = a.store.reads
    a.write(b"one more")
    world.run(0.1)
    assert a.store.reads <= reads + 1, "nothing is read for a peer that takes nothing"
    world.release(to_slow[0])
    assert world.run(10.0, until=world.converged)
    assert slow.counts["held ops"] == 0
    assert not to_slow[0].session.status().behind


def test_a_peer_that_takes_nothing_is_cut_with_a_reason() -> None:
    world = World(7)
    a, slow = world.add("a"), world.add("slow")
    slow.limits = Limits(silent_s=1_000.0)
    ends = world.dial(a, slow)
    world.run(1.0)
    ends[0].out.stalled = True
    for _ in range(200):
        a.write(world.random.randbytes(5_000))
        slow.beat(int(world.now * 10) + 1)  # it lives, but takes nothing
        world.run(0.25)
        if ends[0].session.state is State.CLOSED:
            break
    end = ends[0].events[-1]
    assert isinstance(end, Closed)
    assert (end.code, end.by_peer) == (Reason.NO_PROGRESS, False)


def test_a_peer_that_never_acknowledges_gets_one_window_and_is_cut() -> None:
    left, right = members("left", "right")
    for _ in range(100):
        right.store.append(right.log, bytes(60_000))
    right.store.segment_ops = 4
    a, b = ready(left, right, limits=Limits(window_bytes=600_000))
    sent, now = 0, 0.0
    while b.state is not State.CLOSED:
        serve(b, right)
        sent += sum(len(frame.data) for frame in parsed(b) if isinstance(frame, Segment))
        feed(b, [Ephemeral(left.signer.public, int(now * 1000) + 1, b"alive").encode()], now)
        now += 1.0
        b.handle_timeout(now)
    assert 600_000 - 262_144 <= sent <= 600_000
    assert only(b, Closed).code == Reason.NO_PROGRESS
    assert 30.0 <= now <= 40.0
    assert a.state is State.LIVE


def test_more_than_the_window_is_a_violation() -> None:
    left, right = members("left", "right")
    a, b = ready(left, right, limits=Limits(window_bytes=262_144))
    feed(a, [Segment(right.log, 1, 1, bytes(200_000)).encode(), Segment(right.log, 2, 2, bytes(62_145)).encode()])
    assert a.poll_events()[-1] == Closed(Reason.FLOW, "262145 bytes are unprocessed, the window is 262144", by_peer=False)
    feed(b, [Ack(1).encode()])
    assert only(b, Closed).code == Reason.FLOW


def test_credit_comes_back_as_segments_are_processed() -> None:
    left, right = members("left", "right")
    a, _ = ready(left, right)
    a.poll_events()
    feed(a, [Segment(right.log, n, n, bytes(1_000)).encode() for n in (1, 2, 3)])
    event = only(a, SegmentsReceived)
    assert (event.first_seq, event.last_seq, event.size_bytes) == (1, 3, 3_000)
    assert frames(a) == []
    a.handle_processed(1_000)
    assert frames(a) == [], "small change waits for more"
    a.handle_processed(2_000)
    assert parsed(a) == [Ack(3_000)]
    with pytest.raises(ValueError, match="only 0 are open"):
        a.handle_processed(1)


def test_a_read_has_to_fit_its_request() -> None:
    left, right = members("left", "right")
    for n in range(4):
        right.store.append(right.log, b"op %d" % n)
    a, b = ready(left, right)
    request = b.poll_read()
    assert request is not None
    assert b.poll_read() is None, "one at a time"
    for bad in (
        [(2, 4, b"x")],
        [(1, 0, b"x")],
        [(1, 1, b"")],
        [(1, 2, b"x"), (4, 4, b"x")],
        [(1, 1, bytes(262_145))],
        [(1, 2, bytes(200_000)), (3, 4, bytes(200_000))],
    ):
        with pytest.raises(ValueError, match=r"does not continue|were asked for"):
            b.handle_read(request, bad)
    b.handle_read(request, [(1, 2, b"x")])
    with pytest.raises(ValueError, match="answered before"):
        b.handle_read(request, [])
    second = b.poll_read()
    assert second is not None
    assert second.after_seq == 2
    b.handle_read(second, [])
    assert b.poll_read() is None, "a store that can not go on is not asked in a circle"
    b.handle_head(right.log, 5, b"h" * 32)
    assert b.poll_read() is not None
    assert a.state is State.LIVE


def test_a_read_that_comes_after_the_end_is_harmless() -> None:
    left, right = members("left", "right")
    right.store.append(right.log, b"op")
    a, b = ready(left, right)
    request = b.poll_read()
    assert request is not None
    b.handle_disconnected()
    b.handle_read(request, [(1, 1, b"x")])
    b.handle_heads(right.log, right.store.heads_of(right.log))
    b.handle_gap(right.log, 0)
    b.handle_admitted_changed()
    b.handle_peers_changed()
    b.send_ephemeral(right.signer.public, 1, b"x")
    b.close()
    assert frames(b) == []
    assert only(b, Closed).code == Reason.DISCONNECTED
    assert a.state is State.LIVE


def test_what_the_peer_gets_from_elsewhere_is_not_sent() -> None:
    left, right = members("left", "right")
    log = LogId(left.signer.public, 3)
    for side in (left, right):
        side.store.append(log, b"one")
    a, b = ready(left, right)
    for side, session in ((left, a), (right, b)):
        side.store.append(log, b"two")
        session.handle_heads(log, side.store.heads_of(log))
    serve(a, left)
    feed(b, frames(a))
    b.handle_processed(only(b, SegmentsReceived).size_bytes)
    serve(b, right)
    assert kinds(frames(b)) == [FrameType.ACK]
    assert b.counters.duplicates_avoided == 1


def test_only_the_latest_presence_waits_and_it_does_not_go_back() -> None:
    left, right = members("left", "right")
    a, b = ready(left, right)
    b.poll_events()
    author = left.signer.public
    for counter in (1, 2, 3, 2):
        a.send_ephemeral(author, counter, b"beat %d" % counter)
    shuttle(a, b)
    assert only(b, EphemeralReceived) == EphemeralReceived(author, 3, b"beat 3")
    b.send_ephemeral(author, 3, b"beat 3")
    b.send_ephemeral(author, 1, b"beat 1")
    assert frames(b) == [], "the peer has it"
    b.send_ephemeral(author, 4, b"beat 4")
    feed(b, [Ephemeral(author, 5, b"beat 5").encode()])
    assert frames(b) == [], "what waited is older than what the peer has shown"
    feed(a, [Ephemeral(author, 3, b"beat 3").encode()])
    assert a.counters.ephemerals_stale == 1
    with pytest.raises(ValueError, match="at most"):
        a.send_ephemeral(author, 6, bytes(20_000))


def test_presence_crosses_a_ring_without_circling() -> None:
    world = World(8)
    nodes = [world.add(f"n{i}") for i in range(5)]
    for op in nodes[0].store.logs[nodes[0].log].ops:
        for node in nodes[1:]:
            if op not in node.store.logs[nodes[0].log].ops:
                node.store.append(nodes[0].log, op)
    for i in range(5):
        world.dial(nodes[i], nodes[(i + 1) % 5])
    world.run(1.0)
    nodes[2].beat(1)
    world.run(1.0)
    assert [node.presence.get(nodes[2].key, (0, 0))[0] for node in nodes] == [1, 1, 0, 1, 1]
    sent = sum(end.session.counters.ephemerals_out for node in nodes for end in node.ends)
    assert sent <= 6, "each node tells each neighbour that is not known to have it"


def test_limits_on_what_a_peer_announces() -> None:
    left, right = members("left", "right")
    a, b = ready(left, right, limits=Limits(logs=5, ephemeral_authors=5))
    logs = tuple((LogId(bytes([n]) * 32, 1), (Head(1, b"h" * 32),)) for n in range(10))
    feed(a, [HeadsFrame(more=False, logs=logs).encode()])
    assert a.status().unadmitted_logs == 5
    assert a.counters.limits["logs"] == 5
    feed(a, [Ephemeral(bytes([n]) * 32, 1, b"x").encode() for n in range(10)])
    assert a.counters.limits["ephemeral_authors"] == 5
    assert b.state is State.LIVE


def test_two_connections_of_two_nodes_become_one() -> None:
    world = World(9)
    a, b = world.add("a"), world.add("b")
    world.dial(a, b)
    world.dial(b, a)
    world.run(1.0)
    assert len(a.hub.sessions) == len(b.hub.sessions) == 1
    assert a.hub.sessions[0].is_initiator != b.hub.sessions[0].is_initiator
    (stays,) = a.hub.sessions
    world.dial(a if stays.is_initiator else b, b if stays.is_initiator else a)
    world.run(1.0)
    assert a.hub.sessions[0] is not stays, "of the same side, the newer one stays"
    assert stays.state is State.CLOSED
    a.write(b"op")
    assert world.run(1.0, until=world.converged)


def test_peer_ready_is_told_before_data() -> None:
    world = World(10)
    a, b = world.add("a"), world.add("b")
    a.write(b"op")
    ends = world.dial(a, b)
    world.run(1.0)
    assert isinstance(ends[1].events[0], PeerReady)
    assert isinstance(ends[1].events[1], SegmentsReceived)


def test_commits_may_be_told_twice_or_late() -> None:
    left, right = members("left", "right")
    a, b = ready(left, right)
    for n in range(3):
        left.store.append(left.log, b"op %d" % n)
    heads = left.store.heads_of(left.log)
    a.handle_heads(left.log, heads)
    a.handle_head(left.log, 1, left.store.logs[left.log].chain[0])
    a.handle_heads(left.log, heads)
    assert parsed(a) == [HeadsFrame(more=False, logs=((left.log, heads),))]
    assert b.state is State.LIVE
