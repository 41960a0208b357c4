"""The knock and the welcome: signed by the key that it names, for one server, of one size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node._core import SigningKey
from fabrik_node.transport.join_frame import BadFrame
from fabrik_node.transport.knock_frame import KNOCK_BYTES, WELCOME_MAGIC, Knock, decode_knock, encode_knock, encode_welcome, welcome_in

KEY = SigningKey.from_seed(b"\x31" * 32)
NEXT, NONCE, CERT = b"x" * 32, b"n" * 16, b"c" * 32
FRAME = encode_knock(KEY.public, NEXT, "ada", NONCE, CERT, KEY.sign)


def signed(name: bytes) -> bytes:
    """A frame whose name field is these bytes."""
    body = FRAME[:72] + name + FRAME[136:152]
    return body + KEY.sign(b"fabrik/v1/gate knock\0" + CERT + body)


def test_a_knock_says_who_and_how_it_calls_itself() -> None:
    assert len(FRAME) == KNOCK_BYTES == 216
    assert decode_knock(FRAME, CERT) == Knock(KEY.public, NEXT, "ada")
    assert decode_knock(encode_knock(KEY.public, b"", "", NONCE, CERT, KEY.sign), CERT) == Knock(KEY.public, b"", "")


@pytest.mark.promise("I19")
def test_every_byte_of_a_knock_is_signed_and_it_is_for_one_server() -> None:
    for place in range(KNOCK_BYTES):
        changed = bytearray(FRAME)
        changed[place] ^= 1
        with pytest.raises(BadFrame):
            decode_knock(bytes(changed), CERT)
    with pytest.raises(BadFrame, match="for another node"):
        decode_knock(FRAME, b"C" * 32)
    other = SigningKey.from_seed(b"\x32" * 32)
    with pytest.raises(BadFrame, match="not signed by its key"):
        decode_knock(encode_knock(KEY.public, NEXT, "ada", NONCE, CERT, other.sign), CERT)


@pytest.mark.parametrize("frame", [b"", FRAME[:-1], FRAME + b"x", bytes(KNOCK_BYTES), FRAME[:7] + b"\x02" + FRAME[8:]])
def test_what_is_no_knock(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_knock(frame, CERT)


def test_a_name_is_text_that_can_be_shown() -> None:
    assert decode_knock(signed(b"\x1b[31mroot\n".ljust(64, b"\0")), CERT).name == "[31mroot"
    with pytest.raises(BadFrame, match="no text"):
        decode_knock(signed(b"\xff" * 64), CERT)
    assert decode_knock(encode_knock(KEY.public, b"", "\N{SNOWMAN}" * 40, NONCE, CERT, KEY.sign), CERT).name == "\N{SNOWMAN}" * 21, "cut between characters"


def test_parts_of_a_wrong_size_are_not_sent() -> None:
    for parts in ((b"k", NEXT, NONCE, CERT), (KEY.public, b"x", NONCE, CERT), (KEY.public, NEXT, b"n", CERT), (KEY.public, NEXT, NONCE, b"")):
        with pytest.raises(ValueError, match="bytes"):
            encode_knock(parts[0], parts[1], "ada", parts[2], parts[3], KEY.sign)


@given(st.binary(min_size=1, max_size=4_096), st.integers(0, 4_200))
def test_a_welcome_comes_in_any_pieces(genesis: bytes, cut: int) -> None:
    data = encode_welcome(genesis)
    assert welcome_in(data) == welcome_in(data + b"more") == genesis
    assert cut >= len(data) or welcome_in(data[:cut]) is None


@pytest.mark.parametrize("data", [b"H", b"FABRIKR\x01", WELCOME_MAGIC + b"\0\0", WELCOME_MAGIC + b"\xff\xff"])
def test_what_is_no_welcome(data: bytes) -> None:
    with pytest.raises(BadFrame):
        welcome_in(data)
