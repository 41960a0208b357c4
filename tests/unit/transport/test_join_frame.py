"""The join frame and the refusal record: every byte counts, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.transport.join_frame import (
    JOIN_BYTES,
    REFUSAL_MAGIC,
    BadFrame,
    Refusal,
    decode_join,
    decode_refusal,
    encode_join,
    encode_refusal,
    proves,
)

TOKEN, KEY, NONCE, SECRET, CERT = b"t" * 16, b"k" * 32, b"n" * 16, b"s" * 32, b"c" * 32
FRAME = encode_join(TOKEN, KEY, NONCE, SECRET, CERT)


def test_a_join_frame_has_one_size_and_says_who_and_which() -> None:
    assert len(FRAME) == JOIN_BYTES == 104
    frame = decode_join(FRAME)
    assert (frame.token_id, frame.key) == (TOKEN, KEY)
    assert proves(frame, SECRET, CERT)
    assert SECRET not in FRAME


@pytest.mark.promise("F6")
def test_a_join_frame_is_bound_to_all_that_it_says() -> None:
    for place in range(JOIN_BYTES):
        changed = bytearray(FRAME)
        changed[place] ^= 1
        try:
            frame = decode_join(bytes(changed))
        except BadFrame:
            assert place < 8, "magic and version"
        else:
            assert not proves(frame, SECRET, CERT)
    assert not proves(decode_join(FRAME), b"S" * 32, CERT)
    assert not proves(decode_join(FRAME), SECRET, b"C" * 32)


@pytest.mark.parametrize("frame", [b"", FRAME[:-1], FRAME + b"x", bytes(JOIN_BYTES)])
def test_what_is_no_join_frame(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_join(frame)


def test_parts_of_a_wrong_size_are_not_sent() -> None:
    for parts in ((b"t", KEY, NONCE, CERT), (TOKEN, b"k", NONCE, CERT), (TOKEN, KEY, b"n", CERT), (TOKEN, KEY, NONCE, b"")):
        with pytest.raises(ValueError, match="bytes"):
            encode_join(parts[0], parts[1], parts[2], SECRET, parts[3])


@given(st.from_regex("[a-z0-9_]{1,64}", fullmatch=True), st.text(max_size=1_000))
def test_a_refusal_arrives_cut_to_its_limit(code: str, hint: str) -> None:
    record = encode_refusal(Refusal(code, hint))
    assert len(record) <= 512
    assert record[:1] != b"H", "nobody takes it for HTTP"
    read = decode_refusal(record)
    assert read is not None
    assert read.code == code
    shown = "".join(char if char.isprintable() else " " for char in hint)
    assert shown.startswith(read.hint)
    assert len(hint.encode()) > 400 or read.hint == shown
    for cut in range(len(record)):
        assert decode_refusal(record[:cut]) is None


@given(st.binary(max_size=600))
def test_rubbish_is_no_refusal(data: bytes) -> None:
    for bad in (b"H" + data, REFUSAL_MAGIC + b"\xff\xff" + data):
        with pytest.raises(BadFrame):
            decode_refusal(bad)
    try:
        read = decode_refusal(REFUSAL_MAGIC + data)
    except BadFrame:
        return
    assert read is None or (read.hint.isprintable() and read.code.isascii())


def test_a_refusal_can_not_move_the_cursor() -> None:
    text = b"revoked\0\x1b[2Jgo\naway"
    assert decode_refusal(REFUSAL_MAGIC + len(text).to_bytes(2, "big") + text) == Refusal("revoked", " [2Jgo away")
    for code in (b"", b"two words", b"x" * 65, "naïve".encode()):
        text = code + b"\0hint"
        with pytest.raises(BadFrame):
            decode_refusal(REFUSAL_MAGIC + len(text).to_bytes(2, "big") + text)
