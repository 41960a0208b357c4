"""Every limit of a session: its unit and its reason, once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

__all__ = [
    "CONTROL_FRAME_BYTES_MAX",
    "EPHEMERAL_BYTES_MAX",
    "FRAME_BYTES_MAX",
    "HANDSHAKE_FRAME_BYTES_MAX",
    "HEADER_BYTES_MAX",
    "HEADS_PER_LOG_MAX",
    "HUB_LIMIT_NAMES",
    "LIMIT_NAMES",
    "LOGS_PER_STEP",
    "PLACES_MAX",
    "SEGMENT_BYTES_MAX",
    "WELCOME_BYTES_MAX",
    "Limits",
]

SEGMENT_BYTES_MAX: Final = 262_144
"""Bytes of one segment (256 KiB): the unit that is stored, sent and verified with one signature."""

HEADER_BYTES_MAX: Final = 1_024
"""Bytes that a frame may add to a segment; in truth under 80."""

FRAME_BYTES_MAX: Final = SEGMENT_BYTES_MAX + HEADER_BYTES_MAX
"""Bytes of one frame: what a transport has to allow (its ``max_size``)."""

CONTROL_FRAME_BYTES_MAX: Final = 65_536 + HEADER_BYTES_MAX
"""Bytes of one frame that is no SEGMENT: the others cost their reader time with each byte."""

HANDSHAKE_FRAME_BYTES_MAX: Final = 8_192
"""Bytes of one frame before READY: a stranger may not make us hold or parse more."""

EPHEMERAL_BYTES_MAX: Final = 16_384
"""Bytes of one ephemeral message: presence with its leases, not a data channel."""

WELCOME_BYTES_MAX: Final = 4_096
"""Bytes of the opaque welcome in READY (a genesis record is under 200)."""

HEADS_PER_LOG_MAX: Final = 64
"""Heads of one log in a frame; one with more is announced by a marker alone: a forger may not fill our tables."""

PLACES_MAX: Final = 1_024
"""Places in a WANT: 64 branches with 16 each, or one of any length with all of its 55. Of a crowded log those of some branches only."""


LOGS_PER_STEP: Final = 512
"""Logs that wait and are looked at again at once; others have their turn before the next ones."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one session. Two sides may differ: only ``window_bytes`` is told to the peer."""

    outbox_bytes: int = SEGMENT_BYTES_MAX + 16_384
    """Encoded bytes that wait for the socket. One largest segment and room for small frames; while a largest segment would not fit, nothing is read."""

    window_bytes: int = 1_048_576
    """Segment bytes that the peer may send ahead of what we have processed. Four segments keep the link busy during a commit."""

    chunk_bytes: int = 65_536
    """Bytes of one HEADS frame, about 700 logs: a peer is never busy with one frame for long."""

    wants_per_frame: int = 512
    """Logs in one WANT frame, for the same reason."""

    logs: int = 65_536
    """Logs that a peer may announce; further ones are ignored and counted."""

    new_logs: int = 1_024
    """Logs of one author of which we hold nothing that a node asks for at once, in all its sessions together. A node begins one when it doubts the one before;
    who begins them without end may not fill the books of everybody: further ones wait, and none is refused."""

    new_log_s: float = 60.0
    """Seconds after which one more of them is asked for."""

    ephemeral_authors: int = 4_096
    """Authors whose latest ephemeral message is remembered; further ones are ignored and counted."""

    unknown_frames: int = 1_024
    """Frames of unknown types that are ignored before the session ends: a newer peer sends a few, an attacker many."""

    handshake_s: float = 5.0
    """Seconds until READY. What an unproven connection may cost in time."""

    join_s: float = 30.0
    """The same with a join token: the shell writes a member record before it answers."""

    ping_s: float = 3.0
    """Seconds without a frame from the peer, or to it, until a PING goes there."""

    silent_s: float = 8.0
    """Seconds without a byte from the peer until the session ends as ``silent``. TCP waits ever longer before it tries again on a link that stalled
    (after 8 s of it another 5, then 13, 26 ...): a new connection is there sooner, so that a mesh heals within ten seconds."""

    rival_s: float = 5.0
    """Seconds that an older connection of a key has to show that it lives, when a newer one is ready."""

    progress_s: float = 30.0
    """Seconds in which a peer may take nothing of what waits for it; then it ends as ``no_progress`` (found within a quarter more)."""

    defer_s: float = 2.0
    """Seconds that a log is left to the peer that streams it already, without a new segment from there, before we ask another peer too."""

    urgent_s: float = 0.25
    """The same for the next few ops of admins' logs, without one that was committed: they may put somebody out, and who lies about having them may not hold that up."""

    urgent_ops: int = 256
    """So many ops are the next few. Beyond it we are catching up, and fetching a long log from each peer would be no help."""

    fork_asks: int = 4
    """WANTs with places for one log in a row that bring nothing: an honest peer needs one, or two when both learn of the fork at once."""

    fork_again_s: float = 10.0
    """Seconds until what does not fit on a forked log is asked for anew: what is under way from before the last WANT has come by then."""

    rewinds: int = 1_024
    """WANTs that take a log back to what was sent already: an honest peer has a few of them in a session."""

    def __post_init__(self) -> None:
        if self.outbox_bytes < FRAME_BYTES_MAX:
            raise ValueError(f"outbox_bytes {self.outbox_bytes} is less than one frame ({FRAME_BYTES_MAX})")
        if self.window_bytes < SEGMENT_BYTES_MAX:
            raise ValueError(f"window_bytes {self.window_bytes} is less than one segment ({SEGMENT_BYTES_MAX})")
        if self.chunk_bytes > CONTROL_FRAME_BYTES_MAX - HEADER_BYTES_MAX:
            raise ValueError(f"chunk_bytes {self.chunk_bytes} is more than a peer takes ({CONTROL_FRAME_BYTES_MAX - HEADER_BYTES_MAX})")
        if not 0 < self.ping_s < self.silent_s:
            raise ValueError("ping_s has to be above 0 and below silent_s")


LIMIT_NAMES: Final = (
    *(field.name for field in fields(Limits)),
    "frame_bytes",
    "frame_items",
    "control_frame_bytes",
    "handshake_frame_bytes",
    "segment_bytes",
    "ephemeral_bytes",
    "welcome_bytes",
    "heads_per_log",
    "places",
)
"""Every limit of a session that can be hit, for its counters. HEADER_BYTES_MAX is a part of frame_bytes."""

HUB_LIMIT_NAMES: Final = ("sessions_per_key", "hub_ephemeral_authors")
"""Those of all sessions of a node together."""
