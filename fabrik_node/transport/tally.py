"""What all connections counted since the start, also those that ended: sums never go back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields

from fabrik_node.ports import Traffic
from fabrik_node.transport.gate import GateCounters
from fabrik_sync import HUB_LIMIT_NAMES, LIMIT_NAMES, Counters, Reason, Refused
from fabrik_sync import Closed as ClosedEnd

__all__ = ["MESH_LIMIT_NAMES", "Tally"]

MESH_LIMIT_NAMES = ("inbound", "inbound_per_key", "gate_handshakes", "gate_s", "knocks")
"""Limits of the transport itself: connections of others, callers of whom nothing is known yet, the time that they have, and keys that wait for approval."""
_SUMS = tuple(field.name for field in fields(Counters) if field.name != "limits")
_SHELL_CODES = frozenset({"bad_segment", "internal", "join_refused", "bad_knock", "approval_pending", "knock_rejected", "knocks_full", "not_admin"})
_KNOWN_CODES = frozenset(map(str, Reason)) | _SHELL_CODES


class Tally:
    """Call :meth:`ended` once for each session."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._limits = dict.fromkeys((*LIMIT_NAMES, *HUB_LIMIT_NAMES, *MESH_LIMIT_NAMES), 0)
        self._ended: Counter[tuple[str, str, str]] = Counter()

    def shut(self, code: str, direction: str) -> None:
        """Somebody was refused before there was a session. ``direction``: who called, ``in`` or ``out``."""
        self._ended["refused", _known(code), direction] += 1
        self._limits["knocks"] += code == "knocks_full" and direction == "in"

    def full(self, limit: str) -> None:
        """A limit of the transport was hit; an empty name is none."""
        if limit:
            self._limits[limit] += 1

    def ended(self, counters: Counters, end: ClosedEnd | Refused, direction: str) -> None:
        """A session is over."""
        self._add(self._sums, self._limits, counters)
        self._ended["refused" if isinstance(end, Refused) else "closed", _known(end.code), direction] += 1

    def traffic(self, live: Iterable[Counters], hub_limits: dict[str, int], gate: GateCounters) -> Traffic:
        """Everything so far, with what the open sessions and the gate counted."""
        sums, limits = Counter(dict.fromkeys(_SUMS, 0) | self._sums), self._limits | hub_limits
        limits |= {"gate_handshakes": gate.evicted, "gate_s": gate.timed_out}
        sums.update({f"gate_{field.name}": getattr(gate, field.name) for field in fields(gate)})
        for counters in live:
            self._add(sums, limits, counters)
        return Traffic(counts=sums, limits=limits, ends=dict(self._ended))

    @staticmethod
    def _add(sums: Counter[str], limits: dict[str, int], counters: Counters) -> None:
        for name in _SUMS:
            sums[name] += getattr(counters, name)
        for name, count in counters.limits.items():
            limits[name] += count


def _known(code: str) -> str:
    """A peer may say any code: those that we do not know are one."""
    return code if code in _KNOWN_CODES else "other"
