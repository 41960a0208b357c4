"""The sessions of one node: one per peer, everything that is committed or heard told to all of them."""

from __future__ import annotations

from fabrik_sync.ports import Heads, LogId
from fabrik_sync.reasons import Reason
from fabrik_sync.session import Session
from fabrik_sync.wants import Wants

__all__ = ["Hub"]

_EPHEMERAL_AUTHORS_MAX = 4_096


class Hub:
    """Fans out. After a call that reaches several sessions, the shell polls each of :attr:`sessions`."""

    def __init__(self, own_key: bytes) -> None:
        self._own_key = own_key
        self._sessions: dict[bytes, Session] = {}
        self._counters: dict[bytes, int] = {}
        self.wants = Wants()
        """Give this to every session."""

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The ready sessions, one per peer."""
        return tuple(self._sessions.values())

    def peer(self, key: bytes) -> Session | None:
        """The session with this peer, if one is ready."""
        return self._sessions.get(key)

    def add(self, session: Session) -> Session | None:
        """A session became ready (PeerReady). Of two connections to one peer, one stays: both sides choose the same.

        Call it before the next commit: the session read the heads when it became ready, and is told of later ones through here.
        Gives back the session that was closed as a duplicate, if there was one: poll it (it may be ``session`` itself).
        """
        key = session.peer_key
        if key is None:
            raise ValueError("the session is not ready: its peer is not proven")
        other = self._sessions.get(key)
        if other is None or other is session:
            self._sessions[key] = session
            return None
        # Opened by the same side: the newer one, the older is half dead. Else the one that the lower key opened.
        keep_new = session.is_initiator in {other.is_initiator, self._own_key < key}
        loser = other if keep_new else session
        if keep_new:
            self._sessions[key] = session
        loser.close(Reason.DUPLICATE, "another connection of the same two nodes stays")
        self.handle_peers_changed()
        return loser

    def remove(self, session: Session) -> None:
        """A session ended (Closed). What it was fetching is left to the others."""
        key = session.peer_key
        if key is not None and self._sessions.get(key) is session:
            del self._sessions[key]
        self.handle_peers_changed()

    def handle_heads(self, log: LogId, heads: Heads) -> None:
        """A log was durably extended; see :meth:`Session.handle_heads`."""
        for session in self.sessions:
            session.handle_heads(log, heads)

    def handle_admitted_changed(self) -> None:
        """Somebody was admitted or removed; see :meth:`Session.handle_admitted_changed`. Before :meth:`handle_heads`."""
        for session in self.sessions:
            session.handle_admitted_changed()

    def handle_peers_changed(self) -> None:
        """See :meth:`Session.handle_peers_changed`."""
        for session in self.sessions:
            session.handle_peers_changed()

    def is_news(self, author: bytes, counter: int) -> bool:
        """True when an ephemeral message is newer than every one passed on before: worth verifying."""
        return counter > self._counters.get(author, -1)

    def handle_ephemeral(self, author: bytes, counter: int, data: bytes) -> bool:
        """Pass a *verified* message (our own, or a peer's) to every peer that lacks it. False when it is not news, or too many authors are."""
        if not self.is_news(author, counter) or (author not in self._counters and len(self._counters) >= _EPHEMERAL_AUTHORS_MAX):
            return False
        self._counters[author] = counter
        for session in self.sessions:
            session.send_ephemeral(author, counter, data)
        return True
