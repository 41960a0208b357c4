"""Every refusal, over real sockets, with the words that each side shows: a code, what happened, and what to type."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from net_rig import Net, address_of, are_level, peer, states
from node_rig import BOUND_S, NodeRig, eventually, sync
from tls_rig import contexts_of, place_of

from fabrik_node._core import Replica, SigningKey, next_key
from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.domain.token import JoinToken
from fabrik_node.ids import show_key
from fabrik_node.transport.address import parse_listen
from fabrik_node.transport.knocking import _First
from fabrik_node.transport.mesh import Mesh

TO_TYPE = "ask the mesh's admin for a token (fabrik-node invite), then: fabrik-node join TOKEN"
ASK_AGAIN = "ask its operator for a new one: fabrik-node invite"


async def refusals(rig: NodeRig, count: int = 1) -> list[dict[str, Any]]:
    """The first events about a refusal, as data."""
    return [dict(event.data) for event in await rig.events_until("peer.refused", count)]


async def set_role(admin: NodeRig, number: int, role: Role, net: Net) -> None:
    """The admin writes a member record."""
    key = net.rigs.keys[number].public
    await admin.node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, {1: int(role)}, None)])


async def refused(mesh: Mesh) -> str:
    """What status says once this node's dial is refused."""
    await eventually(lambda: states(mesh) == ["refused"], f"{mesh.statuses()}")
    return peer(mesh).detail


@pytest.mark.promise("F3")
async def test_unknown_key(net: Net) -> None:
    host, _, url = await net.listening(0)
    stranger, mesh = await net.up(7)
    mesh.dial(url)
    said = f"that node does not know the key of this one, or it was revoked or rotated (a home from a backup: fabrik-node keys use FILE); {TO_TYPE}"
    assert await refused(mesh) == f"unknown_key: {said}"
    assert await refusals(stranger) == [{"direction": "out", "url": url, "code": "unknown_key", "detail": said, "by_peer": True}]
    told = {"direction": "in", "key": "", "address": "127.0.0.1", "code": "unknown_key", "detail": "its certificate is of no key that is a member"}
    assert await refusals(host) == [told]


@pytest.mark.promise("F3")
async def test_the_reason_always_arrives(net: Net) -> None:
    """asyncio closes a connection whose handshake failed; without care the alert is lost with it, now and then."""
    _, _, url = await net.listening(0)
    _, mesh = await net.up(7, mesh_retry_s_max=0.01)
    mesh.dial(url)
    seen: set[str] = set()

    def looks() -> bool:
        if peer(mesh).detail:
            seen.add(peer(mesh).detail.partition(":")[0])
        return peer(mesh).attempts >= 60

    await eventually(looks)
    assert seen == {"unknown_key"}


@pytest.mark.promise("F5")
async def test_revoked_while_connected_and_admitted_again(net: Net) -> None:
    """No restart on either side: the session ends, the gate closes, and both open again with the next record."""
    host, host_mesh, url = await net.listening(0)
    two, mesh = await net.up(1)
    three, mesh_three = await net.up(2)
    mesh.dial(url)
    mesh_three.dial(url)
    await are_level(host, two, three)
    await set_role(host, 1, Role.NONE, net)
    await eventually(lambda: host_mesh.connected == 1, "the open session is ended")
    said = f"this node's key was revoked there; {TO_TYPE}"
    await eventually(lambda: peer(mesh).detail == f"revoked: {said}", f"{peer(mesh)}")
    assert states(mesh) == ["refused"]
    assert await refusals(two) == [{"direction": "out", "url": url, "code": "revoked", "detail": said, "by_peer": True}]
    lost = (await host.events_until("peer.lost"))[0].data
    assert (lost["key"], lost["code"]) == (show_key(two.node.public), "revoked")
    assert (await refusals(host))[0]["code"] == "unknown_key"
    await host.add("the others go on")
    await are_level(host, three)
    assert [view.title for view in two.node.board.items()] == []
    await set_role(host, 1, Role.AGENT, net)
    await are_level(host, two, three)


@pytest.mark.promise("I14", "F5")
async def test_the_session_of_a_revoked_node_is_over_when_the_commit_is_told(net: Net) -> None:
    """Before anything else happens here, and before the state is made anew without what is void: no step, and no clock."""
    host, host_mesh, url = await net.listening(0)
    two, mesh = await net.up(1)
    mesh.dial(url)
    await two.add("what is void then")
    await are_level(host, two)
    await eventually(lambda: states(host_mesh) == ["connected"])
    key = two.node.public
    seen: list[tuple[bool, list[str]]] = []  # what was merged before may be told only now
    host.node.on_committed(lambda _: seen.append((host.node.is_admitted(key), states(host_mesh))))
    record = {1: int(Role.NONE), 3: [1, 1, bytes(32)]}
    await host.node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, record, None)])
    assert next(shown for admitted, shown in seen if not admitted) != ["connected"]
    assert not host.node.is_admitted(key)


@pytest.mark.promise("F5")
async def test_revoked_between_handshake_and_gate(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, url = await net.listening(0)
    two, mesh = await net.up(1)
    key = two.node.public
    monkeypatch.setattr(host.node, "is_admitted", lambda other: other != key)
    mesh.dial(url)
    said = f"this key is no longer a member of the mesh; {TO_TYPE}"
    assert await refused(mesh) == f"revoked: {said}"
    assert await refusals(host) == [{"direction": "in", "key": show_key(key), "address": "127.0.0.1", "code": "revoked", "detail": said}]


@pytest.mark.promise("F8")
@pytest.mark.parametrize("there", [True, False], ids=["old key connected", "old key away"])
async def test_a_key_that_was_rotated_to_is_let_in_and_the_old_one_put_out(net: Net, there: bool) -> None:
    """The new key never wrote anything, and no record names it: that it follows an admitted one is enough."""
    host, host_mesh, url = await net.listening(0)
    old, new = net.rigs.keys[1], net.rigs.keys[7]
    record = {1: int(Role.AGENT), 5: next_key(new.public)}
    await host.node.write(("member", old.public), lambda: [(Kind.MEMBER, old.public, MemberField.RECORD, record, None)])
    two, mesh = await net.up(1)
    await sync(host, two)
    if there:
        mesh.dial(url)
        await eventually(lambda: host_mesh.connected == 1)
    successor, later = await net.up(7)
    later.dial(url)
    assert (await refused(later)).startswith("unknown_key: ")
    drafting = Replica(net.rigs.genesis)
    async for batch in host.node.store.load():
        drafting.load([row.data for row in batch])
    (head,) = [each for each in drafting.heads() if each.author == old.public]
    (rotation,) = drafting.draft(old, head.epoch).rotate(new, None, [], 1_700_000_000_000)
    await host.node.ingest([rotation.data], old.public)
    await eventually(lambda: host_mesh.connected == 0, "the old key's session is ended")
    if there:
        await eventually(lambda: peer(mesh).detail.startswith("revoked: "), f"{mesh.statuses()}")
    later._dials.handle_members()  # it would try again in some seconds
    await eventually(lambda: host_mesh.connected == 1 and states(later) == ["connected"], f"{later.statuses()}")
    await are_level(host, successor)


@pytest.mark.promise("F4")
async def test_another_server_than_the_expected_one(net: Net) -> None:
    """A stranger at the address of a member."""
    impostor, _, url = await net.listening(7)
    two, mesh = await net.up(1)
    expected = net.rigs.keys[0].public
    mesh.dial(url, expected)
    said = (
        f"the node at this address has not the key that was expected ({show_key(expected)[:16]}) and is no member: somebody is in between, or another node is"
        " there now; check the address, or take a new token: fabrik-node invite"
    )
    assert await refused(mesh) == f"wrong_key: {said}"
    assert await refusals(two) == [{"direction": "out", "url": url, "code": "wrong_key", "detail": said, "by_peer": False}]
    (told,) = await refusals(impostor)
    assert (told["direction"], told["code"], told["key"]) == ("in", "wrong_key", "")
    assert told["detail"].startswith("it did not accept this node's certificate (")
    assert "unknown ca" in told["detail"]


@pytest.mark.promise("F3")
async def test_a_server_of_which_nothing_was_expected_and_that_is_no_member(net: Net) -> None:
    _, _, url = await net.listening(7)
    _, mesh = await net.up(1)
    mesh.dial(url)
    assert await refused(mesh) == (
        "unknown_key: the node at this address is no member that is known here; check the address, or join its mesh: fabrik-node join TOKEN"
    )


async def token_of(host: NodeRig, url: str) -> JoinToken:
    """An invitation to this address."""
    host.listen_url = url
    return JoinToken.decode((await host.call("invite", role="agent"))["token"])


@pytest.mark.promise("F5")
async def test_a_joiner_talks_to_the_issuer_alone(net: Net) -> None:
    """Another member answers at the address of the token: it gets neither the proof nor anything else."""
    host, _, url = await net.listening(0)
    token = await token_of(host, url)
    await net.meshes[0].close()
    net.meshes.pop(0)
    _, other = await net.up(1)
    assert await other.listen(parse_listen(address_of(url))) == url
    _, mesh = await net.up(7)
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    end = await asyncio.wait_for(mesh.first_sync(url), BOUND_S)
    assert end is not None
    assert (end.refused, end.by_peer) == (True, False)
    assert end.detail.startswith("wrong_key: the node at this address has not the key that was expected")
    assert await host.node.store.invite(token.token_id) is not None


@pytest.mark.promise("F6")
@pytest.mark.parametrize("why", ["used", "expired", "bad"])
async def test_a_token_that_is_of_no_use(net: Net, why: str) -> None:
    host, _, url = await net.listening(0)
    token = await token_of(host, url)
    match why:
        case "used":
            await host.node.store.use_invite(token.token_id, bytes(32), 1)
            said = f"this node did not issue that invitation, or it was used; {ASK_AGAIN}"
        case "expired":
            net.rigs.clock.advance(3_601)
            said = f"the invitation has expired; {ASK_AGAIN}"
        case _:
            token = JoinToken(token.genesis, token.issuer, token.url, token.token_id, bytes(32), token.role)
            said = f"the joiner could not prove that it holds the invitation; {ASK_AGAIN}"
    joiner, mesh = await net.up(7)
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    end = await asyncio.wait_for(mesh.first_sync(url), BOUND_S)
    assert end is not None
    assert (end.refused, end.by_peer, end.detail) == (True, True, f"join_refused: {said}")
    assert await refusals(joiner) == [{"direction": "out", "url": url, "code": "join_refused", "detail": said, "by_peer": True}]
    nobody = ""  # what key it has was not proven
    assert await refusals(host) == [{"direction": "in", "key": nobody, "address": "127.0.0.1", "code": "join_refused", "detail": said}]


@pytest.mark.promise("I19")
async def test_too_many_connections(net: Net) -> None:
    host, host_mesh, url = await net.listening(0, mesh_inbound_max=1)
    two, mesh = await net.up(1)
    three, late = await net.up(2)
    mesh.dial(url)
    await are_level(host, two)
    late.dial(url)
    said = "this node takes no more connections now; it is tried again by itself"
    assert await refused(late) == f"too_many_connections: {said}"
    shown = show_key(three.node.public)
    assert await refusals(host) == [{"direction": "in", "key": shown, "address": "127.0.0.1", "code": "too_many_connections", "detail": said}]
    assert host_mesh.connected == 1
    await mesh.close()
    net.meshes.remove(mesh)
    await are_level(host, three)


async def test_tls_to_a_port_without_it(net: Net) -> None:
    host, _, url = await net.listening(0, listen="ws://127.0.0.1:0")
    _, mesh = await net.up(1)
    mesh.dial(url.replace("ws://", "wss://"))
    assert await refused(mesh) == (
        "not_tls: what listens at this address does not speak TLS as we do; check host and port."
        " A node with --listen ws://127.0.0.1:PORT is dialled as ws://127.0.0.1:PORT"
    )
    assert await refusals(host) == [{"direction": "in", "key": "", "address": "127.0.0.1", "code": "not_tls", "detail": "TLS came to a plain port"}]


async def test_tls_to_something_else(net: Net) -> None:
    async def banner(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-something\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(banner, "127.0.0.1", 0) as server:
        _, mesh = await net.up(1)
        mesh.dial(f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/crdt-sync")
        assert (await refused(mesh)).startswith("not_tls: what listens at this address does not speak TLS as we do; check host and port.")


async def test_a_plain_address_of_a_node_that_speaks_tls_now(net: Net) -> None:
    """Homes of an earlier version know each other by ws:// on loopback: they go on, with TLS, and never fall back."""
    host, _, url = await net.listening(0)
    two, mesh = await net.up(1)
    mesh.dial(url.replace("wss://", "ws://"))
    await are_level(host, two)
    await eventually(lambda: states(mesh) == ["connected"])
    (link, _, _) = next(iter(mesh._links.values()))
    assert link._socket.transport.get_extra_info("ssl_object").version() == "TLSv1.3"


async def test_plain_nodes_meet_on_loopback(net: Net) -> None:
    host, _, url = await net.listening(0, listen="ws://127.0.0.1:0")
    two, mesh = await net.up(1)
    mesh.dial(url)
    await are_level(host, two)
    stranger, other = await net.up(7)
    other.dial(url)
    assert await refused(other) == f"unknown_key: {TO_TYPE}"
    assert stranger.node.board.items() == []
    token = await token_of(host, url)
    joiner, third = await net.up(7, rig=stranger)
    third.dial(url, token.issuer, (token.token_id, token.secret))
    assert await asyncio.wait_for(third.first_sync(url), BOUND_S) is None
    assert host.node.is_admitted(joiner.node.public)


async def test_closing_in_the_very_moment_of_a_refusal(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alert has arrived, and before anybody looked at it the mesh is closed: the dial ends, and is not taken for refused and tried again."""
    _, _, url = await net.listening(0)
    _, mesh = await net.up(7)
    lost = _First.connection_lost
    closing: list[asyncio.Task[None]] = []

    def close_now(first: _First, exc: Exception | None) -> None:
        lost(first, exc)
        closing.append(asyncio.create_task(mesh.close()))

    monkeypatch.setattr(_First, "connection_lost", close_now)
    mesh.dial(url)
    await eventually(lambda: closing != [])
    await asyncio.wait_for(closing[0], BOUND_S)
    assert all(dial.task is not None and dial.task.done() for dial in mesh._dials.all.values())


async def test_a_name_whose_first_address_leads_nowhere(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that only seems to be there: its packets are lost, and nobody says so."""
    host, _, url = await net.listening(0)
    two, mesh = await net.up(1)
    loop = asyncio.get_running_loop()
    find, connect, tried = loop.getaddrinfo, loop.sock_connect, list[str]()

    async def found(host: Any, port: Any, **options: Any) -> Any:
        there = await find("127.0.0.1", port, **options)
        return [(family, kind, proto, name, ("192.0.2.1", port)) for family, kind, proto, name, _ in there] + there

    async def lossy(sock: Any, place: Any) -> None:
        tried.append(place[0])
        if place[0] == "192.0.2.1":
            await asyncio.Event().wait()
        await connect(sock, place)

    monkeypatch.setattr(loop, "getaddrinfo", found)
    monkeypatch.setattr(loop, "sock_connect", lossy)
    monkeypatch.setattr("fabrik_node.transport.knocking._ADDRESS_S", 0.05)
    mesh.dial(url.replace("127.0.0.1", "gate.example.org"))
    await are_level(host, two)
    assert tried == ["192.0.2.1", "127.0.0.1"]


# ---- somebody in between -------------------------------------------------------------------------------


@asynccontextmanager
async def relay(url: str, key: SigningKey, net: Net, expected: bytes) -> AsyncIterator[str]:
    """TLS is ended by a member in the middle, who shows its own certificates to both sides and passes on what they say; its URL."""
    contexts = contexts_of(key, [each.public for each in net.rigs.keys])
    armed, out = await contexts.server(), await contexts.client(expected)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = place_of(url)
        there, back = await asyncio.open_connection(host, port, ssl=out.context, server_hostname="")
        for pair in ((reader, back), (there, writer)):
            tasks.add(asyncio.create_task(pump(*pair)))
        await asyncio.wait(tasks)

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=armed.context) as server:
        yield f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/crdt-sync"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.promise("F4")
async def test_a_member_in_the_middle_can_not_pass_for_another(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    two, mesh = await net.up(1)
    await sync(host, two)  # the one in the middle is a member
    between = net.rigs.keys[2]
    async with relay(url, between, net, host.node.public) as middle:
        mesh.dial(middle, host.node.public)
        said = f"the certificate is of key {between.public.hex()[:16]}, and the handshake of key {two.node.public.hex()[:16]}: somebody is in between"
        assert await refused(mesh) == f"bad_certificate: {said}"
        (told,) = await refusals(host)
        assert (told["code"], told["detail"]) == ("bad_certificate", said)
    assert host_mesh.connected == 0


@pytest.mark.promise("F4")
async def test_a_member_in_the_middle_is_seen_by_the_caller_too(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is called does not look: the caller does."""
    host, _, url = await net.listening(0)
    two, mesh = await net.up(1)
    await sync(host, two)  # the one in the middle is a member
    between = net.rigs.keys[2]
    listener = net.meshes[0]._listener
    assert listener is not None
    enter = listener._enter

    async def blind(socket: Any, caller: Any) -> None:
        await enter(socket, type(caller)(caller.address))

    monkeypatch.setattr(listener, "_enter", blind)
    async with relay(url, between, net, host.node.public) as middle:
        mesh.dial(middle, host.node.public)
        said = f"the certificate is of key {between.public.hex()[:16]}, and the handshake of key {host.node.public.hex()[:16]}: somebody is in between"
        assert await refused(mesh) == f"bad_certificate: {said}"


# ---- certificates in use -------------------------------------------------------------------------------


@pytest.mark.promise("I22")
async def test_a_certificate_is_renewed_and_nobody_notices(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    two, mesh = await net.up(1)
    mesh.dial(url)
    await are_level(host, two)
    before = await host_mesh._guises.own.contexts.server()
    host_mesh._guises.own.contexts._renew_at = 0.0
    after = await host_mesh._guises.own.contexts.server()
    assert before.own_cert != after.own_cert
    three, late = await net.up(2)
    late.dial(url, host.node.public)
    await host.add("to both")
    await are_level(host, two, three)
    assert (host_mesh.connected, peer(mesh).attempts, peer(late).attempts) == (2, 0, 0)
