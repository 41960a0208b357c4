"""What a command shows so that its node knows it: made when the command starts, gone when it ends. In memory only, so a restart forgets all of them."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from fabrik_node.errors import AuthError, ClaimLost
from fabrik_node.ids import show_id
from fabrik_node.ports import RunAccess
from fabrik_node.process import Peer, Standing
from fabrik_node.service.callers import OPERATOR, Caller, RunCaller

__all__ = ["TOKEN_BYTES", "Passes"]

TOKEN_BYTES = 32
_TOKEN_CHARS_MAX = 4 * TOKEN_BYTES
"""What is longer is no token of ours, and is not hashed."""


@dataclass(slots=True)
class _Pass:
    caller: RunCaller
    digest: bytes = field(repr=False)
    pid: int = 0
    """Of the process above all processes of the command; 0 while it is being started."""


class Passes:
    """See :class:`fabrik_node.ports.RunPasses`. Only digests of tokens are kept. ``holds(item, claim_id)``: whether that claim wins and is held."""

    def __init__(self, api: str, holds: Callable[[bytes, bytes], bool]) -> None:
        self._api = api
        self._holds = holds
        self._open: dict[bytes, _Pass] = {}

    def issue(self, item: bytes, claim_id: bytes, run_id: bytes, agent: str) -> RunAccess:
        """See :meth:`fabrik_node.ports.RunPasses.issue`."""
        token = secrets.token_hex(TOKEN_BYTES)
        digest = _digest(token)
        self._open[digest] = _Pass(RunCaller(item, claim_id, run_id, agent), digest)
        return RunAccess(self._api, token)

    def began(self, access: RunAccess, pid: int) -> None:
        """See :meth:`fabrik_node.ports.RunPasses.began`."""
        if (found := self._open.get(_digest(access.token))) is not None:
            found.pid = pid

    def end(self, access: RunAccess) -> None:
        """See :meth:`fabrik_node.ports.RunPasses.end`."""
        self._open.pop(_digest(access.token), None)

    def caller(self, token: str | None, peer: Peer) -> Caller:
        """Who speaks: by the token that it shows; without one by the process that it is, as far as the system tells.

        Raises AuthError for a token that does not count, for a process of a run that shows none, and, while a command runs, for one that can not be found any more: it may have
        been one. ClaimLost when the run's claim does not win any more.
        """
        if token is not None:
            return self._bearer(token)
        if not self._open or not peer.told:
            return OPERATOR
        if peer.standing is None:
            raise AuthError(
                "commands of runs are at work, and nobody can tell whose process this call came from: it has ended already, lives in a pid namespace of its own, or can not be looked at",
                "stay until the answer is here, and call from the host itself",
            )
        if (run := self._run_of(peer.standing)) is not None:
            raise AuthError(
                f"this caller is a process of run {show_id(run.run_id)} and shows no token: a command of a run is no operator",
                "leave FABRIK_API and FABRIK_TOKEN as they were, and leave out --home",
            )
        return OPERATOR

    def run_of(self, peer: Peer) -> str:
        """The id of the run whose process it is; empty for others, and while no command runs."""
        run = self._run_of(peer.standing) if peer.standing is not None else None
        return "" if run is None else show_id(run.run_id)

    def _bearer(self, token: str) -> RunCaller:
        shown = _digest(token[:_TOKEN_CHARS_MAX])
        found = [each for each in self._open.values() if hmac.compare_digest(each.digest, shown)]  # all are compared, whichever fits
        if not found:
            raise AuthError(
                "FABRIK_TOKEN does not count (any more): the command that it was made for is over, or its node was started again", "begin a new run"
            )
        caller = found[0].caller
        if not self._holds(caller.item, caller.claim_id):
            raise ClaimLost(
                f"run {show_id(caller.run_id)} does not hold item {show_id(caller.item)} any more, so its token does not count",
                "end the command: its node stops it",
            )
        return caller

    def _run_of(self, standing: Standing) -> RunCaller | None:
        """The run whose supervisor process is above it, or whose id is in its environment or its control group.

        A command that is being started may be that of any process that this node started.
        """
        own = os.getpid() in standing.above[1:]
        marks = set(standing.environment.split(b"\0"))
        for each in self._open.values():
            name = show_id(each.caller.run_id)
            if each.pid in standing.above or (own and not each.pid) or f"FABRIK_RUN={name}".encode() in marks or name in standing.groups:
                return each.caller
        return None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
