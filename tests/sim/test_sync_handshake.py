"""Who gets in, who does not, and what each of them is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sim.pair import feed, frames, members, only, parsed, shuttle, stranger

from fabrik_sync import BadProof, Closed, Join, JoinRequested, LogId, PeerReady, Reason, Refused, Session, State, join_proof, verify_join_proof
from fabrik_sync.frames import Ack, Answer, Auth, Close, Ephemeral, FrontierFrame, HeadsFrame, Hello, Ping, Pong, Segment, Stop, Want, Wanted
from fabrik_sync.parsing import decode_frame
from fabrik_sync.wire import encode

SECRET = bytes(range(32))
TOKEN = Join(b"token-1", SECRET)


def refused(session: Session) -> Refused:
    assert session.state is State.CLOSED
    assert session.next_timeout() is None
    event = only(session, Refused)
    assert isinstance(event, Refused)
    return event


def test_two_members_meet() -> None:
    left, right = members("left", "right")
    a, b = left.connect(), right.accept()
    shuttle(a, b)
    assert only(a, PeerReady) == PeerReady(right.signer.public, initiator=True, version=1, welcome=b"")
    assert only(b, PeerReady) == PeerReady(left.signer.public, initiator=False, version=1, welcome=b"")
    assert [a.state, b.state] == [State.LIVE, State.LIVE]
    assert a.peer_key == right.signer.public


def test_a_stranger_is_refused_and_told_what_to_do() -> None:
    right, _ = members("right", "other")
    left = stranger("left")
    left.store.members.add(right.signer.public)
    a, b = left.connect(), right.accept(unknown_key_hint="on a member: fabrik-node invite")
    shuttle(a, b)
    assert refused(a) == Refused("unknown_key", "on a member: fabrik-node invite", by_peer=True, proven=True)
    assert refused(b) == Refused("unknown_key", "on a member: fabrik-node invite", by_peer=False, proven=True)
    assert b.counters.frames_out == 2, "ANSWER and CLOSE: nothing else went to a stranger"


def test_the_initiator_refuses_a_responder_that_it_does_not_know() -> None:
    left, right = stranger("left"), stranger("right")
    a, b = left.connect(), right.accept()
    shuttle(a, b)
    assert refused(a).code == Reason.UNKNOWN_KEY
    assert refused(b).by_peer
    assert a.counters.frames_out == 2, "HELLO and CLOSE: no AUTH to a stranger"


def test_another_key_than_the_expected_one_is_refused_unless_it_is_a_members() -> None:
    left, right = stranger("left"), stranger("right")
    right.store.members.add(left.signer.public)
    a, b = left.connect(expected_key=bytes(32)), right.accept()
    shuttle(a, b)
    assert refused(a).code == Reason.WRONG_KEY
    a, b = left.connect(expected_key=right.signer.public), right.accept()
    shuttle(a, b)
    assert [a.state, b.state] == [State.LIVE, State.LIVE]


def test_another_mesh_is_refused_on_either_side() -> None:
    left, right = members("left", "right")
    a, b = left.connect(mesh=b"m" * 32), right.accept()
    shuttle(a, b)
    assert refused(a).code == refused(b).code == Reason.WRONG_MESH
    a, b = left.connect(), right.accept()
    feed(b, frames(a))
    answer = decode_frame(frames(b)[0])
    assert isinstance(answer, Answer)
    feed(a, [replace(answer, mesh=b"m" * 32).encode()])
    assert refused(a).code == Reason.WRONG_MESH


def test_a_connection_to_oneself_is_refused() -> None:
    (left,) = members("left")
    a, b = left.connect(), left.accept()
    shuttle(a, b)
    assert refused(a).code == refused(b).code == Reason.SELF_CONNECTION


def test_without_a_common_version_there_is_no_session() -> None:
    left, right = members("left", "right")
    b = right.accept()
    feed(b, [Hello((7, 9), bytes(range(32)), left.signer.public, bytes(32), 1 << 20).encode()])
    assert refused(b).code == Reason.NO_COMMON_VERSION


def test_a_newer_hello_with_more_fields_is_understood_and_covered_by_the_signatures() -> None:
    left, right = members("left", "right")
    b = right.accept()
    feed(b, [encode([1, [1, 2], bytes(range(32)), left.signer.public, bytes(32), 1 << 20, b"", b"news"])])
    assert b.state is State.WAIT_AUTH


@pytest.mark.parametrize("field", ["key", "nonce", "window", "signature", "version"])
def test_a_tampered_answer_is_refused(field: str) -> None:
    left, right = members("left", "right")
    a, b = left.connect(), right.accept()
    feed(b, frames(a))
    (answer,) = parsed(b)
    assert isinstance(answer, Answer)
    value: Any = getattr(answer, field)
    other: Any = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    feed(a, [replace(answer, **{field: other}).encode()])
    assert refused(a).code == (Reason.NO_COMMON_VERSION if field == "version" else Reason.BAD_SIGNATURE)


@pytest.mark.parametrize("change", [{"nonce": bytes(32)}, {"window": 262_144}, {"versions": (1, 2)}, {"token_id": b"t"}])
def test_a_tampered_hello_breaks_both_signatures(change: dict[str, Any]) -> None:
    left, right = members("left", "right")
    a, b = left.connect(), right.accept()
    (hello,) = parsed(a)
    assert isinstance(hello, Hello)
    feed(b, [replace(hello, **change).encode()])
    feed(a, frames(b))
    assert refused(a).code == Reason.BAD_SIGNATURE


def test_certificates_that_the_two_sides_see_differently_break_the_handshake() -> None:
    left, right = members("left", "right")
    a, b = left.connect(own_cert=b"L", peer_cert=b"R"), right.accept(own_cert=b"R", peer_cert=b"L")
    shuttle(a, b)
    assert [a.state, b.state] == [State.LIVE, State.LIVE]
    a, b = left.connect(own_cert=b"L", peer_cert=b"M"), right.accept(own_cert=b"R", peer_cert=b"M")
    shuttle(a, b)
    assert refused(a).code == Reason.BAD_SIGNATURE


@pytest.mark.promise("F4")
def test_an_old_answer_and_an_old_auth_are_worthless() -> None:
    left, right = members("left", "right")
    a, b = left.connect(), right.accept()
    hello = frames(a)
    feed(b, hello)
    answer = frames(b)
    feed(a, answer)
    auth = frames(a)
    feed(b, auth)
    assert b.state is State.WAIT_FRONTIER

    again = left.connect()
    frames(again)
    feed(again, answer)
    assert refused(again).code == Reason.BAD_SIGNATURE, "an old ANSWER"

    again = right.accept()
    feed(again, hello)
    frames(again)
    feed(again, auth)
    assert refused(again).code == Reason.BAD_SIGNATURE, "the whole old dialogue of the initiator"


def test_a_signature_of_one_role_does_not_serve_the_other() -> None:
    left, right = members("left", "right")
    a, b = left.connect(), right.accept()
    feed(b, frames(a))
    (answer,) = parsed(b)
    assert isinstance(answer, Answer)
    feed(b, [Auth(answer.signature).encode()])
    assert refused(b).code == Reason.BAD_SIGNATURE


def test_one_in_the_middle_can_not_use_what_it_hears() -> None:
    left, right, middle = members("left", "right", "middle")
    a, b = left.connect(expected_key=right.signer.public), right.accept()
    (hello,) = parsed(a)
    assert isinstance(hello, Hello)
    feed(b, [replace(hello, key=middle.signer.public).encode()])
    feed(a, frames(b))
    assert refused(a).code == Reason.BAD_SIGNATURE


def in_state(state: State) -> Session:
    """A session that stands in this state of the handshake, nothing left to send."""
    left, right = members("left", "right")
    a, b = left.connect(join=TOKEN if state is State.WAIT_JOIN else None), right.accept()
    for session, other in ((a, b), (b, a), (a, b), (b, a)):
        for target in (a, b):
            if target.state is state:
                frames(target)
                return target
        feed(other, frames(session))
    raise AssertionError(state)


DATA: list[FrontierFrame | HeadsFrame | Want | Stop | Segment | Ack | Ephemeral | Ping | Pong] = [
    FrontierFrame(bytes(32), bytes(256)),
    HeadsFrame(more=False, logs=()),
    Want((Wanted(LogId(b"k" * 32, 1), 0),)),
    Stop(LogId(b"k" * 32, 1)),
    Segment(LogId(b"k" * 32, 1), 1, 1, b"data"),
    Ack(0),
    Ephemeral(b"k" * 32, 1, b"x"),
    Ping(1),
    Pong(1),
]


@pytest.mark.promise("F4")
@pytest.mark.parametrize("state", [State.WAIT_HELLO, State.WAIT_ANSWER, State.WAIT_AUTH, State.WAIT_READY, State.WAIT_JOIN])
@pytest.mark.parametrize("frame", [*(frame.encode() for frame in DATA), encode([99, b"of a newer version"])])
def test_no_data_before_ready(state: State, frame: bytes) -> None:
    session = in_state(state)
    assert session.state is state
    session.poll_events()
    session.receive_frame(frame, 0.0)
    assert refused(session).code == Reason.UNEXPECTED
    assert [type(left) for left in parsed(session)] == [Close]


@pytest.mark.promise("F4")
def test_nothing_of_ours_leaves_before_the_initiator_is_proven() -> None:
    left, right = members("left", "right")
    right.store.append(right.log, b"secret op")
    a, b = left.connect(), right.accept()
    feed(b, frames(a))
    b.handle_heads(right.log, right.store.heads_of(right.log))
    b.send_ephemeral(right.signer.public, 1, b"presence")
    assert [type(frame) for frame in parsed(b)] == [Answer]
    assert b.poll_read() is None


@pytest.mark.promise("F4")
@pytest.mark.parametrize("looking", ["initiator", "responder"])
def test_the_key_of_the_handshake_is_the_key_behind_the_certificate(looking: str) -> None:
    """Each side looks for itself; the one in the middle is a member, too."""
    left, right, between = members("left", "right", "between")
    seen = {looking: between.signer.public}
    a, b = left.connect(cert_key=seen.get("initiator", b"")), right.accept(cert_key=seen.get("responder", b""))
    shuttle(a, b)
    judge, other, named = (a, b, right) if looking == "initiator" else (b, a, left)
    said = f"the certificate is of key {between.signer.public.hex()[:16]}, and the handshake of key {named.signer.public.hex()[:16]}: somebody is in between"
    assert refused(judge) == Refused("bad_certificate", said, by_peer=False, proven=False)
    told = refused(other)
    assert (told.code, told.by_peer) == ("bad_certificate", True)


@pytest.mark.promise("F4", "F6")
@pytest.mark.parametrize("named", ["the same", "another token", "no token"])
def test_a_joiner_names_the_token_that_opened_the_gate(named: str) -> None:
    right, left = stranger("right"), stranger("left")
    right.store.members.add(left.signer.public)
    join = {"the same": TOKEN, "another token": Join(b"token-2", SECRET), "no token": None}[named]
    a = left.connect(join=join, expected_key=right.signer.public, cert_key=right.signer.public)
    b = right.accept(cert_key=left.signer.public, token_id=TOKEN.token_id)
    shuttle(a, b)
    if named == "the same":
        assert only(b, JoinRequested).token_id == TOKEN.token_id
    else:
        event = refused(b)
        assert (event.code, event.hint) == ("bad_certificate", "the token in HELLO is not the one that opened the gate")


def test_join_with_a_token() -> None:
    right, left = stranger("right"), stranger("left")
    a, b = left.connect(join=TOKEN, expected_key=right.signer.public), right.accept()
    shuttle(a, b)
    request = only(b, JoinRequested)
    assert (request.key, request.token_id) == (left.signer.public, TOKEN.token_id)
    assert [a.state, b.state] == [State.WAIT_READY, State.WAIT_JOIN]
    verify_join_proof(SECRET, request.transcript, request.proof)
    right.store.members.add(request.key)
    b.join_accepted(b"the genesis record")
    shuttle(a, b)
    assert only(a, PeerReady).welcome == b"the genesis record"
    assert only(b, PeerReady).key == left.signer.public
    assert [a.state, b.state] == [State.LIVE, State.LIVE]


def test_a_wrong_proof_is_seen_by_the_shell_and_its_refusal_by_the_joiner() -> None:
    right, left = stranger("right"), stranger("left")
    a, b = left.connect(join=Join(b"token-1", b"x" * 32), expected_key=right.signer.public), right.accept()
    shuttle(a, b)
    request = only(b, JoinRequested)
    with pytest.raises(BadProof):
        verify_join_proof(SECRET, request.transcript, request.proof)
    b.join_refused("bad_token", "ask for a new token\n\x1b[2Jor not")
    shuttle(a, b)
    event = refused(a)
    assert (event.code, event.by_peer, event.proven) == ("bad_token", True, True)
    assert event.hint == "ask for a new token  [2Jor not", "a foreign text can not move the cursor"


def test_a_proof_belongs_to_one_handshake() -> None:
    assert join_proof(SECRET, b"one") != join_proof(SECRET, b"other")
    with pytest.raises(BadProof):
        verify_join_proof(SECRET, b"other", join_proof(SECRET, b"one"))


def test_a_token_without_proof_and_a_proof_without_token_are_refused() -> None:
    left, right = members("left", "right")
    for join in (TOKEN, None):
        a, b = left.connect(join=join), right.accept()
        feed(b, frames(a))
        feed(a, frames(b))
        (auth,) = parsed(a)
        assert isinstance(auth, Auth)
        feed(b, [replace(auth, proof=b"" if join else b"p" * 32).encode()])
        assert refused(b).code == Reason.BAD_PROOF


def test_a_join_decision_that_comes_too_late_changes_nothing() -> None:
    right, left = stranger("right"), stranger("left")
    a, b = left.connect(join=TOKEN, expected_key=right.signer.public), right.accept()
    shuttle(a, b)
    b.handle_timeout(40.0)
    b.join_accepted()
    b.join_refused("late", "late")
    assert refused(b).code == Reason.HANDSHAKE_TIMEOUT


def test_what_the_shell_answers_has_to_be_legal() -> None:
    right, left = stranger("right"), stranger("left")
    a, b = left.connect(join=TOKEN, expected_key=right.signer.public), right.accept()
    shuttle(a, b)
    with pytest.raises(ValueError, match="is no code"):
        b.join_refused("Not a code", "")
    with pytest.raises(ValueError, match="welcome of 5000 bytes"):
        b.join_accepted(bytes(5_000))
    with pytest.raises(ValueError, match="at least 16"):
        Join(b"id", b"short")
    b.join_accepted()
    shuttle(a, b)
    assert [a.state, b.state] == [State.LIVE, State.LIVE]


def test_the_secret_is_not_shown() -> None:
    assert "secret=..." in repr(TOKEN)
    assert repr(SECRET) not in repr(TOKEN)


def test_an_unfinished_handshake_ends_in_time() -> None:
    left, right = members("left", "right")
    for session in (left.connect(), right.accept()):
        at = session.next_timeout()
        assert at == 5.0
        session.handle_timeout(4.9)
        assert session.state is not State.CLOSED
        session.handle_timeout(5.0)
        assert refused(session).code == Reason.HANDSHAKE_TIMEOUT


def test_a_lost_connection_during_the_handshake_is_told() -> None:
    left, _ = members("left", "right")
    a = left.connect()
    a.handle_disconnected()
    assert refused(a).code == Reason.DISCONNECTED
    assert a.poll_frame() is None


def test_a_stranger_may_not_send_large_frames() -> None:
    left, right = members("left", "right")
    b = right.accept()
    b.receive_frame(encode([1, b"x" * 10_000]), 0.0)
    assert refused(b).code == Reason.MALFORMED
    assert left.signer.public != right.signer.public


def test_a_revoked_peer_is_cut_at_once() -> None:
    left, right = members("left", "right")
    a, b = left.connect(), right.accept()
    shuttle(a, b)
    b.poll_events()
    right.store.members.discard(left.signer.public)
    b.handle_admitted_changed()
    shuttle(a, b)
    assert only(b, Closed).code == Reason.REVOKED
    assert only(a, Closed) == Closed(Reason.REVOKED, "this key is no longer a member of the mesh", by_peer=True)
