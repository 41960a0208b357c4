"""From bytes to frames, strictly: every field is there, of its type and in its range, and nothing follows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from fabrik_sync.frames import (
    BUCKET_BYTES,
    BUCKETS,
    CODE_CHARS,
    Ack,
    Answer,
    Auth,
    Close,
    Ephemeral,
    Frame,
    FrameType,
    FrontierFrame,
    HeadsFrame,
    Hello,
    Ping,
    Pong,
    Ready,
    Segment,
    Stop,
    Unknown,
    Want,
    Wanted,
)
from fabrik_sync.limits import (
    CONTROL_FRAME_BYTES_MAX,
    EPHEMERAL_BYTES_MAX,
    FRAME_BYTES_MAX,
    HEADS_PER_LOG_MAX,
    PLACES_MAX,
    SEGMENT_BYTES_MAX,
    WELCOME_BYTES_MAX,
)
from fabrik_sync.ports import MARK_BYTES, Head, Heads, LogId, Place, is_marker
from fabrik_sync.wire import Item, Malformed, decode

__all__ = ["decode_frame"]

_SEQ_MAX: Final = 1 << 53
_EPOCH_MAX: Final = (1 << 53) - 1
_U64: Final = (1 << 64) - 1
_SEGMENT_BEGINS: Final = bytes((0x86, FrameType.SEGMENT))
"""An array of six, the first of which is the type."""


def decode_frame(data: bytes, bytes_max: int = FRAME_BYTES_MAX) -> Frame:
    """The frame that ``data`` is. Raises :class:`~fabrik_sync.Malformed`."""
    if len(data) > bytes_max:
        limit = "frame_bytes" if bytes_max >= FRAME_BYTES_MAX else "handshake_frame_bytes"
        raise Malformed(f"a frame of {len(data)} bytes, {bytes_max} are allowed", limit)
    if len(data) > CONTROL_FRAME_BYTES_MAX and not data.startswith(_SEGMENT_BEGINS):
        raise Malformed(f"a frame of {len(data)} bytes that is no segment, {CONTROL_FRAME_BYTES_MAX} are allowed", "control_frame_bytes")
    match decode(data):
        case [int(kind), *fields] if not isinstance(kind, bool):
            parse = _PARSERS.get(kind)
            return Unknown(kind) if parse is None else parse(_Fields(kind, fields))
        case _:
            raise Malformed("not a frame: no array that starts with a type")


class _Fields:
    """The fields of one frame, taken in order, each checked for type and range."""

    def __init__(self, kind: int, items: list[Item]) -> None:
        self._kind = kind
        self._items = items
        self._at = 0

    def _fail(self, what: str, limit: str = "") -> Malformed:
        return Malformed(f"frame type {self._kind}, field {self._at}: {what}", limit)

    def _next(self) -> Item:
        if self._at >= len(self._items):
            raise self._fail("missing")
        self._at += 1
        return self._items[self._at - 1]

    def uint(self, low: int = 0, high: int = _U64) -> int:
        item = self._next()
        if not isinstance(item, int) or isinstance(item, bool) or not low <= item <= high:
            raise self._fail(f"not an integer in {low}..{high}")
        return item

    def flag(self) -> bool:
        item = self._next()
        if not isinstance(item, bool):
            raise self._fail("not a boolean")
        return item

    def blob(self, low: int, high: int, limit: str = "") -> bytes:
        item = self._next()
        if not isinstance(item, bytes) or not low <= len(item) <= high:
            raise self._fail(f"not a byte string of {low}..{high} bytes", limit if isinstance(item, bytes) and len(item) > high else "")
        return item

    def later_blob(self, size: int) -> bytes:
        """A field that came later: of another type or length it is as if it was not there."""
        item = self._next() if self.more() else b""
        return item if isinstance(item, bytes) and len(item) == size else b""

    def text(self, high: int) -> str:
        item = self._next()
        if not isinstance(item, str) or len(item.encode()) > high:
            raise self._fail(f"not a text of at most {high} bytes")
        return item

    def rows(self, low: int, high: int, limit: str = "") -> list[_Fields]:
        item = self._next()
        if not isinstance(item, list) or not low <= len(item) <= high:
            raise self._fail(f"not an array of {low}..{high} elements", limit if isinstance(item, list) and len(item) > high else "")
        rows = [_Fields(self._kind, element) for element in item if isinstance(element, list)]
        if len(rows) != len(item):
            raise self._fail("an element is not an array")
        return rows

    def marks(self, low: int, high: int, size: int, limit: str) -> list[tuple[int, bytes]]:
        """An array of ``[sequence number, so many bytes]``."""
        item = self._next()
        if not isinstance(item, list) or not low <= len(item) <= high:
            raise self._fail(f"not an array of {low}..{high} elements", limit if isinstance(item, list) and len(item) > high else "")
        found: list[tuple[int, bytes]] = []
        for part in item:
            match part:
                case [int(seq), bytes(mark)] if len(mark) == size and 1 <= seq <= _SEQ_MAX and seq is not True:
                    found.append((seq, mark))
                case list():
                    row = _Fields(self._kind, part)
                    row.uint(1, _SEQ_MAX)
                    row.blob(size, size)
                    row.end()
                case _:
                    raise self._fail("an element is not an array")
        return found

    def uints(self, count_max: int, high: int) -> tuple[int, ...]:
        item = self._next()
        if not isinstance(item, list) or not 1 <= len(item) <= count_max:
            raise self._fail(f"not an array of 1..{count_max} elements")
        row = _Fields(self._kind, item)
        return tuple(row.uint(1, high) for _ in item)

    def log(self) -> LogId:
        return LogId(self.blob(32, 32), self.uint(1, _EPOCH_MAX))

    def more(self) -> bool:
        """True while a field is left."""
        return self._at < len(self._items)

    def end(self) -> None:
        if self._at != len(self._items):
            raise self._fail("more fields than the frame has")


def _hello(f: _Fields) -> Hello:
    return Hello(f.uints(16, 65_535), f.blob(32, 32), f.blob(32, 32), f.blob(32, 32), f.uint(SEGMENT_BYTES_MAX), f.blob(0, 64), f.later_blob(32))


def _answer(f: _Fields) -> Answer:
    return Answer(f.uint(1, 65_535), f.blob(32, 32), f.blob(32, 32), f.blob(32, 32), f.uint(SEGMENT_BYTES_MAX), f.blob(64, 64))


def _auth(f: _Fields) -> Auth:
    signature, proof = f.blob(64, 64), f.blob(0, 32)
    if len(proof) not in (0, 32):
        raise Malformed("frame type 3, field 2: a proof has 0 or 32 bytes")
    return Auth(signature, proof)


def _close(f: _Fields) -> Close:
    code, hint = f.text(64), f.text(1_024)
    if not code or not CODE_CHARS.issuperset(code):
        raise Malformed("frame type 5, field 1: a code has lower-case letters, digits and underscores")
    # The hint is shown on the operator's terminal: nothing in it may move a cursor or start a line.
    return Close(code, "".join(char if char.isprintable() else " " for char in hint))


def _heads(f: _Fields) -> HeadsFrame:
    more = f.flag()
    logs: list[tuple[LogId, Heads]] = []
    for row in f.rows(0, 4_096):
        log = row.log()
        heads = [Head(seq, h) for seq, h in row.marks(1, HEADS_PER_LOG_MAX, 32, "heads_per_log")]
        row.end()
        if any(left >= right for left, right in itertools.pairwise(heads)):
            raise Malformed("frame type 7: heads of a log are not in rising order")
        if len(heads) > 1 and any(map(is_marker, heads)):
            raise Malformed("frame type 7: a marker stands beside other heads")
        logs.append((log, tuple(heads)))
    return HeadsFrame(more, tuple(logs))


def _want(f: _Fields) -> Want:
    logs = []
    for row in f.rows(1, 4_096):
        log, after = row.log(), row.uint(0, _SEQ_MAX)
        logs.append(Wanted(log, after, _places(row) if row.more() else None))
        row.end()
    return Want(tuple(logs))


def _places(f: _Fields) -> tuple[Place, ...]:
    return tuple(f.marks(0, PLACES_MAX, MARK_BYTES, "places"))


def _segment(f: _Fields) -> Segment:
    log, first, last, data = f.log(), f.uint(1, _SEQ_MAX), f.uint(1, _SEQ_MAX), f.blob(1, SEGMENT_BYTES_MAX, "segment_bytes")
    if last < first:
        raise Malformed("frame type 10: the last sequence number is below the first")
    return Segment(log, first, last, data)


def _strict(parse: Callable[[_Fields], Frame]) -> Callable[[_Fields], Frame]:
    def parse_all(f: _Fields) -> Frame:
        frame = parse(f)
        f.end()
        return frame

    return parse_all


_PARSERS: dict[int, Callable[[_Fields], Frame]] = {
    FrameType.HELLO: _hello,  # not strict: a newer initiator may say more
    FrameType.ANSWER: _strict(_answer),
    FrameType.AUTH: _strict(_auth),
    FrameType.READY: _strict(lambda f: Ready(f.blob(0, WELCOME_BYTES_MAX, "welcome_bytes"))),
    FrameType.CLOSE: _strict(_close),
    FrameType.FRONTIER: _strict(lambda f: FrontierFrame(f.blob(32, 32), f.blob(BUCKETS * BUCKET_BYTES, BUCKETS * BUCKET_BYTES))),
    FrameType.HEADS: _strict(_heads),
    FrameType.WANT: _strict(_want),
    FrameType.STOP: _strict(lambda f: Stop(f.log())),
    FrameType.SEGMENT: _strict(_segment),
    FrameType.ACK: _strict(lambda f: Ack(f.uint())),
    FrameType.EPHEMERAL: _strict(lambda f: Ephemeral(f.blob(32, 32), f.uint(), f.blob(0, EPHEMERAL_BYTES_MAX, "ephemeral_bytes"))),
    FrameType.PING: _strict(lambda f: Ping(f.uint())),
    FrameType.PONG: _strict(lambda f: Pong(f.uint())),
}
