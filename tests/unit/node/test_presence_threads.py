"""Renewals come from the supervisors' threads while the loop publishes."""

from __future__ import annotations

import asyncio
import threading

import pytest
from node_rig import BOUND_S, Rigs

from fabrik_node.ids import new_id


@pytest.mark.promise("C1")
async def test_renewals_from_many_threads_all_count() -> None:
    rigs = Rigs()
    rig = await rigs.open()
    presence = rig.node.presence
    claims = [new_id(number) for number in range(8)]
    go = threading.Event()

    def renew(claim: bytes) -> None:
        assert go.wait(BOUND_S)
        for turn in range(200):
            presence.renew(claim, bytes(16), b"", turn)

    threads = [threading.Thread(target=renew, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    go.set()
    while any(thread.is_alive() for thread in threads):
        presence.publish({})
        await asyncio.sleep(0)
    presence.publish({})
    leases = presence.heard()[rig.node.public].payload["leases"]
    assert {lease[0]: lease[2] for lease in leases} == dict.fromkeys(claims, 200), "each renewal rose by one"
    for claim in claims:
        presence.forget(claim)
        presence.forget(claim)
    presence.publish({})
    assert presence.heard()[rig.node.public].payload["leases"] == []
    await rigs.close()


async def test_a_message_stays_small_however_many_claims_there_are() -> None:
    rigs = Rigs()
    rig = await rigs.open()
    for number in range(1_000):
        rig.node.presence.renew(new_id(number), bytes(16), bytes(16), 2**40)
    rig.node.presence.publish({"name": "n" * 64, "url": "u" * 100})
    assert len(rig.node.presence.heard()[rig.node.public].message) <= 16_384
    await rigs.close()
