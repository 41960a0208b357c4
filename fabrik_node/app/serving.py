"""``serve`` and ``join``: a node in the foreground, and the one error that its caller is shown."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any

from fabrik_node.app.first_writes import tell_name
from fabrik_node.app.flags import Entry, parse_entry
from fabrik_node.app.logs import start_logging
from fabrik_node.app.running import FLUSH_S, Running, refusal
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import Conflict, FabrikError, Internal, Unreachable
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.node.self_test import check_signatures

__all__ = ["enter", "first_of", "join", "serve"]

_log = logging.getLogger("fabrik_node")
_GARBAGE_MIN = 50_000
"""Objects between two looks for cycles: three of the fullest frames."""
_JOIN_S = 60.0
"""Seconds for a whole join: dial, redeem, first sync."""


def serve(home: Path, options: ServeOptions) -> int:
    """Run until a signal. The exit status: 0, or 128 and the signal's number. Raises FabrikError."""
    start_logging(options.log_level, options.log_format)
    _log.debug("signature self-test: %d public edge cases, one verdict", check_signatures())
    try:
        return asyncio.run(_serve(home, options))
    except BaseExceptionGroup as group:
        raise first_of(group) from group


def join(home: Path, token: str, *, name: str) -> dict[str, Any]:
    """Enter a mesh, sync once, stop. Raises AuthError with the issuer's reason, Unreachable."""
    try:
        return asyncio.run(enter(home, Entry(token=JoinToken.decode(token)), name))
    except BaseExceptionGroup as group:
        raise first_of(group) from group


def first_of(group: BaseExceptionGroup[BaseException]) -> FabrikError:
    """The error to show of a group: ours before others."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            leaves.append(error)
    for leaf in leaves:
        if isinstance(leaf, FabrikError):
            return leaf
    return Internal(f"the node broke: {leaves[0]!r}", "report this with the node's log")


async def enter(home: Path, entry: Entry, name: str) -> dict[str, Any]:
    """Dial, sync once, stop. Raises AuthError with the other side's reason, Conflict for a member, Unreachable."""
    options = ServeOptions(name=name or None)
    async with Running(home, options, entry) as running:
        node = running.node
        if node.is_admitted(node.public) and not running.fresh:
            raise Conflict(f"{home} is a member of mesh {running.identity.record.name!r} already", "fabrik-node serve")
        try:
            async with asyncio.timeout(_JOIN_S):
                end = await running.mesh.first_sync(entry.address)
        except TimeoutError:
            why = running.mesh.why_not(entry.address)
            raise Unreachable(
                f"{entry.address} did not let this node in within {_JOIN_S:.0f} s" + (f": {why}" if why else ""),
                "the same command again" if why else "start the node that issued the token: fabrik-node serve",
            ) from None
        if end is not None:
            raise refusal(end)
        await tell_name(node, running.config.node.name)  # a home that an earlier try left may have another
        await running.mesh.flush(FLUSH_S)
        return {
            "home": str(home),
            "node": node.name_of(node.public),
            "node_id": show_key(node.public),
            "fingerprint": fingerprint(node.public),
            "mesh": running.identity.record.name,
            "mesh_id": show_key(running.identity.record.mesh_id),
            "ops": node.replica.ops,
        }


async def _serve(home: Path, options: ServeOptions) -> int:
    entry = parse_entry(options.rendezvous)
    node = Running(home, options, entry)
    await node.check_agent()
    while True:
        async with node as running:
            _spare_the_loop()
            status = await running.work()
        if not node.switching:
            return status
        node = node.again()


def _spare_the_loop() -> None:
    """Python looks for cycles while everything else waits. What is loaded stays, so it need not be looked at again; and what a large frame is made of is gone before the look."""
    gc.set_threshold(_GARBAGE_MIN, 20, 20)
    gc.unfreeze()  # a start before this one is gone
    gc.collect()
    gc.freeze()
