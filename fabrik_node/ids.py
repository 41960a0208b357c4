"""Identifiers: 16 random-enough, time-sortable bytes (ULID) and 32-byte keys, and how people write them.

An id is written in Crockford base32 in lower case (26 characters); a key as hex. Both accept unambiguous prefixes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from fabrik_node.errors import Conflict, NotFound

__all__ = ["PREFIX_CHARS_MIN", "new_id", "parse_id", "resolve", "show_id", "show_key"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)} | {"o": 0, "i": 1, "l": 1}
PREFIX_CHARS_MIN = 4
"""Shorter prefixes are refused: they would change meaning within the hour."""


def new_id(wall_ms: int) -> bytes:
    """A ULID (https://github.com/ulid/spec): 48 bits of time for sorting, 80 random bits for identity."""
    return (wall_ms & (2**48 - 1)).to_bytes(6, "big") + secrets.token_bytes(10)


def show_id(raw: bytes) -> str:
    """26 characters of Crockford base32, lower case."""
    number = int.from_bytes(raw, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))


def parse_id(text: str) -> bytes | None:
    """The 16 bytes of a whole id, or None when the text is not one."""
    if len(text) != 26:
        return None
    number = 0
    for char in text.lower():
        value = _VALUES.get(char)
        if value is None:
            return None
        number = number << 5 | value
    return number.to_bytes(17, "big")[1:] if number < 2**128 else None


def show_key(raw: bytes) -> str:
    """A public key, digest or git object as lower-case hex."""
    return raw.hex()


def resolve(prefix: str, known: Iterable[str], noun: str) -> str:
    """The one known id that starts with ``prefix``.

    Raises :class:`NotFound` when none does, :class:`Conflict` when several do (it lists up to five).
    """
    wanted = prefix.lower()
    everything = list(known)
    if wanted in everything:
        return wanted
    if len(wanted) < PREFIX_CHARS_MIN:
        raise NotFound(f"no {noun} {prefix!r}: give at least {PREFIX_CHARS_MIN} characters of its id", f"fabrik-node {noun}s list")
    found = sorted(text for text in everything if text.startswith(wanted))
    if not found:
        raise NotFound(f"no {noun} {prefix!r}", f"fabrik-node {noun}s list")
    if len(found) > 1:
        raise Conflict(f"{noun} {prefix!r} is ambiguous: {', '.join(found[:5])}" + (" ..." if len(found) > 5 else ""), "give more characters of the id")
    return found[0]
