"""Every limit of a session has a counter, and every counter moves when its limit is hit: one way to hit each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sim.pair import Side, feed, frames, members, ready, shuttle
from sim.test_sync_forks import deaf_heads
from sim.test_sync_replication import serve
from sim.toy_store import encode_segment
from sim.world import World

from fabrik_sync import FRAME_BYTES_MAX, HUB_LIMIT_NAMES, LIMIT_NAMES, SEGMENT_BYTES_MAX, Head, Hub, Join, Limits, LogId, SegmentsReceived, Session, Wants
from fabrik_sync.frames import Ephemeral, HeadsFrame, Ready, Segment, Want, Wanted
from fabrik_sync.limits import LOGS_PER_STEP
from fabrik_sync.parsing import decode_frame
from fabrik_sync.wire import encode


def log(number: int) -> LogId:
    return LogId(number.to_bytes(32, "big"), 1)


def heads(*numbers: int) -> bytes:
    return HeadsFrame(more=False, logs=tuple((log(number), (Head(1, b"h" * 32),)) for number in numbers)).encode()


def told(data: bytes, limits: Limits | None = None) -> Session:
    """A session whose peer said this."""
    a, _ = ready(*members("left", "right"), limits=limits)
    feed(a, [data])
    return a


def at(seconds: float, *, join: bool = False) -> Session:
    """A session that nobody answers."""
    left, right = members("left", "right")
    a = left.connect(join=Join(b"t" * 16, b"s" * 32) if join else None, expected_key=right.signer.public)
    frames(a)
    a.handle_timeout(seconds)
    return a


def silent(seconds: float) -> Session:
    a, _ = ready(*members("left", "right"))
    a.handle_timeout(seconds)
    return a


def rival() -> Session:
    a, _ = ready(*members("left", "right"))
    a.handle_rival(0.0, is_older=True)
    a.handle_timeout(Limits().rival_s)
    return a


def stuck() -> Session:
    """Something waits for the peer, which sends and takes nothing of it."""
    left, right = members("left", "right")
    a, _ = ready(left, right)
    left.store.append(left.log, b"op")
    a.handle_heads(left.log, left.store.heads_of(left.log))
    for second in range(60):
        feed(a, [Ephemeral(right.signer.public, second + 1, b"alive").encode()], float(second))
        a.handle_timeout(float(second))
    return a


def full(limits: Limits | None = None, *, sent: bool = False) -> Session:
    """More is there than the peer takes."""
    left, right = members("left", "right")
    a, b = ready(left, right, limits=limits)
    left.store.segment_ops = 1
    for number in range(12):
        left.store.append(left.log, bytes([number]) * 200_000)
    a.handle_heads(left.log, left.store.heads_of(left.log))
    shuttle(a, b)
    for _ in range(20):
        serve(a, left)
        if sent:
            frames(a)
    return a


def listing(count: int, limits: Limits) -> tuple[Side, Side]:
    left, right = members("left", "right")
    for number in range(1, count + 1):
        left.store.members.add(log(number).author)
        right.store.members.add(log(number).author)
        right.store.append(log(number), b"op")
    return left, right


def many_heads() -> Session:
    left, right = listing(50, Limits())
    a, b = left.connect(), right.accept(limits=Limits(chunk_bytes=500))
    shuttle(a, b)
    return b


def many_wants() -> Session:
    left, right = listing(50, Limits())
    a, b = left.connect(limits=Limits(wants_per_frame=7)), right.accept()
    shuttle(a, b)
    return a


def deferred() -> Session:
    left, right = members("left", "right")
    right.store.append(right.log, b"op")
    wants = Wants()
    wants.take(right.log, "another", have_seq=0, up_to=9, now=0.0, defer_s=2.0)
    a, b = left.connect(wants=wants), right.accept()
    shuttle(a, b)
    a.handle_timeout(Limits().defer_s)
    return a


def urgent(seq: int) -> Session:
    """The admin's next ops are left to another peer."""
    left, right = members("left", "right")
    log = LogId(left.store.admin, 7)
    wants = Wants()
    wants.take(log, "another", have_seq=0, up_to=1_000, now=0.0, defer_s=2.0)
    a, b = left.connect(wants=wants), right.accept()
    shuttle(a, b)
    feed(a, [HeadsFrame(False, ((log, (Head(seq, b"h" * 32),)),)).encode()])
    a.handle_timeout(Limits().urgent_s)
    return a


def deaf() -> Session:
    left, right = members("left", "right")
    left.store.append(right.log, b"one")
    a, _ = ready(left, right)
    for turn in range(100):
        a.receive_frame(deaf_heads(right.log, turn), turn * 1.0)
        a.handle_timeout(turn * 1.0)
        frames(a)
    return a


def unrooted() -> Session:
    left, right = members("left", "right")
    for number in range(20):
        left.store.append(right.log, b"%d" % number)
    a, _ = ready(left, right)
    for turn in range(200):
        stray = encode_segment(right.log, 10, turn.to_bytes(32, "big"), [b"stray"])
        a.receive_frame(Segment(right.log, 10, 10, stray).encode(), turn * 0.1)
        for event in a.poll_events():
            if isinstance(event, SegmentsReceived):
                a.handle_gap(right.log, 20, unrooted=True)
                a.handle_processed(event.size_bytes)
        frames(a)
    return a


def rewound() -> Session:
    left, right = members("left", "right")
    for number in range(20):
        right.store.append(right.log, b"%d" % number)
    _, b = ready(left, right, limits=Limits(rewinds=5))
    for _ in range(10):
        feed(b, [Want((Wanted(right.log, 3, ((7, b"x" * 16),)),)).encode()])
        serve(b, right)
        frames(b)
    return b


def crowded_places() -> Session:
    left, right = members("left", "right")
    places = tuple((1, bytes([number % 256, number // 256]) * 8) for number in range(1_025))
    a, _ = ready(left, right)
    feed(a, [encode([8, [[left.log.author, 1, 0, [list(place) for place in places]]]])])
    return a


def waiting_for_ready() -> Session:
    left, right = members("left", "right")
    a, b = left.connect(join=Join(b"t" * 16, b"s" * 32), expected_key=right.signer.public), right.accept()
    feed(b, frames(a))
    feed(a, frames(b))
    frames(a)
    return a


def welcomed() -> Session:
    a = waiting_for_ready()
    feed(a, [encode([Ready.TYPE, bytes(4_097)])])
    return a


def early() -> Session:
    left, _ = members("left", "right")
    a = left.connect()
    feed(a, [bytes(9_000)])
    return a


WAYS: dict[str, Callable[[], Session]] = {
    "outbox_bytes": full,
    "window_bytes": lambda: full(Limits(outbox_bytes=4 * FRAME_BYTES_MAX), sent=True),
    "chunk_bytes": many_heads,
    "wants_per_frame": many_wants,
    "logs": lambda: told(heads(*range(10)), Limits(logs=5)),
    "new_logs": lambda: many_new(),
    "new_log_s": lambda: many_new(3.0),
    "ephemeral_authors": lambda: _eleven_authors(),
    "unknown_frames": lambda: _unknown(),
    "handshake_s": lambda: at(Limits().handshake_s),
    "join_s": lambda: at(Limits().join_s, join=True),
    "ping_s": lambda: silent(Limits().ping_s),
    "silent_s": lambda: silent(Limits().silent_s),
    "rival_s": rival,
    "progress_s": stuck,
    "defer_s": deferred,
    "urgent_s": lambda: urgent(9),
    "urgent_ops": lambda: urgent(Limits().urgent_ops + 1),
    "fork_asks": deaf,
    "fork_again_s": unrooted,
    "rewinds": rewound,
    "frame_items": lambda: told(encode([7, False, [0] * 16_384])),
    "control_frame_bytes": lambda: told(encode([7, False, [bytes(65_536 + 1_024)]])),
    "frame_bytes": lambda: told(bytes(FRAME_BYTES_MAX + 1)),
    "handshake_frame_bytes": early,
    "segment_bytes": lambda: told(encode([10, bytes(32), 1, 1, 1, bytes(SEGMENT_BYTES_MAX + 1)])),
    "ephemeral_bytes": lambda: told(encode([12, bytes(32), 1, bytes(16_385)])),
    "welcome_bytes": welcomed,
    "heads_per_log": lambda: told(encode([7, False, [[bytes(32), 1, [[number + 1, bytes(32)] for number in range(65)]]]])),
    "places": crowded_places,
}


def many_new(later_s: float = 0.0) -> Session:
    left, right = members("left", "right")
    a, _ = ready(left, right, limits=Limits(new_logs=3, new_log_s=1.0))
    feed(a, [HeadsFrame(False, tuple((LogId(right.signer.public, epoch), (Head(1, b"h" * 32),)) for epoch in range(2, 12))).encode()])
    for epoch in range(2, 5) if later_s else ():  # the author has begun those that are held, and may begin others later
        log = LogId(right.signer.public, epoch)
        left.store.append(log, b"held")
        a.handle_heads(log, left.store.heads_of(log))
    a.handle_timeout(later_s)
    return a


def _eleven_authors() -> Session:
    a, _ = ready(*members("left", "right"), limits=Limits(ephemeral_authors=5))
    feed(a, [Ephemeral(bytes([number]) * 32, 1, b"x").encode() for number in range(11)])
    return a


def _unknown() -> Session:
    a, _ = ready(*members("left", "right"), limits=Limits(unknown_frames=3))
    feed(a, [encode([99])] * 5)
    return a


def test_there_is_a_way_to_hit_each() -> None:
    assert set(WAYS) == set(LIMIT_NAMES)


@pytest.mark.promise("I18")
@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_a_limit_that_is_hit_is_counted(name: str) -> None:
    assert WAYS[name]().counters.limits[name] >= 1


def test_what_stays_within_its_limits_counts_nothing() -> None:
    world = World(1)
    a, b = world.add("a"), world.add("b")
    ends = world.dial(a, b)
    for number in range(20):
        (a, b)[number % 2].write(b"op %d" % number)
        world.run(0.1)
    assert world.run(5.0, until=world.converged)
    for end in ends:
        assert {name: count for name, count in end.session.counters.limits.items() if count} == {}


def test_a_full_outbox_is_one_hit_until_there_is_room_again() -> None:
    assert full().counters.limits["outbox_bytes"] == 1


@pytest.mark.promise("I18")
def test_limits_of_all_sessions_together_are_counted() -> None:
    left, right = members("left", "right")
    hub = Hub(left.signer.public)
    for _ in range(6):
        a, _ = ready(left, right)
        hub.add(a)
    assert hub.limits["sessions_per_key"] >= 1
    for number in range(4_100):
        hub.handle_ephemeral(number.to_bytes(32, "big"), 1, b"x")
    assert hub.limits["hub_ephemeral_authors"] == 4
    assert set(hub.limits) == set(HUB_LIMIT_NAMES)


@pytest.mark.promise("I20")
def test_logs_that_were_left_to_another_peer_are_looked_at_in_steps() -> None:
    """A member that says from two places that it has thousands of logs keeps nobody busy with them for long."""
    left, right = members("left", "right")
    wants, count = Wants(), 3 * LOGS_PER_STEP
    a, b = left.connect(wants=wants, limits=Limits(new_logs=2 * count)), right.accept()
    shuttle(a, b)
    logs = [LogId(right.signer.public, epoch) for epoch in range(2, 2 + count)]
    for log in logs:
        wants.take(log, "another", have_seq=0, up_to=9, now=0.0, defer_s=2.0)
    feed(a, [HeadsFrame(False, tuple((log, (Head(9, bytes(32)),)) for log in logs[start : start + 500])).encode() for start in range(0, count, 500)])
    assert sum(len(frame.logs) for frame in sent_wants(a)) == 0
    steps: list[int] = []
    now = Limits().defer_s
    while a.next_timeout() == now or not steps:
        a.handle_timeout(now)
        steps.append(sum(len(frame.logs) for frame in sent_wants(a)))
    assert sum(steps) == count, "all are asked for here now"
    assert max(steps) <= LOGS_PER_STEP


def sent_wants(session: Session) -> list[Want]:
    return [frame for frame in map(decode_frame, frames(session)) if isinstance(frame, Want)]


@pytest.mark.promise("I18")
def test_who_begins_logs_without_end_is_asked_for_them_slowly_and_others_do_not_wait() -> None:
    """Nothing is refused: what waits is asked for when its time has come, and both ends hold the same then."""
    left, right = members("left", "right")
    limits, other = Limits(new_logs=3, new_log_s=60.0), b"o" * 32
    left.store.members.add(other)
    a, _ = ready(left, right, limits=limits)
    many = [LogId(right.signer.public, epoch) for epoch in range(2, 12)]
    rows = tuple((log, (Head(1, bytes(32)),)) for log in [*many, LogId(other, 1)])
    feed(a, [HeadsFrame(False, rows).encode()])
    asked = [wanted.log for frame in sent_wants(a) for wanted in frame.logs]
    assert set(asked) == {*many[:3], LogId(other, 1)}
    feed(a, [Segment(many[7], 1, 1, b"unasked").encode()])
    assert [event for event in a.poll_events() if isinstance(event, SegmentsReceived)] == [], "pushing it does not help"
    frames(a)
    assert a.status().lag_in == 11, "what waits is shown as what we lack"
    for log in [*many[:3], LogId(other, 1)]:
        a.handle_heads(log, (Head(1, bytes(32)),))
    assert a.is_caught_up, "a first sync does not wait for it"
    now, turns = 0.0, 0
    while len(asked) < 11:
        turns += 1
        now += 60.0
        a.receive_part(now)
        a.handle_timeout(now)
        new = [wanted.log for frame in sent_wants(a) for wanted in frame.logs]
        assert len(new) == 1
        asked += new
        a.handle_heads(new[0], (Head(1, bytes(32)),))
    assert turns == 7
    assert set(asked) == {*many, LogId(other, 1)}
    assert a.status().lag_in == 0


@pytest.mark.promise("I18")
def test_logs_that_a_peer_invents_keep_nobody_from_beginning_one() -> None:
    """What a liar says of an author's logs is counted as asked of the liar, not as begun by the author."""
    honest, victim, evil = members("honest", "victim", "evil")
    wants = Wants()
    limits = Limits(new_logs=8)
    lies, truth = victim.accept(wants=wants, limits=limits), victim.accept(wants=wants, limits=limits)
    liar, good = evil.connect(), honest.connect()
    shuttle(liar, lies)
    feed(lies, [HeadsFrame(False, tuple((LogId(honest.signer.public, 10_000 + number), (Head(1, bytes(32)),)) for number in range(20))).encode()])
    frames(lies)
    shuttle(good, truth)
    honest.store.append(honest.log, b"real")
    good.handle_heads(honest.log, honest.store.heads_of(honest.log))
    feed(truth, frames(good))
    asked = [decode_frame(frame) for frame in frames(truth)]
    assert [wanted.log for frame in asked if isinstance(frame, Want) for wanted in frame.logs] == [honest.log]
