"""How many claims of one label may live at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.groups import Full, Holding, full_limit, limited_by, settles
from fabrik_node.domain.picking import preferred_labels, required_labels

LIMITS = {"group:db": 2, "gpu": 1}


def holding(number: int, *labels: str, settled: bool = True) -> Holding:
    return Holding(bytes([number]) * 16, bytes([number]) * 16, labels, f"node{number}/agent", settled)


def test_a_group_is_a_label_that_no_agent_needs() -> None:
    labels = ["group:db", "group:big?", "gpu", "ssd?"]
    assert required_labels(labels) == {"gpu"}
    assert preferred_labels(labels) == {"ssd"}
    assert limited_by(labels, LIMITS) == ["gpu", "group:db"]
    assert limited_by(["gpu?"], LIMITS) == ["gpu"]


def test_the_limit_that_is_reached_is_named_with_who_holds_it() -> None:
    held = [holding(1, "group:db"), holding(2, "x", "group:db"), holding(3, "x")]
    item = b"i" * 16
    assert full_limit(item, ["group:db"], LIMITS, held[:1]) is None
    full = full_limit(item, ["group:db", "gpu"], LIMITS, held)
    assert full == Full("group:db", 2, ["node1/agent", "node2/agent"])
    assert full.text == "limit of group:db reached: 2 of 2, held by node1/agent and node2/agent"
    assert full_limit(item, ["gpu"], LIMITS, held) is None, "nobody has one"
    assert full_limit(item, ["other"], LIMITS, held) is None
    assert full_limit(held[0].item, ["group:db"], LIMITS, held) is None, "a claim on the item itself is not another one"
    over = full_limit(item, ["gpu"], LIMITS, [holding(4, "gpu"), holding(5, "gpu")])
    assert over is not None
    assert over.text == "limit of gpu reached: 2 of 1, held by node4/agent and node5/agent", "after a partition: more than there may be, and nobody is stopped"


@given(st.integers(1, 4), st.integers(0, 4), st.integers(1, 6))
def test_of_claims_that_settle_at_once_as_many_as_have_room_go_on_and_nobody_who_works_is_stopped(limit: int, working: int, new: int) -> None:
    limits = {"a": limit}
    held = [holding(number, "a") for number in range(working)]
    fresh = [holding(100 + number, "a", settled=False) for number in range(new)]
    on = [each for each in fresh if settles(each, limits, [*held, *fresh]) is None]
    assert len(on) == min(new, max(0, limit - working))
