"""``doctor``: everything that a node needs, looked at from the outside, with or without a running node. Nothing that stays is changed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fabrik_node import __version__
from fabrik_node._core import mesh_id
from fabrik_node.app.examine import Check, examine_agent, examine_files, examine_home, examine_identity, examine_owner, examine_settings, examine_store
from fabrik_node.app.opening import load_genesis
from fabrik_node.cli.hooks import NodeAnswer
from fabrik_node.clock import SystemClock, iso
from fabrik_node.config import Config, child_environment
from fabrik_node.errors import FabrikError
from fabrik_node.git.examining import RemoteState, examine_remote, examine_repositories
from fabrik_node.git.runner import GIT_VERSION_MIN, GitRunner, check_git
from fabrik_node.paths import HomePaths
from fabrik_node.ports import CONNECTED
from fabrik_node.store.readonly import open_readonly

__all__ = ["examine"]

_REMOTE_S = 60.0
_PEER_S = 3.0


def examine(home: Path, answer: NodeAnswer, *, remote: str | None) -> dict[str, Any]:
    """The report. ``answer``: of the running node; ``remote``: the one to try, empty for that of the settings; None: git is not asked to reach any."""
    return asyncio.run(_examine(HomePaths(home), answer, remote=remote))


async def _examine(paths: HomePaths, answer: NodeAnswer, *, remote: str | None) -> dict[str, Any]:
    clock, status = SystemClock(), answer.status
    checks = list(examine_home(paths))
    checks.append(examine_files(_pid(status)))
    said, config = examine_settings(paths)
    checks += [said, *examine_identity(paths), examine_owner(paths, answer)]
    if paths.store.exists():
        checks += await examine_store(paths, clock)
    if config is not None:
        checks += examine_agent(config.agent, paths, _contained(status))
        checks += await _git(config, paths, remote, works=_works(status))
        checks += _connected(status) if status is not None else await _peers(paths, config)
    if status is not None:
        warnings = [str(warning) for warning in status.get("warnings") or ()]
        key = str(paths.recovery_key)  # of which the node warns, too, and the check above says what to do
        checks += [Check("warning", "warn", warning, "fabrik-node status") for warning in warnings if key not in warning]
    counts = {state: sum(check.state == state for check in checks) for state in ("ok", "warn", "fail")}
    stamp = {"as_of": iso(clock.wall_ms()), "home": str(paths.home), "version": __version__, "running": status is not None or answer.refused}
    return {**stamp, "checks": [asdict(check) for check in checks], **counts}


def _contained(status: Mapping[str, Any] | None) -> str | None:
    said = (status or {}).get("agent") or {}
    return said["contained"] if isinstance(said.get("contained"), str) else None


def _works(status: Mapping[str, Any] | None) -> bool:
    return bool(((status or {}).get("agent") or {}).get("enabled"))


def _pid(status: Mapping[str, Any] | None) -> int | None:
    pid = (status or {}).get("pid")
    return pid if isinstance(pid, int) else None


# ---- git ------------------------------------------------------------------------------------------


async def _git(config: Config, paths: HomePaths, remote: str | None, *, works: bool) -> list[Check]:
    settings = config.git
    needed = bool(settings.remote or remote or config.agent.command or works)
    runner = GitRunner(child_environment({}), name=settings.author_name, email=settings.author_email)
    try:
        version = ".".join(map(str, await check_git(runner)))
    except FabrikError as error:
        least = ".".join(map(str, GIT_VERSION_MIN))
        return [Check("git", "fail" if needed else "warn", str(error), error.hint or f"install git {least} or newer; agents need it")]
    checks = [Check("git", "ok", f"version {version}"), *await _repositories(runner, paths)]
    if remote is not None and (remote or settings.remote):
        checks.append(await _remote(runner, remote or settings.remote, settings.base))
    elif remote is not None and works:
        said = "not tried: the running node has one that was given to it when it was started, and the settings name none"
        checks.append(Check("remote", "warn", said, "fabrik-node doctor --remote URL"))
    return checks


async def _repositories(runner: GitRunner, paths: HomePaths) -> list[Check]:
    try:
        found = await examine_repositories(runner, paths.git)
    except FabrikError as error:
        return [Check("repository", "warn", str(error), error.hint or f"look at {paths.git}")]
    return [
        Check("repository", "warn", f"git can not read all of {each.directory}: {each.unreadable}", each.mend)
        if each.unreadable
        else Check("repository", "ok", f"git can read all refs of {each.directory}")
        for each in found
    ]


async def _remote(runner: GitRunner, remote: str, base: str) -> Check:
    try:
        with tempfile.TemporaryDirectory(prefix="fabrik-doctor-") as folder:
            async with asyncio.timeout(_REMOTE_S):
                return _judged(await examine_remote(runner, remote, base, Path(folder)), base)
    except TimeoutError:
        return Check(
            "remote",
            "fail",
            f"the remote did not answer within {_REMOTE_S:g} s; what was tried may be left under refs/fabrik/probe/ there",
            "look at the network, and at remote in [git] of config.toml",
        )
    except FabrikError as error:
        return Check("remote", "fail", str(error), error.hint or "look at remote in [git] of config.toml, and at git's credentials for it")


def _judged(found: RemoteState, base: str) -> Check:
    probe = found.probe
    if probe is None:
        return Check(
            "remote", "fail", f"{found.shown} has no branch {base}", f"push one: git push {found.shown} HEAD:{base}; or set base in [git] of config.toml"
        )
    if probe.ok:
        return Check("remote", "ok", f"{found.shown} takes claims and fenced merges")
    if not probe.custom_refs:
        return Check(
            "remote",
            "fail",
            f"{found.shown} takes no refs under refs/fabrik/, where claims are granted: {probe.reason}",
            "allow pushes to refs/fabrik/* for the node's account there, or use another remote",
        )
    missing = "moves several refs in one push only one by one" if not probe.atomic else "does not refuse a push with a stale lease"
    return Check(
        "remote", "fail", f"{found.shown} {missing}, so it could not fence a merge: {probe.reason}", "use a remote with atomic pushes (receive.advertiseAtomic)"
    )


# ---- peers ----------------------------------------------------------------------------------------


def _connected(status: Mapping[str, Any]) -> list[Check]:
    """As the running node has them."""
    peers: Sequence[Mapping[str, Any]] = status.get("peers") or ()
    checks = []
    for peer in peers:
        name = peer.get("name") or peer.get("url") or str(peer.get("key") or "?")[:8]
        at = f" ({peer['url']})" if peer.get("url") and peer["url"] != name else ""
        detail = f": {peer['detail']}" if peer.get("detail") else ""
        if peer.get("state") in CONNECTED:
            checks.append(Check("peer", "ok", f"{name} is {peer.get('state')}"))
        else:
            checks.append(
                Check(
                    "peer",
                    "warn",
                    f"{name}{at} is {peer.get('state')}{detail}",
                    "is it running, and is the way to it open? On it: fabrik-node doctor",
                )
            )
    return checks or [Check("peer", "ok", "no peer is known: this node is alone, or others dial it")]


async def _peers(paths: HomePaths, config: Config) -> list[Check]:
    """Without a running node: whether something listens where they were last. Nothing is said to them."""
    urls = list(config.node.peers)
    if not paths.store.exists():
        return list(await asyncio.gather(*(_reach(url) for url in urls)))
    try:
        async with await open_readonly(paths.store, mesh_id=mesh_id(load_genesis(paths))) as store:
            urls += [peer.url for peer in await store.peers() if peer.url not in urls]
    except FabrikError as error:
        return [Check("peer", "warn", f"peers that were learned can not be read: {error}", error.hint)]
    return list(await asyncio.gather(*(_reach(url) for url in urls)))


async def _reach(url: str) -> Check:
    mend = "is that node running, and is the way to it open? On it: fabrik-node doctor"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        return Check("peer", "warn", f"{url} is no URL of a peer", "mend peers in [node] of config.toml")
    try:
        async with asyncio.timeout(_PEER_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Check("peer", "warn", f"{host}:{port} did not answer within {_PEER_S:g} s", mend)
    except OSError as error:
        return Check("peer", "warn", f"{host}:{port}: {error.strerror or error}", mend)
    writer.close()
    return Check("peer", "ok", f"something listens on {host}:{port}; start the node to see whether it is a peer")
