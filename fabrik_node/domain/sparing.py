"""Saying something about somebody, but not for ever: events are kept, and a peer that flaps or forges may not fill the disk with them."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Sparing"]


class Sparing:
    """``count`` times in ``window_s`` seconds for each of at most ``keys_max`` keys; the key that is known longest is forgotten first."""

    def __init__(self, *, count: int, window_s: float, keys_max: int = 256) -> None:
        self._count = count
        self._window_s = window_s
        self._keys_max = keys_max
        self._said: dict[Hashable, tuple[float, int]] = {}
        self.left_out = 0
        """What was not said since the start."""

    def may(self, key: Hashable, now: float) -> bool:
        """Whether to say it about ``key`` now. ``now`` is in seconds and never goes back."""
        begun, said = self._said.get(key, (now, 0))
        if now - begun >= self._window_s:
            begun, said = now, 0
            self._said.pop(key)
        if said >= self._count:
            self.left_out += 1
            return False
        if key not in self._said and len(self._said) >= self._keys_max:
            del self._said[next(iter(self._said))]
        self._said[key] = begun, said + 1
        return True
