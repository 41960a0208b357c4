"""Asking to be let in without a token: knock at a node whose fingerprint we know, and read what it says.

The node proves first who it is: its certificate has to be issued by a key that begins as the operator said. Only then it gets our knock.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from fabrik_node.errors import AuthError, UsageError
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.transport.address import PeerUrl
from fabrik_node.transport.certificates import hash_of, issuer_of
from fabrik_node.transport.contexts import ALPN, unverified_context
from fabrik_node.transport.join_frame import REFUSAL_MAGIC, BadFrame, decode_refusal
from fabrik_node.transport.knock_frame import encode_knock, welcome_in

__all__ = ["FINGERPRINT_DIGITS_MIN", "Answer", "Knocker", "ask", "parse_fingerprint"]

FINGERPRINT_DIGITS_MIN = 16
"""Hex digits of a key, as ``nodes list`` shows them; the whole key has 64."""
_ANSWER_S = 10.0
_ANSWER_BYTES_MAX = 8_192


@dataclass(frozen=True, slots=True)
class Knocker:
    """Who asks: its key, its commitment to its next key, its name, and how to sign."""

    public: bytes
    next_commitment: bytes
    name: str
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the node with ``key`` says: a code and a hint, or the genesis record of the mesh that has let us in."""

    key: bytes
    code: str
    hint: str
    genesis: bytes = b""


def parse_fingerprint(text: str) -> str:
    """The first hex digits of a key, in lower case. Raises :class:`UsageError`."""
    digits = "".join(char for char in text if char not in "-: ").lower()
    if not FINGERPRINT_DIGITS_MIN <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
        raise UsageError(
            f"{text[:80]!r} is not the fingerprint of a key",
            f"at least {FINGERPRINT_DIGITS_MIN} hex digits, as fabrik-node nodes list shows them on the node that you want to reach",
        )
    return digits


async def ask(url: PeerUrl, digits: str, knocker: Knocker) -> Answer:
    """Knock once. Raises :class:`AuthError` when somebody else answers, and OSError or TimeoutError when nobody does (also for what is no node)."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            try:
                reader, writer = await asyncio.open_connection(
                    url.host, url.port, ssl=unverified_context(), server_hostname="", ssl_handshake_timeout=60, ssl_shutdown_timeout=1
                )
            except ssl.SSLError as error:
                raise AuthError(
                    f"what listens at this address does not speak TLS as we do ({(error.reason or 'no reason').lower().replace('_', ' ')})",
                    "check host and port",
                ) from error
            try:
                return await _talk(reader, writer, digits, knocker)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise TimeoutError(f"no answer within {_ANSWER_S:g} s") from None


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, digits: str, knocker: Knocker) -> Answer:
    tls = writer.get_extra_info("ssl_object")
    if tls.selected_alpn_protocol() != ALPN:
        raise AuthError(f"what listens at this address does not speak {ALPN}", "check host and port")
    der = tls.getpeercert(binary_form=True) or b""
    key = issuer_of(der)
    if not show_key(key).startswith(digits):
        raise AuthError(
            f"another node answers there: its fingerprint is {fingerprint(key)}",
            "compare it with fabrik-node nodes list on the node that you want to reach: somebody may be in between",
        )
    writer.write(encode_knock(knocker.public, knocker.next_commitment, knocker.name, secrets.token_bytes(16), hash_of(der), knocker.sign))
    data = b""
    while len(data) < _ANSWER_BYTES_MAX:
        more = await reader.read(4_096)
        if not more:
            break
        data += more
        try:
            if data[:8] == REFUSAL_MAGIC[: len(data)]:
                refusal = decode_refusal(data)
                if refusal is not None:
                    return Answer(key, refusal.code, refusal.hint)
            elif (genesis := welcome_in(data)) is not None:
                return Answer(key, "welcome", "", genesis)
        except BadFrame as error:
            raise OSError(f"the answer was not understood: {error}") from error
    raise OSError("the connection ended before the answer was whole")
