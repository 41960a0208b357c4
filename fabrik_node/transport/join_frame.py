"""What passes between caller and gate before the first byte of HTTP: a joiner's frame one way, the record of a refusal the other way.

The join frame has one size and no length in it, so a stranger can make the gate hold and parse nothing else::

    magic 7 | version 1 | token id 16 | key of the joiner 32 | nonce 16 | HMAC-SHA256 32

The HMAC is keyed with the secret of the token and covers a domain string, the hash of the server's certificate and all before it. It opens the gate,
no more: the proof in HELLO and AUTH, which is bound to the whole handshake, lets the joiner in.

A refusal record is magic 8, its length in 2 bytes, and that many bytes of ``code NUL hint`` in UTF-8. Its first byte is not the ``H`` of HTTP.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

__all__ = ["JOIN_BYTES", "REFUSAL_MAGIC", "BadFrame", "JoinFrame", "Refusal", "decode_join", "decode_refusal", "encode_join", "encode_refusal", "proves"]

_MAGIC: Final = b"FABRIKJ\x01"
_DOMAIN: Final = b"fabrik/v1/gate join\0"
JOIN_BYTES: Final = 8 + 16 + 32 + 16 + 32
"""All that a caller without a certificate may send before it is known."""
REFUSAL_MAGIC: Final = b"FABRIKR\x01"
_REFUSAL_BYTES_MAX: Final = 512
"""Of a whole record."""
_CODE_BYTES_MAX: Final = 64
_CODE_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class BadFrame(Exception):
    """Bytes that are no join frame, or no refusal record."""


@dataclass(frozen=True, slots=True)
class JoinFrame:
    """Who wants to join, and with which token. ``body`` is what ``mac`` covers besides the server's certificate."""

    token_id: bytes
    key: bytes
    body: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the gate stays shut: a stable code, and what to do about it."""

    code: str
    hint: str


def encode_join(token_id: bytes, key: bytes, nonce: bytes, secret: bytes, server_cert: bytes) -> bytes:
    """The frame of a joiner. Raises ValueError for parts of a wrong size."""
    body = _MAGIC + token_id + key + nonce
    if (len(token_id), len(key), len(nonce), len(server_cert)) != (16, 32, 16, 32):
        raise ValueError("a token id and a nonce have 16 bytes, a key and a certificate's hash 32")
    return body + _mac(secret, server_cert, body)


def decode_join(frame: bytes) -> JoinFrame:
    """Raises :class:`BadFrame`. Whether the sender knows the secret is asked with :func:`proves`."""
    if len(frame) != JOIN_BYTES or not frame.startswith(_MAGIC):
        raise BadFrame("not a join frame of version 1")
    return JoinFrame(frame[8:24], frame[24:56], frame[:-32], frame[-32:])


def proves(frame: JoinFrame, secret: bytes, server_cert: bytes) -> bool:
    """Whether it was made with this secret for this certificate. Constant time in the bytes."""
    return hmac.compare_digest(_mac(secret, server_cert, frame.body), frame.mac)


def encode_refusal(refusal: Refusal) -> bytes:
    """At most 512 bytes: a hint that is longer is cut."""
    code = refusal.code.encode()[:_CODE_BYTES_MAX]
    room = _REFUSAL_BYTES_MAX - len(REFUSAL_MAGIC) - 2 - len(code) - 1
    text = code + b"\0" + refusal.hint.encode()[:room].decode(errors="ignore").encode()
    return REFUSAL_MAGIC + len(text).to_bytes(2, "big") + text


def decode_refusal(data: bytes) -> Refusal | None:
    """None while bytes are missing. The hint is foreign text: what is not printable in it becomes a space. Raises :class:`BadFrame`."""
    if not data.startswith(REFUSAL_MAGIC[: len(data)]):
        raise BadFrame("not a refusal record")
    if len(data) < len(REFUSAL_MAGIC) + 2:
        return None
    size = int.from_bytes(data[8:10], "big")
    if size > _REFUSAL_BYTES_MAX - 10:
        raise BadFrame("a refusal record that is too long")
    if len(data) < 10 + size:
        return None
    try:
        code, _, hint = data[10 : 10 + size].decode().partition("\0")
    except UnicodeDecodeError as error:
        raise BadFrame("a refusal record that is no text") from error
    if not 1 <= len(code) <= _CODE_BYTES_MAX or not set(code) <= _CODE_CHARS:
        raise BadFrame("a refusal record without a code")
    return Refusal(code, "".join(char if char.isprintable() else " " for char in hint))


def _mac(secret: bytes, server_cert: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, _DOMAIN + server_cert + body, "sha256")
