"""The gate over real sockets: what is let through, what is not, and that nothing of a stranger reaches WebSocket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from net_rig import Net, are_level, peer
from node_rig import BOUND_S, eventually
from tls_rig import Seen, calling, contexts_of, place_of

from fabrik_node.clock import SystemClock
from fabrik_node.domain.token import JoinToken
from fabrik_node.transport.adapters import NodeLogs
from fabrik_node.transport.address import parse_url
from fabrik_node.transport.certificates import hash_of
from fabrik_node.transport.guises import Guise
from fabrik_node.transport.join_frame import JOIN_BYTES, Refusal, encode_join
from fabrik_node.transport.knocking import KnockRefused, knock
from fabrik_node.transport.listening import HANDSHAKES_MAX, accepted
from fabrik_node.transport.mesh import INBOUND_PER_KEY_MAX
from fabrik_node.transport.threshold import Threshold
from fabrik_sync import Join, Limits, Session

NOBODY = Refusal(
    "unknown_key", "no certificate and no invitation was shown; ask the mesh's admin for a token (fabrik-node invite), then: fabrik-node join TOKEN"
)


@pytest.mark.promise("F3")
async def test_an_unknown_key_never_reaches_websocket(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, mesh, url = await net.listening(0)
    seen = Seen(monkeypatch)
    stranger, calls = await net.up(7)
    calls.dial(url)
    await eventually(lambda: peer(calls).attempts >= 5 and peer(calls).state == "refused")
    assert (seen.made, seen.bytes) == (0, 0)
    assert mesh.inbound == 0
    two, members = await net.up(1)
    members.dial(url)
    await are_level(host, two)
    assert seen.made == 1, "the instrument sees a member"
    assert seen.bytes > 0
    assert not stranger.node.board.items()


@pytest.mark.promise("F3", "I19")
@pytest.mark.parametrize("what", ["HTTP", "garbage", "a join frame of another version", "too much", "zeros"])
async def test_a_caller_without_certificate_is_refused_after_one_frame(net: Net, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    host, mesh, url = await net.listening(0)
    seen = Seen(monkeypatch)
    first = {
        "HTTP": b"GET /crdt-sync HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "garbage": bytes(range(1, 200)),
        "a join frame of another version": b"FABRIKJ\x02" + bytes(JOIN_BYTES),
        "too much": b"x" * 10_000,
        "zeros": bytes(JOIN_BYTES),
    }[what]
    armed = await contexts_of(net.rigs.keys[7], []).joiner(host.node.public)
    async with calling(url, armed.context) as caller:
        caller.say(first)
        assert await caller.answer() == NOBODY
    await eventually(lambda: mesh.gate is not None and mesh.gate.counters.shut == 1)
    assert (seen.made, mesh.inbound) == (0, 0)


@pytest.mark.promise("I19")
@pytest.mark.parametrize("said", [0, 1, JOIN_BYTES - 1])
async def test_a_caller_that_is_slow_or_leaves_in_the_middle_costs_one_place_for_a_while(net: Net, monkeypatch: pytest.MonkeyPatch, said: int) -> None:
    host, mesh, url = await net.listening(0, limits=Limits(handshake_s=1.5))
    seen = Seen(monkeypatch)
    armed = await contexts_of(net.rigs.keys[7], []).joiner(host.node.public)
    async with calling(url, armed.context) as gone:
        gone.say(b"FABRIKJ\x01"[:said])
    async with calling(url, armed.context) as slow, calling(url, None) as silent, calling(url, None) as half:
        slow.say(b"FABRIKJ\x01".ljust(JOIN_BYTES, b"x")[:said])
        half.say(b"\x16\x03\x01")
        for each in (slow, silent, half):
            assert await each.answer() == b"", "it is closed without a word when its time is over"
    await eventually(lambda: mesh.gate is not None and mesh.gate.counters.timed_out >= 3)
    assert (seen.made, mesh.inbound) == (0, 0)


@pytest.mark.promise("F3")
async def test_older_tls_and_other_protocols_are_refused(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, url = await net.listening(0)
    seen = Seen(monkeypatch)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        async with calling(url, old):
            pass
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
    async with calling(url, other) as caller:
        assert await caller.answer() == Refusal("no_common_version", "this port speaks fabrik/1 and nothing else: upgrade the older of the two nodes")
    async with calling(url, None) as plain:
        plain.say(b"GET / HTTP/1.1\r\n\r\n")
        answer = await plain.answer()
        assert isinstance(answer, bytes)
        assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\n")
    assert seen.made == 0
    assert [event.data["code"] for event in await host.events_until("peer.refused", 3)] == ["not_tls", "no_common_version", "needs_tls"]


@pytest.mark.promise("F3")
async def test_no_ticket_no_compression_and_no_less_than_tls_1_3(net: Net) -> None:
    host, _, url = await net.listening(0)
    key = net.rigs.keys[1]
    armed = await contexts_of(key, [host.node.public]).client(host.node.public)
    async with calling(url, armed.context) as caller:
        tls = caller.writer.get_extra_info("ssl_object")
        assert (tls.version(), tls.compression(), tls.selected_alpn_protocol()) == ("TLSv1.3", None, "fabrik/1")
        caller.say(b"GET /other HTTP/1.1\r\n\r\n")
        await caller.reader.read(1)
        assert not tls.session_reused
        assert not tls.session.has_ticket


# ---- joining ------------------------------------------------------------------------------------------


async def invited(net: Net, url: str) -> JoinToken:
    host = net.rigs.rigs[0]
    host.listen_url = url
    return JoinToken.decode((await host.call("invite", role="agent"))["token"])


async def show(net: Net, url: str, token: JoinToken, *, key: bytes = b"", secret: bytes = b"", cert: bytes = b"") -> Refusal | bytes:
    """Join with a frame that is right but for what is given; what comes back."""
    armed = await contexts_of(net.rigs.keys[7], []).joiner(net.rigs.rigs[0].node.public)
    async with calling(url, armed.context) as caller:
        frame = encode_join(token.token_id, key or net.rigs.keys[7].public, bytes(16), secret or token.secret, cert or hash_of(caller.server_cert))
        caller.say(frame + b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
        return await caller.answer()


@pytest.mark.promise("F5", "F6")
async def test_a_join_frame_opens_the_gate_only_with_the_secret_and_for_this_certificate(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, url = await net.listening(0)
    seen = Seen(monkeypatch)
    token = await invited(net, url)
    unproven = Refusal("join_refused", "the joiner could not prove that it holds the invitation; ask its operator for a new one: fabrik-node invite")
    assert await show(net, url, token, secret=b"s" * 32) == unproven
    assert await show(net, url, token, cert=b"c" * 32) == unproven, "a frame that was made for another server, or its former certificate"
    assert seen.made == 0
    answer = await show(net, url, token)
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 404"), "the right one goes on to WebSocket"
    assert seen.made == 1


@pytest.mark.promise("F6")
async def test_a_join_frame_is_of_no_use_after_its_token(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, url = await net.listening(0)
    token = await invited(net, url)
    joiner, mesh = await net.up(7)
    mesh.dial(url, token.issuer, (token.token_id, token.secret))
    assert await asyncio.wait_for(mesh.first_sync(url), BOUND_S) is None
    assert host.node.is_admitted(joiner.node.public)
    seen = Seen(monkeypatch)
    used = Refusal("join_refused", "this node did not issue that invitation, or it was used; ask its operator for a new one: fabrik-node invite")
    assert await show(net, url, token) == used
    assert await show(net, url, token, key=b"k" * 32) == used
    late = await invited(net, url)
    net.rigs.clock.advance(3_601)
    expired = Refusal("join_refused", "the invitation has expired; ask its operator for a new one: fabrik-node invite")
    assert await show(net, url, late) == expired
    assert seen.made == 0


@pytest.mark.promise("F4", "F5")
async def test_who_opened_the_gate_must_be_who_joins(net: Net) -> None:
    """A join frame that names one key, and a handshake with another: the proof of the secret does not help."""
    host, _, url = await net.listening(0)
    token = await invited(net, url)
    guest, _ = await net.up(7)
    join = Join(token.token_id, token.secret)
    contexts = contexts_of(net.rigs.keys[7], [])
    opened = await knock(parse_url(url), contexts, b"o" * 32, expected=host.node.public, join=join)
    session = Session.connect(
        identity=Guise(guest.node.public, guest.node.sign, guest.node.admitted, SystemClock()),
        mesh=host.node.mesh_id,
        replica=NodeLogs(guest.node, host.node.public),
        now=SystemClock().now(),
        join=join,
    )
    await opened.socket.send(session.poll_frame() or b"")
    answer = await asyncio.wait_for(opened.socket.recv(), BOUND_S)
    assert b"bad_certificate" in bytes(answer)  # type: ignore[arg-type]
    assert b"somebody is in between" in bytes(answer)  # type: ignore[arg-type]
    await opened.socket.close()
    assert not host.node.is_admitted(guest.node.public)
    assert await host.node.store.invite(token.token_id) is not None, "the token was not used up"


# ---- floods -------------------------------------------------------------------------------------------


@pytest.mark.promise("I19")
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_hundred_half_open_connections_keep_nobody_out(net: Net, said: bytes) -> None:
    host, mesh, url = await net.listening(0)
    two, members = await net.up(1)
    files = len(list(Path("/proc/self/fd").iterdir()))
    half = []
    try:
        for _ in range(100):
            half.append(socket.create_connection(place_of(url), timeout=BOUND_S))
            half[-1].sendall(said)
        assert mesh.gate is not None
        await eventually(lambda: mesh.gate is not None and mesh.gate.counters.evicted >= 100 - HANDSHAKES_MAX)
        assert mesh.unknown_callers <= HANDSHAKES_MAX
        here = len(list(Path("/proc/self/fd").iterdir())) - files - len(half)
        assert here <= 2 * HANDSHAKES_MAX, "those that gave way are closed"
        members.dial(url)
        await are_level(host, two)
        await eventually(lambda: peer(members).state == "connected")
        assert peer(members).attempts == 0, "at the first try"
    finally:
        for each in half:
            each.close()
    await eventually(lambda: not mesh.unknown_callers)


async def test_refused_callers_that_do_not_go_away_are_put_out(net: Net) -> None:
    host, mesh, url = await net.listening(0)
    armed = await contexts_of(net.rigs.keys[7], []).joiner(host.node.public)

    async def stays() -> None:
        async with calling(url, armed.context) as caller:
            caller.say(bytes(JOIN_BYTES))
            assert await caller.answer() == NOBODY
            while not caller.writer.transport.is_closing():
                caller.say(bytes(65_536))
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(stays() for _ in range(8)), return_exceptions=True), BOUND_S)
    await eventually(lambda: not mesh.unknown_callers)
    assert mesh.gate is not None
    assert mesh.gate.counters.shut == 8


async def test_a_listener_without_descriptors_goes_on_when_there_are_some(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    host, mesh, url = await net.listening(0)
    failed: list[int] = []

    async def scarce(sock: socket.socket) -> tuple[socket.socket, object]:
        if len(failed) < 2:
            failed.append(1)
            raise OSError(24, "Too many open files")
        return await accepted(sock)

    monkeypatch.setattr("fabrik_node.transport.listening.accepted", scarce)
    with socket.create_connection(place_of(url)):  # takes the turn that was begun before
        await eventually(lambda: len(failed) == 2)
    two, members = await net.up(1)
    members.dial(url)
    await are_level(host, two)
    assert mesh.connected == 1


async def test_a_caller_that_is_gone_when_it_is_let_in_costs_no_place(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    _, mesh, url = await net.listening(0)
    seen = Seen(monkeypatch)
    token = await invited(net, url)
    gone = asyncio.Event()
    check = net.rigs.rigs[0].node.check_invitation

    async def late(*args: Any) -> None:
        await gone.wait()
        await check(*args)

    monkeypatch.setattr(net.rigs.rigs[0].node, "check_invitation", late)
    armed = await contexts_of(net.rigs.keys[7], []).joiner(net.rigs.rigs[0].node.public)
    async with calling(url, armed.context) as caller:
        caller.say(encode_join(token.token_id, net.rigs.keys[7].public, bytes(16), token.secret, hash_of(caller.server_cert)) + b"GET /")
        await eventually(lambda: mesh.unknown_callers == 1)
    gone.set()
    await eventually(lambda: mesh.unknown_callers == 0)
    await eventually(lambda: mesh.inbound == 0)
    assert seen.made <= 1


@pytest.mark.promise("I19")
async def test_a_read_buffer_is_small_until_the_caller_is_known(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio gives each TLS connection 256 KiB at once; what it has of ours is looked at here, lest a later Python does it otherwise."""
    host, mesh, url = await net.listening(0)
    sizes: list[int] = []
    made = Threshold.connection_made

    def look(threshold: Threshold, transport: Any) -> None:
        sizes.append(len(transport._ssl_protocol._ssl_buffer))
        made(threshold, transport)

    monkeypatch.setattr(Threshold, "connection_made", look)
    two, members = await net.up(1)
    members.dial(url)
    await are_level(host, two)
    assert sizes == [4_096]
    for known in (mesh, members):
        ((link, _, _),) = known._links.values()
        transport: Any = link._socket.transport
        assert len(transport._ssl_protocol._ssl_buffer) == 65_536


@pytest.mark.promise("I18", "I19")
async def test_one_key_does_not_take_the_places_of_all_members(net: Net) -> None:
    """A member that opens connections and proves nothing more in them; another member still comes in."""
    host, mesh, url = await net.listening(0, limits=Limits(handshake_s=BOUND_S))
    member = net.rigs.keys[1]
    contexts = contexts_of(member, [host.node.public])
    opened = [await knock(parse_url(url), contexts, member.public, expected=host.node.public, join=None) for _ in range(INBOUND_PER_KEY_MAX)]
    with pytest.raises(KnockRefused) as refused:
        await knock(parse_url(url), contexts, member.public, expected=host.node.public, join=None)
    assert refused.value.code == "too_many_connections"
    assert mesh.traffic().limits["inbound_per_key"] == 1
    two, calls = await net.up(2)
    calls.dial(url)
    await are_level(host, two)
    for each in opened:
        await each.socket.close()
    await eventually(lambda: mesh.inbound == 1)
    again = await knock(parse_url(url), contexts, member.public, expected=host.node.public, join=None)
    await again.socket.close()


@pytest.mark.promise("I19")
async def test_who_is_refused_with_ever_new_certificates_fills_no_disk(net: Net) -> None:
    """Refusals of one address, whatever is wrong with what it shows, are told a few times."""
    host, mesh, _ = await net.listening(0)
    for number in range(200):
        mesh._tell_refused_caller(f"2001:db8::{number:x}", number.to_bytes(32, "big"), "bad_certificate", "")
    mesh._tell_refused_caller("192.0.2.1", bytes(32), "revoked", "")
    told = await host.events_until("peer.refused", 13)
    assert [event.data["code"] for event in told] == ["bad_certificate"] * 12 + ["revoked"]
    assert mesh.refused_inbound == 201
