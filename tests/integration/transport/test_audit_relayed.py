"""Two nodes that never meet compare their states through a relay."""

from __future__ import annotations

from diverged import planted
from net_rig import Net, are_level
from node_rig import eventually


async def test_a_divergence_is_found_and_named_through_a_relay(net: Net) -> None:
    relay, _, url = await net.listening(0)
    one, first = await net.up(1)
    two, second = await net.up(2)
    first.dial(url)
    second.dial(url)
    item = await one.add("title 0007")
    await are_level(relay, one, two)
    assert await two.node.stream.stored(two.node.writer.pos)
    snapshot = two.node.replica.snapshot()
    await second.close()
    net.meshes.remove(second)
    await two.stop()
    await two.node.store.close()
    two, second = await net.up(2, snapshots=planted(snapshot, {"title 0007": "title BAD!"}))
    second.dial(url)
    await eventually(lambda: relay.node.frontier_digest() == two.node.frontier_digest())

    def go_on() -> None:
        net.rigs.clock.advance(1)
        for rig in (relay, one, two):
            rig.node.beat_now()

    def named(rig: object, other: str) -> bool:
        go_on()
        return any(found.registers and rig.node.name_of(key) == other for key, found in rig.node.audit.diverged.items())  # type: ignore[attr-defined]

    for rig, other in ((one, "node2"), (two, "node1"), (relay, "node2"), (two, "node0")):
        await eventually(lambda rig=rig, other=other: named(rig, other), other)  # type: ignore[misc]
    wanted = f"item {item} title"
    assert [list(found.registers) for found in one.node.audit.diverged.values()] == [[wanted]], "the relay is of one's own mind"
    assert [list(found.registers) for found in two.node.audit.diverged.values()] == [[wanted], [wanted]], "and two is alone with its state"
