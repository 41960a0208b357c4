"""How far a connected peer is behind, in ops and in seconds of our own clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from net_rig import Net, are_level, peer
from node_rig import NodeRig, eventually


async def test_a_peer_that_takes_nothing_falls_behind_by_ops_and_seconds(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, mesh, url = await net.listening(0)
    two, other = await net.up(1)
    other.dial(url)
    await are_level(host, two)
    await eventually(lambda: (peer(mesh).lag_ops, peer(mesh).lag_s) == (0, 0.0))
    real, go = two.node.ingest, asyncio.Event()

    async def late(*args: Any) -> Any:
        await go.wait()
        return await real(*args)

    monkeypatch.setattr(two.node, "ingest", late)
    await host.add("first")
    net.rigs.clock.advance(40)
    await host.add("second")
    net.rigs.clock.advance(5)
    added = host.node.replica.ops - two.node.replica.ops
    status = peer(mesh)
    assert (status.lag_out, status.lag_in, status.lag_ops) == (added, 0, added), "two items, however far they have come on the wire"
    assert status.lag_s == 45, "since the oldest of them was committed here"
    shown = await _line(host, two)
    assert [shown[name] for name in ("lag_out", "lag_in", "lag_s", "lag_source")] == [added, 0, 45, "session"]
    go.set()
    await are_level(host, two)
    await eventually(lambda: (peer(mesh).lag_ops, peer(mesh).lag_s, peer(mesh).outbox_bytes) == (0, 0.0, 0))


async def _line(rig: NodeRig, other: NodeRig) -> dict[str, Any]:
    nodes = (await rig.call("nodes.list"))["nodes"]
    return next(dict(node) for node in nodes if node["node"] == other.node.public.hex())
