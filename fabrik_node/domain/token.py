"""The join token: all that a fresh machine needs to enter a mesh, on one line to paste.

It is a secret until it is used. The issuer keeps the one-time secret and how long it lives; the token only carries it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from fabrik_node._core import Genesis, cbor_decode, cbor_encode
from fabrik_node.domain.schema import Role
from fabrik_node.errors import BadToken, InvalidOp

__all__ = ["JoinToken"]

_PREFIX = "fabrik1-"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """``genesis`` is the mesh's record; ``issuer`` the key that must answer at ``url``; ``secret`` is shown to nobody else."""

    genesis: bytes
    issuer: bytes
    url: str
    token_id: bytes
    secret: bytes
    role: int

    def __repr__(self) -> str:
        """Without the secret."""
        return f"JoinToken(url={self.url!r}, token_id={self.token_id.hex()})"

    def encode(self) -> str:
        """One line of text."""
        raw = cbor_encode([1, self.genesis, self.issuer, self.url, self.token_id, self.secret, self.role])
        checked = raw + _checksum(raw)
        return _PREFIX + base64.urlsafe_b64encode(checked).decode().rstrip("=")

    @staticmethod
    def decode(text: str) -> JoinToken:
        """Raises :class:`BadToken` for anything but a whole token."""
        body = "".join(text.split())
        if not body.startswith(_PREFIX):
            raise BadToken(f"a join token starts with {_PREFIX!r}", "make one on a running node: fabrik-node invite")
        encoded = body.removeprefix(_PREFIX)
        try:
            checked = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            raw, check = checked[:-4], checked[-4:]
            if _checksum(raw) != check:
                raise ValueError("checksum")
            version, genesis, issuer, url, token_id, secret, role = cbor_decode(raw)
            sized = ((issuer, 32), (token_id, 16), (secret, 32))
            if version != 1 or not isinstance(url, str) or not all(isinstance(part, bytes) and len(part) == size for part, size in sized):
                raise ValueError("fields")
            Role(role)
            Genesis.decode(genesis)
        except (ValueError, TypeError, binascii.Error, InvalidOp):
            raise BadToken("the join token is cut off or damaged", "paste the whole line that fabrik-node invite printed") from None
        return JoinToken(genesis, issuer, url, token_id, secret, role)


def _checksum(raw: bytes) -> bytes:
    return binascii.crc32(raw).to_bytes(4, "big")
