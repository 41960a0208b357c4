"""A token that does not open, over real TLS: for a member whose first try was cut off, and for a key that is out for good."""

from __future__ import annotations

import asyncio

import pytest
from net_rig import Net, are_level, states
from node_rig import BOUND_S

from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.domain.token import JoinToken


@pytest.mark.promise("F5")
async def test_a_joiner_that_was_cut_off_after_its_token_was_used_comes_in_as_a_member(net: Net) -> None:
    host, _, url = await net.listening(0)
    host.listen_url = url
    token = JoinToken.decode((await host.call("invite", role="agent"))["token"])
    joiner, mesh = await net.up(7)
    await host.node.redeem(token.token_id, joiner.node.public, lambda secret: secret == token.secret, b"")
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    assert await asyncio.wait_for(mesh.first_sync(url), BOUND_S) is None
    assert joiner.node.is_admitted(joiner.node.public)
    await are_level(host, joiner)


@pytest.mark.promise("F5", "I14")
async def test_a_revoked_key_gets_no_session_by_a_token(net: Net) -> None:
    host, host_mesh, url = await net.listening(0)
    host.listen_url = url
    thief, mesh = await net.up(7)
    key = thief.node.public
    await host.node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, {1: int(Role.AGENT)}, None)])
    await host.call("nodes.revoke", key=key.hex())
    token = JoinToken.decode((await host.call("invite", role="agent", reusable=True))["token"])
    before = host.facts()
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    end = await asyncio.wait_for(mesh.first_sync(url), BOUND_S)
    assert end is not None
    assert end.refused
    assert end.by_peer
    assert end.detail.startswith("join_refused: this key was put out of the mesh for good; it needs a new home")
    assert (host.facts(), states(host_mesh), thief.node.replica.ops) == (before, [], 1)
    assert [event.data["code"] for event in await host.events_until("peer.refused", 2)] == ["join_refused", "unknown_key"]
