"""One node from its start to its stop: opened, announced, connected, at work, and stopped in bounded time."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fabrik_node import __version__
from fabrik_node.agent.cgroup import Cgroups, cgroups_of, held_in
from fabrik_node.agent.halt import Halt, HaltCode, HaltSwitch
from fabrik_node.agent.inputs import run_inputs
from fabrik_node.agent.isolation import isolation_of, trial
from fabrik_node.agent.loop import ClaimLoop
from fabrik_node.agent.recover import recover_runs
from fabrik_node.agent.run import AgentRun
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.step_keeper import StepKeeper
from fabrik_node.api.server import LocalApi
from fabrik_node.app.first_writes import tell_name
from fabrik_node.app.flags import Entry, merge_options
from fabrik_node.app.key_use import check_rotated
from fabrik_node.app.left_runs import close_left, left_in, note_left, own_runs
from fabrik_node.app.opening import COPIED, load_mesh, make_home, note_home, open_store
from fabrik_node.app.opening import Mesh as MeshIdentity
from fabrik_node.app.reconcile import look, remove_unfinished, tell_findings
from fabrik_node.app.rotation import former_keys, settle
from fabrik_node.app.saying import agent_status, presence_of, with_given_labels
from fabrik_node.app.setup import default_name
from fabrik_node.app.telling import tell_peers
from fabrik_node.app.watching import serve_metrics
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.clock import SystemClock
from fabrik_node.config import check_config, child_environment, load_config, shown_config
from fabrik_node.domain.retention import Retention
from fabrik_node.domain.runs import RunRow
from fabrik_node.errors import AuthError, BadConfig, Conflict, Internal, NotInitialised, Precondition
from fabrik_node.git.origin import Origin
from fabrik_node.git.runner import GitRunner, check_git
from fabrik_node.ids import fingerprint, show_id
from fabrik_node.node.node import Node
from fabrik_node.node.pipeline import NodePipeline
from fabrik_node.paths import HomePaths, private_folder
from fabrik_node.ports import PeerAddress
from fabrik_node.process import boot_id
from fabrik_node.service.reading import Reader
from fabrik_node.service.run_views import AtWork
from fabrik_node.service.service import Service
from fabrik_node.store.event_file import EventFile
from fabrik_node.store.owner import OwnerLock
from fabrik_node.store.snapshot_file import SnapshotFile
from fabrik_node.transport.address import SYNC_PATH, check_url, parse_listen, reachable
from fabrik_node.transport.mesh import DialEnd, Mesh

if TYPE_CHECKING:
    from fabrik_node.metrics.endpoint import Endpoint

__all__ = ["FLUSH_S", "Running", "refusal"]

_log = logging.getLogger("fabrik_node")
_CONTACT_S = 10.0
"""Seconds in which a dialled peer may answer before the first writes of a start."""
_CLEAN_S = 3600.0
_HALT_KEY = "agent_halt"
"""Of the store's meta table."""
FLUSH_S = 2.0
"""Seconds in which peers may take our last ops before we leave."""


def refusal(end: DialEnd) -> AuthError:
    """What the operator of a refused node is told, or of one that refused the other side."""
    if not end.by_peer:
        return AuthError(
            f"this node did not trust the other one: {end.detail}", "on the mesh's admin node: fabrik-node invite; then here: fabrik-node join TOKEN"
        )
    return AuthError(f"the mesh refused this node: {end.detail}", "on the mesh's admin node: fabrik-node invite; then here: fabrik-node join TOKEN")


class Running:
    """Everything of one node between its start and its stop. An async context manager."""

    def __init__(self, home: Path, options: ServeOptions, entry: Entry, stop: asyncio.Queue[signal.Signals | None] | None = None) -> None:
        self.paths = HomePaths(home)
        self.options = options
        self.entry = entry
        self.clock = SystemClock()
        self.config = check_config(merge_options(load_config(self.paths.config), options), "the flags")
        self.fresh = False
        self.loop: ClaimLoop | None = None
        self.metrics: Endpoint | None = None
        self._url = ""
        self.told_url = ""
        """Where others reach us; empty when we do not listen, or can not know it."""
        self._stop: asyncio.Queue[signal.Signals | None] = asyncio.Queue() if stop is None else stop
        """Signals; None ends this start, and another one follows (:meth:`again`)."""
        self.switching = False
        """:meth:`work` ended because this node has another key now."""
        self._tasks = asyncio.TaskGroup()
        self.barred = ""
        """Why this start takes no work, whatever happens; empty when nothing is in the way."""
        self.draining = False
        """SIGTERM came: what runs goes on, nothing new is begun."""

    # ---- start ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.identity = await self._identify()
        started = str(self.paths.socket)
        self.lock = OwnerLock.acquire(self.paths.home, self.clock, {"socket": started, "version": __version__})
        try:
            self.findings = remove_unfinished(self.paths)
            events = self.config.events
            self.export = EventFile(self.paths.events, events.rotate_bytes, events.keep_files)
            witnessed, new = self.export.witnessed(), self.options.new_store
            self.store, self.identity, doubt = await open_store(self.paths, self.clock, self.identity, settle, witnessed=witnessed, new_store=new)
        except BaseException:
            self.lock.release()
            raise
        try:
            await self._open(doubt)
        except BaseException:
            await self.store.close()
            self.lock.release()
            raise
        return self

    async def _identify(self) -> MeshIdentity:
        token = self.entry.token
        try:
            identity = load_mesh(self.paths)
        except NotInitialised:
            if token is None:
                raise
            self.fresh = True
            return await make_home(self.paths, self.clock, name=self.config.node.name or default_name(), genesis=token.genesis)
        if token is not None and token.genesis != identity.genesis:
            raise Conflict(f"{self.paths.home} belongs to mesh {identity.record.name!r}, and the token is for another one", "choose another home: --home DIR")
        return identity

    async def _open(self, doubt: str) -> None:
        config, key = self.config, self.identity.key
        rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not a secret
        listen = parse_listen(config.node.listen) if config.node.listen else None
        urls = [check_url(url) for url in (*config.node.peers, *self.options.peers)]
        self.node = await Node.open(
            genesis=self.identity.genesis,
            store=self.store,
            snapshots=SnapshotFile(self.paths.snapshot),
            key=key,
            doubt=doubt,
            clock=self.clock,
            timing=config.lease.timing(),
            sink=self.export,
            boot_id=boot_id(),
        )
        check_rotated(self.paths, self.node.replica, key.public, self.node.name_of(key.public))
        self.node.next_commitment = self.identity.next_commitment
        self.groups = cgroups_of(config.agent, self.paths.home)
        self.isolation = isolation_of(config.agent, self.paths)
        self.halts = HaltSwitch(await self.store.get_meta(_HALT_KEY), lambda said: self.store.set_meta(_HALT_KEY, said))
        await note_left(self.store, copied=doubt.startswith(COPIED))
        await note_home(self.paths, self.store, self.identity)
        await self.node.invitations.start(self.paths.invitations_key)
        self.findings += look(self.node, self.export, self.lock)
        self.node.describe_self = lambda: presence_of(self)
        self.mesh = Mesh(
            self.node,
            self.identity.record.admin,
            self.clock,
            rng,
            tell=self._tell_of_peer,
            moved=self.node.tell_peers_moved,
            former=former_keys(self.paths, self.node.replica, key.public),
        )
        self.node.peers = self.mesh.statuses
        self.node.traffic = self.mesh.traffic
        self.node.connected = lambda: self.mesh.connected
        process = self.lock.owner.process
        incarnation = f"{process.boot_id}:{process.pid}:{process.started}"
        self.origin = self._origin(rng)
        self.pipeline = NodePipeline(
            self.node,
            self.origin,
            incarnation=incarnation,
            backoff_s=config.agent.backoff_s,
            dials=lambda: self.mesh.dials > 0,
            limits=config.claims.limits,
        )
        self.reader = Reader(
            replica=self.node.replica,
            requests=self.node.requests,
            by_item=self.node.by_item,
            held=self.node.held_claims.all,
            watch=self.node.on_changes,
            genesis=self.identity.record,
            store=self.store,
            clock=self.clock,
            own=key.public,
            source="node",
            leases=self.node.leases,
            heard=self.node.presence.heard,
            diverged=lambda: self.node.audit.diverged,
            peers=self.mesh.statuses,
            connected=lambda: self.mesh.connected,
            beat_s=config.lease.beat_s,
            stale_s=config.node.stale_s,
            stills_s=(config.node.quiet_s, config.node.stall_s),
            names=lambda: self.node.names,
            set_aside=self.node.upkeep.recheck,
            inputs_now=lambda view: run_inputs(view, self.config.agent, self.config.git),
            contained=lambda run_id: f"{held_in(self.groups, run_id)}; {self.isolation.line}",
            at_work=lambda: AtWork(() if self.loop is None else self.loop.runs, self.draining or self.halts.halt is not None),
        )
        self.service = Service(
            node=self.node,
            reader=self.reader,
            arbiter=self.origin,
            branches=self.origin,
            run_steps=StepKeeper(lambda: {} if self.loop is None else self.loop.runs) if config.agent.command else None,
            genesis=self.identity.genesis,
            incarnation=incarnation,
            home=self.paths.home,
            pid=os.getpid(),
            listen_url=lambda: self._url,
            agent=self,
            switch=lambda: self._stop.put_nowait(None),
            config=lambda: shown_config(self.config),
            socket=str(self.paths.socket),
            retention=Retention(self.config.runs.keep_days, self.config.runs.keep_bytes),
            limits=config.claims.limits,
            copied=lambda: left_in(self.paths, self.store),
        )
        self.api = LocalApi(self.service, self.paths.socket, self.clock)
        await self._start(listen, urls)

    def _origin(self, rng: random.Random) -> Origin | None:
        git = self.config.git
        if not git.remote:
            return None
        for folder in (self.paths.git, self.paths.work):  # also in a home that others may enter
            private_folder(folder)
        runner = GitRunner(child_environment({}), name=git.author_name, email=git.author_email)
        return Origin(runner, self.paths.git, git.remote, git.base, self.paths.work, rng)

    async def _start(self, listen: Any, urls: list[str]) -> None:
        await self._tasks.__aenter__()
        self._node_task = self._tasks.create_task(self.node.run(), name="node")
        try:
            if listen is not None:
                self._url = await self.mesh.listen(listen)
                with suppress(Precondition):  # several addresses: only the operator knows which one others can reach
                    self.told_url = reachable(self._url)
            await self._announce()
            await self._dial(urls)
            await self.api.start()
            self.metrics = await serve_metrics(self.config.metrics, self.node, self.reader, self.api, self.service)
        except BaseException as error:
            await self._close_parts()
            await self._tasks.__aexit__(None, None, None)
            raise error from None

    async def _announce(self) -> None:
        """Say what changed since the last start, and nothing if nothing did."""
        node, previous = self.node, self.lock.previous
        if previous is not None:
            node.tell("owner.died", {"pid": previous.process.pid, "host": previous.host, "started": previous.started})
        tell_findings(node, self.findings)
        self.halts.on_change(self._tell_of_halt)
        node.tell("node.started", {"pid": os.getpid(), "version": __version__, "listen": self._url})
        if self.halts.halt is not None and self.config.agent.command:  # kept from an earlier start
            self._tell_of_halt()
        await node.stream.settled()  # what a start says is not lost with a process that dies soon after it

    async def _dial(self, urls: list[str]) -> None:
        token = self.entry.token
        if token is not None:
            peer = PeerAddress(check_url(token.url), token.issuer)
            await self.store.put_peer(peer)
            self.mesh.dial(peer.url, peer.key, (token.token_id, token.secret))
        elif self.entry.url:
            await self.store.put_peer(PeerAddress(self.entry.url, self.entry.key))
        for known in await self.store.peers():
            if known.url != self._url:
                self.mesh.dial(known.url, known.key)
        for url in urls:
            if url != self._url:
                self.mesh.dial(url)
        if self.options.new_store and not self.mesh.dials:
            _log.warning("no peer is known: this node learns nothing until one dials it, or it is started with --peer URL")

    def _tell_of_peer(self, kind: str, data: Mapping[str, Any]) -> None:
        """The transport knows keys; people know names."""
        key = str(data.get("key") or "")
        self.node.tell(kind, {"name": self.node.name_of(bytes.fromhex(key)), **data} if key else data)

    # ---- work -----------------------------------------------------------------------------------

    async def work(self) -> int:
        """Serve until a signal; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.put_nowait, number)
        node = self.node
        listening = f", listens on {self._url}" if self._url else ""
        _log.info(
            "node %s (%s) of mesh %s is up with %d ops%s",
            node.name_of(node.public),
            fingerprint(node.public),
            self.identity.record.name,
            node.replica.ops,
            listening,
            extra={"fields": {"node": node.name_of(node.public), "fingerprint": fingerprint(node.public), "ops": node.replica.ops, "listen": self._url}},
        )
        guards = [self._tasks.create_task(self._until_admitted(), name="admitted")] if self.entry.token is not None else []
        guards.append(self._tasks.create_task(tell_peers(node, self.mesh.statuses), name="peers"))
        recovered = self._tasks.create_task(self._recover(), name="recover")
        guards.append(self._tasks.create_task(self._clean(recovered), name="clean"))
        guards.append(self._tasks.create_task(close_left(node, self.store, recovered, self._close_runs), name="left runs"))
        agent = self._tasks.create_task(self._agent(recovered), name="agent") if self.config.agent.command else None
        first = await self._stop.get()
        self.switching = first is None
        _log.info(
            "%s: stopping%s",
            "another key" if first is None else first.name,
            f", running work may take {self.options.drain_s:g} s" if self.loop is not None and self.loop.runs and first is signal.SIGTERM else "",
        )
        for guard in (*guards, recovered):
            guard.cancel()
        if agent is not None:
            await self._stop_agent(agent, drain=first is signal.SIGTERM)
        return 0 if first is None else 128 + first

    def again(self) -> Running:
        """The same node, to be started anew: on the address that it listened on, and as a member of its mesh."""
        listen = self._url.removesuffix(SYNC_PATH) if self._url else self.options.listen
        return Running(self.paths.home, replace(self.options, listen=listen, new_store=False), Entry(), self._stop)

    async def check_agent(self) -> None:
        """Before anything is opened: a node that is to work must be able to. Raises :class:`BadConfig`, and :class:`GitFailed` without a usable git."""
        if self.options.rendezvous and not self.config.agent.command:
            raise BadConfig("[agent]: command is empty, so this build agent could do nothing", "--command CMD, or command in [agent] of config.toml")
        if self.config.agent.command and not self.config.git.remote:
            raise BadConfig("[git]: an agent needs the remote that it works on", "--remote URL, or remote in [git] of config.toml")
        if self.config.agent.command:
            await check_git(GitRunner(child_environment({})))

    async def _recover(self) -> None:
        """Close the runs that an earlier process of this home left behind, whether this one takes work or not.

        These are the first writes of a start, and nobody waits for them: peers that know more of our log than this home does get
        some seconds to say so.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONTACT_S):
                await self.pipeline.wait_connected()
                while self.options.new_store and not self.node.epochs.own_heads():  # whoever calls us may know our log
                    await self.node.peers_moved()
        await tell_name(self.node, self.config.node.name)
        await self._close_runs(await own_runs(self.store), self.groups)

    async def _close_runs(self, rows: list[RunRow], groups: Cgroups | None = None) -> None:
        """``groups``: end all that is in them, too, when no run has begun yet."""
        for row in await recover_runs(self.pipeline, self.origin, rows, self.clock, self.config.agent.kill_grace_s, self.halts, groups):
            _log.warning("run %s was interrupted: %s", show_id(row.run_id), row.reason)

    async def _clean(self, recovered: asyncio.Task[None]) -> None:
        """Folders of old runs go, now and then."""
        await asyncio.wait({recovered})
        while True:
            await self.service.cleaner.sweep()
            await asyncio.sleep(_CLEAN_S)

    async def _agent(self, recovered: asyncio.Task[None]) -> None:
        """Claim and run, once what an earlier process left is closed."""
        config = self.config
        if self.origin is None:
            raise Internal("an agent without a remote passed the check")
        await recovered
        if barred := await asyncio.to_thread(trial, self.isolation):
            _log.error("the agent takes no work: %s", barred)
            self.barred = barred
            self.node.beat_now()
            return
        setup = AgentSetup(
            self.pipeline,
            self.origin,
            with_given_labels(config.agent, self.node),
            config.git,
            config.lease.timing(),
            self.clock,
            self.paths,
            self.halts,
            self.groups,
            self.service.passes,
            self.service.steps,
            self.isolation,
        )
        self.loop = ClaimLoop(setup, random.Random(secrets.randbits(64)))  # noqa: S311 - jitter, not a secret
        await self.loop.run()

    async def _stop_agent(self, agent: asyncio.Task[None], *, drain: bool) -> None:
        if self.loop is None:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            return
        if drain:
            self.draining = True
            self.node.beat_now()
            draining = asyncio.ensure_future(self.loop.drain())
            again = asyncio.ensure_future(self._stop.get())
            done, _ = await asyncio.wait({draining, again}, timeout=self.options.drain_s, return_when=asyncio.FIRST_COMPLETED)
            again.cancel()
            if draining not in done:
                draining.cancel()
                _log.warning("the drain is over: ending what still runs")
        await self.loop.stop()
        await asyncio.gather(agent, return_exceptions=True)

    async def _until_admitted(self) -> None:
        """A build agent with a token that the mesh refuses has nothing to wait for."""
        end = await self.mesh.first_sync(self.entry.address)
        if end is not None and end.refused and not self.node.is_admitted(self.node.public):
            raise refusal(end)

    # ---- stop -----------------------------------------------------------------------------------

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.node.tell("node.stopped", {"pid": os.getpid()})
        try:
            if self._node_task.done():
                _log.error("the node stopped by itself")
            else:
                await self.mesh.flush(FLUSH_S)
            await self._close_parts()
            await self._tasks.__aexit__(None, None, None)
            await self.node.upkeep.last()
        finally:
            await self.store.close()
            self.lock.release()

    async def _close_parts(self) -> None:
        await self.api.stop()
        if self.metrics is not None:
            await self.metrics.close()
        await self.mesh.close()
        await self.node.close()

    # ---- what others ask --------------------------------------------------------------------------

    def describe(self) -> Mapping[str, Any]:
        """See :class:`~fabrik_node.service.control.AgentView`."""
        return agent_status(self)

    async def cancel(self, run_id: bytes, reason: str) -> bool:
        """See :class:`~fabrik_node.service.control.AgentView`."""
        return self.loop is not None and await self.loop.cancel(run_id, reason)

    def in_hand(self, run_id: bytes) -> AgentRun | None:
        """See :class:`~fabrik_node.service.control.AgentView`."""
        return None if self.loop is None else self.loop.runs.get(run_id)

    async def halt(self, reason: str) -> None:
        """See :class:`~fabrik_node.service.control.AgentView`."""
        await self.halts.set(Halt(HaltCode.OPERATOR, reason, self.clock.wall_ms()))

    async def go_on(self) -> bool:
        """See :class:`~fabrik_node.service.control.AgentView`."""
        return await self.halts.lift() is not None

    def _tell_of_halt(self) -> None:
        halt = self.halts.halt
        if halt is None:
            self.node.tell("agent.resumed", {})
            _log.info("the agent takes work again")
        else:
            self.node.tell("agent.halted", {"code": str(halt.code), "reason": halt.reason})
            _log.warning("the agent takes no work: %s", halt.line)
        self.node.beat_now()
