"""A home that is older than what its peers know of it: it learns, or it stops writing; it never goes on in silence."""

from __future__ import annotations

import shutil

import pytest
from acceptance.fleet import Fleet, NodeProcess, Refused


def restore(node: NodeProcess, image: str) -> None:
    """Put an older copy of the home in place."""
    shutil.rmtree(node.home)
    shutil.copytree(image, node.home)


def two_nodes_and_an_old_image(fleet: Fleet) -> tuple[NodeProcess, NodeProcess, str]:
    """A host that holds more of one's log than an image of one does."""
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before the image")
    fleet.await_equal([host, one])
    one.stop()
    image = str(fleet.folder / "image")
    shutil.copytree(one.home, image)
    one.start()
    one.add("after the image")
    fleet.await_equal([host, one])
    one.stop()
    return host, one, image


@pytest.mark.promise("I9")
def test_a_restored_node_learns_its_own_ops_again_and_says_so(fleet: Fleet) -> None:
    host, one, image = two_nodes_and_an_old_image(fleet)
    restore(one, image)
    one.start()
    one.await_event("node.own_ops_learned")
    assert any("came back from its peers" in warning for warning in one.ask("status")["warnings"])
    added = one.add("after the restore")
    fleet.await_equal([host, one])
    assert added in [entry["id"] for entry in host.ask("items", "list")["items"]]
    assert not [event for event in host.events() if event["type"] == "log.forked"]


@pytest.mark.promise("I9", "I5")
@pytest.mark.parametrize("dark", [1, 2, 3])
def test_a_restored_node_that_wrote_before_it_could_learn_stops_writing(fleet: Fleet, dark: int) -> None:
    """Whether its own branch is as long as the one that its peers hold, or longer."""
    host, one, image = two_nodes_and_an_old_image(fleet)
    address = host.url.removeprefix("ws://").removesuffix("/crdt-sync")
    host.stop()
    restore(one, image)
    one.start()
    kept = [one.add(f"written in the dark {number}") for number in range(dark)]
    host.start("serve", "--listen", address)
    one.await_event("log.forked", own=True)
    with pytest.raises(Refused) as refused:
        one.add("never")
    assert refused.value.status == 4
    assert "two histories" in refused.value.stderr
    assert "join" in refused.value.stderr
    assert set(kept) <= {entry["id"] for entry in one.ask("items", "list")["items"]}
    assert any("nothing can be written here" in warning for warning in one.ask("status")["warnings"])
    host.await_event("log.forked", own=False)
    seen = one.ask("status")["events"]
    one.kill()
    one.start()
    one.await_event("log.forked", after=seen, own=True)
    assert one.run("items", "add", "never").returncode == 4
