"""The signature self-test: every packaged case by both libraries, and no start with a library that judges otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fabrik_node.errors import BrokenSignatures
from fabrik_node.node.self_test import EdgeCase, check_signatures, core_accepts, edge_cases, sodium_accepts

CASES = list(edge_cases())
Accepts = Callable[[bytes, bytes, bytes], bool]


def doctored(wrong: EdgeCase, honest: Accepts) -> Accepts:
    """Judges one case wrongly, as a lax or an overstrict library does."""

    def accepts(public: bytes, message: bytes, signature: bytes) -> bool:
        return honest(public, message, signature) != ((public, message, signature) == (wrong.public, wrong.message, wrong.signature))

    return accepts


@pytest.mark.promise("I3")
def test_both_libraries_pass() -> None:
    assert check_signatures() == len(CASES) == 163
    assert {case.valid for case in CASES} == {True, False}


@pytest.mark.promise("I3")
@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("speccheck")], ids=lambda case: str(case.name))
def test_one_wrong_verdict_of_either_is_refused_by_name(case: EdgeCase) -> None:
    right, wrong = ("valid", "invalid") if case.valid else ("invalid", "valid")
    with pytest.raises(BrokenSignatures, match=f"case {case.name} is {right}; the core says {wrong}, libsodium says {right}") as refused:
        check_signatures(core=doctored(case, core_accepts))
    assert refused.value.exit_status == 5
    assert "requirements.lock" in refused.value.hint
    with pytest.raises(BrokenSignatures, match=f"case {case.name} is {right}; the core says {right}, libsodium says {wrong}"):
        check_signatures(sodium=doctored(case, sodium_accepts))


@pytest.mark.promise("I3")
def test_two_that_agree_on_a_wrong_verdict_are_refused_too() -> None:
    with pytest.raises(BrokenSignatures, match="the core says valid, libsodium says valid"):
        check_signatures(lambda *_: True, lambda *_: True)


@pytest.mark.parametrize("accepts", [core_accepts, sodium_accepts])
def test_other_lengths_are_no_signature(accepts: Accepts) -> None:
    assert not any(accepts(bytes(size), b"", bytes(64)) for size in (0, 31, 33))
    assert not any(accepts(CASES[3].public, CASES[3].message, CASES[3].signature[:size]) for size in (0, 63))
    assert not accepts(CASES[3].public, CASES[3].message, CASES[3].signature + b"\0")
