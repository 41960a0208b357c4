"""Why a session ends: one list of codes, and what each means for the one who dials.

A code travels in a CLOSE frame as text. Codes of a newer version, or of the shell (a refused join), are legal texts too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["REASONS", "Reason", "ReasonRow", "Retry", "retry_of"]


class Reason(StrEnum):
    """The codes that this package itself gives, and those of the transport around it."""

    WRONG_MESH = "wrong_mesh"
    WRONG_KEY = "wrong_key"
    UNKNOWN_KEY = "unknown_key"
    SELF_CONNECTION = "self_connection"
    NO_COMMON_VERSION = "no_common_version"
    BAD_SIGNATURE = "bad_signature"
    BAD_PROOF = "bad_proof"
    BAD_CERTIFICATE = "bad_certificate"
    NOT_TLS = "not_tls"
    NEEDS_TLS = "needs_tls"
    TOO_MANY = "too_many_connections"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    REVOKED = "revoked"
    MALFORMED = "malformed"
    UNEXPECTED = "unexpected_frame"
    UNKNOWN_FRAMES = "unknown_frames"
    FLOW = "flow_violation"
    SILENT = "silent"
    NO_PROGRESS = "no_progress"
    DUPLICATE = "duplicate_connection"
    SHUTDOWN = "shutdown"
    DISK_FULL = "disk_full"
    DISCONNECTED = "disconnected"


class Retry(StrEnum):
    """What :class:`~fabrik_sync.Backoff` does after a session that ended so."""

    SOON = "soon"
    """Dial again after the usual delay with jitter."""
    SLOW = "slow"
    """Dial again at the slowest pace: the cause may go away without us (a member record on its way, an upgrade, another process on the port)."""
    NEVER = "never"
    """Somebody has to change something first."""


class ReasonRow(NamedTuple):
    """One row of the table of reasons."""

    refusal: bool
    retry: Retry
    meaning: str


REASONS: dict[Reason, ReasonRow] = {
    Reason.WRONG_MESH: ReasonRow(True, Retry.NEVER, "the other side belongs to another mesh"),
    Reason.WRONG_KEY: ReasonRow(True, Retry.SLOW, "the responder has another key than the one that was expected, and no member has it"),
    Reason.UNKNOWN_KEY: ReasonRow(True, Retry.SLOW, "one side does not know the key of the other (yet)"),
    Reason.SELF_CONNECTION: ReasonRow(True, Retry.NEVER, "both ends have the same key"),
    Reason.NO_COMMON_VERSION: ReasonRow(True, Retry.SLOW, "no protocol version that both speak"),
    Reason.BAD_SIGNATURE: ReasonRow(True, Retry.SLOW, "the signature over this handshake does not verify"),
    Reason.BAD_PROOF: ReasonRow(True, Retry.NEVER, "the proof of the join secret is wrong or missing"),
    Reason.BAD_CERTIFICATE: ReasonRow(True, Retry.SLOW, "the key or token of the handshake is not the one behind the TLS certificate or the join frame"),
    Reason.NOT_TLS: ReasonRow(True, Retry.SLOW, "TLS was begun with a port that does not speak it, or not this version of it"),
    Reason.NEEDS_TLS: ReasonRow(True, Retry.SLOW, "a plain connection came to a port that speaks TLS"),
    Reason.TOO_MANY: ReasonRow(True, Retry.SLOW, "the node has as many connections as it takes"),
    Reason.HANDSHAKE_TIMEOUT: ReasonRow(True, Retry.SOON, "the handshake did not end in time"),
    Reason.REVOKED: ReasonRow(True, Retry.SLOW, "the peer's key is no longer admitted"),
    Reason.MALFORMED: ReasonRow(False, Retry.SOON, "a frame that is not well formed, or too large"),
    Reason.UNEXPECTED: ReasonRow(False, Retry.SOON, "a frame that has no place in this state"),
    Reason.UNKNOWN_FRAMES: ReasonRow(False, Retry.SOON, "more frames of unknown types than the limit"),
    Reason.FLOW: ReasonRow(False, Retry.SOON, "more unprocessed bytes than the window, or acknowledged more than was sent"),
    Reason.SILENT: ReasonRow(False, Retry.SOON, "nothing was heard for too long"),
    Reason.NO_PROGRESS: ReasonRow(False, Retry.SOON, "the peer takes nothing of what waits for it"),
    Reason.DUPLICATE: ReasonRow(False, Retry.SOON, "another connection of the same two peers stays"),
    Reason.SHUTDOWN: ReasonRow(False, Retry.SOON, "the node stops"),
    Reason.DISK_FULL: ReasonRow(False, Retry.SLOW, "the node can store nothing until there is room again"),
    Reason.DISCONNECTED: ReasonRow(False, Retry.SOON, "the transport ended without a CLOSE frame"),
}


def retry_of(code: str, *, refused: bool) -> Retry:
    """The retry rule of a code. An unknown code is final when it refused us (a join), otherwise :attr:`Retry.SOON`."""
    try:
        return REASONS[Reason(code)].retry
    except ValueError:
        return Retry.NEVER if refused else Retry.SOON
