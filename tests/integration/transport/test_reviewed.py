"""What a review of the transport found, each as an attack that has to fail."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from typing import Any

import pytest
from net_rig import Net, are_level, peer, states
from node_rig import NodeRig, eventually
from tls_rig import calling, contexts_of

from fabrik_node._core import SigningKey
from fabrik_node.clock import SystemClock
from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.transport.certificates import hash_of
from fabrik_node.transport.contexts import ALPN, Contexts
from fabrik_node.transport.join_frame import encode_join


def any_client() -> ssl.SSLContext:
    """One that takes every server and shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    return context


async def set_role(admin: NodeRig, number: int, role: Role, net: Net) -> None:
    key = net.rigs.keys[number].public
    await admin.node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, {1: int(role)}, None)])


@pytest.mark.promise("I14", "F8")
async def test_a_revoked_node_that_is_dialled_gets_nothing(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, url = await net.listening(0)
    revoked, revoked_mesh, its_url = await net.listening(1)
    two, mesh = await net.up(2)
    mesh.dial(url)
    mesh.dial(its_url)
    revoked_mesh.dial(url)
    await are_level(host, revoked, two)
    monkeypatch.setattr(revoked.node, "is_admitted", lambda _: True)  # it does not care
    await set_role(host, 1, Role.NONE, net)
    await eventually(lambda: sorted(states(mesh)) == ["connected", "refused"], f"{mesh.statuses()}")
    before = revoked.node.replica.ops
    await host.add("after the revocation")
    await are_level(host, two)
    for dial in mesh._dials.all.values():
        dial.again.set()
    await eventually(lambda: any(status.attempts >= 2 and status.state == "refused" for status in mesh.statuses()), f"{mesh.statuses()}")
    assert revoked.node.replica.ops == before
    assert [status.detail.partition(":")[0] for status in mesh.statuses() if status.url == its_url] == ["unknown_key"]


@pytest.mark.promise("I19")
async def test_a_caller_can_not_ask_for_an_expensive_key_exchange(net: Net) -> None:
    _, _, url = await net.listening(0)
    other = any_client()
    other.set_ecdh_curve("prime256v1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with calling(url, other):
            pass
    async with calling(url, any_client()) as caller:
        assert caller.server_cert


@pytest.mark.promise("I18")
async def test_wrong_join_frames_fill_no_disk(net: Net) -> None:
    host, mesh, url = await net.listening(0)
    for _ in range(12):
        async with calling(url, any_client()) as caller:
            caller.say(encode_join(secrets.token_bytes(16), secrets.token_bytes(32), secrets.token_bytes(16), b"x" * 32, hash_of(caller.server_cert)))
            await caller.answer()
    await eventually(lambda: mesh.refused_inbound == 12)
    told = await host.events_until("peer.refused")
    assert [(event.data["key"], event.data["code"]) for event in told] == [("", "join_refused")]
    assert len(await host.events("peer.refused")) == 1
    for number in range(1_000):
        mesh._tell_refused_caller(f"2001:db8::{number:x}", b"", "unknown_key", "from everywhere")
    await host.add("after them")
    await host.events_until("item.added")
    assert len(await host.events("peer.refused")) <= 60


@pytest.mark.promise("I19")
async def test_a_caller_that_gives_up_leaves_the_anchors_whole() -> None:
    keys = [SigningKey.from_seed(secrets.token_bytes(32)) for _ in range(100)]
    contexts = Contexts(keys[0].public, keys[0].sign, lambda: {key.public for key in keys}, SystemClock())
    asked = asyncio.create_task(contexts.server())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    armed = await contexts.server()
    assert armed.context.cert_store_stats()["x509"] == 100


@pytest.mark.promise("I19")
async def test_somebody_unknown_sends_little_after_the_handshake() -> None:
    key = SigningKey.from_seed(bytes(32))
    server = (await contexts_of(key, [key.public]).server()).context
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(one, other, server_side=True)
    there = any_client().wrap_bio(other, one)
    done: set[Any] = set()
    while len(done) < 2:
        for side in (there, here):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    read = 0
    there.write(bytes(15_000))
    while one.pending:
        read += len(here.read(16_384))
    assert read == 15_000
    there.write(bytes(15_000))
    with pytest.raises(ssl.SSLError, match="not known yet"):
        here.read(16_384)
    here.allowance = None  # type: ignore[attr-defined]  # known now
    there.write(bytes(15_000))
    assert len(here.read(16_384)) > 0


async def test_a_dial_whose_peer_stays_a_member_keeps_its_key(net: Net) -> None:
    host, _, url = await net.listening(0)
    two, mesh = await net.up(1)
    mesh.dial(url)
    await are_level(host, two)
    assert peer(mesh).key == host.node.public
