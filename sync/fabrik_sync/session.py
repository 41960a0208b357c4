"""One connection to one peer, without I/O: frames, commands and ``now`` go in; frames, events and a deadline come out.

After **every** call of a method whose name begins with ``receive_``, ``handle_``, ``join_``, ``send_``, ``refuse_`` or is
``close``, the shell does, in this order:

1. :meth:`Session.poll_events`, and acts on each event;
2. :meth:`Session.poll_read`, does the read, answers with :meth:`Session.handle_read`, until None;
3. :meth:`Session.poll_frame` until None, sending each as one binary message. It waits for the transport between two
   frames and does step 2 again when the transport took one: that patience is the bound on memory;
4. :meth:`Session.next_timeout`, and calls :meth:`Session.handle_timeout` when that time has come.

When :attr:`Session.state` is ``CLOSED`` and no frame is left, it closes the transport.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_sync.connection import Connection
from fabrik_sync.frames import DUPLICATE_PING, Ping, Ready
from fabrik_sync.handshake import Certs, Initiator, Join, Responder
from fabrik_sync.limits import Limits
from fabrik_sync.opening import Opening
from fabrik_sync.ports import Head, Heads, Identity, LogId, Replica
from fabrik_sync.reading import ReadRequest
from fabrik_sync.reasons import Reason
from fabrik_sync.replication import Lag
from fabrik_sync.states import PROVEN, Input, State
from fabrik_sync.status import Status
from fabrik_sync.wants import Wants

__all__ = ["Session"]


class Session(Connection):
    """See the module for the order of calls. Make one per connection with :meth:`connect` or :meth:`accept`; never reuse it."""

    @classmethod
    def connect(
        cls,
        *,
        identity: Identity,
        mesh: bytes,
        replica: Replica,
        now: float,
        limits: Limits | None = None,
        expected_key: bytes | None = None,
        join: Join | None = None,
        wants: Wants | None = None,
        own_cert: bytes = b"",
        peer_cert: bytes = b"",
        cert_key: bytes = b"",
    ) -> Session:
        """The side that dialled; call it when the transport is open. HELLO is the first frame to send.

        The peer is accepted when its key is ``expected_key`` or admitted. ``wants`` is the node's shared table (``Hub.wants``).
        The certificate hashes are those that this side presents and sees, ``cert_key`` is the key that stands behind the peer's: another key in
        its ANSWER is refused. All empty without TLS.
        """
        limits = limits or Limits()
        side = Initiator(identity, mesh, replica, window=limits.window_bytes, expected_key=expected_key, join=join, certs=Certs(own_cert, peer_cert, cert_key))
        return cls(Opening(side, limits, deadline=now + (limits.join_s if join else limits.handshake_s)), replica, limits, wants, now)

    @classmethod
    def accept(
        cls,
        *,
        identity: Identity,
        mesh: bytes,
        replica: Replica,
        now: float,
        limits: Limits | None = None,
        unknown_key_hint: str = "",
        wants: Wants | None = None,
        own_cert: bytes = b"",
        peer_cert: bytes = b"",
        cert_key: bytes = b"",
        token_id: bytes = b"",
    ) -> Session:
        """The side that was dialled. ``unknown_key_hint`` is what a stranger is told to do.

        The certificates as in :meth:`connect`. A joiner shows none: then ``cert_key`` is the key and ``token_id`` the token which it named to the
        transport, and HELLO must name the same.
        """
        limits = limits or Limits()
        certs = Certs(own_cert, peer_cert, cert_key)
        side = Responder(identity, mesh, replica, window=limits.window_bytes, unknown_key_hint=unknown_key_hint, certs=certs, token_id=token_id)
        return cls(Opening(side, limits, deadline=now + limits.handshake_s), replica, limits, wants, now)

    # ---- what it is

    def status(self) -> Status:
        """Everything that there is to show. Takes time with the number of logs of which something changed since the last call."""
        link = self._replication
        lag = link.lag() if link else Lag(0, 0, ())
        return Status(
            state=self._state,
            is_initiator=self.is_initiator,
            peer_key=self.peer_key,
            version=self._opening.version,
            heard_at=self._liveness.heard_at,
            caught_up=self.is_caught_up,
            behind=link is not None and link.sender.behind,
            lag_out=lag.out,
            lag_in=lag.back,
            lag_behind=lag.behind,
            unadmitted_logs=link.receiver.unadmitted if link else 0,
            outbox_bytes=link.sender.outbox.bytes if link else 0,
            unacked_bytes=link.sender.outbox.unacked_bytes if link else 0,
            unacked_ops=link.sender.outbox.flight.ops if link else 0,
            unprocessed_bytes=link.receiver.window.open_bytes if link else 0,
        )

    @property
    def now(self) -> float:
        """The latest time that it was told."""
        return self._now

    # ---- from the shell

    def poll_read(self) -> ReadRequest | None:
        """A read for the shell to do and answer with :meth:`handle_read`, or None: nothing to read, no room, or one is open."""
        link = self._flowing()
        return link.sender.poll_read() if link else None

    def handle_read(self, request: ReadRequest, segments: Sequence[tuple[int, int, bytes]]) -> None:
        """The answer to :meth:`poll_read`: ``(first_seq, last_seq, segment)`` of that branch in order, contiguous, beginning at or before
        ``after_seq + 1``, at most ``max_bytes`` in sum. Empty when the store can not go on there; it is asked again at the
        log's next head. Raises ValueError for anything else. Harmless when the session has closed meanwhile.
        """
        if link := self._flowing():
            link.handle_read(request, segments)

    def handle_head(self, log: LogId, seq: int, h: bytes) -> None:
        """A log was durably extended to ``seq``, whoever brought it. Persist and merge first."""
        self.handle_heads(log, (Head(seq, h),))

    def handle_heads(self, log: LogId, heads: Heads) -> None:
        """The same with all heads of a log, each with our number of its branch and its base. Ignored before READY: the heads are read then."""
        if self._replication is not None and self._state is not State.CLOSED:
            self._replication.handle_heads(log, heads, self._now)
            self._tell_caught_up()

    def handle_processed(self, size_bytes: int) -> None:
        """Segments of SegmentsReceived are dealt with, whatever came of them. Raises ValueError for more than was given."""
        if self._replication is not None:
            self._replication.receiver.window.processed(size_bytes)

    def handle_taken(self, log: LogId, head: Head) -> None:
        """What this peer sent of a log was committed, up to this head, with our number of its branch: it is not sent back."""
        if link := self._flowing():
            link.handle_taken(log, head)

    def handle_gap(self, log: LogId, have_seq: int, *, unrooted: bool = False) -> None:
        """Received segments begin beyond ``have_seq + 1``, or (``unrooted``) behind an op that we hold another of: ask for what is before them."""
        if link := self._flowing():
            link.receiver.gap(log, have_seq, self._now, unrooted=unrooted)

    def handle_lost(self, log: LogId, have_seq: int) -> bool:
        """Our bytes of a log are damaged behind ``have_seq``: have them sent again. Once for each place; True when this peer was asked now."""
        link = self._flowing()
        return link is not None and link.receiver.fetch(log, have_seq)

    def handle_admitted_changed(self) -> None:
        """``Replica.admit`` answers differently now. Call it before :meth:`handle_head` of the op that changed it."""
        if self._replication is None or self._state is State.CLOSED:
            return
        admitted = self._replica.admit(self._opening.peer_key)
        if self._was_admitted and not admitted:
            self.close(Reason.REVOKED, "this key is no longer a member of the mesh")
            return
        self._was_admitted = admitted
        if self._replication.flows:
            self._replication.receiver.reconsider(self._now)

    def handle_peers_changed(self) -> None:
        """Another session of this node ended: what it was fetching may be fetched here."""
        if link := self._flowing():
            link.receiver.retry_deferred(self._now, anew=True)

    def handle_rival(self, now: float, *, is_older: bool) -> None:
        """Another connection with the peer's key is ready: say so to the peer. The older one has a few seconds to show that it lives, else it ends."""
        self._now = max(self._now, now)
        if self._state in PROVEN:
            self._control.append(Ping(DUPLICATE_PING).encode())
            if is_older:
                self._liveness.doubt(self._now)

    def send_ephemeral(self, author: bytes, counter: int, data: bytes) -> None:
        """Send an author's latest message. Only the newest of an author waits; what the peer has is not sent. Ignored before READY."""
        if self._replication is not None and self._state is not State.CLOSED:
            self._replication.sender.ephemerals.send(author, counter, data)

    def join_accepted(self, welcome: bytes = b"") -> None:
        """Let the joiner in (JoinRequested), after its member record is durable. ``welcome`` reaches it in PeerReady.

        Harmless when the session has ended meanwhile. Raises ValueError for a welcome that is too large.
        """
        ready = Ready(welcome).encode()
        if self._state is State.WAIT_JOIN:
            self._move(Input.JOIN_ACCEPTED)
            self._control.append(ready)
            self._begin()

    def join_refused(self, code: str, hint: str) -> None:
        """Refuse the joiner; it is shown ``code`` and ``hint``. Raises ValueError for a code that is none."""
        if self._state is State.WAIT_JOIN:
            self.close(code, hint)
