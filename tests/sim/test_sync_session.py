"""States, silence, limits, backoff: the parts of a session that are not about data."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from sim.pair import feed, frames, members, only, parsed, ready

from fabrik_sync import (
    ACCEPTS,
    REASONS,
    TRANSITIONS,
    Backoff,
    Closed,
    Hub,
    Input,
    Limits,
    LogId,
    Reason,
    Refused,
    Retry,
    State,
    retry_of,
)
from fabrik_sync.frames import Ack, Close, Ephemeral, FrameType, FrontierFrame, HeadsFrame, Hello, Ping, Pong, Ready, Segment, Stop, Want, Wanted
from fabrik_sync.logbook import frontier_of
from fabrik_sync.ports import Head
from fabrik_sync.states import PROVEN, render
from fabrik_sync.wire import encode

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "docs/spec/sync.md").read_text(encoding="utf-8")


def test_the_table_of_states_is_whole() -> None:
    assert set(TRANSITIONS) == set(ACCEPTS) == set(State)
    assert {cause for moves in TRANSITIONS.values() for cause in moves} == set(Input)
    for state, moves in TRANSITIONS.items():
        assert (moves.get(Input.END) is State.CLOSED) == (state is not State.CLOSED)
    reached = {State.WAIT_ANSWER, State.WAIT_HELLO}
    for _ in State:
        reached |= {target for state in reached for target in TRANSITIONS[state].values()}
    assert reached == set(State)


def test_the_documentation_shows_the_tables_of_the_code() -> None:
    assert render() in SPEC
    for reason, row in REASONS.items():
        assert f"| `{reason}` | {'refusal' if row.refusal else 'end'} | {row.retry} | {row.meaning} |" in SPEC
    assert set(REASONS) == set(Reason)


def test_the_cddl_names_every_frame() -> None:
    cddl = (ROOT / "docs/spec/sync.cddl").read_text(encoding="utf-8")
    numbers = {name.lower(): number for name, number in vars(FrameType).items() if name.isupper()}
    assert dict(re.findall(r"^(\w+) += \[ *(\d+),?", cddl, re.MULTILINE)) == {name: str(number) for name, number in numbers.items()}


EVERY = [
    Hello((1,), b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20),
    Ready(),
    FrontierFrame(bytes(32), bytes(256)),
    HeadsFrame(more=False, logs=()),
    Want((Wanted(LogId(b"k" * 32, 1), 0),)),
    Stop(LogId(b"k" * 32, 1)),
    Segment(LogId(b"k" * 32, 1), 1, 1, b"data"),
    Ack(0),
    Ephemeral(b"k" * 32, 1, b"x"),
    Ping(1),
    Pong(1),
    Close("shutdown"),
]


@pytest.mark.parametrize("frame", EVERY, ids=lambda frame: type(frame).__name__)
def test_a_live_session_takes_what_the_table_says(frame: Ping) -> None:
    a, _ = ready(*members("left", "right"))
    assert a.state is State.LIVE
    a.receive_frame(frame.encode(), 0.0)
    if frame.TYPE == FrameType.CLOSE:
        assert only(a, Closed) == Closed("shutdown", "", by_peer=True)
    elif frame.TYPE in ACCEPTS[State.LIVE]:
        assert State(a.state) is State.LIVE
    else:
        assert only(a, Closed).code == Reason.UNEXPECTED


def test_malformed_bytes_end_the_session_with_a_reason() -> None:
    a, b = ready(*members("left", "right"))
    a.receive_frame(b"\xff", 0.0)
    (close,) = parsed(a)
    assert close == Close(Reason.MALFORMED, "initial byte 0xff has no place here")
    assert a.poll_frame() is None
    feed(b, [close.encode()])
    assert only(b, Closed) == Closed(Reason.MALFORMED, "initial byte 0xff has no place here", by_peer=True)
    assert frames(b) == []


@pytest.mark.promise("I23")
def test_frames_of_a_newer_version_are_ignored_up_to_a_limit() -> None:
    a, _ = ready(*members("left", "right"), limits=Limits(unknown_frames=3))
    for n in range(3):
        a.receive_frame(encode([77, n]), 0.0)
    assert a.state is State.LIVE
    assert a.counters.unknown_frames == 3
    a.receive_frame(encode([78]), 0.0)
    assert only(a, Closed).code == Reason.UNKNOWN_FRAMES


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    a, b = ready(*members("left", "right"))
    a.poll_events()
    assert a.next_timeout() == 3.0
    a.handle_timeout(3.0)
    assert parsed(a) == [Ping(1)]
    feed(b, [Ping(1).encode(), Ping(2).encode()], 3.0)
    answer = frames(b)
    assert answer == [Pong(2).encode()], "many questions, one answer"
    feed(a, answer, 4.0)
    a.handle_timeout(7.5)
    assert parsed(a) == [Ping(2)]
    a.handle_timeout(11.9)
    assert a.state is State.LIVE
    a.handle_timeout(12.0)
    assert only(a, Closed).code == Reason.SILENT


def test_a_part_of_a_frame_is_a_sign_of_life_and_who_says_nothing_for_long_pings() -> None:
    """A large frame on a slow link: its sender hears us, we hear its bytes."""
    a, _ = ready(*members("left", "right"))
    a.poll_events()
    asked = 0
    for second in range(1, 60):
        a.receive_part(float(second))
        a.handle_timeout(float(second))
        asked += len(frames(a))
    assert a.state is State.LIVE
    assert 15 <= asked <= 20
    a.handle_timeout(66.9)
    assert a.state is State.LIVE
    a.handle_timeout(67.0)
    assert only(a, Closed).code == Reason.SILENT


def test_a_quiet_but_living_peer_stays() -> None:
    a, b = ready(*members("left", "right"))
    now = 0.0
    while now < 3_600:
        timeouts = [at for session in (a, b) if (at := session.next_timeout()) is not None]
        now = max(now, min(timeouts))
        for session, other in ((a, b), (b, a)):
            session.handle_timeout(now)
            feed(other, frames(session), now)
    assert [a.state, b.state] == [State.LIVE, State.LIVE]
    assert a.counters.frames_out + b.counters.frames_out <= 4 * 1_202, "a question and an answer of each in three seconds"


def test_time_that_goes_back_ends_nothing() -> None:
    a, b = ready(*members("left", "right"))
    a.receive_frame(Ping(1).encode(), 100.0)
    a.handle_timeout(-5.0)
    a.receive_frame(Ping(1).encode(), 50.0)
    assert a.state is b.state is State.LIVE


def test_a_closed_session_says_one_last_thing() -> None:
    a, b = ready(*members("left", "right"))
    a.poll_events()
    a.close(hint="going down")
    a.close("again")
    assert parsed(a) == [Close("shutdown", "going down")]
    assert a.poll_events() == [Closed("shutdown", "going down", by_peer=False)]
    a.receive_frame(b"\xff", 1.0)
    a.handle_timeout(99.0)
    a.handle_disconnected()
    assert a.poll_events() == []
    assert a.next_timeout() is None
    assert b.state in PROVEN


@pytest.mark.parametrize("bad", [{"outbox_bytes": 1_000}, {"window_bytes": 1_000}, {"ping_s": 30.0}, {"ping_s": 0.0}])
def test_limits_that_can_not_work_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Limits(**bad)  # type: ignore[arg-type]


def test_the_frontier_digest_says_what_is_held_and_nothing_else() -> None:
    random = Random(1)
    logs = {LogId(random.randbytes(32), random.randint(1, 3)): (Head(random.randint(1, 99), random.randbytes(32)),) for _ in range(50)}
    again = dict(sorted(logs.items(), reverse=True))
    assert frontier_of(logs) == frontier_of(again)
    for log, (head,) in logs.items():
        for other in ((head._replace(seq=head.seq + 1),), (head._replace(h=bytes(32)),), (head, head._replace(seq=100)), ()):
            changed = frontier_of({key: heads for key, heads in (logs | {log: other}).items() if heads})
            assert changed.digest != frontier_of(logs).digest
            differ = [n for n in range(16) if changed.buckets[n * 16 : n * 16 + 16] != frontier_of(logs).buckets[n * 16 : n * 16 + 16]]
            assert differ == [log.author[0] % 16]


def test_a_hub_holds_only_ready_sessions() -> None:
    left, _ = members("left", "right")
    with pytest.raises(ValueError, match="not ready"):
        Hub(left.signer.public).add(left.connect())


# ---- backoff


def test_backoff_doubles_with_full_jitter_and_a_cap() -> None:
    backoff = Backoff(Random(1))
    delays = [backoff.handle_failed(0.0) for _ in range(200)]
    for n, delay in enumerate(delays):
        assert delay is not None
        assert 0 <= delay <= min(30.0, 0.1 * 2**n)
    assert max(delay for delay in delays if delay) > 25
    assert min(delay for delay in delays[50:] if delay) < 5
    assert backoff.attempts == 200


def test_backoff_begins_anew_after_health_only() -> None:
    backoff = Backoff(Random(1))
    for _ in range(10):
        backoff.handle_failed(0.0)
    backoff.handle_ready(100.0)
    backoff.handle_failed(105.0, Closed("silent", "", by_peer=False))
    assert backoff.attempts == 11
    backoff.handle_ready(200.0)
    delay = backoff.handle_failed(210.0, Closed("silent", "", by_peer=False))
    assert backoff.attempts == 1
    assert delay is not None
    assert delay <= 0.1


def test_no_dial_follows_a_final_refusal() -> None:
    backoff = Backoff(Random(1))
    assert backoff.handle_failed(0.0, Refused(Reason.WRONG_MESH, "", by_peer=True, proven=False)) is None
    assert backoff.handle_failed(0.0, Refused("bad_token", "", by_peer=True, proven=True)) is None
    slow = backoff.handle_failed(0.0, Refused(Reason.UNKNOWN_KEY, "", by_peer=True, proven=True))
    assert slow is not None
    assert 15.0 <= slow <= 30.0
    backoff.reset()
    assert backoff.attempts == 0
    assert retry_of("a_code_of_tomorrow", refused=False) is Retry.SOON
