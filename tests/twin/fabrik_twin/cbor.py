"""Deterministic CBOR (RFC 8949 section 4.2.1) as ``op.cddl`` restricts it.

Strictness is had the plain way: parse, encode again, compare. What does not come out as the same bytes is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

DEPTH_MAX = 16
"""Arrays and maps inside each other, the outermost included (op.cddl)."""
INT_MIN = -(2**63)
INT_MAX = 2**64 - 1

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)


class Refused(Exception):
    """The bytes are not what the specification allows. ``verdict`` is the code of the product's error class."""

    verdict = "invalid_op"


class Map(Mapping[Any, Any]):
    """A decoded map, in the order of its encoding."""

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self.pairs = pairs
        self._values = dict(pairs)

    def __getitem__(self, key: Any) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[Any]:
        return iter([key for key, _ in self.pairs])

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"Map({self.pairs!r})"


def pairs_of(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Keys and values of a dict or of a :class:`Map`, in its order."""
    return value.pairs if isinstance(value, Map) else list(value.items())


def is_label(key: Any) -> bool:
    """What may be a map key: integers, byte strings and text."""
    return isinstance(key, (int, bytes, str)) and not isinstance(key, bool)


def encode(value: Any, depth: int = 0) -> bytes:
    """The one canonical encoding. Raises :class:`Refused` for what the format has no place for."""
    if value is None:
        return b"\xf6"
    if value is True:
        return b"\xf5"
    if value is False:
        return b"\xf4"
    if isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            raise Refused(f"integer out of range: {value}")
        return _head(UINT, value) if value >= 0 else _head(NINT, -1 - value)
    if isinstance(value, bytes):
        return _head(BYTES, len(value)) + value
    if isinstance(value, str):
        try:
            text = value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Refused("text is not valid Unicode") from error
        return _head(TEXT, len(text)) + text
    if isinstance(value, (list, tuple, Mapping)):
        if depth == DEPTH_MAX:
            raise Refused("nested too deep")
        if isinstance(value, Mapping):
            if not all(is_label(key) for key, _ in pairs_of(value)):
                raise Refused("a map key that is not an integer, bytes or text")
            pairs = sorted((encode(key, depth + 1), encode(item, depth + 1)) for key, item in pairs_of(value))
            return _head(MAP, len(pairs)) + b"".join(key + item for key, item in pairs)
        return _head(ARRAY, len(value)) + b"".join(encode(item, depth + 1) for item in value)
    raise Refused(f"no place for {type(value).__name__}")


def decode(data: bytes) -> Any:
    """The value of exactly one canonical item; maps as :class:`Map`, arrays as lists. Raises :class:`Refused`."""
    value, end = _item(data, 0, 0)
    if end != len(data):
        raise Refused("bytes after the item")
    if encode(value) != data:
        raise Refused("not the canonical encoding")
    return value


def plain(value: Any) -> Any:
    """``value`` with dicts for maps, as the product shows it."""
    if isinstance(value, Map):
        return {key: plain(item) for key, item in value.pairs}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def diagnostic(value: Any) -> str:
    """RFC 8949 section 8, for people who read a vector."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(diagnostic(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{diagnostic(key)}: {diagnostic(item)}" for key, item in pairs_of(value)) + "}"
    return str(value)


def _head(major: int, number: int) -> bytes:
    for width, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << 8 * width:
            return bytes([major << 5 | code]) + number.to_bytes(width, "big")
    raise Refused(f"length or integer out of range: {number}")


def _take(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    if at + count > len(data):
        raise Refused("bytes end inside the item")
    return data[at : at + count], at + count


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    first, at = _take(data, at, 1)
    major, info = first[0] >> 5, first[0] & 31
    if major == SIMPLE:
        if info not in (20, 21, 22):
            raise Refused("floats and simple values other than false, true and null")
        return {20: False, 21: True, 22: None}[info], at
    if major == TAG:
        raise Refused("tags")
    if info > 27:
        raise Refused("indefinite or reserved length")
    number = info
    if info > 23:
        raw, at = _take(data, at, 1 << info - 24)
        number = int.from_bytes(raw, "big")
    if major == UINT:
        return number, at
    if major == NINT:
        return -1 - number, at
    if major == BYTES:
        return _take(data, at, number)
    if major == TEXT:
        raw, at = _take(data, at, number)
        try:
            return raw.decode("utf-8"), at
        except UnicodeDecodeError as error:
            raise Refused("text is not UTF-8") from error
    if depth == DEPTH_MAX:
        raise Refused("nested too deep")
    items: list[Any] = []
    for _ in range(number if major == ARRAY else 2 * number):
        item, at = _item(data, at, depth + 1)
        items.append(item)
    if major == ARRAY:
        return items, at
    if not all(is_label(key) for key in items[::2]):
        raise Refused("a map key that is not an integer, bytes or text")
    keys = [encode(key) for key in items[::2]]
    if len(set(keys)) != len(keys):
        raise Refused("a map key twice")
    return Map(list(zip(items[::2], items[1::2], strict=True))), at
