"""Every member with what is known of it here and now, and since when. Pure reading; ages are on our own clock, times of day only shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabrik_node.clock import Clock, iso
from fabrik_node.domain.nearness import SKEW_MS_MAX, Nearness, judge_node, silent_after_s, skew_ms
from fabrik_node.domain.schema import Role
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.node.audit import Divergence
from fabrik_node.node.presence import Heard
from fabrik_node.ports import CONNECTED, PeerStatus

__all__ = ["Neighbour", "Neighbours", "NodeLines", "agent_problem", "clock_warnings", "divergence_lines", "divergence_warnings", "said_text"]

_TEXT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One node as it is seen from here at one moment. Ages in seconds on our clock; None: nothing was heard."""

    state: Nearness
    age_s: float | None
    silent_s: float
    """Without a new message for so long it is silent."""
    heard: Heard | None
    link: PeerStatus | None


class Neighbours:
    """What is known of each key at one moment. ``listens`` False: a store that no node serves, so nothing is known."""

    def __init__(self, *, own: bytes, now: float, beat_s: float, listens: bool, heard: Mapping[bytes, Heard], peers: Sequence[PeerStatus]) -> None:
        self.listens = listens
        self._own = own
        self._now = now
        self._beat_s = beat_s
        self._heard = heard
        self._links = {peer.key: peer for peer in peers if peer.key and peer.state in CONNECTED}

    def judge(self, key: bytes) -> Neighbour:
        """See :func:`~fabrik_node.domain.nearness.judge_node`."""
        heard, link = self._heard.get(key), self._links.get(key)
        age_s = None if heard is None else max(0.0, self._now - heard.at)
        silent_s = silent_after_s(heard.payload.get("beat_ms") if heard else None, self._beat_s)
        if not self.listens:
            state = Nearness.UNKNOWN
        elif key == self._own:
            state = Nearness.SELF
        else:
            state = judge_node(age_s=age_s, changed=heard is not None and heard.changed, connected=link is not None, silent_s=silent_s)
        return Neighbour(state, age_s, silent_s, heard, link)


class NodeLines:
    """The lines of ``nodes list``."""

    def __init__(
        self, *, own: bytes, near: Neighbours, clock: Clock, stale_s: float, diverged: Mapping[bytes, Divergence], frontier: Callable[[], bytes]
    ) -> None:
        self._own = own
        self._near = near
        self._clock = clock
        self._stale_s = stale_s
        self._diverged = diverged
        self._frontier = frontier() if near.listens else b""

    def all(self, roles: Mapping[bytes, Role], name_of: Callable[[bytes], str], successor_of: Callable[[bytes], bytes | None]) -> list[dict[str, Any]]:
        """Us first, then the others in order of their keys; keys that were rotated away last, each with the key that follows it."""
        lines = [{**self._line(key, role, name_of(key)), "successor": _shown(successor_of(key))} for key, role in roles.items()]
        return sorted(lines, key=lambda line: (not line["me"], line["successor"] is not None, line["node"]))

    def _line(self, key: bytes, role: Role, name: str) -> dict[str, Any]:
        seen = self._near.judge(key)
        heard, link, age_s, state = seen.heard, seen.link, seen.age_s, seen.state
        skew = None if heard is None or not heard.changed or key == self._own else skew_ms(heard.payload.get("wall_ms"), heard.wall_ms)
        since = None if age_s is None or state is not Nearness.SILENT else iso(self._clock.wall_ms() - round(age_s * 1000))
        return {
            "node": show_key(key),
            "fingerprint": fingerprint(key),
            "name": name,
            "role": role.name.lower(),
            "me": key == self._own,
            "state": state.value,
            "alive": None if state in (Nearness.UNKNOWN, Nearness.UNCONFIRMED) else state in (Nearness.ALIVE, Nearness.SELF),
            "silent_since": since,
            "silent_after_s": seen.silent_s,
            "stale": None if not self._near.listens else (age_s is None or age_s > self._stale_s),
            "connected": link is not None,
            "last_contact_s": age_s,
            **self._lag(key, heard, link),
            "version": said_text(heard, "version"),
            "url": said_text(heard, "url"),
            "clock_skew_s": None if skew is None else skew / 1000,
            "clock_warning": skew is not None and abs(skew) > SKEW_MS_MAX,
            "diverged": key in self._diverged,
            "agent_problem": agent_problem(heard) if state in (Nearness.ALIVE, Nearness.SELF) else "",
        }

    def _lag(self, key: bytes, heard: Heard | None, link: PeerStatus | None) -> dict[str, Any]:
        """``lag_out``: ops of ours that it lacks; ``lag_in``: ops of its that we lack; ``lag_s``: how long ago we committed the oldest that it lacks.

        From the open session with it; without one only from its last frontier, which says no more than that nothing is missing. None: not known.
        """
        if link is not None:
            return {"lag_ops": link.lag_ops, "lag_out": link.lag_out, "lag_in": link.lag_in, "lag_s": link.lag_s, "lag_source": "session"}
        if key == self._own or (heard is not None and self._frontier and heard.payload.get("frontier") == self._frontier):
            return {"lag_ops": 0, "lag_out": 0, "lag_in": 0, "lag_s": 0.0, "lag_source": "self" if key == self._own else "frontier"}
        return {"lag_ops": None, "lag_out": None, "lag_in": None, "lag_s": None, "lag_source": None}


def _shown(key: bytes | None) -> str | None:
    return None if key is None else show_key(key)


def agent_problem(heard: Heard | None) -> str:
    """Why its agent claims no work now, in its own words; empty when it can, or has no agent. Other nodes may say anything."""
    agent = None if heard is None else heard.payload.get("agent")
    problem = agent.get("problem") if isinstance(agent, Mapping) else None
    return problem[:_TEXT_CHARS] if isinstance(problem, str) else ""


def said_text(heard: Heard | None, name: str) -> str:
    """A short text of a node's own message; other nodes may say anything."""
    value = None if heard is None else heard.payload.get(name)
    return value[:_TEXT_CHARS] if isinstance(value, str) else ""


def clock_warnings(heard: Mapping[bytes, Heard], own: bytes, name_of: Callable[[bytes], str]) -> list[str]:
    """One line for each node whose wall clock is far from ours. Which of the two is wrong nobody knows here."""
    found = []
    for key, each in sorted(heard.items()):
        skew = skew_ms(each.payload.get("wall_ms"), each.wall_ms) if each.changed and key != own else None
        if skew is not None and abs(skew) > SKEW_MS_MAX:
            side = "ahead of" if skew > 0 else "behind"
            found.append(
                f"the clock of {name_of(key)} is {abs(skew) / 1000:.0f} s {side} this node's: times that the two show differ (nothing is decided by them); set both by NTP"
            )
    return found


def divergence_lines(diverged: Mapping[bytes, Divergence], name_of: Callable[[bytes], str], now: float) -> list[dict[str, Any]]:
    """What the audit knows, for ``status``."""
    return [
        {"node": show_key(key), "name": name_of(key), "age_s": max(0.0, now - each.since), "registers": list(each.registers), "more": each.more}
        for key, each in sorted(diverged.items())
    ]


def divergence_warnings(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each node that made another state of the same ops."""
    found = []
    for line in lines:
        names = ", ".join(line["registers"]) + (" and more" if line["more"] else "") if line["registers"] else "which ones is being looked for"
        found.append(
            f"this node and {line['name']} hold the same ops and have different states, so one of them is wrong: {names}. "
            "See docs/howto/monitor.md, and keep both homes as they are"
        )
    return found
