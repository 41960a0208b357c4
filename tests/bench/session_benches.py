"""What the replication protocol puts on the wire: two real sessions with nothing between them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from benchmark import Measured, Scale, benchmark
from workload import Workload, make_workload

from fabrik_node._core import SEGMENT_BYTES_MAX, SigningKey, mesh_id, segment_span, verify
from fabrik_sync import CaughtUp, Head, Heads, LogId, Place, SegmentsReceived, Session, place_of

__all__ = ["Identity", "Logs"]

LOGS = 1000


class Identity:
    """Fills ``fabrik_sync.Identity`` with a key; without one, with a new one."""

    def __init__(self, key: SigningKey | None = None) -> None:
        self._key = key or SigningKey.from_seed(secrets.token_bytes(32))
        self.public = self._key.public

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        verify(public, message, signature)

    def random(self, n: int) -> bytes:
        return secrets.token_bytes(n)


class Logs:
    """Fills ``fabrik_sync.Replica`` from a dictionary, and admits everybody."""

    def __init__(self, heads: dict[LogId, Head]) -> None:
        self.held = heads

    def heads(self) -> Iterable[tuple[LogId, Heads]]:
        return [(log, (head,)) for log, head in self.held.items()]

    def holds(self, log: LogId, seq: int, h: bytes) -> bool:
        held = self.held.get(log)
        return held is not None and (held[:2] == (seq, h) or (seq < held.seq and h == _chain_hash(seq)))

    def places(self, log: LogId) -> Sequence[Place]:
        return [place_of(self.held[log])] if log in self.held else []

    def cursors(self, log: LogId, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        return [] if log not in self.held or place_of(self.held[log]) in places else [(0, 0)]

    def admit(self, key: bytes) -> bool:
        return len(key) == 32

    def takes(self, author: bytes) -> bool:
        return self.admit(author)

    def priority(self, author: bytes) -> int:
        return author[0] & 1


def _chain_hash(seq: int) -> bytes:
    """Of a made-up log: who holds it holds all of its earlier places, as with a real one."""
    return seq.to_bytes(32, "big")


def _pair(left: Logs, right: Logs, mesh: bytes) -> tuple[Session, Session]:
    dialled = Session.connect(identity=Identity(), mesh=mesh, replica=left, now=0.0)
    called = Session.accept(identity=Identity(), mesh=mesh, replica=right, now=0.0)
    return dialled, called


def _exchange(ends: tuple[Session, Session], stored: Sequence[bytes], taken: Logs) -> tuple[int, int]:
    """Carry frames until nothing moves: ``(turns, segments that arrived)``. A turn is all frames of one side."""
    turns = arrived = 0
    side = 0
    idle = 0
    while idle < 2:
        sender, receiver = ends[side], ends[1 - side]
        while (request := sender.poll_read()) is not None:
            rows: list[tuple[int, int, bytes]] = []
            for data in stored:
                _, _, first, last = segment_span(data)
                if last <= request.after_seq:
                    continue
                if sum(len(row[2]) for row in rows) + len(data) > request.max_bytes:
                    break
                rows.append((first, last, data))
            sender.handle_read(request, rows)
        frames = 0
        while (frame := sender.poll_frame()) is not None:
            receiver.receive_frame(frame, 0.0)
            frames += 1
        for event in receiver.poll_events():
            if isinstance(event, SegmentsReceived):
                arrived += len(event.segments)
                taken.held[event.log] = Head(event.last_seq, _chain_hash(event.last_seq))
                receiver.handle_head(event.log, event.last_seq, _chain_hash(event.last_seq))
                receiver.handle_processed(event.size_bytes)
        turns += 1 if frames else 0
        idle = 0 if frames else idle + 1
        side = 1 - side
    return turns, arrived


@benchmark(("reconnect.bytes", "B", "<=", 2048), ("reconnect.trips", "round trips", "<=", 1))
def reconnect(scale: Scale) -> dict[str, Measured]:
    """Two nodes that hold the same 1,000 logs meet again. Trips after the handshake: until both know that nothing is missing."""
    heads = {LogId(secrets.token_bytes(32), 1 << 32 | n): Head(1000 + n, secrets.token_bytes(32)) for n in range(LOGS)}
    ends = _pair(Logs(heads), Logs(dict(heads)), secrets.token_bytes(32))
    handshake = _turns_to(ends, "peer_key")
    after = _turns_to(ends, "is_caught_up")
    _exchange(ends, [], Logs({}))
    total = sum(end.counters.bytes_out for end in ends)
    env = {
        "logs": LOGS,
        "frames": sum(end.counters.frames_out for end in ends),
        "handshake_turns": handshake,
        "turns_after": after,
        "what": "both directions, handshake included",
    }
    return {"reconnect.bytes": Measured(total, env), "reconnect.trips": Measured(after / 2, env)}


def _turns_to(ends: tuple[Session, Session], fact: str) -> int:
    """Turns until both ends say so. A turn is everything that one side has to send."""
    turns = side = 0
    while not all(getattr(end, fact) for end in ends):
        if turns > 20:
            raise AssertionError(f"the sessions do not reach {fact}")
        moved = False
        while (frame := ends[side].poll_frame()) is not None:
            ends[1 - side].receive_frame(frame, 0.0)
            moved = True
        turns += moved
        side = 1 - side
    return turns


@benchmark(("bytes.wire", "B/op", "<=", 60))
def wire(scale: Scale) -> dict[str, Measured]:
    """Bytes of all frames of a first sync per op, beyond the ops' values."""
    work: Workload = make_workload(min(scale.ops, 100_000))
    author, epoch, _, _ = segment_span(work.segments[0])
    _, _, _, last = segment_span(work.segments[-1])
    full, empty = Logs({LogId(author, epoch): Head(last, _chain_hash(last))}), Logs({})
    ends = _pair(empty, full, mesh_id(work.genesis))
    _, arrived = _exchange(ends, work.segments, empty)
    if arrived < len(work.segments) or (not any(isinstance(event, CaughtUp) for event in ends[0].poll_events()) and not ends[0].is_caught_up):
        raise AssertionError(f"{arrived} of {len(work.segments)} segments arrived")
    size = sum(end.counters.bytes_out for end in ends)
    env = {
        "ops": work.ops,
        "bytes": size,
        "segments": arrived,
        "segment_bytes_max": SEGMENT_BYTES_MAX,
        "value_bytes_per_op": round(work.value_bytes / work.ops, 1),
    }
    return {"bytes.wire": Measured((size - work.value_bytes) / work.ops, env)}
