"""Nodes that are connected by real WebSockets on loopback."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from node_rig import NodeRig, Rigs, eventually

from fabrik_node.clock import SystemClock
from fabrik_node.ports import PeerStatus
from fabrik_node.transport.address import parse_listen
from fabrik_node.transport.mesh import Mesh
from fabrik_sync import Limits


class Net:
    """Meshes of one test over the nodes of one mesh. The network's clock is the real one."""

    def __init__(self, rigs: Rigs) -> None:
        self.rigs = rigs
        self.meshes: list[Mesh] = []

    async def up(self, number: int, *, limits: Limits | None = None, rig: NodeRig | None = None, **options: Any) -> tuple[NodeRig, Mesh]:
        """A node and its mesh. Options of ``Mesh`` that begin with ``mesh_`` go there, others to the node."""
        mesh_options = {key.removeprefix("mesh_"): value for key, value in options.items() if key.startswith("mesh_")}
        rig = rig or await self.rigs.open(number, **{key: value for key, value in options.items() if not key.startswith("mesh_")})
        clock = SystemClock()
        node = rig.node
        mesh = Mesh(
            node, node.replica.admin, clock, Random(number), tell=node.tell, moved=node.tell_peers_moved, limits=limits, **{"retry_s_max": 0.2} | mesh_options
        )
        node.peers = mesh.statuses
        node.connected = lambda: mesh.connected
        self.meshes.append(mesh)
        return rig, mesh

    async def listening(self, number: int, *, listen: str = "127.0.0.1:0", **options: Any) -> tuple[NodeRig, Mesh, str]:
        """The same, and the URL where it listens; with TLS unless ``listen`` says ``ws://``."""
        rig, mesh = await self.up(number, **options)
        return rig, mesh, await mesh.listen(parse_listen(listen))

    async def close(self) -> None:
        """Everything of the network."""
        for mesh in self.meshes:
            await mesh.close()


def address_of(url: str) -> str:
    """What to give to ``--listen`` to be at this URL again."""
    return url.removesuffix("/crdt-sync")


def states(mesh: Mesh) -> list[str]:
    """The state of each peer."""
    return [peer.state for peer in mesh.statuses()]


def peer(mesh: Mesh, number: int = 0) -> PeerStatus:
    """One line of status."""
    return list(mesh.statuses())[number]


def level(*rigs: NodeRig) -> Callable[[], bool]:
    """Whether all hold the same logs and the same state."""
    return lambda: len({(rig.node.frontier_digest(), rig.node.replica.state_digest()) for rig in rigs}) == 1


async def are_quiet(*meshes: Mesh) -> None:
    """Wait until no session of theirs has anything on its way, or to ask."""

    def quiet() -> bool:
        now = [session.status() for mesh in meshes for session in mesh._hub.sessions]
        return all(each.caught_up and not (each.outbox_bytes or each.unacked_bytes or each.unprocessed_bytes) for each in now)

    await eventually(quiet, "quiet")


async def are_level(*rigs: NodeRig) -> None:
    """Wait until they do."""
    await eventually(level(*rigs), "level")
