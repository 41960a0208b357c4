"""Deterministic CBOR: the core and the twin encode alike and refuse alike, whatever the bytes."""

from __future__ import annotations

from typing import Any

import pytest
from fabrik_twin import cbor
from hypothesis import example, given
from hypothesis import strategies as st

from fabrik_node import _core
from fabrik_node.errors import InvalidOp

integers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([2**53 + 1, -(2**53) - 1, 2**63, 2**64 - 1, -(2**63)])
scalars = st.none() | st.booleans() | integers | st.binary(max_size=40) | st.text(max_size=40)
keys = integers | st.binary(max_size=8) | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20)


def rust(data: bytes) -> tuple[str, Any]:
    try:
        return "ok", _core.cbor_decode(data)
    except InvalidOp as error:
        return error.code, None


def twin(data: bytes) -> tuple[str, Any]:
    try:
        return "ok", cbor.plain(cbor.decode(data))
    except cbor.Refused as error:
        return error.verdict, None


@pytest.mark.promise("E27", "I3")
@given(values)
@example(2**53 + 1)
@example(2**64 - 1)
@example(-(2**63))
def test_values_round_trip(value: Any) -> None:
    data = _core.cbor_encode(value)
    assert data == cbor.encode(value)
    assert _core.cbor_decode(data) == value
    assert repr(_core.cbor_decode(data)) == repr(cbor.plain(cbor.decode(data)))


@pytest.mark.promise("E27")
@given(st.integers(min_value=2**64) | st.integers(max_value=-(2**63) - 1))
def test_integers_beyond_are_refused_not_wrapped(number: int) -> None:
    for value in (number, [number], {"n": number}, {number: 1}):
        with pytest.raises(InvalidOp):
            _core.cbor_encode(value)


@pytest.mark.promise("I3", "I11")
@given(st.binary(max_size=40))
def test_random_bytes(data: bytes) -> None:
    assert rust(data) == twin(data)


@pytest.mark.promise("I3", "I11")
@given(values, st.data())
def test_damaged_encodings(value: Any, data: st.DataObject) -> None:
    good = cbor.encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    replaced = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + data.draw(st.integers(0, 2)) :]
    assert rust(replaced) == twin(replaced)
