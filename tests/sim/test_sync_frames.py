"""Bytes to frames and back: one encoding each, everything else refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabrik_sync import FRAME_BYTES_MAX, MARKER, SEGMENT_BYTES_MAX, Head, LogId, Malformed
from fabrik_sync.frames import Ack, Answer, Auth, Close, Ephemeral, FrontierFrame, HeadsFrame, Hello, Ping, Pong, Ready, Segment, Stop, Unknown, Want, Wanted
from fabrik_sync.limits import CONTROL_FRAME_BYTES_MAX
from fabrik_sync.parsing import decode_frame
from fabrik_sync.wire import ITEMS_MAX, decode, encode

LOG = LogId(b"a" * 32, 7)
FRAMES = [
    Hello((1, 2), b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20, b"token"),
    Answer(1, b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20, b"s" * 64),
    Auth(b"s" * 64),
    Auth(b"s" * 64, b"p" * 32),
    Ready(b"welcome"),
    Close("wrong_mesh", "Grüße"),
    FrontierFrame(b"d" * 32, b"b" * 256),
    HeadsFrame(more=True, logs=((LOG, (Head(1, b"h" * 32), Head(1 << 53, b"i" * 32))),)),
    HeadsFrame(more=False, logs=()),
    Want((Wanted(LOG, 0), Wanted(LOG, 1 << 53), Wanted(LOG, 7, ()), Wanted(LOG, 7, ((1 << 53, b"m" * 16), (1, b"n" * 16))))),
    HeadsFrame(more=False, logs=((LOG, (MARKER,)),)),
    Stop(LOG),
    Segment(LOG, 1, 1 << 53, b"x" * SEGMENT_BYTES_MAX),
    Ack((1 << 64) - 1),
    Ephemeral(b"a" * 32, 3, b""),
    Ping(0),
    Pong(23),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_survives_the_wire(frame: Any) -> None:
    data = frame.encode()
    assert decode_frame(data) == frame
    assert len(data) <= FRAME_BYTES_MAX


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_every_shorter_and_longer_form_is_refused(frame: Any) -> None:
    data = frame.encode()
    for cut in sorted({*range(min(len(data), 200)), len(data) - 1}):
        with pytest.raises(Malformed):
            decode_frame(data[:cut])
    with pytest.raises(Malformed):
        decode_frame(data + b"\x00")
    if not isinstance(frame, Hello):
        fields: Any = decode(data)
        with pytest.raises(Malformed):
            decode_frame(encode([*fields, 0]))


def test_a_want_without_places_has_the_bytes_that_it_always_had() -> None:
    assert Want((Wanted(LOG, 300), Wanted(LOG, 0))).encode() == encode([8, [[LOG.author, LOG.epoch, 300], [LOG.author, LOG.epoch, 0]]])
    assert Want((Wanted(LogId(b"\1" * 32, 2), 3),)).encode().hex() == "8208818358" + "20" + "01" * 32 + "0203"
    assert len(Want((Wanted(LOG, 1 << 53, tuple((1 << 53, b"m" * 16) for _ in range(1_024))),)).encode()) < 65_536, "one log of any length fits"


def test_a_header_stays_small() -> None:
    frame = Segment(LogId(b"\xff" * 32, (1 << 53) - 1), 1 << 53, 1 << 53, bytes(SEGMENT_BYTES_MAX))
    assert len(frame.encode()) - SEGMENT_BYTES_MAX < 80


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x80",
        b"\x81\xf5",  # a boolean for a type
        b"\x81\x20",  # a negative number
        b"\x82\x0d\x18\x17",  # 23 in two bytes
        b"\x82\x0d\x19\x00\xff",  # 255 in three bytes
        b"\x82\x0d\x1b\x00\x00\x00\x00\xff\xff\xff\xff",  # 2^32 - 1 in nine bytes
        b"\x9f\x0d\x00\xff",  # an indefinite array
        b"\x82\x0d\xfb\x00\x00\x00\x00\x00\x00\x00\x00",  # a float
        b"\x82\x0d\xf6",  # null
        b"\x82\x0d\xc0\x00",  # a tag
        b"\x82\x0d\xa0",  # a map
        b"\x83\x05\x62\xff\xfe\x60",  # a text that is not UTF-8
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # an array of 2^64 - 1
        b"\x81" * 50 + b"\x00",  # nested
        bytes(FRAME_BYTES_MAX + 1),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_bytes_that_are_no_frame(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_frame(data)


@pytest.mark.parametrize(
    "fields",
    [
        [1, [], b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20, b""],
        [1, [[1]], b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20, b""],
        [1, [0], b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20, b""],
        [1, [1], b"m" * 31, b"k" * 32, b"n" * 32, 1 << 20, b""],
        [1, [1], b"m" * 32, b"k" * 32, b"n" * 32, SEGMENT_BYTES_MAX - 1, b""],
        [1, [1], b"m" * 32, b"k" * 32, b"n" * 32, 1 << 20, b"t" * 65],
        [3, b"s" * 64, b"p"],
        [5, "", "no code"],
        [5, "Upper", ""],
        [5, "c" * 65, ""],
        [5, "code", "h" * 1_025],
        [7, 1, []],
        [7, False, [[b"a" * 32, 0, [[1, b"h" * 32]]]]],
        [7, False, [[b"a" * 32, 1, []]]],
        [7, False, [[b"a" * 32, 1, [[0, b"h" * 32]]]]],
        [7, False, [[b"a" * 32, 1, [[2, b"h" * 32], [1, b"h" * 32]]]]],
        [7, False, [[b"a" * 32, 1, [[1, b"h" * 32], [1, b"h" * 32]]]]],
        [7, False, [[b"a" * 32, 1, [[n, b"h" * 32] for n in range(1, 66)]]]],
        [7, False, [1]],
        [7, False, [[b"a" * 32, 1, [[1, b"h" * 32], [1 << 53, bytes(32)]]]]],
        [7, False, [[b"a" * 32, 1, [[1, b"h" * 32], [(1 << 53) - 1, b"h" * 32]]]]],
        [7, False, [[b"a" * 32, 1, [[(1 << 53) - 1, b"h" * 32], [1 << 53, b"h" * 32]]]]],
        [8, []],
        [8, [[b"a" * 32, 1, 1, [], []]]],
        [8, [[b"a" * 32, 1, 1, 1]]],
        [8, [[b"a" * 32, 1, 1, [[1, b"m" * 15]]]]],
        [8, [[b"a" * 32, 1, 1, [[0, b"m" * 16]]]]],
        [8, [[b"a" * 32, 1, 1, [[1, b"m" * 16, 1]]]]],
        [8, [[b"a" * 32, 1, 1, [[n, b"m" * 16] for n in range(1, 1_026)]]]],
        [8, [[b"a" * 32, 1, (1 << 53) + 1]]],
        [10, b"a" * 32, 1, 2, 1, b"x"],
        [10, b"a" * 32, 1, 0, 1, b"x"],
        [10, b"a" * 32, 1 << 53, 1, 1, b"x"],
        [10, b"a" * 32, 1, 1, 1, b""],
        [10, b"a" * 32, 1, 1, 1, "text"],
        [12, b"a" * 32, 1, b"x" * 16_385],
        [13, True],
    ],
    ids=str,
)
def test_fields_out_of_their_range(fields: Any) -> None:
    with pytest.raises(Malformed):
        decode_frame(encode(fields))


def test_unknown_types_are_told_apart_from_faults() -> None:
    assert decode_frame(encode([15, b"new", [True, "x"]])) == Unknown(15)
    assert decode_frame(encode([1 << 63])) == Unknown(1 << 63)


def test_what_can_not_be_encoded_is_a_fault_of_the_caller() -> None:
    for number in (-1, 1 << 64):
        with pytest.raises(ValueError, match="unsigned"):
            encode(number)


items = st.recursive(
    st.one_of(st.integers(0, (1 << 64) - 1), st.binary(max_size=300), st.text(max_size=30), st.booleans()),
    lambda inner: st.lists(inner, max_size=30),
    max_leaves=40,
)


def depth(item: Any) -> int:
    return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0


@given(items.filter(lambda item: depth(item) <= 5))
def test_an_item_has_one_encoding(item: Any) -> None:
    data = encode(item)
    assert decode(data) == item
    assert encode(decode(data)) == data


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_what_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        item = decode(data)
    except Malformed:
        return
    assert encode(item) == data


@settings(max_examples=500)
@given(st.sampled_from(FRAMES), st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_gives_a_frame_or_a_refusal_never_another_error(frame: Any, at: int, value: int) -> None:
    data = bytearray(frame.encode())
    data[at % len(data)] = value
    try:
        other = decode_frame(bytes(data))
    except Malformed:
        return
    if not isinstance(other, Unknown | Close | Hello):
        assert other.encode() == bytes(data)


def test_the_items_of_a_frame_are_bounded() -> None:
    def frame(count: int) -> bytes:
        return encode([99, [0] * count])

    assert decode_frame(frame(ITEMS_MAX - 2)) == Unknown(99)
    with pytest.raises(Malformed, match="items"):
        decode_frame(frame(ITEMS_MAX - 1))


def test_only_a_segment_is_large() -> None:
    """What a session sends fits: the fullest WANT and HEADS are cut to 64 KiB by the sender."""
    large = Segment(LOG, 1, 1, bytes(SEGMENT_BYTES_MAX)).encode()
    assert decode_frame(large) == Segment(LOG, 1, 1, bytes(SEGMENT_BYTES_MAX))
    fits = encode([99, bytes(CONTROL_FRAME_BYTES_MAX - 8)])
    assert len(fits) == CONTROL_FRAME_BYTES_MAX
    assert decode_frame(fits) == Unknown(99)
    with pytest.raises(Malformed, match="no segment"):
        decode_frame(encode([99, bytes(CONTROL_FRAME_BYTES_MAX - 7)]))
