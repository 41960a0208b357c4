"""Who keeps the event loop busy waits; everybody else does not. Counted in work and in frames, on clocks and transports of the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.protocol import State
from websockets.server import ServerProtocol

from fabrik_node.transport.heard import FRAMES_PER_STEP, HeardServer
from fabrik_node.transport.turns import BURST_S, TURN_S, Pace, Turn


@pytest.mark.promise("I20")
@pytest.mark.parametrize("peers", [1, 2, 16, 128])
def test_those_that_keep_the_loop_busy_get_half_of_it_together(peers: int) -> None:
    pace = Pace()
    turns, ready = [Turn(pace) for _ in range(peers)], [0.0] * peers
    now = worked = longest = run = 0.0
    while now < 30.0:
        first = min(range(peers), key=ready.__getitem__)
        run = run if ready[first] <= now else 0.0
        now = max(now, ready[first]) + 0.001
        worked, run = worked + 0.001, run + 0.001
        longest = max(longest, run)
        ready[first] = now + turns[first].rest_s(0.001, now)
    assert 0.45 <= worked / now <= 0.55
    assert longest <= 2 * BURST_S + 2 * TURN_S * peers


@pytest.mark.promise("I20")
def test_a_heavy_frame_is_paid_for_and_what_leaves_pauses_never_waits() -> None:
    pace = Pace()
    assert Turn(pace).rest_s(0.050, 0.050) == pytest.approx(2 * (0.050 - BURST_S))
    turn, now = Turn(Pace()), 0.0
    for _ in range(1_000):
        now += 0.003
        assert turn.rest_s(0.001, now) == 0.0, "a third of the time is no flood"


class _Wire:
    """A transport that counts whether somebody reads."""

    def __init__(self) -> None:
        self.reading = True
        self.written = b""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def set_write_buffer_limits(self, *_: Any) -> None: ...

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...

    def close(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False


class _NoServer:
    def __init__(self) -> None:
        self.handler_tasks: set[Any] = set()

    async def handler(self, _: HeardServer) -> None: ...

    def is_serving(self) -> bool:
        return True


def opened() -> tuple[HeardServer, _Wire]:
    """A WebSocket behind its handshake."""
    protocol = ServerProtocol(max_size=None)
    protocol.state = State.OPEN
    protocol.parser = protocol.parse()
    next(protocol.parser)
    made, wire = HeardServer(protocol, _NoServer(), ping_interval=None, max_queue=4), _Wire()
    made.request = made.response = object()  # type: ignore[assignment]
    made.connection_made(wire)  # type: ignore[arg-type]
    return made, wire


def frame(payload: bytes, opcode: int = 2) -> bytes:
    """Masked with zeros."""
    size = len(payload)
    head = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big") if size < 65_536 else bytes([0xFF]) + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + head + bytes(4) + payload


@pytest.mark.promise("I20")
async def test_a_packet_of_thousands_of_frames_is_taken_in_steps_and_nothing_is_read_meanwhile() -> None:
    made, wire = opened()
    count = 5_000
    made.data_received(b"".join(frame(number.to_bytes(4, "big")) for number in range(count)))
    assert made.frames_heard <= 4_096 // 10 + 1, "the first step is not known to be of small frames"
    got: list[int] = []
    most, before = 0, made.frames_heard
    while len(got) < count:
        assert wire.reading is False or made.frames_heard == count
        got.append(int.from_bytes(await made.recv(decode=False), "big"))
        most, before = max(most, made.frames_heard - before), made.frames_heard
    assert got == list(range(count))
    assert most <= 2 * FRAMES_PER_STEP + 4_096 // 10
    await asyncio.sleep(0)
    assert wire.reading


@pytest.mark.promise("I20")
async def test_control_frames_of_websocket_itself_are_taken_in_steps_too() -> None:
    made, wire = opened()
    made.data_received(frame(b"", opcode=9) * 10_000)
    turns = 0
    while made.frames_heard < 10_000:
        before = made.frames_heard
        await asyncio.sleep(0)
        assert made.frames_heard - before <= 2 * FRAMES_PER_STEP + 4_096 // 6
        turns += 1
    assert turns > 50
    await asyncio.sleep(0)
    assert wire.reading


async def test_a_large_frame_is_no_flood() -> None:
    made, wire = opened()
    data = frame(bytes(250_000))
    for start in range(0, len(data), 65_536):
        made.data_received(data[start : start + 65_536])
        assert wire.reading, "no turn of the loop is waited for"
    assert len(await made.recv()) == 250_000


async def test_what_came_before_the_end_is_heard() -> None:
    made, _ = opened()
    made.data_received(b"".join(frame(number.to_bytes(4, "big")) for number in range(900)))
    made.eof_received()
    assert [int.from_bytes(await made.recv(decode=False), "big") for _ in range(900)] == list(range(900))
