"""Items for one node: a name becomes a label that only its agent has, and a wrong name writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node import __version__
from fabrik_node.app.saying import with_given_labels
from fabrik_node.config import AgentConfig, Config, check_config
from fabrik_node.domain.targets import given_labels, node_label
from fabrik_node.errors import BadConfig, FabrikError, NotFound, Precondition, UsageError
from fabrik_node.ids import parse_id, show_key


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


def could_take(rig: NodeRig, item: str, *labels: str) -> bool:
    """Whether an agent on this node would look at the item."""
    config = with_given_labels(AgentConfig(labels=list(labels)), rig.node)
    return parse_id(item) in [view.id for view in rig.pipeline.candidates(config.labels)]


@pytest.mark.promise("A2")
async def test_an_item_for_a_node_is_taken_by_its_agent_alone(rigs: Rigs) -> None:
    admin, one, two = await rigs.open(0), await rigs.open(1), await rigs.open(2)
    await sync(admin, one)
    await sync(admin, two)
    by_name = await admin.call("items.add", title="for one", labels=["linux"], on="node1")
    by_key = await admin.call("items.add", title="for two", on=show_key(two.node.public)[:8])
    assert by_name["item"]["labels"] == ["linux", "node:node1"]
    assert by_key["item"]["labels"] == ["node:node2"], "a name stays when a key is rotated"
    assert by_name["note"] == "node1 is not heard now: it takes the item when it is there"
    await sync(admin, one)
    await sync(admin, two)
    first, second = by_name["item"]["id"], by_key["item"]["id"]
    assert [could_take(rig, first, "linux") for rig in (admin, one, two)] == [False, True, False]
    assert not could_take(one, first), "the other labels count, too"
    assert [could_take(rig, second) for rig in (admin, one, two)] == [False, False, True]
    edited = await admin.call("items.edit", id=second, on="node1")
    assert edited["item"]["labels"] == ["node:node1"]
    assert (await admin.call("items.edit", id=first, labels=["mac"], on="node0"))["item"]["labels"] == ["mac", "node:node0"]


@pytest.mark.promise("A2")
@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"on": "nowhere"}, NotFound),
        ({"on": "ffffffff"}, NotFound),
        ({"on": "no"}, NotFound),
        ({"on": ""}, UsageError),
        ({"on": 5}, UsageError),
        ({"labels": ["node:nowhere"]}, NotFound),
        ({"labels": ["node:nowhere?"]}, NotFound),
    ],
)
async def test_a_node_that_nobody_knows_is_refused_and_nothing_is_written(rigs: Rigs, args: dict[str, object], error: type[FabrikError]) -> None:
    rig = await rigs.open()
    item = await rig.add()
    before = rig.facts()
    for op, more in (("items.add", {"title": "T"}), ("items.edit", {"id": item})):
        with pytest.raises(error) as refused:
            await rig.call(op, **args, **more)
        assert refused.value.exit_status
        assert "nodes list" in refused.value.hint
    assert rig.facts() == before


async def test_two_nodes_of_one_name_are_told_apart_by_their_keys(rigs: Rigs) -> None:
    admin, one, two = await rigs.open(0), await rigs.open(1), await rigs.open(2)
    from fabrik_node.domain.schema import Kind, NodeField

    await two.node.write("name", lambda: [(Kind.NODE, two.node.public, NodeField.NAME, "node1", None)])
    for rig in (one, two):
        await sync(admin, rig)
    with pytest.raises(UsageError, match="fits 2 nodes") as refused:
        await admin.call("items.add", title="T", on="node1")
    digits = show_key(two.node.public)[:16]
    assert digits in refused.value.hint or show_key(one.node.public)[:16] in refused.value.hint
    added = await admin.call("items.add", title="T", on=digits)
    assert added["item"]["labels"] == [f"node:{digits}"]
    await sync(admin, two)
    assert could_take(two, added["item"]["id"])


async def test_a_reader_can_not_be_a_target(rigs: Rigs) -> None:
    admin = await rigs.open()
    other = await rigs.open(1)
    await sync(admin, other)
    await admin.call("nodes.role", key="node1", role="reader")
    with pytest.raises(Precondition, match="has the role reader") as refused:
        await admin.call("items.add", title="T", on="node1")
    assert refused.value.hint == "fabrik-node nodes role node1 agent"


@pytest.mark.promise("A4")
async def test_an_item_can_ask_for_one_engine(rigs: Rigs) -> None:
    rig, worker = await rigs.open(), await rigs.open(1)
    item = await rig.add(labels=[f"engine:{__version__}"])
    pinned = await rig.add(labels=["engine:0.0.1"])
    assert could_take(rig, item)
    assert not could_take(rig, pinned)
    await sync(rig, worker)
    for _ in range(2):  # the second one shows that its node lives
        worker.node.presence.publish(
            {"accepting": True, "agent": {"labels": given_labels("node1", worker.node.public, __version__), "slots": 1, "busy": 0, "problem": ""}}
        )
        assert rig.node.ephemeral_in(worker.node.presence.heard()[worker.node.public].message) is not None
    answer = await rig.call("why", id=pinned)
    assert answer["causes"][0]["code"] == "labels"
    assert f"engine:{__version__}" in answer["causes"][0]["text"]
    assert answer["causes"][0]["next"] == f"fabrik-node items edit {pinned} --on NODE, or --no-labels"


def test_a_name_that_fits_no_label_gives_way_to_the_key() -> None:
    key = bytes(range(32))
    assert node_label("beta", key, ["alpha"], 64) == "node:beta"
    for name, names in (("beta", ["beta"]), ("", []), ("beta?", []), ("b" * 60, [])):
        assert node_label(name, key, names, 64) == "node:0001020304050607"
        assert node_label(name, key, names, 64) in given_labels(name, key, "1.0")


def test_nobody_sets_the_labels_that_a_node_gives() -> None:
    for label in ("node:beta", "engine:9.9"):
        with pytest.raises(BadConfig, match="labels must be without node: and engine:"):
            check_config(Config(agent=AgentConfig(labels=["linux", label])), "here")
