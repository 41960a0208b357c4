"""Who writes without end is named with what to type; nothing that it wrote is refused for its number."""

from __future__ import annotations

import pytest
from fabrik_twin.author import Author
from fabrik_twin.op import Key
from node_rig import Rigs

from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.ids import show_key


@pytest.mark.promise("I18")
async def test_an_author_beyond_its_quota_is_named_and_can_be_put_out(rigs: Rigs) -> None:
    rig = await rigs.open()
    node = rig.node
    node.quotas.ops_max = 10
    author = Author(rigs.genesis, Key(bytes([3]) * 32), epoch=3)
    for number in range(12):
        author.op((int(Kind.ITEM), bytes([number]) * 16, int(ItemField.TITLE), f"item {number}", None))
    for first, last in ((1, 10), (11, 12)):
        assert not (await rig.call("status"))["over_quota"]
        report = await node.ingest([author.segment(first, last)], node.public)
        assert report.new_ops == last - first + 1, "nothing is refused"
    (told,) = await rig.events_until("author.over_quota")
    shown = show_key(author.key.public)
    assert told.data == {"author": shown, "name": node.name_of(author.key.public), "ops": 12, "logs": 1}
    status = await rig.call("status")
    assert status["over_quota"] == [told.data]
    (warning,) = [line for line in status["warnings"] if "has written 12 ops in 1 logs" in line]
    command = f"fabrik-node nodes revoke {shown}"
    assert warning.endswith(command)
    assert node.quotas.passed == {"ops_of_an_author": 1, "logs_of_an_author": 0}
    await rig.call("nodes.revoke", key=shown)
    assert not node.is_admitted(author.key.public)


@pytest.mark.promise("I18")
async def test_logs_are_counted_too_and_a_start_counts_what_is_there(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs.open()
    key = Key(bytes([3]) * 32)
    segments = []
    for epoch in range(1, 6):
        author = Author(rigs.genesis, key, epoch=epoch)
        author.op((int(Kind.ITEM), bytes([epoch]) * 16, int(ItemField.TITLE), "an item", None))
        segments.append(author.segment(1, 1))
    rig.node.quotas.logs_max = 4
    await rig.node.ingest(segments, rig.node.public)
    assert rig.node.quotas.line(key.public)["logs"] == 5
    assert await rig.events_until("author.over_quota")
    await rig.stop()
    await rig.node.store.close()
    monkeypatch.setattr("fabrik_node.node.quotas.Quotas.logs_max", 4)
    again = await rigs.open()
    assert [line["logs"] for line in (await again.call("status"))["over_quota"]] == [5]
    assert len(await again.events("author.over_quota")) == 1, "told once"
