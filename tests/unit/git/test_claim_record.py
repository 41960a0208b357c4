from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.errors import GitFailed, UsageError
from fabrik_node.git.claim_record import ClaimRecord, ClaimRefState, format_claim, parse_claim
from fabrik_node.git.merge_message import merge_message
from fabrik_node.git.names import check_base, check_remote, repository_name, work_branch
from fabrik_node.ids import show_id

IDS = st.binary(min_size=16, max_size=16).map(show_id)
OIDS = st.binary(min_size=20, max_size=20).map(bytes.hex)
NODES = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=60)


@st.composite
def records(draw: st.DrawFn) -> ClaimRecord:
    state = draw(st.sampled_from(ClaimRefState))
    number = draw(st.integers(1, 2**53))
    return ClaimRecord(
        item=draw(IDS),
        claim_id=draw(IDS),
        number=number,
        epoch=draw(st.integers(0, 2**53)),
        node=draw(NODES),
        ttl_ms=draw(st.integers(0, 2**53)),
        state=state,
        merge=draw(OIDS) if state is ClaimRefState.MERGED else "",
        oid=draw(OIDS),
        parent="" if number == 1 else draw(OIDS),
    )


def commit_of(record: ClaimRecord) -> str:
    parent = f"parent {record.parent}\n" if record.parent else ""
    return f"tree {'0' * 40}\n{parent}author a <a@example.org> 0 +0000\ncommitter a <a@example.org> 0 +0000\n\n{format_claim(record)}"


@given(records())
def test_a_record_is_read_as_it_was_written(record: ClaimRecord) -> None:
    assert parse_claim(record.oid, commit_of(record).encode()) == record


HELD = ClaimRecord(show_id(b"i" * 16), show_id(b"c" * 16), 2, 3, "alice", 90_000, ClaimRefState.HELD, oid="a" * 40, parent="b" * 40)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Fabrik-State: held", "Fabrik-State: merged"),
        ("Fabrik-State: held", "Fabrik-State: gone"),
        ("Fabrik-State: held\n", ""),
        ("Fabrik-Number: 2", "Fabrik-Number: 1"),
        ("Fabrik-Number: 2", "Fabrik-Number: -2"),
        ("Fabrik-Number: 2", "Fabrik-Number: 2\nFabrik-Number: 3"),
        ("Fabrik-Number: 2", "Fabrik-Number: ²"),
        ("Fabrik-Epoch: 3", "Fabrik-Epoch: 99999999999999999999"),
        ("Fabrik-Item: ", "Fabrik-Item: ../"),
        ("parent ", f"parent {'c' * 40}\nparent "),
        ("Fabrik-State: held", "Fabrik-State: held\nFabrik-Merge: HEAD"),
    ],
)
def test_what_is_not_a_claim_is_refused_and_not_guessed(old: str, new: str) -> None:
    raw = commit_of(HELD)
    assert old in raw
    altered = raw.replace(old, new, 1)
    if new.endswith("HEAD"):
        assert parse_claim(HELD.oid, raw.encode()) == HELD
        altered = altered.replace("State: held", "State: merged")
    with pytest.raises(GitFailed, match="is not a claim"):
        parse_claim(HELD.oid, altered.encode())


def test_fields_of_a_newer_version_are_left_aside() -> None:
    assert parse_claim(HELD.oid, (commit_of(HELD) + "Fabrik-Colour: blue\n").encode()) == HELD


@given(st.text(max_size=60))
def test_no_node_name_can_forge_a_field(node: str) -> None:
    record = ClaimRecord(HELD.item, HELD.claim_id, 1, 1, node, 1, ClaimRefState.HELD, oid=HELD.oid)
    try:
        raw = commit_of(record)
    except UsageError:
        return
    assert parse_claim(HELD.oid, raw.encode()) == record


@given(st.text(max_size=300))
def test_no_text_can_forge_a_trailer(text: str) -> None:
    message = merge_message(HELD.item, HELD.claim_id, text)
    assert message.endswith(f"\n\nFabrik-Item: {HELD.item}\nFabrik-Claim: {HELD.claim_id}\n")
    assert message[0] not in "\n "
    assert "\0" not in message


@pytest.mark.parametrize("base", ["", "-x", "a..b", "a b", "a~1", "x.lock", "/a", "a/", "a//b", ".a", "a/.b", "a.", "@{u}", "a\nb", "a:b", "a*"])
def test_what_is_no_branch_name_is_refused(base: str) -> None:
    with pytest.raises(UsageError):
        check_base(base)


@pytest.mark.parametrize("base", ["main", "release/1.2", "fix_#1".replace("#", "-"), "a@b"])
def test_branch_names_are_taken(base: str) -> None:
    assert check_base(base) == base


@pytest.mark.parametrize("remote", ["https://example.org/x.git", "git@example.org:x/y.git", "/srv/git/x.git", "file:///srv/x", "ssh://h:22/x"])
def test_remotes_are_taken_and_have_folders_of_their_own(remote: str) -> None:
    assert check_remote(remote) == remote
    assert repository_name(remote) != repository_name(remote + "2")


@pytest.mark.parametrize("item", ["", "x", "A" * 26, "../" + "a" * 23, "a" * 27])
def test_what_is_no_id_makes_no_branch(item: str) -> None:
    with pytest.raises(UsageError):
        work_branch(item, HELD.claim_id)
