"""Knocking over real TLS: the node proves itself first, a knock opens nothing, and who is let in gets what it needs to come again."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from net_rig import Net
from node_rig import BOUND_S, eventually
from tls_rig import Seen, calling

from fabrik_node._core import SigningKey, next_key
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, UsageError
from fabrik_node.ids import fingerprint
from fabrik_node.transport.address import parse_url
from fabrik_node.transport.asking import Answer, Knocker, ask, parse_fingerprint
from fabrik_node.transport.certificates import hash_of
from fabrik_node.transport.contexts import unverified_context
from fabrik_node.transport.join_frame import Refusal
from fabrik_node.transport.knock_frame import encode_knock


def knocker(key: SigningKey, name: str = "ada") -> Knocker:
    return Knocker(key.public, next_key(b"n" * 32), name, key.sign)


async def asked(url: str, digits: str, key: SigningKey) -> Answer:
    return await asyncio.wait_for(ask(parse_url(url), digits, knocker(key)), BOUND_S)


@pytest.mark.promise("F5", "I19")
async def test_a_knock_is_answered_and_reaches_no_websocket(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch)
    host, mesh, url = await net.listening(0)
    stranger = net.rigs.keys[7]
    digits = parse_fingerprint(fingerprint(host.node.public))
    answer = await asked(url, digits, stranger)
    assert (answer.key, answer.code, answer.genesis) == (host.node.public, "approval_pending", b"")
    assert [(each.key, each.name, each.address) for each in host.node.knocks.waiting()] == [(stranger.public, "ada", "127.0.0.1")]
    await host.call("nodes.approve", key=stranger.public.hex(), role="peer")
    assert (await asked(url, host.node.public.hex(), stranger)).genesis == net.rigs.genesis
    assert (seen.made, seen.bytes) == (0, 0)
    assert mesh.gate is not None
    counters = mesh.gate.counters
    await eventually(lambda: (counters.shut, counters.welcomed, counters.passed) == (1, 1, 0))
    guest, guest_mesh = await net.up(7)
    guest_mesh.dial(url, host.node.public)
    assert await asyncio.wait_for(guest_mesh.first_sync(url), BOUND_S) is None, "and comes in by its certificate"
    await guest.add("by one that knocked")


@pytest.mark.promise("F4", "F5")
async def test_another_node_gets_no_knock(net: Net) -> None:
    host, _, url = await net.listening(0)
    with pytest.raises(AuthError, match=f"another node answers there: its fingerprint is {fingerprint(host.node.public)}"):
        await asked(url, parse_fingerprint("0123-4567-89ab-cdef"), net.rigs.keys[7])
    assert host.node.knocks.waiting() == []


@pytest.mark.promise("F4")
async def test_a_knock_for_another_server_or_by_another_key_is_none(net: Net) -> None:
    host, _, url = await net.listening(0)
    stranger, other = net.rigs.keys[7], SigningKey.from_seed(b"\x55" * 32)
    for by, elsewhere in ((stranger, True), (other, False)):
        async with calling(url, unverified_context()) as caller:
            cert = secrets.token_bytes(32) if elsewhere else hash_of(caller.server_cert)
            caller.say(encode_knock(stranger.public, b"", "ada", secrets.token_bytes(16), cert, by.sign))
            assert await caller.answer() == Refusal("bad_knock", "the knock is not signed by its key, or for another node")
    assert host.node.knocks.waiting() == []


async def test_a_port_without_tls_gets_no_knock_either(net: Net) -> None:
    _, _, url = await net.listening(0, listen="ws://127.0.0.1:0")
    with pytest.raises(AuthError, match="does not speak TLS"):
        await asked(url.replace("ws://", "wss://"), "0" * 16, net.rigs.keys[7])


@pytest.mark.promise("E19")
async def test_a_joiner_waits_for_a_node_that_is_full(net: Net) -> None:
    host, _, url = await net.listening(0, mesh_inbound_max=1)
    host.listen_url = url
    _, first = await net.up(1)
    first.dial(url, host.node.public)
    await asyncio.wait_for(first.first_sync(url), BOUND_S)
    token = JoinToken.decode((await host.call("invite", role="peer"))["token"])
    _, mesh = await net.up(7)
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    syncing = asyncio.create_task(mesh.first_sync(url))
    await eventually(lambda: mesh.why_not(url).startswith("too_many_connections"))
    assert not syncing.done(), "that is no answer for good"
    await first.close()
    assert await asyncio.wait_for(syncing, BOUND_S) is None


@pytest.mark.parametrize("text", ["", "abab", "abab-abab-abab-aba", "xbab-abab-abab-abab", "ab" * 33])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(UsageError, match="not the fingerprint"):
        parse_fingerprint(text)
