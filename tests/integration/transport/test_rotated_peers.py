"""A node that rotated meets peers that have not heard of it: under its old key, for as long as they need it."""

from __future__ import annotations

import pytest
from net_rig import Net, are_level
from node_rig import NodeRig, eventually, sync

from fabrik_node._core import genesis_encode, next_key
from fabrik_node.clock import SystemClock
from fabrik_node.transport.address import parse_listen
from fabrik_node.transport.guises import FORMER_MAX, Guise, Guises, server_name
from fabrik_node.transport.mesh import Mesh


def commit(net: Net) -> None:
    """The admin's key is that of node 0, its next one that of node 7."""
    keys = net.rigs.keys
    net.rigs.genesis = genesis_encode(keys[0].public, "test", bytes(16), 1_700_000_000_000, next=next_key(keys[7].public))


async def rotated(net: Net, *guests: NodeRig) -> NodeRig:
    """The mesh's admin after it rotated: its old key is that of node 0, its new one that of node 7. ``guests`` know what it wrote before."""
    rigs = net.rigs
    old = await rigs.open(0)
    await sync(old, *guests)
    await old.node.writer.rotate(lambda draft: draft.rotate(rigs.keys[7], None, [], 1))
    new = await rigs.open(7)
    await sync(old, new)
    assert new.node.replica.member(rigs.keys[7].public).role == 4
    return new


async def up(net: Net, new: NodeRig) -> Mesh:
    _, mesh = await net.up(7, rig=new, mesh_former=[net.rigs.keys[0]])
    return mesh


@pytest.mark.promise("F8")
@pytest.mark.parametrize("known", [True, False])
async def test_a_peer_that_knows_the_old_key_alone_is_answered_under_it(net: Net, known: bool) -> None:
    commit(net)
    guest, calls = await net.up(1)
    new = await rotated(net, guest)
    mesh = await up(net, new)
    url = await mesh.listen(parse_listen("127.0.0.1:0"))
    assert not guest.node.is_admitted(new.node.public)
    calls.dial(url, net.rigs.keys[0].public if known else b"")
    await eventually(lambda: guest.node.is_admitted(new.node.public), "the rotation arrived")
    await guest.add("an item")
    await are_level(new, guest)
    await eventually(lambda: [(peer.key, peer.state) for peer in calls.statuses()] == [(new.node.public, "connected")], "under the new key")


@pytest.mark.promise("F8")
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "ws://127.0.0.1:0"])
async def test_a_peer_that_refuses_the_new_key_is_called_under_the_old_one(net: Net, listen: str) -> None:
    commit(net)
    guest, _, url = await net.listening(1, listen=listen)
    new = await rotated(net, guest)
    mesh = await up(net, new)
    mesh.dial(url, guest.node.public)
    await eventually(lambda: guest.node.is_admitted(new.node.public), "the rotation arrived")
    await new.add("an item")
    await are_level(new, guest)
    assert not guest.node.is_admitted(net.rigs.keys[0].public)
    await eventually(lambda: [peer.key for peer in guest.node.peers() if peer.state == "connected"] == [new.node.public], "under the new key")


@pytest.mark.promise("F8")
async def test_who_has_the_rotation_takes_the_old_key_no_more(net: Net) -> None:
    """The thief of the old key against a peer that knows."""
    commit(net)
    guest, _, url = await net.listening(1)
    await sync(await rotated(net, guest), guest)
    (old,) = [rig for rig in net.rigs.rigs if rig.node.public == net.rigs.keys[0].public]
    _, calls = await net.up(0, rig=old)
    calls.dial(url, guest.node.public)
    await eventually(lambda: [peer.state for peer in calls.statuses()] == ["refused"], "refused")
    assert guest.node.peers() == []


def test_a_server_name_tells_nothing_but_whom_one_expects(net: Net) -> None:
    keys = net.rigs.keys
    names = [server_name(key.public) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(name.endswith(".fabrik") and key.public.hex()[:16] not in name for name, key in zip(names, keys, strict=True))
    assert server_name(b"") == ""
    clock = SystemClock()
    many = Guises(Guise(keys[0].public, keys[0].sign, list, clock), keys[1:] * 3, list, clock)
    assert len(many.all) == 1 + FORMER_MAX
    assert many.of(keys[2].public).public == keys[2].public
    assert many.of(bytes(32)) is many.own


async def test_a_former_key_is_known_again_though_the_members_changed_during_the_handshake(net: Net) -> None:
    """Removing a member makes all contexts anew; a handshake that is under way goes on with its own."""
    keys, clock = net.rigs.keys, SystemClock()
    members = [key.public for key in keys[:4]]
    guises = Guises(Guise(keys[0].public, keys[0].sign, lambda: members, clock), [keys[1]], lambda: members, clock)
    greeting = await guises.server()
    [(former, _)] = greeting.former
    members.pop()
    guises.handle_members()
    assert (await guises.server()).former[0][0].context is not former.context, "made anew meanwhile"
    assert greeting.worn(former.context) == (former, keys[1].public)
    assert greeting.worn(greeting.armed.context) == (greeting.armed, keys[0].public)
