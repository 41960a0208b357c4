"""Claims as values: what follows what, what ends what, and their wire form."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node._core import Replica, SigningKey, fence_beats, genesis_encode
from fabrik_node.domain.claims import Claim, ClaimState, decode_claim, encode_claim, override, stage_ttls, successor
from fabrik_node.domain.schema import Kind
from fabrik_node.domain.stages import Coding, Merge, Qa
from fabrik_node.errors import InvalidOp, UsageError

ITEM = b"i" * 16
ID16 = st.binary(min_size=16, max_size=16)
CLAIMS = st.builds(
    Claim,
    claim_id=ID16,
    epoch=st.integers(1, 2**53),
    receipt=st.integers(0, 2**53),
    state=st.sampled_from(ClaimState),
    node=st.binary(min_size=32, max_size=32),
    agent=st.text(max_size=20),
    ttl_ms=st.integers(0, 2**40),
    incarnation=st.text(max_size=20),
    reason=st.text(max_size=20),
    oid=st.binary(max_size=32),
    follows=st.one_of(st.just(b""), ID16),
    stage_ttls=st.dictionaries(st.integers(0, 5), st.integers(1, 2**40)).map(lambda ttls: tuple(sorted(ttls.items()))),
)


def first(**changes: Any) -> Claim:
    claim = successor(None, claim_id=b"a" * 16, node=b"n" * 32, agent="agent", ttl_ms=90_000, incarnation="boot 1 start")
    return dataclasses.replace(claim, **changes)


@given(CLAIMS)
def test_a_claim_survives_its_wire_form(claim: Claim) -> None:
    assert decode_claim(encode_claim(claim)) == claim


@given(CLAIMS, st.integers(12, 99), st.text(max_size=5))
def test_fields_of_a_newer_version_are_left_aside(claim: Claim, number: int, value: str) -> None:
    expected = dataclasses.replace(claim, stage_ttls=()) if number == 12 else claim
    assert decode_claim(encode_claim(claim) | {number: value}) == expected


def test_a_stage_may_have_a_ttl_of_its_own() -> None:
    claim = first(stage_ttls=stage_ttls({"Merge": 600.0, "Qa": 0.5}))
    assert (claim.ttl_s(Coding()), claim.ttl_s(Qa()), claim.ttl_s(Merge("b", 1))) == (90.0, 0.5, 600.0)
    assert decode_claim(encode_claim(claim) | {12: {3: 5, "x": 1, 2: "y", 1: -4}}).stage_ttls == ((3, 5),)
    with pytest.raises(UsageError, match="no stage"):
        stage_ttls({"Coffee": 1.0})


@pytest.mark.parametrize("broken", [{4: 3}, {4: -1}])
def test_a_state_of_a_newer_version_says_so(broken: dict[int, Any]) -> None:
    with pytest.raises(InvalidOp, match="newer version"):
        decode_claim(encode_claim(first()) | broken)


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_claim_without_a_field_says_so(missing: int) -> None:
    value = encode_claim(first())
    del value[missing]
    with pytest.raises(InvalidOp, match="newer version"):
        decode_claim(value)


@pytest.mark.promise("F11")
@given(CLAIMS)
def test_a_successor_names_whom_it_follows_and_brings_no_receipt(claim: Claim) -> None:
    new = successor(claim, claim_id=b"z" * 16, node=b"m" * 32, agent="b", ttl_ms=1, incarnation="i")
    assert (new.epoch, new.follows, new.receipt, new.state, new.held) == (claim.epoch + 1, claim.claim_id, 0, ClaimState.TENTATIVE, True)
    assert new.fence == (0, claim.epoch + 1, b"z" * 16)


def test_the_first_claim_follows_nobody() -> None:
    assert (first().epoch, first().follows) == (1, b"")
    assert 11 not in encode_claim(first())


@given(CLAIMS)
def test_confirming_and_releasing_change_nothing_else(claim: Claim) -> None:
    confirmed = claim.confirmed(receipt=7, oid=b"o" * 20)
    assert dataclasses.replace(confirmed, state=claim.state, receipt=claim.receipt, oid=claim.oid) == claim
    assert confirmed.state is ClaimState.CONFIRMED
    assert claim.confirmed().receipt == claim.receipt
    released = claim.released("done")
    assert not released.held
    assert dataclasses.replace(released, state=claim.state, reason=claim.reason) == claim


@pytest.mark.promise("F11")
@pytest.mark.parametrize("receipt", [0, 5])
def test_an_operators_override_wins_over_the_claim_and_ends_it(receipt: int) -> None:
    key = SigningKey.from_seed(b"s" * 32)
    replica = Replica(genesis_encode(key.public, "m", b"n" * 16, 1))
    draft = replica.draft(key, 1)
    held = first(node=key.public, receipt=receipt, state=ClaimState.CONFIRMED)
    ending = override(held, claim_id=b"b" * 16, node=key.public, incarnation="op", reason="moved")
    chained = [*draft.genesis(1)]
    # Written first and last: the order of writing must not matter.
    for claim in (ending, held, held.released("done")):
        chained += draft.append([(Kind.CLAIM, ITEM, 1, encode_claim(claim), None)], 1)
    replica.merge(chained)
    assert replica.winning_fence(ITEM) == ending.fence
    register = replica.get(Kind.CLAIM, ITEM, 1)
    assert register is not None
    assert decode_claim(register.value) == ending
    assert not ending.held
    assert fence_beats(ITEM, ending.fence, held.fence)
    assert not fence_beats(ITEM, held.fence, ending.fence)


@pytest.mark.promise("F11")
@given(st.lists(CLAIMS, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_choose_the_winner(claims: list[Claim], random: Any) -> None:
    key = SigningKey.from_seed(b"s" * 32)
    genesis = genesis_encode(key.public, "m", b"n" * 16, 1)
    own = [dataclasses.replace(claim, node=key.public) for claim in claims]
    winners = set()
    for _ in range(2):
        random.shuffle(own)
        replica = Replica(genesis)
        draft = replica.draft(key, 1)
        chained = [*draft.genesis(1)]
        for claim in own:
            chained += draft.append([(Kind.CLAIM, ITEM, 1, encode_claim(claim), None)], 1)
        replica.merge(chained)
        winners.add(replica.winning_fence(ITEM))
    assert len(winners) == 1


@pytest.mark.parametrize(
    ("better", "worse"), [({"receipt": 2, "epoch": 1}, {"receipt": 1, "epoch": 9}), ({"receipt": 1, "epoch": 3}, {"receipt": 1, "epoch": 2})]
)
def test_receipts_count_before_epochs(better: dict[str, int], worse: dict[str, int]) -> None:
    good, bad = first(claim_id=b"g" * 16, **better), first(claim_id=b"h" * 16, **worse)
    assert fence_beats(ITEM, good.fence, bad.fence)
    assert not fence_beats(ITEM, bad.fence, good.fence)
