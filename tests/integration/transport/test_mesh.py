"""Real nodes over real WebSockets: first sync, live ops, relays, reconnects, and what status says of it all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from net_rig import Net, address_of, are_level, are_quiet, level, peer, states
from node_rig import BOUND_S, NodeRig, eventually, sync

from fabrik_node._core import SigningKey
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import PortInUse
from fabrik_node.ids import new_id
from fabrik_node.transport.address import parse_listen


async def bulk(rig: NodeRig, count: int) -> None:
    """Many ops at once."""
    await asyncio.gather(*(rig.node.write(n, lambda n=n: [(Kind.ITEM, new_id(n), ItemField.TITLE, f"item {n} " + "x" * 100, None)]) for n in range(count)))  # type: ignore[misc]


@pytest.mark.promise("E15", "E17")
async def test_a_new_peer_gets_everything_and_then_what_is_new(net: Net) -> None:
    host, _, url = await net.listening(0)
    await bulk(host, 1_500)
    two, mesh = await net.up(1)
    mesh.dial(url)
    assert await asyncio.wait_for(mesh.first_sync(url), BOUND_S) is None
    await are_level(host, two)
    assert len(two.node.board.items()) == 1_500
    there = asyncio.Event()
    two.node.on_committed(lambda heads: there.set())
    await host.add("live")
    await asyncio.wait_for(there.wait(), BOUND_S)
    await two.add("and back")
    await are_level(host, two)
    assert {view.title for view in host.node.board.items()} >= {"live", "and back"}


@pytest.mark.promise("E16")
async def test_a_reconnect_brings_only_what_is_missing(net: Net) -> None:
    host, _, url = await net.listening(0)
    await bulk(host, 1_000)
    two, mesh = await net.up(1)
    mesh.dial(url)
    await are_level(host, two)
    await eventually(lambda: peer(mesh).state == "connected")
    first = peer(mesh).bytes_in
    assert first > 100_000
    await mesh.close()
    net.meshes.remove(mesh)
    await host.add("meanwhile")
    _, again = await net.up(1, rig=two)
    again.dial(url)
    await are_level(host, two)
    assert peer(again).bytes_in < first / 20, "one op and the handshake, not the whole log"


async def test_an_unchanged_peer_costs_next_to_nothing(net: Net) -> None:
    host, _, url = await net.listening(0)
    await bulk(host, 500)
    two, mesh = await net.up(1)
    await sync(host, two)
    mesh.dial(url)
    await eventually(lambda: states(mesh) == ["connected"])
    assert peer(mesh).bytes_in < 4_096


@pytest.mark.promise("E19")
async def test_it_dials_again_with_growing_pauses_and_heals(net: Net) -> None:
    host, _, url = await net.listening(0)
    two, mesh = await net.up(1)
    mesh.dial(url)
    await are_level(host, two)
    await net.meshes[0].close()
    net.meshes.pop(0)
    await eventually(lambda: peer(mesh).state == "waiting" and peer(mesh).attempts >= 3, "attempts are counted in view")
    assert peer(mesh).detail
    await host.add("while apart")
    await two.add("on this side too")
    _, host_mesh = await net.up(0, rig=host)
    assert await host_mesh.listen(parse_listen(address_of(url))) == url
    await are_level(host, two)
    assert {view.title for view in host.node.board.items()} == {"while apart", "on this side too"}


async def test_ops_are_relayed_between_peers_that_do_not_see_each_other(net: Net) -> None:
    host, _, url = await net.listening(0)
    two, mesh_two = await net.up(1)
    three, mesh_three = await net.up(2)
    mesh_two.dial(url)
    mesh_three.dial(url)
    await are_level(host, two, three)
    await two.add("from two")
    await three.add("from three")
    await are_level(host, two, three)
    assert len(host.node.board.items()) == 2
    two.node.beat_now()
    await eventually(lambda: two.node.public in three.node.presence.heard(), "presence is relayed too")


async def test_a_chain_and_a_ring_end_level_without_loops(net: Net) -> None:
    nodes = [await net.listening(number) for number in range(4)]
    rigs = [rig for rig, _, _ in nodes]
    await sync(*rigs)  # who does not know the members yet can meet the admin only
    for number, (_, mesh, _) in enumerate(nodes):
        mesh.dial(nodes[(number + 1) % 4][2])
    await asyncio.gather(*(rig.add(f"{n}.{turn}") for n, rig in enumerate(rigs) for turn in range(20)))
    await are_level(*rigs)
    assert len(rigs[2].node.board.items()) == 80

    def sent() -> int:
        return sum(status.bytes_out for _, mesh, _ in nodes for status in mesh.statuses())

    await are_quiet(*(mesh for _, mesh, _ in nodes))
    before = sent()
    await asyncio.sleep(0.1)
    assert sent() - before < 60_000, "nothing goes round for ever"


async def test_two_that_dial_each_other_keep_one_connection(net: Net) -> None:
    one, mesh_one, url_one = await net.listening(0)
    two, mesh_two, url_two = await net.listening(1)
    mesh_one.dial(url_two)
    mesh_two.dial(url_one)
    await are_level(one, two)
    await eventually(lambda: mesh_one.connected == 1 and mesh_two.connected == 1)
    await eventually(lambda: {s.state for s in (*mesh_one.statuses(), *mesh_two.statuses())} == {"connected"}, f"{mesh_one.statuses()}")
    await eventually(lambda: len(mesh_one._links) == 1 and len(mesh_two._links) == 1, "one connection")
    await one.add("over the one that stays")
    await are_level(one, two)
    assert len({s.attempts for s in mesh_one.statuses()}) >= 1
    await mesh_two.close()
    net.meshes.remove(mesh_two)
    await eventually(lambda: mesh_one.connected == 0)
    _, again = await net.up(1, rig=two)
    await again.listen(parse_listen(address_of(url_two)))
    await two.add("after the return")
    await are_level(one, two)


@pytest.mark.promise("F6")
async def test_a_joiner_is_admitted_while_others_are_connected(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    host.listen_url = url
    two, mesh_two = await net.up(1)
    mesh_two.dial(url)
    await are_level(host, two)
    token = JoinToken.decode((await host.call("invite", role="peer"))["token"])
    stranger, mesh = await net.up(7)  # the last key is no member
    assert not host.node.is_admitted(stranger.node.public)
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    assert await asyncio.wait_for(mesh.first_sync(url), BOUND_S) is None
    await stranger.add("by the new one")
    await are_level(host, two, stranger)
    assert [view.title for view in two.node.board.items()] == ["by the new one"]
    assert two.node.name_of(stranger.node.public) == "node7"
    assert host_mesh.connected == 2
    net.rigs.keys.append(SigningKey.from_seed(b"\x77" * 32))
    impostor, mesh_impostor = await net.up(8)
    mesh_impostor.dial(url, token.issuer, (token.token_id, token.secret))
    end = await asyncio.wait_for(mesh_impostor.first_sync(url), BOUND_S)
    assert end is not None
    assert end.refused
    assert "used" in end.detail
    assert not host.node.is_admitted(impostor.node.public)
    assert [view.title for view in impostor.node.board.items()] == [], "and it saw nothing"


async def test_joining_while_many_ops_are_written(net: Net) -> None:
    host, _, url = await net.listening(0)
    writing = asyncio.create_task(bulk(host, 3_000))
    two, mesh = await net.up(1)
    three, mesh_three = await net.up(2)
    mesh.dial(url)
    mesh_three.dial(url)
    writing_too = asyncio.create_task(bulk(two, 500))
    await asyncio.gather(writing, writing_too)
    await are_level(host, two, three)
    assert len(three.node.board.items()) == 3_500


async def test_fifty_reconnects_leave_nothing_behind(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    two, _ = await net.up(1)
    await sync(host, two)
    await asyncio.sleep(0)

    def tasks() -> int:
        return len(asyncio.all_tasks())

    async def once() -> None:
        _, mesh = await net.up(1, rig=two)
        mesh.dial(url)
        await eventually(lambda: mesh.connected == 1)
        await mesh.close()
        net.meshes.remove(mesh)

    await once()
    await eventually(lambda: not host_mesh.statuses())
    files, before = len(list(Path("/proc/self/fd").iterdir())), tasks()
    for _ in range(50):
        await once()
    await eventually(lambda: not host_mesh.statuses())
    await eventually(lambda: tasks() <= before + 1, "no task is left but the one that looks")
    await eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= files, "no descriptor is left")
    assert host_mesh.inbound == 0
    assert host_mesh._links == {}


async def test_who_calls_while_a_node_stops_does_not_keep_it(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, host_mesh, url = await net.listening(0)
    two, _ = await net.up(1)
    await sync(host, two)
    _, late = await net.up(1, rig=two)
    end_dials = host_mesh._dials.close

    async def while_somebody_calls() -> None:
        late.dial(url)
        await eventually(lambda: late.connected == 1 or peer(late).attempts > 0)
        await end_dials()

    monkeypatch.setattr(host_mesh._dials, "close", while_somebody_calls)
    await asyncio.wait_for(host_mesh.close(), BOUND_S)
    assert host_mesh.inbound == 0
    net.meshes.remove(host_mesh)


async def test_a_port_in_use_and_a_peer_that_is_not_there(net: Net) -> None:
    _, _, url = await net.listening(0)
    _, mesh = await net.up(1)
    address = address_of(url)
    with pytest.raises(PortInUse, match=address.removeprefix("wss://")):
        await mesh.listen(parse_listen(address))
    free = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    mesh.dial(f"wss://127.0.0.1:{port}/crdt-sync")
    await eventually(lambda: peer(mesh).attempts >= 1)
    assert "refused" in peer(mesh).detail.lower() or "connect" in peer(mesh).detail.lower()


async def test_the_flush_waits_for_peers_that_lack_something(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    two, mesh = await net.up(1)
    mesh.dial(url)
    await are_level(host, two)
    await bulk(host, 300)
    assert await host_mesh.flush(BOUND_S)
    assert level(host, two)()


async def test_the_end_of_a_node_is_told_to_its_peers(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    _, mesh = await net.up(1)
    mesh.dial(url)
    await eventually(lambda: host_mesh.connected == 1)
    connected = (await host.events_until("peer.connected"))[0]
    await mesh.close()
    lost: Any = (await host.events_until("peer.lost"))[0]
    assert lost.data["key"] == connected.data["key"]


@pytest.mark.promise("F8")
@pytest.mark.parametrize("commitment", [bytes([9]) * 32, b""])
async def test_a_joiner_tells_the_commitment_to_its_next_key(net: Net, commitment: bytes) -> None:
    host, _, url = await net.listening(0)
    host.listen_url = url
    guest, mesh = await net.up(7)
    guest.node.next_commitment = commitment
    token = JoinToken.decode((await host.call("invite", role="peer"))["token"])
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    await asyncio.wait_for(mesh.first_sync(url), BOUND_S)
    assert guest.node.is_admitted(guest.node.public)
    assert host.node.replica.row(Kind.MEMBER, guest.node.public)[1].get(5, b"") == commitment
    assert (await guest.call("keys.list"))["next_commitments"] == ([commitment.hex()] if commitment else [])
