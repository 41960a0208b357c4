"""Replication of append-only logs between peers, without I/O, clock, crypto of its own or dependencies.

A :class:`Session` is one connection; a :class:`Hub` holds the sessions of one node. The protocol is described in
``docs/spec/sync.md`` and ``docs/spec/sync.cddl``. Segments are opaque here: verifying them is the node's part.
"""

from fabrik_sync.backoff import Backoff
from fabrik_sync.counters import Counters
from fabrik_sync.events import CaughtUp, Closed, DuplicateSeen, EphemeralReceived, Event, JoinRequested, PeerReady, Refused, SegmentsReceived
from fabrik_sync.handshake import VERSIONS, BadProof, Join, join_proof, verify_join_proof
from fabrik_sync.hub import Hub
from fabrik_sync.limits import (
    EPHEMERAL_BYTES_MAX,
    FRAME_BYTES_MAX,
    HEADS_PER_LOG_MAX,
    HUB_LIMIT_NAMES,
    LIMIT_NAMES,
    SEGMENT_BYTES_MAX,
    WELCOME_BYTES_MAX,
    Limits,
)
from fabrik_sync.ports import CROWDED_SEQ, MARKER, Head, Heads, Identity, LogId, Place, Replica, place_of
from fabrik_sync.reading import ReadRequest
from fabrik_sync.reasons import REASONS, Reason, ReasonRow, Retry, retry_of
from fabrik_sync.session import Session
from fabrik_sync.states import ACCEPTS, TRANSITIONS, Input, State
from fabrik_sync.status import Status
from fabrik_sync.wants import Wants
from fabrik_sync.wire import Malformed

__all__ = [
    "ACCEPTS",
    "CROWDED_SEQ",
    "EPHEMERAL_BYTES_MAX",
    "FRAME_BYTES_MAX",
    "HEADS_PER_LOG_MAX",
    "HUB_LIMIT_NAMES",
    "LIMIT_NAMES",
    "MARKER",
    "REASONS",
    "SEGMENT_BYTES_MAX",
    "TRANSITIONS",
    "VERSIONS",
    "WELCOME_BYTES_MAX",
    "Backoff",
    "BadProof",
    "CaughtUp",
    "Closed",
    "Counters",
    "DuplicateSeen",
    "EphemeralReceived",
    "Event",
    "Head",
    "Heads",
    "Hub",
    "Identity",
    "Input",
    "Join",
    "JoinRequested",
    "Limits",
    "LogId",
    "Malformed",
    "PeerReady",
    "Place",
    "ReadRequest",
    "Reason",
    "ReasonRow",
    "Refused",
    "Replica",
    "Retry",
    "SegmentsReceived",
    "Session",
    "State",
    "Status",
    "Wants",
    "join_proof",
    "place_of",
    "retry_of",
    "verify_join_proof",
]
