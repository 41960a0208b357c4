"""All peers of one node: who listens, who is dialled, and what ``status`` says of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from websockets.exceptions import InvalidHandshake

from fabrik_node._core import Head as CoreHead
from fabrik_node._core import SigningKey
from fabrik_node.clock import Clock
from fabrik_node.domain.sparing import Sparing
from fabrik_node.ids import show_key
from fabrik_node.ports import PeerStatus, Replication, Traffic
from fabrik_node.transport.adapters import NodeLogs
from fabrik_node.transport.address import ListenAddress, parse_url
from fabrik_node.transport.dials import Dial, DialEnd, Dials
from fabrik_node.transport.gate import STRANGER_HINT, Gate, GateCounters
from fabrik_node.transport.guises import Guise, Guises
from fabrik_node.transport.heard import HeardServer
from fabrik_node.transport.knocking import KnockRefused, knock
from fabrik_node.transport.link import Link, LinkEnd
from fabrik_node.transport.listening import Listener
from fabrik_node.transport.places import neighbourhood
from fabrik_node.transport.tally import Tally
from fabrik_node.transport.threshold import Caller, Shut
from fabrik_node.transport.turns import Pace
from fabrik_sync import Closed, EphemeralReceived, Hub, Join, Limits, LogId, Reason, Refused, Session, State, Status

__all__ = ["DialEnd", "Mesh"]

INBOUND_MAX = 128
"""Connections that others opened; further ones are refused until one ends."""
INBOUND_PER_KEY_MAX = 16
"""Of them, those with one key behind their certificate, proven in HELLO or not yet: of a node that lost its way there are a few for some seconds."""
RETRY_S_MAX = 4.0
"""The longest wait between two dials of an address, so that a mesh heals within ten seconds however long it was apart."""
_TELL_AGAIN_S = 600.0
"""A caller that is refused again and again for one reason is told of this often: events are kept for ever."""
_TELL_HOME_MAX = 12
"""Refused callers of one address in that time, whatever keys and certificates they show, so that it does not silence what is to be said of others."""
_TELL_MAX = 60
"""Refused callers of any kind in that time: addresses and keys cost a stranger nothing."""
_COMES_MAX = 20
"""Times in that while that the coming and going of one key is told; who flaps faster shows in ``status``."""
_FLUSH_LOOK_S = 0.02
_log = logging.getLogger("fabrik_node.transport")


class Mesh:
    """``tell(kind, data)`` gets peer events; ``moved()`` is called when the state of a peer changed. Use from one event loop."""

    def __init__(
        self,
        node: Replication,
        admin: bytes,
        clock: Clock,
        rng: Random,
        *,
        tell: Callable[[str, Mapping[str, Any]], None],
        moved: Callable[[], None],
        limits: Limits | None = None,
        inbound_max: int = INBOUND_MAX,
        retry_s_max: float = RETRY_S_MAX,
        former: Sequence[SigningKey] = (),
    ) -> None:
        self._node = node
        self._clock = clock
        self._tell = tell
        self._moved = moved
        self._logs = NodeLogs(node, admin)
        self._hub = Hub(node.public)
        self._links: dict[Session, tuple[Link, str, str]] = {}
        self._guises = Guises(Guise(node.public, node.sign, node.admitted, clock), former, node.admitted, clock)
        self._listener: Listener | None = None
        self.gate: Gate | None = None
        self._pace = Pace()
        self._limits = limits or Limits()
        self._inbound_max = inbound_max
        self._refusals = Sparing(count=1, window_s=_TELL_AGAIN_S)
        self._home_refusals = Sparing(count=_TELL_HOME_MAX, window_s=_TELL_AGAIN_S)
        self._all_refusals = Sparing(count=_TELL_MAX, window_s=_TELL_AGAIN_S)
        self._comings = Sparing(count=_COMES_MAX, window_s=_TELL_AGAIN_S)
        self._announced: set[Session] = set()
        self._dials = Dials(clock, rng, retry_s_max, self._hub, call=self._call, tell=tell, moved=moved)
        self._unsubscribe = [
            node.on_members(self._on_members),
            node.on_committed(self._on_committed),
            node.on_ephemeral(self._on_ephemeral),
            node.on_missing(self._on_missing),
        ]
        self.refused_inbound = 0
        self.tally = Tally()
        self._gate = GateCounters()

    # ---- commands -------------------------------------------------------------------------------

    async def listen(self, address: ListenAddress) -> str:
        """Accept peers; the URL that they dial. Raises :class:`PortInUse`."""
        handshake_s = self._limits.handshake_s
        self.gate = gate = Gate(self._node, None if address.plain else self._guises, has_room=self._has_room, handshake_s=handshake_s)
        self._gate = gate.counters
        self._listener = Listener(gate, enter=self._accept, shut=self._tell_shut, handshake_s=handshake_s, pace=self._pace, clock=self._clock)
        return address.url(await self._listener.open(address))

    def dial(self, url: str, key: bytes = b"", invitation: tuple[bytes, bytes] | None = None) -> None:
        """Keep a connection to this address. ``key`` empty: any member may answer. Known addresses are left as they are.

        ``invitation``: token id and secret, used while we are not a member.
        """
        self._dials.add(url, key, None if invitation is None else Join(*invitation, next=self._node.next_commitment))

    @property
    def dials(self) -> int:
        """How many addresses are kept."""
        return len(self._dials.all)

    @property
    def inbound(self) -> int:
        """Connections that others opened and that came through the gate."""
        return 0 if self._listener is None else len(self._listener.handler_tasks)

    @property
    def unknown_callers(self) -> int:
        """Connections at the gate."""
        return 0 if self._listener is None else self._listener.unknown

    @property
    def link_dead_s(self) -> float:
        """Seconds after which a connection that leads nowhere is noticed."""
        return self._limits.silent_s

    @property
    def connected(self) -> int:
        """Peers that are proven and connected now. May be asked from any thread."""
        return self._hub.peers

    async def first_sync(self, url: str) -> DialEnd | None:
        """Wait until everything that this peer had is here: None. Or how it ended before that."""
        return await self._dials.first_sync(url)

    def why_not(self, url: str) -> str:
        """Why the last try to reach this address came to nothing; empty while that is not known."""
        return self._dials.all[url].detail

    async def flush(self, timeout_s: float) -> bool:
        """Wait until every connected peer has all that we have, at most ``timeout_s``; whether that came true."""
        deadline = self._clock.now() + timeout_s
        while any(self._is_owed(session.status()) for session in self._hub.sessions):
            if self._clock.now() >= deadline:
                return False
            await asyncio.sleep(_FLUSH_LOOK_S)
        return True

    async def close(self) -> None:
        """End every connection and dial nobody any more. Closing twice is closing once."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        for session, (link, _, _) in tuple(self._links.items()):
            session.close()
            link.kick()
        await self._dials.close()
        if self._listener is not None:
            await self._listener.close()

    def statuses(self) -> Sequence[PeerStatus]:
        """One line for each dialled address and each peer that called us."""
        found = [self._dial_status(dial) for dial in self._dials.all.values()]
        called = [(link, url) for link, url, direction in self._links.values() if direction == "in" and link.session.peer_key is not None]
        return [*found, *(self._link_status(link, url, "in", 0, "") for link, url in called)]

    def traffic(self) -> Traffic:
        """What all connections counted since the start."""
        return self.tally.traffic((session.counters for session in self._links), self._hub.limits, self._gate)

    def _has_room(self, key: bytes) -> bool:
        """For one more that calls with this key; empty on a plain link, which is of this host."""
        of_key = self._listener.connected(key) if self._listener is not None and key else 0
        self.tally.full("inbound_per_key" if of_key >= INBOUND_PER_KEY_MAX else "inbound" if self.inbound >= self._inbound_max else "")
        return of_key < INBOUND_PER_KEY_MAX and self.inbound < self._inbound_max

    # ---- connections ----------------------------------------------------------------------------

    async def _accept(self, socket: HeardServer, caller: Caller) -> None:
        if not self._unsubscribe:  # closing: who came through the gate just now would be waited for, and never told to go
            socket.transport.abort()
            return
        session = Session.accept(
            identity=self._guises.of(caller.own_key),
            mesh=self._node.mesh_id,
            replica=self._logs,
            now=self._clock.now(),
            limits=self._limits,
            unknown_key_hint=STRANGER_HINT,
            wants=self._hub.wants,
            own_cert=caller.own_cert,
            peer_cert=caller.peer_cert,
            cert_key=caller.key,
            token_id=caller.token_id,
        )
        end = await self._run(self._link(socket, session, "", "in"))
        if isinstance(end, Refused):
            self._tell_refused_caller(caller.address, session.peer_key or b"", end.code, end.hint)

    async def _call(self, dial: Dial) -> tuple[LinkEnd | None, str]:
        """One try. How it ended, or what went wrong before there was anybody to talk to.

        A peer that knows none but a former key of ours is given the rotation under that one, and then called under our own. One that refuses our
        token may have let us in by it, and we were cut off before we heard of that: it is called once more, as by a member.
        """
        found = await self._call_as(dial, self._guises.own)
        if dial.join is not None and _refused(found[0], "join_refused", by_peer=True):
            again = await self._call_as(dial, self._guises.own, with_token=False)
            found = found if _refused(again[0], Reason.UNKNOWN_KEY, by_peer=True) else again
        if not dial.key and _refused(found[0], Reason.UNKNOWN_KEY, by_peer=False) and (guess := self._guess(dial)):
            guessed = await self._call_as(dial, self._guises.own, guess)
            found = found if _refused(guessed[0], Reason.WRONG_KEY, by_peer=False) else guessed
        for guise in self._guises.all[1:]:
            if not _refused(found[0], Reason.UNKNOWN_KEY, by_peer=True):
                return found
            found = await self._call_as(dial, guise)
            if _refused(found[0], Reason.REVOKED, by_peer=True):
                return await self._call_as(dial, self._guises.own)
        return found

    def _guess(self, dial: Dial) -> bytes:
        """Whoever is at an address without a known key shows one that we do not know: perhaps that of a member that rotated. Each time another member is asked for."""
        members = sorted(set(self._node.admitted()) - {self._node.public})
        dial.guesses += 1
        return members[dial.guesses % len(members)] if members and self._node.is_admitted(self._node.public) else b""

    async def _call_as(self, dial: Dial, guise: Guise, guess: bytes = b"", *, with_token: bool = True) -> tuple[LinkEnd | None, str]:
        is_member = self._node.is_admitted(self._node.public)
        if is_member and dial.key and not self._node.is_admitted(dial.key):
            dial.key = self._newest(dial.key)
        join = None if is_member or not with_token else dial.join
        url = parse_url(dial.url)
        try:
            opened = await knock(replace(url, plain=url.plain and not dial.needs_tls), guise.contexts, guise.public, expected=dial.key or guess, join=join)
        except KnockRefused as refused:
            self.tally.shut(refused.code, "out")
            if refused.code == Reason.NEEDS_TLS and not dial.needs_tls:
                dial.needs_tls = True
                return await self._call_as(dial, guise, guess, with_token=with_token)
            return Refused(refused.code, refused.hint, by_peer=refused.by_peer, proven=False), ""
        except (OSError, TimeoutError, InvalidHandshake) as error:
            return None, str(error) or type(error).__name__
        session = Session.connect(
            identity=guise,
            mesh=self._node.mesh_id,
            replica=self._logs,
            now=self._clock.now(),
            limits=self._limits,
            expected_key=dial.key or guess or None,
            join=join,
            wants=self._hub.wants,
            own_cert=opened.own_cert,
            peer_cert=opened.peer_cert,
            cert_key=opened.peer_key,
        )
        dial.link = self._link(opened.socket, session, dial.url, "out")
        return await self._run(dial.link), ""

    def _newest(self, key: bytes) -> bytes:
        """The key of a member that this one was rotated to; empty for one that was put out of the mesh: whoever answers there now has to be a member."""
        seen = {key}
        while (after := self._node.successor(key)) is not None and after not in seen:
            seen.add(after)
            key = after
        return key if self._node.is_admitted(key) else b""

    def _link(self, socket: Any, session: Session, url: str, direction: str) -> Link:
        link = Link(
            socket,
            session,
            self._node,
            self._clock,
            on_ready=self._on_ready,
            on_caught_up=self._on_caught_up,
            on_ephemeral=self._on_foreign_ephemeral,
            on_duplicate=self._on_duplicate,
            pace=self._pace,
        )
        self._links[session] = (link, url, direction)
        return link

    async def _run(self, link: Link) -> LinkEnd:
        session = link.session
        end: LinkEnd = Closed("shutdown", "", by_peer=False)
        try:
            end = await link.run()
            if link.failure is not None:
                _log.error("a connection broke on this side (%s)", self._links[session][1] or "they called us", exc_info=link.failure)
        finally:
            _, _, direction = self._links.pop(session)
            self.tally.ended(session.counters, end, direction)
            was_told = session in self._announced
            self._announced.discard(session)
            self._hub.remove(session)
            self._dials.handle_link_ended()
            self._kick_all()
            if was_told and end.code != "duplicate_connection" and session.peer_key is not None:
                self._tell("peer.lost", {"key": show_key(session.peer_key), "code": end.code, "detail": end.hint})
            self._moved()
        return end

    def _tell_shut(self, address: str, shut: Shut) -> None:
        if shut.welcome:
            return
        self.tally.shut(shut.refusal.code, "in")
        if shut.quiet:
            self.refused_inbound += 1
            return
        self._tell_refused_caller(address, shut.key, shut.refusal.code, shut.told)

    def _tell_refused_caller(self, address: str, key: bytes, code: str, detail: str) -> None:
        self.refused_inbound += 1
        shown = show_key(key) if key else ""
        now, home = self._clock.now(), neighbourhood(address)
        if self._refusals.may((shown or home, code), now) and self._home_refusals.may(home, now) and self._all_refusals.may("", now):
            self._tell("peer.refused", {"direction": "in", "key": shown, "address": address, "code": code, "detail": detail})

    # ---- what links tell --------------------------------------------------------------------------

    def _on_ready(self, link: Link) -> None:
        session = link.session
        _, url, direction = self._links[session]
        dial = self._dials.all.get(url) if direction == "out" else None
        if dial is not None:
            dial.handle_ready(session.peer_key or dial.key, self._clock.now())
        for other in self._hub.add(session):
            self._kick(other)
        if session.state is not State.CLOSED and session.peer_key is not None and self._comings.may(session.peer_key, self._clock.now()):
            self._announced.add(session)
            self._tell("peer.connected", {"key": show_key(session.peer_key), "direction": direction, "url": url if dial is None else dial.shown})
        for author, counter, message in self._node.ephemerals():
            session.send_ephemeral(author, counter, message)
        link.kick()
        self._moved()

    def _on_duplicate(self, link: Link) -> None:
        for closed in self._hub.handle_duplicate(link.session):
            self._kick(closed)

    def _on_caught_up(self, link: Link) -> None:
        _, url, direction = self._links[link.session]
        dial = self._dials.all.get(url) if direction == "out" else None
        if dial is not None:
            dial.caught_up.set()
        self._moved()

    def _on_foreign_ephemeral(self, event: EphemeralReceived) -> None:
        if self._hub.is_news(event.author, event.counter):
            self._node.ephemeral_in(event.data)  # comes back through _on_ephemeral when it is valid

    # ---- what the node tells ----------------------------------------------------------------------

    def _on_members(self) -> None:
        self._guises.handle_members()
        self._hub.handle_admitted_changed()
        self._dials.handle_members()
        self._kick_all()

    def _on_committed(self, heads: Sequence[CoreHead]) -> None:
        if any(not self._node.is_admitted(session.peer_key or b"") for session in self._hub.sessions):
            self._on_members()  # a record that wins no register can end a membership, too
        for log in dict.fromkeys(LogId(head.author, head.epoch) for head in heads):
            self._hub.handle_heads(log, self._logs.heads_of(log))
        self._kick_all()
        self._moved()  # a peer that was syncing may be level with us now

    def _on_missing(self, author: bytes, epoch: int, have_seq: int) -> None:
        asked = self._hub.handle_lost(LogId(author, epoch), have_seq, self._clock.now())
        if asked is not None:
            self._kick(asked)

    def _on_ephemeral(self, author: bytes, counter: int, message: bytes) -> None:
        if self._hub.handle_ephemeral(author, counter, message):
            self._kick_all()

    @staticmethod
    def _is_owed(status: Status) -> bool:
        return status.lag_out > 0 or status.outbox_bytes > 0 or status.unacked_bytes > 0

    def _kick(self, session: Session) -> None:
        entry = self._links.get(session)
        if entry is not None:
            entry[0].kick()

    def _kick_all(self) -> None:
        for link, _, _ in tuple(self._links.values()):
            link.kick()

    # ---- status -----------------------------------------------------------------------------------

    def _dial_status(self, dial: Dial) -> PeerStatus:
        link = dial.link
        if link is not None and link.session.peer_key is not None and link.session in self._links:
            return self._link_status(link, dial.shown, "out", dial.backoff.attempts, dial.detail)
        other = self._hub.peer(dial.key) if dial.key else None
        if other is not None and other in self._links:  # the connection that they opened serves both ways
            return self._link_status(self._links[other][0], dial.shown, "both", dial.backoff.attempts, "")
        return PeerStatus(dial.shown, dial.key, "", dial.state, "out", dial.backoff.attempts, None, None, dial.detail)

    def _link_status(self, link: Link, url: str, direction: str, attempts: int, detail: str) -> PeerStatus:
        status = link.session.status()
        state = "behind" if status.behind else ("connected" if status.caught_up else "syncing")
        counters = link.session.counters
        return PeerStatus(
            url=url,
            key=status.peer_key or b"",
            name="",
            state=state,
            direction=direction,
            attempts=attempts,
            last_contact_s=max(0.0, self._clock.now() - link.heard_at),
            lag_ops=status.lag_in + status.lag_out + status.unacked_ops,
            lag_out=status.lag_out + status.unacked_ops,
            lag_in=status.lag_in,
            lag_s=self._node.committed_s((*log, branch, seq) for log, branch, seq in status.lag_behind),
            outbox_bytes=status.unacked_bytes,
            detail=detail,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
        )


def _refused(end: LinkEnd | None, code: str, *, by_peer: bool) -> bool:
    return end is not None and end.by_peer is by_peer and end.code == code
