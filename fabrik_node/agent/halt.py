"""Whether this agent takes work at all: a halt that a person, the crash guard or a lost role set, kept over restarts of the node until somebody lifts it.

Running work goes on to its end; only nothing new is begun.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = ["GO_ON", "Halt", "HaltCode", "HaltSwitch"]

GO_ON = "fabrik-node drain --off"
"""What lifts a halt."""


class HaltCode(StrEnum):
    """Why an agent takes no work. Stable: programs match on it."""

    OPERATOR = "operator"
    CRASH_LOOP = "crash_loop"
    NOT_ALLOWED = "not_allowed"
    """The node lost the role that its work takes, while it had work."""
    UNREADABLE = "unreadable"
    """What was saved can not be read: nobody knows that it is over."""


@dataclass(frozen=True, slots=True)
class Halt:
    """``reason`` is one line; ``since_ms`` wall time, for people."""

    code: HaltCode
    reason: str
    since_ms: int

    @property
    def line(self) -> str:
        """Code, reason and what to type, as shown everywhere."""
        return f"{self.code}: {self.reason} ({GO_ON})"


class HaltSwitch:
    """The halt of one agent. ``saved``: what ``save`` was given last, by this process or an earlier one. Belongs to one event loop."""

    def __init__(self, saved: bytes | None, save: Callable[[bytes], Awaitable[None]]) -> None:
        self._save = save
        self._callbacks: list[Callable[[], None]] = []
        self._halt = _decode(saved) if saved else None

    @property
    def halt(self) -> Halt | None:
        """None while work is taken."""
        return self._halt

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when a halt is set or lifted; returns the way to unsubscribe."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def set(self, halt: Halt) -> bool:
        """Halt, at once; durable when this returns. False when that was so already, and the first cause stays. Raises what ``save`` raises: then it
        holds until the node ends.
        """
        if self._halt is not None:
            return False
        self._halt = halt
        self._tell()
        await self._save(json.dumps(asdict(halt), ensure_ascii=False).encode())
        return True

    async def lift(self) -> Halt | None:
        """Go on; the halt that was, None when there was none. Raises what ``save`` raises, and then nothing changed."""
        halt = self._halt
        if halt is not None:
            await self._save(b"")
            self._halt = None
            self._tell()
        return halt

    def _tell(self) -> None:
        for callback in tuple(self._callbacks):
            callback()


def _decode(saved: bytes) -> Halt:
    try:
        said = json.loads(saved)
        return Halt(HaltCode(said["code"]), str(said["reason"]), int(said["since_ms"]))
    except (ValueError, KeyError, TypeError) as error:
        return Halt(HaltCode.UNREADABLE, f"the saved halt can not be read: {type(error).__name__}: {error}", 0)
