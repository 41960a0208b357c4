"""The sessions of one node: one per peer, everything that is committed or heard told to all of them."""

from __future__ import annotations

from fabrik_sync.limits import HUB_LIMIT_NAMES
from fabrik_sync.ports import Heads, LogId
from fabrik_sync.reasons import Reason
from fabrik_sync.session import Session
from fabrik_sync.wants import Wants

__all__ = ["Hub"]

_EPHEMERAL_AUTHORS_MAX = 4_096

_LOST_AGAIN_S = 10.0
SESSIONS_PER_KEY_MAX = 4
"""Connections that nodes with one key may have to us; with one more the oldest goes."""


class Hub:
    """Fans out. After a call that reaches several sessions, the shell polls each of :attr:`sessions`."""

    def __init__(self, own_key: bytes) -> None:
        self._own_key = own_key
        self._sessions: dict[bytes, list[Session]] = {}
        self._counters: dict[bytes, int] = {}
        self.limits = dict.fromkeys(HUB_LIMIT_NAMES, 0)
        """How often each limit of all sessions together was hit."""
        self._lost: dict[LogId, tuple[int, float, Session]] = {}
        self.wants = Wants()
        """Give this to every session."""

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The ready sessions: one per peer, but for keys that more than one node has."""
        return tuple(session for held in self._sessions.values() for session in held)

    @property
    def peers(self) -> int:
        """Keys that a session is ready with."""
        return len(self._sessions)

    def peer(self, key: bytes) -> Session | None:
        """The newest session with this peer, if one is ready."""
        held = self._sessions.get(key)
        return held[-1] if held else None

    def add(self, session: Session) -> list[Session]:
        """A session became ready (PeerReady). Call it before the next commit: the session read the heads when it became ready, and is told of
        later ones through here. Gives back those that something was done to: poll them (``session`` may be among them).

        Of two connections between two nodes one is too many: the older if one side opened both, else the one that the higher key opened. The side that
        did not open it says so in it, and who opened it closes it, if he has both: two nodes with one key (a copied home) have one each, and
        neither may put out the other.
        """
        key = session.peer_key
        if key is None:
            raise ValueError("the session is not ready: its peer is not proven")
        held = self._sessions.setdefault(key, [])
        losers = [self._loser(other, session) for other in held if other is not session]
        if session not in held:
            held.append(session)
        for loser in losers:
            if not loser.is_initiator:
                loser.handle_rival(session.now, is_older=loser is not session)
        closed = self._close_duplicates(key)
        if len(held) > SESSIONS_PER_KEY_MAX:
            self.limits["sessions_per_key"] += 1
            closed.append(held.pop(0))
            closed[-1].close(Reason.DUPLICATE, "too many connections with one key")
        return [*losers, *closed]

    def handle_duplicate(self, session: Session) -> list[Session]:
        """The peer says that it has another connection with us (DuplicateSeen). Gives back those that were closed: poll them."""
        return self._close_duplicates(session.peer_key or b"")

    def _close_duplicates(self, key: bytes) -> list[Session]:
        held = self._sessions.get(key, [])
        closed = []
        for session in [session for session in held if session.is_duplicate]:
            if len(held) > 1:
                held.remove(session)
                session.close(Reason.DUPLICATE, "another connection of the same two nodes stays")
                closed.append(session)
        if closed:
            self.handle_peers_changed()
        return closed

    def _loser(self, other: Session, session: Session) -> Session:
        keep_new = session.is_initiator in {other.is_initiator, self._own_key < (session.peer_key or b"")}
        return other if keep_new else session

    def remove(self, session: Session) -> None:
        """A session ended (Closed). What it was fetching is left to the others."""
        key = session.peer_key or b""
        held = self._sessions.get(key, [])
        if session in held:
            held.remove(session)
        if not held:
            self._sessions.pop(key, None)
        self._lost = {log: asked for log, asked in self._lost.items() if asked[2] is not session}
        self.handle_peers_changed()

    def handle_heads(self, log: LogId, heads: Heads) -> None:
        """A log was durably extended; see :meth:`Session.handle_heads`."""
        for session in self.sessions:
            session.handle_heads(log, heads)

    def handle_lost(self, log: LogId, have_seq: int, now: float) -> Session | None:
        """See :meth:`Session.handle_lost`. May be called at any time: one peer is asked at a time, another one when that one brought nothing for a while.

        Gives back the session that was asked now: poll it.
        """
        asked = self._lost.get(log)
        if asked is not None and asked[0] == have_seq and now - asked[1] < _LOST_AGAIN_S and asked[2] in self.sessions:
            return None
        found = next((session for session in self.sessions if session.handle_lost(log, have_seq)), None)
        if found is not None:
            self._lost[log] = (have_seq, now, found)
        return found

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
        if not self.is_news(author, counter):
            return False
        if author not in self._counters and len(self._counters) >= _EPHEMERAL_AUTHORS_MAX:
            self.limits["hub_ephemeral_authors"] += 1
            return False
        self._counters[author] = counter
        for session in self.sessions:
            session.send_ephemeral(author, counter, data)
        return True
