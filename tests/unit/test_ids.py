"""Ids as bytes and as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.errors import Conflict, NotFound
from fabrik_node.ids import PREFIX_CHARS_MIN, matching, new_id, parse_id, resolve, show_id, show_key


@given(st.binary(min_size=16, max_size=16))
def test_an_id_survives_being_shown(raw: bytes) -> None:
    text = show_id(raw)
    assert len(text) == 26
    assert text == text.lower()
    assert parse_id(text) == parse_id(text.upper()) == raw


@given(st.text(max_size=30))
def test_what_is_no_id_is_none(text: str) -> None:
    found = parse_id(text)
    assert found is None or parse_id(show_id(found)) == found


def test_look_alikes_are_read_and_overflow_is_not() -> None:
    assert parse_id("0" * 25 + "l") == parse_id("0" * 25 + "I") == parse_id("o" * 25 + "1") == bytes(15) + b"\x01"
    assert parse_id("7" + "z" * 25) == b"\xff" * 16
    assert parse_id("8" + "0" * 25) is None
    assert parse_id("u" * 26) is None


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    found = [new_id(wall_ms) for wall_ms in range(1_000)]
    assert sorted(found) == found
    assert len({new_id(5) for _ in range(1_000)}) == 1_000
    assert new_id(2**60 + 7)[:6] == new_id(7)[:6], "beyond 48 bits the time wraps, and the id stays 16 bytes"
    assert show_key(b"\x00\xff") == "00ff"


def test_ids_are_chosen_by_their_bytes_as_by_their_text() -> None:
    known = [new_id(number * 2**30) for number in range(64)] + [bytes(16), b"\xff" * 16]
    for each in known:
        for chars in range(27):
            prefix = show_id(each)[:chars]
            assert matching(prefix.upper(), known) == [other for other in known if show_id(other).startswith(prefix)], prefix
    for never in ("u", "8", "zzzz", show_id(known[1]) + "0", "ab cd", "\u00fc"):
        assert matching(never, known) == [], never


def test_prefixes() -> None:
    known = ["abcd1", "abcd2", "xyz99"]
    assert resolve("xyz9", known, "item") == "xyz99"
    assert resolve("ABCD1", known, "item") == "abcd1"
    with pytest.raises(Conflict, match="abcd1, abcd2"):
        resolve("abcd", known, "item")
    with pytest.raises(NotFound, match=f"at least {PREFIX_CHARS_MIN}"):
        resolve("xyz", known, "item")
    with pytest.raises(NotFound, match="no run 'nothing'"):
        resolve("nothing", known, "run")
    with pytest.raises(Conflict, match=r"\.\.\."):
        resolve("same", [f"same{number}" for number in range(9)], "item")
    assert resolve("abc", ["abc"], "item") == "abc", "a whole id may be short"
