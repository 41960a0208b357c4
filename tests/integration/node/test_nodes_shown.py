"""What is shown of each node: by our own clock since the last change that we saw, with its date and its source, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from node_rig import NodeRig, Rigs, eventually, sync

from fabrik_node.clock import iso
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.nearness import Nearness, judge_node, silent_after_s, skew_ms
from fabrik_node.ids import fingerprint
from fabrik_node.ports import PeerStatus
from fabrik_node.service.reading import Reader

MINUTE_S = 60.0
YEAR_MS = 365 * 86_400_000


class Speaker:
    """Node 1 as the others hear it: messages signed with its key, in the hand of the test."""

    def __init__(self, rigs: Rigs, listener: NodeRig) -> None:
        self.key = rigs.keys[1]
        self.listener = listener
        self.counter = 2**40

    def say(self, **payload: Any) -> None:
        self.counter += 1
        message = self.key.ephemeral(self.listener.node.mesh_id, self.counter, payload)
        assert self.listener.node.ephemeral_in(message) == (self.key.public, self.counter)

    async def line(self) -> dict[str, Any]:
        answer = await self.listener.call("nodes.list")
        assert answer["as_of"] == iso(self.listener.node.clock.wall_ms())
        assert answer["source"] == "node"
        return next(dict(node) for node in answer["nodes"] if node["node"] == self.key.public.hex())


@pytest.fixture
async def speaker(memory_rigs: Rigs) -> Speaker:
    rig, other = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(rig, other)
    return Speaker(memory_rigs, rig)


@pytest.mark.promise("F9")
@pytest.mark.parametrize("jump_ms", [0, -YEAR_MS, 10 * YEAR_MS])
async def test_a_death_is_seen_within_three_beats_whatever_the_wall_clocks_say(memory_rigs: Rigs, speaker: Speaker, jump_ms: int) -> None:
    clock = memory_rigs.clock
    for number in range(5):
        speaker.say(beat_ms=10_000, wall_ms=number)
        clock.wall += jump_ms
        clock.advance(9.9)
        shown = await speaker.line()
        assert shown["alive"] is (True if number else None), "one message may be an old one"
        assert shown["last_contact_s"] == pytest.approx(9.9)
    clock.advance(20.1)
    assert (await speaker.line())["state"] == "alive", "three beats are not over"
    clock.advance(0.1)
    shown = await speaker.line()
    assert (shown["state"], shown["alive"]) == ("silent", False)
    speaker.say(beat_ms=10_000)
    assert (await speaker.line())["state"] == "alive"


async def test_a_slow_beater_is_silent_after_three_of_its_own_beats(memory_rigs: Rigs, speaker: Speaker) -> None:
    speaker.say(beat_ms=60_000)
    speaker.say(beat_ms=60_000)
    memory_rigs.clock.advance(179)
    assert (await speaker.line())["state"] == "alive"
    memory_rigs.clock.advance(2)
    shown = await speaker.line()
    assert (shown["state"], shown["silent_after_s"]) == ("silent", 180)


@pytest.mark.parametrize(("said", "seconds"), [(None, 30), ("x", 30), (True, 30), (-5, 0.3), (0, 0.3), (10**30, 1_800), (2_000, 6)])
def test_what_a_node_says_of_its_beat_is_believed_within_bounds(said: object, seconds: float) -> None:
    assert silent_after_s(said, 10.0) == pytest.approx(seconds)


@pytest.mark.promise("B5")
async def test_a_silent_node_is_silent_since_a_time(memory_rigs: Rigs, speaker: Speaker) -> None:
    speaker.say(version="9")
    speaker.say(version="9")
    heard_ms = memory_rigs.clock.wall_ms()
    assert (await speaker.line())["silent_since"] is None
    memory_rigs.clock.advance(3_600)
    shown = await speaker.line()
    assert (shown["state"], shown["silent_since"], shown["version"]) == ("silent", iso(heard_ms), "9")


@pytest.mark.promise("B7")
async def test_what_was_heard_is_stale_beyond_the_threshold(memory_rigs: Rigs, speaker: Speaker) -> None:
    assert (await speaker.line())["stale"] is True, "nothing was heard"
    speaker.say()
    for seconds, stale in ((0, False), (299, False), (1, False), (1, True)):
        memory_rigs.clock.advance(seconds)
        shown = await speaker.line()
        assert shown["stale"] is stale
        assert shown["last_contact_s"] is not None


async def test_a_first_message_proves_nothing_but_a_connection_does(memory_rigs: Rigs, speaker: Speaker) -> None:
    assert (await speaker.line())["state"] == "never"
    speaker.say()
    assert (await speaker.line())["state"] == "unconfirmed", "others may have kept it for days"
    link = PeerStatus("", speaker.key.public, "", "connected", "in", 0, 0.1, 7, lag_out=3, lag_in=4, lag_s=2.5)
    speaker.listener.node.peers = lambda: [link]
    shown = await speaker.line()
    assert (shown["state"], shown["connected"]) == ("alive", True)
    assert [shown[name] for name in ("lag_ops", "lag_out", "lag_in", "lag_s", "lag_source")] == [7, 3, 4, 2.5, "session"]
    memory_rigs.clock.advance(31)
    assert (await speaker.line())["state"] == "silent", "an open connection that says nothing new is none"


async def test_of_a_node_behind_a_relay_only_equality_is_known(speaker: Speaker) -> None:
    node = speaker.listener.node
    speaker.say(frontier=node.frontier_digest())
    shown = await speaker.line()
    assert [shown[name] for name in ("lag_ops", "lag_out", "lag_in", "lag_s", "lag_source")] == [0, 0, 0, 0.0, "frontier"]
    await speaker.listener.add()
    shown = await speaker.line()
    assert [shown[name] for name in ("lag_ops", "lag_out", "lag_in", "lag_s", "lag_source")] == [None] * 5


async def test_why_the_agent_of_a_node_claims_nothing_is_shown_while_it_lives(memory_rigs: Rigs, speaker: Speaker) -> None:
    for said, shown in (
        ({"problem": "no remote"}, "no remote"),
        ({"problem": ""}, ""),
        ({}, ""),
        ({"problem": 5}, ""),
        ("x", ""),
        ({"problem": "x" * 9_999}, "x" * 200),
    ):
        speaker.say(agent=said, beat_ms=10_000)
        speaker.say(agent=said, beat_ms=10_000)
        assert (await speaker.line())["agent_problem"] == shown
    memory_rigs.clock.advance(31)
    assert ((await speaker.line())["state"], (await speaker.line())["agent_problem"]) == ("silent", ""), "nobody knows what it can do now"


@pytest.mark.promise("F7")
async def test_every_node_is_shown_with_the_fingerprint_of_its_key(speaker: Speaker) -> None:
    nodes = (await speaker.listener.call("nodes.list"))["nodes"]
    assert len(nodes) == 7
    assert all(node["fingerprint"] == fingerprint(bytes.fromhex(node["node"])) for node in nodes)
    assert nodes[0]["me"] is True
    assert (await speaker.listener.call("status"))["fingerprint"] == nodes[0]["fingerprint"]


@pytest.mark.parametrize(("ahead_ms", "warns"), [(0, False), (59_000, False), (-60_000, False), (61_000, True), (-61_000, True), (10 * YEAR_MS, True)])
async def test_a_wrong_wall_clock_is_a_warning_and_no_more(memory_rigs: Rigs, speaker: Speaker, ahead_ms: int, warns: bool) -> None:
    wall_ms = memory_rigs.clock.wall_ms() + ahead_ms
    speaker.say(wall_ms=wall_ms)
    assert (await speaker.line())["clock_skew_s"] is None, "a first message may be as old as it likes"
    speaker.say(wall_ms=wall_ms)
    shown = await speaker.line()
    assert (shown["clock_skew_s"], shown["clock_warning"], shown["state"]) == (ahead_ms / 1000, warns, "alive")
    warnings = [line for line in (await speaker.listener.call("status"))["warnings"] if "clock of node1" in line]
    assert len(warnings) == warns
    memory_rigs.clock.advance(10)
    assert (await speaker.line())["clock_skew_s"] == ahead_ms / 1000, "as it was when the message came"


@pytest.mark.parametrize("said", [None, "now", True, b"x", [1]])
async def test_an_odd_wall_clock_is_none(speaker: Speaker, said: Any) -> None:
    for _ in range(2):
        speaker.say(wall_ms=said, version=[1], url=7, beat_ms="x", frontier="y")
    shown = await speaker.line()
    assert (shown["clock_skew_s"], shown["clock_warning"], shown["version"], shown["url"]) == (None, False, "", "")
    assert skew_ms(said, 5) is None


async def test_own_messages_carry_beat_clock_and_digests(memory_rigs: Rigs, speaker: Speaker) -> None:
    node = speaker.listener.node
    await eventually(lambda: node.public in node.presence.heard())
    said = node.presence.heard()[node.public].payload
    assert (said["beat_ms"], said["wall_ms"], said["epoch"]) == (10_000, memory_rigs.clock.wall_ms(), node.epoch)
    assert {len(said[name]) for name in ("frontier", "state")} == {32}
    slow = await memory_rigs.open(2, timing=LeaseTiming(beat_s=0.5, ttl_s=90.0))
    await eventually(lambda: slow.node.public in slow.node.presence.heard())
    assert slow.node.presence.heard()[slow.node.public].payload["beat_ms"] == 500


@pytest.mark.promise("I25")
async def test_a_store_that_nobody_serves_says_so_of_every_node(speaker: Speaker) -> None:
    rig = speaker.listener
    reader = Reader(
        replica=rig.node.replica, genesis=rig.reader._genesis, store=rig.node.store, clock=rig.node.clock, own=rig.node.public, source="store", as_of_ms=7
    )
    answer = await reader.nodes_list({})
    assert (answer["source"], answer["as_of"]) == ("store", iso(7))
    assert {(node["state"], node["alive"], node["stale"]) for node in answer["nodes"]} == {("unknown", None, None)}


@pytest.mark.parametrize(
    ("age_s", "changed", "connected", "verdict"),
    [
        (None, False, False, Nearness.NEVER),
        (None, False, True, Nearness.ALIVE),
        (5, False, False, Nearness.UNCONFIRMED),
        (5, True, False, Nearness.ALIVE),
        (31, True, True, Nearness.SILENT),
    ],
)
def test_the_verdict(age_s: float | None, changed: bool, connected: bool, verdict: Nearness) -> None:
    assert judge_node(age_s=age_s, changed=changed, connected=connected, silent_s=30) is verdict
