"""The handshake: who is on the other end, proven on both sides before any data.

    initiator                                responder
    HELLO versions, mesh, key, nonce    ->
                                        <-   ANSWER version, mesh, key, nonce, signature
    AUTH  signature, proof?             ->
                                        <-   READY

Both signatures cover the same transcript, each under the domain string of its role: HELLO as it was sent, the body of
ANSWER, and the hashes of both certificates as each side sees them (empty on a link without TLS). Fresh nonces on both
sides make an old answer worthless. Pure: the objects hold what was said, and raise :class:`Refusal`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from fabrik_sync.frames import Answer, Auth, Hello
from fabrik_sync.ports import Identity, Replica
from fabrik_sync.reasons import Reason
from fabrik_sync.wire import encode

__all__ = ["VERSIONS", "BadProof", "Certs", "Initiator", "Join", "Refusal", "Responder", "join_proof", "verify_join_proof"]

VERSIONS: Final = (1,)
"""Protocol versions that this package speaks, best last."""

_DOMAIN: Final = b"fabrik/v1/sync transcript\0"
_BY_INITIATOR: Final = b"fabrik/v1/sync initiator\0"
_BY_RESPONDER: Final = b"fabrik/v1/sync responder\0"
_JOIN: Final = b"fabrik/v1/sync join\0"


class Refusal(Exception):
    """The handshake may not go on. ``code`` and ``hint`` go to the other side."""

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(code, hint)
        self.code = code
        self.hint = hint


class BadProof(Exception):
    """A join proof that was not made with this secret for this handshake."""


@dataclass(frozen=True, slots=True)
class Join:
    """What a joiner got with its invitation: the public id of the token and its secret. ``next``: its commitment to its next key, empty for none."""

    token_id: bytes
    secret: bytes
    next: bytes = b""

    def __post_init__(self) -> None:
        if not 1 <= len(self.token_id) <= 64 or len(self.secret) < 16 or len(self.next) not in (0, 32):
            raise ValueError("a token id has 1..64 bytes, a secret at least 16, a commitment 32")

    def __repr__(self) -> str:
        return f"Join(token_id={self.token_id!r}, secret=...)"


@dataclass(frozen=True, slots=True)
class Certs:
    """What the transport showed: the hashes of both certificates, and the key that stands behind the peer's. All empty on a link without TLS."""

    own: bytes = b""
    peer: bytes = b""
    peer_key: bytes = b""

    def check(self, key: bytes) -> None:
        """The key that the peer names must be that one. Raises :class:`Refusal`."""
        if self.peer_key and key != self.peer_key:
            raise Refusal(
                Reason.BAD_CERTIFICATE,
                f"the certificate is of key {self.peer_key.hex()[:16]}, and the handshake of key {key.hex()[:16]}: somebody is in between",
            )


def join_proof(secret: bytes, transcript: bytes) -> bytes:
    """The proof, 32 bytes, that whoever took part in this handshake knows ``secret``."""
    return hmac.digest(secret, _JOIN + transcript, "sha256")


def verify_join_proof(secret: bytes, transcript: bytes, proof: bytes) -> None:
    """Return nothing, or raise :class:`BadProof`. Constant time in the bytes."""
    if not hmac.compare_digest(join_proof(secret, transcript), proof):
        raise BadProof("the proof was not made with this token's secret")


def _transcript(hello: bytes, answer: Answer, initiator_cert: bytes, responder_cert: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + encode([hello, answer.body(), initiator_cert, responder_cert])).digest()


class Initiator:
    """The side that dialled: :meth:`hello`, :meth:`verify`, :meth:`admit`, in this order."""

    _transcript: bytes

    def __init__(self, identity: Identity, mesh: bytes, replica: Replica, *, window: int, expected_key: bytes | None, join: Join | None, certs: Certs) -> None:
        self._identity = identity
        self._mesh = mesh
        self._replica = replica
        self._expected = expected_key
        self._join = join
        self.joins = join is not None
        self._certs = certs
        self._hello = Hello(VERSIONS, mesh, identity.public, identity.random(32), window, *((join.token_id, join.next) if join else ())).encode()

    def hello(self) -> bytes:
        """The first frame."""
        return self._hello

    def verify(self, answer: Answer) -> None:
        """Check that the answer is of this handshake and its key's own. Raises :class:`Refusal`."""
        if answer.version not in VERSIONS:
            raise Refusal(Reason.NO_COMMON_VERSION, f"you answered with version {answer.version}, offered were {_spoken()}")
        if answer.mesh != self._mesh:
            raise Refusal(Reason.WRONG_MESH, f"this is mesh {self._mesh.hex()[:16]}, not {answer.mesh.hex()[:16]}")
        if answer.key == self._identity.public:
            raise Refusal(Reason.SELF_CONNECTION, "this address leads back to the node itself")
        self._certs.check(answer.key)
        self._transcript = _transcript(self._hello, answer, self._certs.own, self._certs.peer)
        _verify(self._identity, answer.key, _BY_RESPONDER + self._transcript, answer.signature)

    def admit(self, key: bytes) -> Auth:
        """The responder has this key: our proof for it. Raises :class:`Refusal`."""
        if key != self._expected and not self._replica.admit(key):
            who = f"the node at this address has key {key.hex()[:16]}"
            if self._expected is None:
                raise Refusal(Reason.UNKNOWN_KEY, f"{who}, and no member that is known here has it")
            raise Refusal(Reason.WRONG_KEY, f"{who}, expected was {self._expected.hex()[:16]}")
        proof = join_proof(self._join.secret, self._transcript) if self._join else b""
        return Auth(self._identity.sign(_BY_INITIATOR + self._transcript), proof)


class Responder:
    """The side that was dialled: :meth:`answer`, :meth:`verify`, :meth:`admit`, in this order."""

    hello: Hello
    transcript: bytes

    def __init__(self, identity: Identity, mesh: bytes, replica: Replica, *, window: int, unknown_key_hint: str, certs: Certs, token_id: bytes) -> None:
        self._identity = identity
        self._mesh = mesh
        self._replica = replica
        self._window = window
        self._unknown_key_hint = unknown_key_hint
        self._certs = certs
        self._token_id = token_id

    def answer(self, hello: Hello, raw: bytes) -> Answer:
        """Check the first frame; the answer. Raises :class:`Refusal`."""
        version = max((v for v in hello.versions if v in VERSIONS), default=None)
        if version is None:
            raise Refusal(Reason.NO_COMMON_VERSION, f"this node speaks sync versions {_spoken()}: upgrade the older of the two")
        if hello.mesh != self._mesh:
            raise Refusal(Reason.WRONG_MESH, f"this node belongs to mesh {self._mesh.hex()[:16]}, you asked for {hello.mesh.hex()[:16]}")
        if hello.key == self._identity.public:
            raise Refusal(Reason.SELF_CONNECTION, "this address leads back to the node itself")
        self._certs.check(hello.key)
        if self._token_id and hello.token_id != self._token_id:
            raise Refusal(Reason.BAD_CERTIFICATE, "the token in HELLO is not the one that opened the gate")
        draft = Answer(version, self._mesh, self._identity.public, self._identity.random(32), self._window, b"")
        self.hello = hello
        self.transcript = _transcript(raw, draft, self._certs.peer, self._certs.own)
        signature = self._identity.sign(_BY_RESPONDER + self.transcript)
        return Answer(version, draft.mesh, draft.key, draft.nonce, draft.window, signature)

    def verify(self, auth: Auth) -> None:
        """Check that the initiator has the key that it named. Raises :class:`Refusal`."""
        _verify(self._identity, self.hello.key, _BY_INITIATOR + self.transcript, auth.signature)

    def admit(self, auth: Auth) -> bool:
        """False: a member, let it in. True: it wants to join, and the shell decides. Raises :class:`Refusal` for all others."""
        if self.hello.token_id:
            if not auth.proof:
                raise Refusal(Reason.BAD_PROOF, "a join token was named without a proof of its secret")
            return True
        if auth.proof:
            raise Refusal(Reason.BAD_PROOF, "a proof came without a join token")
        if not self._replica.admit(self.hello.key):
            raise Refusal(
                Reason.UNKNOWN_KEY, self._unknown_key_hint or f"key {self.hello.key.hex()} is not a member of this mesh: ask an admin for an invitation"
            )
        return False


def _verify(identity: Identity, public: bytes, message: bytes, signature: bytes) -> None:
    try:
        identity.verify(public, message, signature)
    except Exception as error:  # the injected verifier has its own classes
        raise Refusal(Reason.BAD_SIGNATURE, f"the signature of key {public.hex()[:16]} over this handshake does not verify") from error


def _spoken() -> str:
    return ", ".join(map(str, VERSIONS))
