"""``join URL --fingerprint FP``: ask to be let in, wait for an operator's word, then join like anybody else.

The key is made first and stays, so the command can be interrupted and typed again: the node there knows the key.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fabrik_node._core import Genesis, next_key
from fabrik_node.app.flags import Entry
from fabrik_node.app.opening import load_mesh, make_home
from fabrik_node.app.serving import enter, first_of
from fabrik_node.app.setup import default_name
from fabrik_node.clock import SystemClock
from fabrik_node.config import load_config
from fabrik_node.errors import AuthError, BadGenesis, Conflict, InvalidOp, NotInitialised, UsageError
from fabrik_node.ids import fingerprint
from fabrik_node.node.identity import create_key
from fabrik_node.paths import HomePaths, private_folder
from fabrik_node.transport.address import parse_url
from fabrik_node.transport.asking import Answer, Knocker, ask, parse_fingerprint

__all__ = ["join_by_knocking"]

_PENDING_S = 3.0
"""The longest pause while an operator decides: who is let in does not wait long, and a knock costs the node there a millisecond."""
_AGAIN_S = (1.0, 30.0)
"""The longest pause behind the first try that reached nobody, and behind any."""
_WAITS = frozenset({"approval_pending", "knocks_full", "too_many_connections"})


def join_by_knocking(home: Path, url: str, shown: str, *, name: str, say: Callable[[str, str], None]) -> dict[str, Any]:
    """Wait until an admin approves, then enter. ``say(what, what to type)`` is called when there is something new. Raises AuthError for a no."""
    target, digits = parse_url(url), parse_fingerprint(shown)
    if target.plain:
        raise UsageError("asking to be let in takes TLS", f"wss://{url.partition('://')[2]}")
    try:
        return asyncio.run(_join(home, str(target), digits, name, say))
    except BaseExceptionGroup as group:
        raise first_of(group) from group


async def _join(home: Path, url: str, digits: str, name: str, say: Callable[[str, str], None]) -> dict[str, Any]:
    paths = HomePaths(home)
    known = _known_mesh(paths)
    name = name or load_config(paths.config).node.name or default_name()
    paths.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_folder(paths.identity)
    key = create_key(paths.identity_key)
    knocker = Knocker(key.public, next_key(create_key(paths.next_key).public), name, key.sign)
    answer = await _until_answered(url, digits, knocker, say)
    try:
        Genesis.decode(answer.genesis)
    except InvalidOp as error:
        raise BadGenesis(f"the node there sent a genesis record that can not be read: {error}") from error
    if known and known != answer.genesis:
        raise Conflict(f"{home} belongs to another mesh than the node at {url}", "choose another home: --home DIR")
    if not known:
        await make_home(paths, SystemClock(), name=name, genesis=answer.genesis)
    return await enter(home, Entry(url=url, key=answer.key), name)


def _known_mesh(paths: HomePaths) -> bytes:
    """The genesis record of a home whose first try was cut off behind the approval; empty for a fresh one. Raises Conflict for the founder of a mesh."""
    try:
        mesh = load_mesh(paths)
    except NotInitialised:
        return b""
    if mesh.record.admin == mesh.key.public:
        raise Conflict(f"{paths.home} is the first node of mesh {mesh.record.name!r}", "choose another home: --home DIR")
    return mesh.genesis


async def _until_answered(url: str, digits: str, knocker: Knocker, say: Callable[[str, str], None]) -> Answer:
    """Knock until the answer is yes. Raises AuthError for a no, and when somebody else answers."""
    rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not a secret
    said, failures = "", 0
    while True:
        try:
            answer = await ask(parse_url(url), digits, knocker)
        except (OSError, TimeoutError) as error:
            failures += 1
            what, hint = f"{url} can not be reached ({error}); it is tried again", ""
            ceiling = min(_AGAIN_S[1], _AGAIN_S[0] * 2.0 ** min(failures, 16))
        else:
            failures, ceiling = 0, _PENDING_S
            if answer.genesis:
                return answer
            if answer.code == "unknown_key":
                raise AuthError(
                    "the node there takes no knocks: it is of an older version", "take a token: on that node, fabrik-node invite; then fabrik-node join TOKEN"
                )
            if answer.code not in _WAITS:
                raise AuthError(
                    f"the mesh refused this node: {answer.code}: {answer.hint}", "on a node of an admin: fabrik-node invite; then here: fabrik-node join TOKEN"
                )
            what, hint = f"{answer.code}: this node's key is {fingerprint(knocker.public)}, waiting at {url}", answer.hint
        if what != said:
            say(what, hint)
            said = what
        await asyncio.sleep(rng.uniform(0.3, 1.0) * ceiling)
