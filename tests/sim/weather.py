"""A network that does worse than break: it swallows packets in one direction, and TCP notices late; one end of a connection is gone and the other does not know.

Stands on :class:`sim.world.World`; the pauses are those of Linux's TCP: a first retransmission after 0.2 s and twice as long each time, a SYN after 1, 3 and 7 s.
"""

from __future__ import annotations

from sim.world import End, Node, World

RETRANSMIT_S = 0.2
SYN_AGAIN_S = (1.0, 3.0)
SET_UP_TRIPS = 3
"""Round trips until a session's first frame: TCP, TLS, HTTP."""
OPEN_S = 5.0
"""Seconds that a node waits for a connection to open."""


def next_try(since: float, now: float) -> float:
    """When TCP sends again what it could first not deliver at ``since``: the first such moment that is not before ``now``."""
    pause, at = RETRANSMIT_S, since
    while at < now:
        at += pause
        pause *= 2
    return at


class Weather(World):
    """``dark``: ordered pairs of names between which packets vanish. ``speed``: bytes per second of single nodes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.dark: set[tuple[str, str]] = set()
        self.speed: dict[str, float] = {}
        self.spread = (0.5, 1.5)
        """Each connection is as much slower or faster than the others: what goes over several is reordered."""
        self._opening: set[tuple[str, str]] = set()

    # ---- what goes wrong

    def darken(self, a: Node, b: Node) -> None:
        """What ``a`` sends does not reach ``b``, nor do ``a``'s acknowledgements."""
        self.dark.add((a.name, b.name))
        for end in self._ends(a, b):
            end.out.stalled = True

    def clear(self) -> None:
        """All packets arrive again. TCP notices when it tries the next time."""
        self.dark.clear()
        for conn in self.conns:
            for end in conn:
                if end.out.stalled:
                    self._resume(end)

    def _resume(self, end: End) -> None:
        pipe = end.out
        if not pipe.held:
            self.release(end)
            return
        self.after(next_try(pipe.held_since, self.now) - self.now, lambda: self.release(end) if pipe.stalled and not self._is_dark(end) else None)

    def half_cut(self, conn: tuple[End, End], *, first: int, later_s: float | None) -> None:
        """One end is gone at once; the other is told ``later_s`` after it, or (None) never: its packets go nowhere."""
        gone, other = conn[first], conn[1 - first]
        self._lose(gone)
        if later_s is None:
            other.out.stalled = other.out.gone = True
        else:
            self.after(later_s, lambda: self._lose(other))

    def wipe(self, node: Node) -> None:
        """A crash, and the disk is empty after it."""
        self.crash(node)
        store = type(node.store)(node.store.admin, segment_ops=node.store.segment_ops)
        store.members |= node.store.members  # as the token gave them
        node.store = store

    # ---- connections

    def crash(self, node: Node) -> None:
        """Everything but the store is gone, connections that were opening too."""
        self._opening = {route for route in self._opening if route[0] != node.name}
        super().crash(node)

    def dial(self, a: Node, b: Node, **options: object) -> tuple[End, End]:
        """As slow as the slower of the two."""
        kept = self.latency, self.bandwidth
        self.latency *= self.random.uniform(*self.spread)
        self.bandwidth = min(self.bandwidth, *(self.speed.get(node.name, self.bandwidth) for node in (a, b)))
        try:
            return super().dial(a, b, **options)  # type: ignore[arg-type]
        finally:
            self.latency, self.bandwidth = kept

    def _dial(self, a: Node, b: Node) -> None:
        route = (a.name, b.name)
        busy = not a.up or a.hub.peer(b.key) is not None or any(end.dialled is b and end.open for end in a.ends)
        if busy or not b.up or frozenset(route) in self.blocked:
            super()._dial(a, b)
            return
        del a.dials[b.name]
        if route not in self._opening:
            self._opening.add(route)
            set_up = SET_UP_TRIPS * 2 * self.latency
            for delay in (0.0, *SYN_AGAIN_S):
                self.after(delay + set_up, lambda: self._opened(a, b) if self._passes(a, b) else None)
            self.after(OPEN_S, lambda: self._not_opened(a, b))

    def _opened(self, a: Node, b: Node) -> None:
        if (a.name, b.name) in self._opening and a.up:
            self._opening.discard((a.name, b.name))
            if b.up:
                self.dial(a, b, again=True)
            else:
                self._redial(a, b, None)

    def _not_opened(self, a: Node, b: Node) -> None:
        if (a.name, b.name) in self._opening and a.up:
            self._opening.discard((a.name, b.name))
            self._redial(a, b, None)

    def _passes(self, a: Node, b: Node) -> bool:
        return not {(a.name, b.name), (b.name, a.name)} & self.dark and frozenset((a.name, b.name)) not in self.blocked

    def _is_dark(self, end: End) -> bool:
        return end.other is not None and (end.node.name, end.other.node.name) in self.dark

    def _ends(self, a: Node, b: Node) -> list[End]:
        return [end for conn in self.conns for end in conn if end.open and end.node is a and end.other is not None and end.other.node is b]
