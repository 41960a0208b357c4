"""A large frame that comes drop by drop: as long as bytes come, the peer lives."""

from __future__ import annotations

import asyncio
import time

import pytest
from fabrik_twin.author import Author
from fabrik_twin.op import Key
from hostile.raw import BOUND_S, SEGMENT, Peer
from net_rig import Net

from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.ids import new_id
from fabrik_sync import Limits

from fabrik_twin.cbor import encode  # isort: skip


def drip(url: str, mesh: bytes, key: Key, frame: bytes, size: int, seconds: float) -> None:
    """One frame, spread over so many seconds; then until it is acknowledged."""
    with Peer(url, key, mesh) as peer:
        peer.ready().meet()
        head = b"\x82\xfe" + len(frame).to_bytes(2, "big") + bytes(4)
        parts = [frame[at : at + 1_000] for at in range(0, len(frame), 1_000)]
        peer.send_bytes(head)
        for part in parts:
            time.sleep(seconds / len(parts))
            peer.send_bytes(part)
        peer.await_ack(size)


@pytest.mark.promise("E18")
async def test_a_peer_on_a_slow_link_is_not_silent_while_its_bytes_come(net: Net) -> None:
    host, _, url = await net.listening(0, listen="ws://127.0.0.1:0", limits=Limits(ping_s=0.5, silent_s=2.0))
    author = Author(net.rigs.genesis, Key(b"\x03" * 32), epoch=9)
    author.op((int(Kind.ITEM), new_id(3), int(ItemField.BODY), "x" * 30_000, None))
    data = author.segment(1, 1)
    frame = encode([SEGMENT, author.key.public, 9, 1, 1, data])
    await asyncio.wait_for(asyncio.to_thread(drip, url, net.rigs.rigs[0].node.mesh_id, author.key, frame, len(data), 4.0), BOUND_S)
    assert host.node.replica.head(author.key.public, 9) is not None
