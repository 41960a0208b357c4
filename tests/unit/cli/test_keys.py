"""``keys``: what is said of a node's keys, and that a rotation is over when the node answers under its new key."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.promise("F8")
def test_rotate_returns_when_the_node_is_back(cli: Any, service: Any) -> None:
    printed = cli("keys", "rotate")
    assert printed.status == 0, printed.err
    assert [op for op, _ in service.asked] == ["keys.rotate", "keys.list"]
    assert "abab-abab-abab-abab" in printed.text
    assert printed.err == ""


def test_rotate_takes_the_key_from_another_medium(cli: Any, service: Any) -> None:
    printed = cli("keys", "rotate", "--next", "/media/stick/efef.key")
    assert service.asked[0] == ("keys.rotate", {"next": "efef"})
    assert "keys next --move" in printed.err, "the key after it is in the home now"


def test_the_list_says_where_the_keys_are(cli: Any) -> None:
    text = cli("keys", "list").text
    assert "current" in text
    assert "in this home, " in text
    assert "kept elsewhere" in text.splitlines()[-1], "the recovery key"


def test_the_next_key_goes_to_one_place(cli: Any, hooks: Any) -> None:
    assert cli("keys", "next").status == 2
    assert cli("keys", "next", "--move", "/a", "--copy", "/b").status == 2
    printed = cli("keys", "next", "--copy", "/media/stick/next.key")
    assert printed.status == 0
    assert [called[0] for called in hooks.called] == ["keep_next"]
