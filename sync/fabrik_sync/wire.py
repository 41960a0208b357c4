"""Deterministic CBOR, the small part that frames need: unsigned integers, byte and text strings, arrays, booleans.

RFC 8949 section 4.2.1: shortest forms and definite lengths only, so one item has exactly one encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

__all__ = ["DEPTH_MAX", "ITEMS_MAX", "Item", "Malformed", "decode", "encode"]

Item: TypeAlias = "int | bytes | str | bool | Sequence[Item]"

DEPTH_MAX: Final = 5
"""Arrays inside arrays. A WANT with places needs them all."""

ITEMS_MAX: Final = 16_384
"""Items in all arrays together. The fullest frame that a session sends has 10,000; each costs its reader a microsecond."""

_UINT, _BYTES, _TEXT, _ARRAY = 0, 2, 3, 4
_FALSE, _TRUE = 0xF4, 0xF5
_BYTES_1, _OTHER = 0x58, 0xFF


class Malformed(Exception):
    """Bytes that are not one canonical item of this subset, or not the frame that they claim to be. The peer's fault. ``limit`` names what was too large."""

    def __init__(self, what: str, limit: str = "") -> None:
        super().__init__(what)
        self.limit = limit


def encode(item: Item) -> bytes:
    """The one encoding of ``item``. Raises ValueError for what the subset has no place for."""
    parts: list[bytes] = []
    _encode(item, parts)
    return b"".join(parts)


def decode(data: bytes) -> Item:
    """The one item that ``data`` is. Raises :class:`Malformed` for anything else, trailing bytes included."""
    item, end = _decode(data, 0, 0, [ITEMS_MAX])
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes after the item")
    return item


def _encode(item: Item, parts: list[bytes]) -> None:
    if isinstance(item, bool):
        parts.append(b"\xf5" if item else b"\xf4")
    elif isinstance(item, int):
        parts.append(_head(_UINT, item))
    elif isinstance(item, bytes):
        parts += (_head(_BYTES, len(item)), item)
    elif isinstance(item, str):
        raw = item.encode()
        parts += (_head(_TEXT, len(raw)), raw)
    else:
        parts.append(_head(_ARRAY, len(item)))
        for element in item:
            _encode(element, parts)


def _head(major: int, n: int) -> bytes:
    if 0 <= n < 24:
        return bytes((major << 5 | n,))
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if 0 <= n < 1 << (8 * size):
            return bytes((major << 5 | info,)) + n.to_bytes(size, "big")
    raise ValueError(f"{n} is not an unsigned 64-bit integer")


def _decode(data: bytes, at: int, depth: int, left: list[int]) -> tuple[Item, int]:
    if at >= len(data):
        raise Malformed("the item ends too early")
    first = data[at]
    at += 1
    if first in (_FALSE, _TRUE):
        return first == _TRUE, at
    major, info = first >> 5, first & 31
    if info < 24:
        n = info
    elif info <= 27:
        size = 1 << (info - 24)
        if at + size > len(data):
            raise Malformed("the item ends too early")
        n = int.from_bytes(data[at : at + size], "big")
        at += size
        if n < 24 or (size > 1 and n < 1 << (4 * size)):
            raise Malformed("an integer or length is not in its shortest form")
    else:
        raise Malformed(f"initial byte {first:#04x} has no place here")
    if major == _UINT:
        return n, at
    if major in (_BYTES, _TEXT):
        end = at + n
        if end > len(data):
            raise Malformed("a string is longer than the data")
        raw = data[at:end]
        if major == _BYTES:
            return raw, end
        try:
            return raw.decode(), end
        except UnicodeDecodeError:
            raise Malformed("a text is not UTF-8") from None
    if major == _ARRAY:
        if depth >= DEPTH_MAX:
            raise Malformed("arrays are nested too deep")
        if n > len(data) - at:
            raise Malformed("an array is longer than the data")
        left[0] -= n
        if left[0] < 0:
            raise Malformed(f"more than {ITEMS_MAX} items", "frame_items")
        items: list[Item] = []
        whole = len(data)
        for _ in range(n):
            head = data[at] if at < whole else _OTHER
            if head < 24:  # a small number, and below a short byte string: most of what a large frame is made of, without a call for each
                items.append(head)
                at += 1
            elif head == _BYTES_1 and at + 1 < whole and 24 <= data[at + 1] <= whole - at - 2:
                end = at + 2 + data[at + 1]
                items.append(data[at + 2 : end])
                at = end
            else:
                item, at = _decode(data, at, depth + 1, left)
                items.append(item)
        return items, at
    raise Malformed(f"initial byte {first:#04x} has no place here")
