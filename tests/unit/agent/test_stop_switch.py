from __future__ import annotations

import pytest

from fabrik_node.agent.results import Result
from fabrik_node.agent.stop import Stop, Stopped, StopSwitch

FIRST, SECOND = Stop(Result.TIMEOUT, "too long"), Stop(Result.CANCELLED, "by hand")


def test_the_first_cause_wins() -> None:
    switch = StopSwitch()
    switch.check()
    assert switch.throw(FIRST)
    assert not switch.throw(SECOND)
    assert switch.stop == FIRST
    with pytest.raises(Stopped) as caught:
        switch.check()
    assert caught.value.stop == FIRST


def test_what_is_attached_is_called_once() -> None:
    switch, calls = StopSwitch(), []
    switch.attach(lambda: calls.append("kept"))
    detach = switch.attach(lambda: calls.append("detached"))
    detach()
    detach()
    switch.throw(FIRST)
    switch.throw(SECOND)
    assert calls == ["kept"]


def test_who_comes_late_is_called_at_once() -> None:
    switch, calls = StopSwitch(), []
    switch.throw(FIRST)
    switch.attach(lambda: calls.append("late"))
    assert calls == ["late"]
