"""Identifiers: 16 random-enough, time-sortable bytes (ULID) and 32-byte keys, and how people write them.

An id is written in Crockford base32 in lower case (26 characters); a key as hex. Both accept unambiguous prefixes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from fabrik_node.errors import Conflict, NotFound

__all__ = ["PREFIX_CHARS_MIN", "fingerprint", "matching", "new_id", "parse_id", "resolve", "show_id", "show_key", "show_value"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)} | {"o": 0, "i": 1, "l": 1}
_CHARS = 26
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
    if len(text) != _CHARS:
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


def fingerprint(key: bytes) -> str:
    """A key for people: its first 16 hex digits in groups of four."""
    text = show_key(key)[:16]
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


def show_value(value: Any) -> Any:
    """A register value for JSON: bytes as ids or hex, integer keys as text."""
    if isinstance(value, bytes):
        return show_id(value) if len(value) == 16 else show_key(value)
    if isinstance(value, list | tuple):
        return [show_value(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): show_value(part) for key, part in value.items()}
    return value


def matching(prefix: str, known: Iterable[bytes]) -> list[bytes]:
    """Of ids, those that are shown with ``prefix`` first: what :func:`resolve` has to choose from, without the text of each of very many."""
    values = [_ALPHABET.find(char) for char in prefix.lower()]
    if len(values) > _CHARS or -1 in values:
        return []
    low = 0
    for value in values:
        low = low << 5 | value
    spare = 5 * (_CHARS - len(values))
    first, last = low << spare, ((low + 1) << spare) - 1
    if first >= 2**128:
        return []
    low_id, high_id = first.to_bytes(16, "big"), min(last, 2**128 - 1).to_bytes(16, "big")
    return [each for each in known if low_id <= each <= high_id]


def resolve(prefix: str, known: Iterable[str], noun: str, hint: str = "") -> str:
    """The one known id that starts with ``prefix``.

    Raises :class:`NotFound` when none does, with ``hint`` or the command that lists them; :class:`Conflict` when several do (it lists up to five).
    """
    hint = hint or f"fabrik-node {noun}s list"
    wanted = prefix.lower()
    everything = list(known)
    if wanted in everything:
        return wanted
    if len(wanted) < PREFIX_CHARS_MIN:
        raise NotFound(f"no {noun} {prefix!r}: give at least {PREFIX_CHARS_MIN} characters of its id", hint)
    found = sorted(text for text in everything if text.startswith(wanted))
    if not found:
        raise NotFound(f"no {noun} {prefix!r}", hint)
    if len(found) > 1:
        raise Conflict(f"{noun} {prefix!r} is ambiguous: {', '.join(found[:5])}" + (" ..." if len(found) > 5 else ""), "give more characters of the id")
    return found[0]
