"""Asking for a claim, and what stands in the way of it."""

from __future__ import annotations

import logging

from fabrik_node.agent.backoff import Backoff
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.domain.claims import Claim
from fabrik_node.errors import AuthError, Conflict, FabrikError, GitFailed, InvalidOp, NotFound, Precondition, StoreFull, Unreachable
from fabrik_node.ids import show_id

__all__ = ["Claiming"]

_log = logging.getLogger("fabrik_node.agent")


class Claiming:
    """Claims of one agent that were asked for and not answered yet, and why the last try failed."""

    def __init__(self, setup: AgentSetup, backoff: Backoff) -> None:
        self._setup = setup
        self._backoff = backoff
        self.items: set[bytes] = set()
        """Asked for, not answered."""
        self.problem = ""
        """Why nothing could be claimed at the last try, one line; empty while nothing is in the way."""

    async def ask(self, item: bytes) -> Claim | None:
        """The claim, or None when somebody else has it, nobody can be asked, or this node may not. Raises StoreFailed."""
        self.items.add(item)
        try:
            claim = await self._setup.pipeline.claim(item, self._setup.config.name)
        except (Conflict, NotFound):  # somebody else's, or gone
            self._backoff.refused(item, self._setup.clock.now())
            return None
        except (Unreachable, GitFailed, Precondition, AuthError, StoreFull) as error:  # nobody to ask, not allowed, no space: that may pass
            self._backoff.refused(item, self._setup.clock.now())
            self._is_prevented(error)
            return None
        except InvalidOp as error:  # what is written of the item can not be followed: its fault, and others can be taken
            self._backoff.lost(item, self._setup.clock.now())
            _log.warning("item %s can not be claimed: %s", show_id(item), error)
            return None
        finally:
            self.items.discard(item)
        self._is_prevented(None)
        if not isinstance(claim, Claim):
            self._backoff.refused(item, self._setup.clock.now())
            return None
        return claim

    def _is_prevented(self, error: FabrikError | None) -> None:
        """Keep it for whoever asks, and say once what is in the way, and that it no longer is."""
        problem = "" if error is None else f"{error} ({error.hint})" if error.hint else str(error)
        if problem != self.problem:
            _log.log(logging.WARNING if problem else logging.INFO, "%s", f"can not claim work: {problem}" if problem else "can claim work again")
        self.problem = problem
