"""What a key that nobody knows may say at the gate: one frame, and what it is answered when it was let in meanwhile.

The knock has one size and no length in it, like the join frame, and follows the TLS handshake of a caller without a certificate::

    magic 7 | version 1 | key 32 | commitment to its next key 32, zeros for none | name 64, padded with zeros | nonce 16 | Ed25519 signature 64

The key signs a domain string, the hash of the server's certificate and all before. So nobody knocks for a key that is not his, and a frame
that one node got is of no use at another one, or at the same one after its next start.

A key that is a member gets a welcome: magic 8, its length in 2 bytes, and the genesis record of the mesh. Everybody else gets a refusal record (:mod:`join_frame`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fabrik_node._core import verify
from fabrik_node.errors import AuthError
from fabrik_node.transport.join_frame import BadFrame

__all__ = ["KNOCK_BYTES", "KNOCK_MAGIC", "NAME_BYTES", "WELCOME_MAGIC", "Knock", "decode_knock", "encode_knock", "encode_welcome", "welcome_in"]

KNOCK_MAGIC: Final = b"FABRIKK\x01"
WELCOME_MAGIC: Final = b"FABRIKW\x01"
_DOMAIN: Final = b"fabrik/v1/gate knock\0"
NAME_BYTES: Final = 64
KNOCK_BYTES: Final = 8 + 32 + 32 + NAME_BYTES + 16 + 64
_GENESIS_BYTES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Knock:
    """Who knocks. ``name`` is what it calls itself, without anything unprintable; ``next_commitment`` is empty for none."""

    key: bytes
    next_commitment: bytes
    name: str


def encode_knock(key: bytes, next_commitment: bytes, name: str, nonce: bytes, server_cert: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The frame; a longer name is cut. Raises ValueError for parts of a wrong size."""
    if (len(key), len(next_commitment) in (0, 32), len(nonce), len(server_cert)) != (32, True, 16, 32):
        raise ValueError("a key, a commitment and a certificate's hash have 32 bytes, a nonce 16")
    shown = name.encode()[:NAME_BYTES].decode(errors="ignore").encode().ljust(NAME_BYTES, b"\0")
    body = KNOCK_MAGIC + key + next_commitment.ljust(32, b"\0") + shown + nonce
    return body + sign(_DOMAIN + server_cert + body)


def decode_knock(frame: bytes, server_cert: bytes) -> Knock:
    """Who signed it for this server. Raises :class:`BadFrame`, also for a signature that does not verify."""
    if len(frame) != KNOCK_BYTES or not frame.startswith(KNOCK_MAGIC):
        raise BadFrame("not a knock of version 1")
    key, commitment, name = frame[8:40], frame[40:72], frame[72:136].rstrip(b"\0")
    try:
        verify(key, _DOMAIN + server_cert + frame[:-64], frame[-64:])
        shown = "".join(char if char.isprintable() else " " for char in name.decode()).strip()
    except AuthError as error:
        raise BadFrame("the knock is not signed by its key, or for another node") from error
    except UnicodeDecodeError as error:
        raise BadFrame("the name in the knock is no text") from error
    return Knock(key, b"" if commitment == bytes(32) else commitment, shown)


def encode_welcome(genesis: bytes) -> bytes:
    """For a key that is a member: the mesh that it is a member of."""
    return WELCOME_MAGIC + len(genesis).to_bytes(2, "big") + genesis


def welcome_in(data: bytes) -> bytes | None:
    """The genesis record, as it came; None while bytes are missing. Raises :class:`BadFrame`."""
    if not data.startswith(WELCOME_MAGIC[: len(data)]):
        raise BadFrame("not a welcome")
    if len(data) < 10:
        return None
    size = int.from_bytes(data[8:10], "big")
    if not 1 <= size <= _GENESIS_BYTES_MAX:
        raise BadFrame("a welcome of a wrong size")
    return data[10 : 10 + size] if len(data) >= 10 + size else None
