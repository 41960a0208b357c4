"""The one list of errors: codes are unique, statuses are the documented ones, and errors survive being sent around."""

from __future__ import annotations

import pickle

import pytest

from fabrik_node import errors
from fabrik_node.errors import FabrikError, by_code

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "by_code"]
GUILTY = {"caller", "author", "peer", "operator", "node"}
DOCUMENTED = {1, 2, 3, 4, 5, 6, 7}


def test_codes_are_unique_and_lead_back() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(by_code(cls.code) is cls for cls in CLASSES)
    assert by_code("of a newer version") is FabrikError


@pytest.mark.parametrize("cls", CLASSES)
def test_each_has_a_guilty_party_a_status_and_a_text(cls: type[FabrikError]) -> None:
    assert cls.guilty in GUILTY
    assert cls.exit_status in DOCUMENTED
    assert cls.__doc__
    error = cls("what happened", "what to type")
    assert (str(error), error.message, error.hint) == ("what happened", "what happened", "what to type")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.hint) == (cls, error.message, error.hint)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("UsageError", 2),
        ("BadConfig", 2),
        ("BadToken", 2),
        ("NotFound", 3),
        ("Conflict", 4),
        ("ClaimLost", 4),
        ("OwnedElsewhere", 4),
        ("Precondition", 5),
        ("NotInitialised", 5),
        ("BrokenStore", 5),
        ("Unreachable", 6),
        ("NoNode", 6),
        ("AuthError", 7),
        ("BadSignature", 7),
        ("StoreFailed", 1),
    ],
)
def test_the_documented_statuses(name: str, status: int) -> None:
    assert getattr(errors, name).exit_status == status
