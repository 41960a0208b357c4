"""CBOR cases: values with their only encoding, and bytes that must be refused."""

from __future__ import annotations

from typing import Any

from fabrik_twin.cbor import decode, diagnostic, encode


def _nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


VALUES: list[tuple[str, Any]] = [
    *((f"integer {n}", n) for n in (0, 1, 10, 23, 24, 100, 255, 256, 1000, 65535, 65536, 1000000, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 1)),
    *((f"integer {n}", n) for n in (-1, -10, -24, -25, -100, -256, -257, -65536, -65537, -(2**32), -(2**32) - 1, -(2**53) - 1, -(2**63))),
    ("false", False),
    ("true", True),
    ("null", None),
    ("empty bytes", b""),
    ("bytes", bytes(range(24))),
    ("empty text", ""),
    ("text", "a"),
    ("text with escapes", '"\\'),
    ("text of two bytes", "ü"),
    ("text of three bytes", "水"),
    ("text beyond the basic plane", "𐅑"),
    ("text with NUL and byte order mark", "\x00﻿a"),
    ("text is not normalised", "é"),
    ("empty array", []),
    ("array", [1, [2, 3], [4, 5]]),
    ("array of 25", list(range(1, 26))),
    ("empty map", {}),
    ("map", {1: 2, 3: 4}),
    ("keys in bytewise order of their encoding, not by value", {10: 0, 100: 1, -1: 2, "z": 3, "aa": 4, b"\xff": 5}),
    ("shorter keys come first", {"b": 1, "aa": 2, "aaa": 3}),
    ("sixteen levels", _nested(16)),
    ("sixteen levels around a number", [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]),
    ("map in array in map", {"a": [{"b": {"c": [None, True, b"x"]}}]}),
]

REFUSED: list[tuple[str, str]] = [
    ("nothing", ""),
    ("zero in two bytes", "1800"),
    ("23 in two bytes", "1817"),
    ("255 in three bytes", "1900ff"),
    ("65535 in five bytes", "1a0000ffff"),
    ("2^32 - 1 in nine bytes", "1b00000000ffffffff"),
    ("-1 in two bytes", "3800"),
    ("-256 in three bytes", "3900ff"),
    ("below -2^63", "3b8000000000000000"),
    ("-2^64", "3bffffffffffffffff"),
    ("long length of bytes", "580161"),
    ("long length of text", "780161"),
    ("long length of an array", "980100"),
    ("long length of a map", "b8010000"),
    ("keys out of order", "a202000100"),
    ("text keys out of order", "a2626161006162 00"),
    ("negative key before a positive one", "a220000100"),
    ("key twice", "a201000100"),
    ("key twice with different values", "a2616100616101"),
    ("inner map out of order", "81a202000100"),
    ("false as a key", "a1f400"),
    ("null as a key", "a1f600"),
    ("array as a key", "a18000"),
    ("map as a key", "a1a000"),
    ("true as a key beside 1", "a20100f500"),
    ("float 0.0 (16)", "f90000"),
    ("float NaN (16)", "f97e00"),
    ("float 1.5 (32)", "fa3fc00000"),
    ("float 1.1 (64)", "fb3ff199999999999a"),
    ("undefined", "f7"),
    ("simple 0", "e0"),
    ("simple 19", "f3"),
    ("simple 32", "f820"),
    ("false in two bytes", "f814"),
    ("reserved simple 28", "fc"),
    ("tag 0", "c074323031332d30332d32315432303a30343a30305a"),
    ("tag 1", "c11a514b67b0"),
    ("big number tag", "c249010000000000000000"),
    ("tag inside an array", "81d8206161"),
    ("self-described CBOR", "d9d9f700"),
    ("indefinite bytes", "5f4161ff"),
    ("indefinite text", "7f6161ff"),
    ("indefinite array", "9f00ff"),
    ("indefinite map", "bf0000ff"),
    ("break alone", "ff"),
    ("reserved length 28", "1c"),
    ("reserved length 30 of bytes", "5e"),
    ("bytes after the item", "0000"),
    ("cut inside a head", "19ff"),
    ("cut inside bytes", "4261"),
    ("cut inside text", "6261"),
    ("cut inside an array", "820000"[:4]),
    ("cut inside a map", "a100"),
    ("length beyond any memory", "5bffffffffffffffff"),
    ("array length beyond any memory", "9bffffffffffffffff"),
    ("map length beyond any memory", "bbffffffffffffffff"),
    ("text that is not UTF-8", "61ff"),
    ("overlong UTF-8", "62c0af"),
    ("surrogate in UTF-8", "63eda080"),
    ("beyond U+10FFFF", "64f4908080"),
    ("UTF-8 cut", "61c3"),
    ("key that is not UTF-8", "a161ff00"),
    ("seventeen levels", "81" * 16 + "80"),
    ("seventeen levels of maps", "a100" * 16 + "a0"),
    ("a thousand levels", "81" * 1000 + "80"),
]


def cases() -> dict[str, Any]:
    """The content of ``cbor-v1.json``."""
    accepted = []
    for name, value in VALUES:
        data = encode(value)
        accepted.append({"name": name, "hex": data.hex(), "diagnostic": diagnostic(decode(data))})
    refused = [{"name": name, "hex": text.replace(" ", ""), "verdict": "invalid_op"} for name, text in REFUSED]
    return {"accepted": accepted, "refused": refused}
