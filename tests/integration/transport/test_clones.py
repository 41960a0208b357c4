"""Two live nodes with one key (a copied home) on one hub: both get on at the same time, and neither pushes the other out."""

from __future__ import annotations

from net_rig import Net, are_level, peer
from node_rig import eventually, sync


async def test_two_nodes_with_one_key_stay_connected_and_get_all(net: Net) -> None:
    net.rigs.keys[6] = net.rigs.keys[1]
    host, mesh_host, url = await net.listening(0)
    one, mesh_one = await net.up(1)
    two, mesh_two = await net.up(6)
    for mesh in (mesh_one, mesh_two):
        mesh.dial(url)
        assert await mesh.first_sync(url) is None
    for turn in range(20):
        await one.add(f"one {turn}")
        await two.add(f"two {turn}")
        await are_level(host, one, two)
    assert len(host.node.board.items()) == 40
    assert [peer(mesh).attempts for mesh in (mesh_one, mesh_two)] == [0, 0], "neither was put out"
    assert len(mesh_host.statuses()) == 2
    assert mesh_host.connected == 1, "one key"
    assert await host.events("peer.lost") == []


async def test_a_hub_that_calls_one_and_is_called_by_its_copy_keeps_both(net: Net) -> None:
    for lower, higher in ((0, 1), (1, 0)):  # the connection that the lower key opened stays: here there are two peers
        net.rigs.keys[6] = net.rigs.keys[higher]
        hub, mesh_hub, url = await net.listening(lower)
        one, mesh_one, url_one = await net.listening(higher)
        copy, mesh_copy = await net.up(6)
        await sync(hub, one, copy)
        mesh_hub.dial(url_one)
        assert await mesh_hub.first_sync(url_one) is None
        mesh_copy.dial(url)
        await eventually(lambda mesh=mesh_copy: mesh.connected == 1)  # type: ignore[misc]
        await one.add("through the one")
        await copy.add("through the other")
        await are_level(hub, one, copy)
        assert len(mesh_hub.statuses()) == 2
        for mesh in (mesh_hub, mesh_one, mesh_copy):
            await mesh.close()
            net.meshes.remove(mesh)
        for rig in (hub, one, copy):
            await rig.stop()
            await rig.node.store.close()
            net.rigs.rigs.remove(rig)
        (net.rigs.folder / "6.db").unlink()  # type: ignore[operator]
