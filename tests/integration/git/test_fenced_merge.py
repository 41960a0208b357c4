from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import tempfile
from pathlib import Path

import pytest
from integration.git.forge import Node, NodeFactory, Remote, commit, fresh, no_pause

from fabrik_node.errors import GitFailed, MergeConflict, NoCommits, Unreachable
from fabrik_node.git import (
    AlreadyMerged,
    ClaimSuperseded,
    Conflicts,
    FencedMerge,
    GitRunner,
    Merged,
    MergeRequest,
    Pause,
    Worktree,
    fenced_merge,
    find_merge,
    pause_from,
)
from fabrik_node.ports import ArbiterReceipt, ArbiterTaken


async def merge(node: Node, tree: Worktree, claim_oid: bytes, message: str = "Say hello", pause: Pause | None = None) -> FencedMerge:
    request = MergeRequest(tree.item, tree.claim_id, claim_oid.hex(), await tree.head_oid(), message)
    return await fenced_merge(node.repository, node.claims, request, pause or pause_from(random.Random(7)))


async def claimed(node: Node, files: dict[str, str]) -> tuple[Worktree, bytes]:
    item, claim_id = fresh(), fresh()
    receipt = await node.claim(item, claim_id)
    assert isinstance(receipt, ArbiterReceipt)
    return await node.work(item, claim_id, files), receipt.oid


async def test_a_merge_moves_the_base_and_ends_the_claim_chain(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    before = remote.ref("main")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    done = await merge(alice, tree, held, "Say hello\n\nto everybody")
    assert isinstance(done, Merged)
    assert remote.ref("main") == done.merge_commit
    assert remote.git("log", "-1", "--format=%P", "main") == f"{before} {await tree.head_oid()}"
    assert remote.git("log", "-1", "--format=%B", "main") == f"Say hello\n\nto everybody\n\nFabrik-Item: {tree.item}\nFabrik-Claim: {tree.claim_id}"
    assert remote.git("log", "-1", "--format=%an <%ae> %cn", "main") == "fabrik-node <fabrik-node@localhost> fabrik-node"
    assert remote.file("new.txt") == "new"
    record = await alice.claims.read(tree.item)
    assert record is not None
    assert (record.oid, record.state.value, record.merge, record.parent, record.number) == (done.claim_oid, "merged", done.merge_commit, held.hex(), 2)


@pytest.mark.promise("J1")
async def test_the_remote_itself_refuses_a_claim_that_was_stolen_after_the_last_look(
    make_node: NodeFactory, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    """The takeover lands when the push is already inside the remote: no check of the client can see it."""
    alice, bob = await make_node("alice"), await make_node("bob")
    tree, held = await claimed(alice, {"new.txt": "alice\n"})
    claim_ref = alice.claims.ref(tree.item)
    receipt = await bob.claim(tree.item, fresh(), held)
    assert isinstance(receipt, ArbiterReceipt)
    remote.git("update-ref", "refs/parked", receipt.oid.hex())
    remote.git("update-ref", claim_ref, held.hex())
    before = remote.refs()
    stolen = remote.path / "stolen"
    remote.hook("pre-receive", f"[ -e {stolen} ] || {{ touch {stolen}; env -u GIT_QUARANTINE_PATH git update-ref {claim_ref} {receipt.oid.hex()}; }}")
    with caplog.at_level(logging.INFO, "fabrik_node.git"):
        done = await merge(alice, tree, held)
    assert stolen.exists()
    assert f"cannot lock ref '{claim_ref}'" in caplog.text, "which of the two leases it was"
    assert isinstance(done, ClaimSuperseded)
    assert done.current is not None
    assert (done.current.node, done.current.number) == ("bob", 2)
    assert remote.refs() == before | {claim_ref: receipt.oid.hex()}
    assert remote.merges() == []


@pytest.mark.promise("J1")
async def test_a_superseded_holder_with_plain_git_moves_neither_ref(make_node: NodeFactory, remote: Remote) -> None:
    """The same push, typed by hand in the loser's clone without any of our checks."""
    alice, bob = await make_node("alice"), await make_node("bob")
    tree, held = await claimed(alice, {"new.txt": "alice\n"})
    taken = await bob.claim(tree.item, fresh(), held)
    assert isinstance(taken, ArbiterReceipt)
    before = remote.refs()
    base, claim_ref = before["refs/heads/main"], alice.claims.ref(tree.item)
    head = await tree.head_oid()
    closing = await alice.repository.make_commit(await alice.repository.empty_tree(), [held.hex()], "merged\n")
    leases = [f"--force-with-lease=refs/heads/main:{base}", f"--force-with-lease={claim_ref}:{held.hex()}"]
    push = ["git", "-C", str(tree.path), "push", "--atomic", *leases, str(remote.path), f"{head}:refs/heads/main", f"{closing}:{claim_ref}"]
    assert subprocess.run(push, capture_output=True, check=False).returncode != 0
    assert remote.refs() == before
    assert await merge(alice, tree, held) == ClaimSuperseded(await bob.claims.read(tree.item))
    assert remote.refs() == before


@pytest.mark.promise("J1")
async def test_a_released_claim_and_another_claims_link_do_not_merge(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    tree, held = await claimed(alice, {"new.txt": "alice\n"})
    other = await alice.work(tree.item, fresh(), {"other.txt": "x\n"})
    assert isinstance(await merge(alice, other, held), ClaimSuperseded)
    released = await alice.claim(tree.item, tree.claim_id, held, "released")
    assert isinstance(await merge(alice, tree, held), ClaimSuperseded)
    assert isinstance(await merge(alice, tree, released.oid), ClaimSuperseded)
    assert remote.merges() == []


@pytest.mark.promise("E2")
async def test_zero_commits_ahead_is_refused_and_nothing_moves(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    item, claim_id = fresh(), fresh()
    held = await alice.claim(item, claim_id)
    tree = await Worktree.create(alice.repository, alice.home / "tree", item, claim_id)
    (tree.path / "forgotten.txt").write_text("never committed\n")
    before = remote.refs()
    assert await tree.commits_ahead() == 0
    with pytest.raises(NoCommits, match="no commits ahead of main") as refused:
        await merge(alice, tree, held.oid)
    assert refused.value.exit_status == 5
    assert refused.value.hint
    assert remote.refs() == before


async def test_concurrent_merges_of_different_items_all_land(make_node: NodeFactory, remote: Remote) -> None:
    nodes = [await make_node(f"node{number}") for number in range(4)]
    work = [(node, *await claimed(node, {f"{node.name}.txt": f"{node.name}\n"})) for node in nodes]
    done = await asyncio.gather(*(merge(node, tree, held) for node, tree, held in work))
    assert all(isinstance(outcome, Merged) for outcome in done)
    assert not [ref for ref in remote.refs() if ref.startswith("refs/fabrik/merging/")], "nobody is left in the queue"
    assert set(remote.merges()) == {outcome.merge_commit for outcome in done if isinstance(outcome, Merged)}
    assert remote.git("ls-tree", "--name-only", "main").split() == [*(f"{node.name}.txt" for node in nodes), "readme.txt", "shared.txt"]
    assert len(remote.git("rev-list", "--first-parent", "main").split()) == 5


async def test_a_base_that_moves_during_the_push_is_merged_onto_again(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    other = await bob.work(fresh(), fresh(), {"bobs.txt": "bob\n"})
    await other.push_branch()
    moved = remote.path / "moved"
    target = await other.head_oid()
    remote.hook("pre-receive", f"[ -e {moved} ] || {{ touch {moved}; env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main {target}; }}")
    done = await merge(alice, tree, held)
    assert isinstance(done, Merged)
    assert moved.exists()
    assert remote.git("log", "-1", "--format=%P", "main").split()[0] == target
    assert remote.git("ls-tree", "--name-only", "main").split() == ["bobs.txt", "new.txt", "readme.txt", "shared.txt"]


@pytest.mark.parametrize("version", [(2, 38, 0), (2, 34, 1)])
async def test_conflicts_name_the_files_and_change_nothing(make_node: NodeFactory, remote: Remote, version: tuple[int, ...]) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    alice.repository.git_version = version
    tree, held = await claimed(alice, {"shared.txt": "one\nALICE\nthree\n", "näme \t.txt": "a\n", "clean.txt": "a\n"})
    theirs, bobs = await claimed(bob, {"shared.txt": "one\nBOB\nthree\n", "näme \t.txt": "b\n"})
    assert isinstance(await merge(bob, theirs, bobs), Merged)
    before = remote.refs()
    assert await merge(alice, tree, held) == Conflicts(("näme \t.txt", "shared.txt"))
    assert remote.refs() == before
    assert await tree.has_changes() is False


async def test_both_ways_to_merge_give_the_same_tree(make_node: NodeFactory, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older way needs a folder: not where a command in isolation can write."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    alice, bob = await make_node("alice"), await make_node("bob")
    bob.repository.git_version = (2, 34, 1)
    tree, held = await claimed(alice, {"shared.txt": "zero\none\ntwo\nthree\n", "a.txt": "a\n"})
    theirs, bobs = await claimed(bob, {"shared.txt": "one\ntwo\nthree\nfour\n"})
    assert isinstance(await merge(alice, tree, held), Merged)
    assert isinstance(await merge(bob, theirs, bobs), Merged)
    assert remote.file("shared.txt").split() == ["zero", "one", "two", "three", "four"]
    expected = remote.git("merge-tree", "--write-tree", await tree.head_oid(), await theirs.head_oid())
    assert remote.git("rev-parse", "main^{tree}") == expected


async def test_what_a_killed_merge_in_a_folder_left_goes_with_the_next_one(make_node: NodeFactory, remote: Remote, tmp_path: Path) -> None:
    """And nothing else: not a worktree of somebody that is called alike."""
    alice = await make_node("alice")
    repository = alice.repository
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    left = repository.directory.with_name(f"{repository.directory.name}.new-merge-dead")
    for name in ("merge-dead", "merge-mine"):
        subprocess.run(["git", "-C", str(repository.directory), "worktree", "add", "-q", "--detach", str(tmp_path / name), remote.ref("main")], check=True)
    (tmp_path / "merge-dead").rename(left)
    repository.git_version = (2, 34, 1)
    assert isinstance(await merge(alice, tree, held), Merged)
    assert sorted(path.name for path in (repository.directory / "worktrees").iterdir()) == sorted([tree.claim_id, "merge-mine"])
    assert (tmp_path / "merge-mine" / "readme.txt").exists()
    assert not list(left.parent.glob("*.new-merge-*"))


def wrapped_git(folder: Path, environ: dict[str, str], first_push: str) -> GitRunner:
    """A git whose first push is the shell command ``first_push`` instead, in which ``"$git" "$@"`` is the push itself."""
    folder.mkdir()
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    script = folder / "git"
    script.write_text(f'#!/bin/sh\ngit={real}\ncase " $* " in *" push "*) if mkdir {folder}/once 2>/dev/null; then {first_push}; fi;; esac\nexec "$git" "$@"\n')
    script.chmod(0o755)
    return GitRunner(environ | {"PATH": f"{folder}:{environ['PATH']}"})


def lossy_git(folder: Path, environ: dict[str, str], after: str = ":") -> GitRunner:
    """A git whose first push is done in full and then reported as a broken connection; ``after`` is a command to run in between."""
    return wrapped_git(folder, environ, f'"$git" "$@" >/dev/null 2>&1; {after}; echo "fatal: the remote end hung up unexpectedly" >&2; exit 128')


@pytest.mark.promise("J1")
@pytest.mark.parametrize("stolen", ["claim", "base", "both"])
async def test_what_moves_between_the_last_look_and_the_push_is_not_overwritten(
    make_node: NodeFactory, remote: Remote, tmp_path: Path, environ: dict[str, str], stolen: str
) -> None:
    """Here the remote already advertises the new value, and only the pinned lease can tell."""
    bob = await make_node("bob")
    tree, held = await claimed(bob, {"new.txt": "new\n"})
    other = await bob.work(fresh(), fresh(), {"bobs.txt": "bob\n"})
    await other.push_branch()
    claim_ref = bob.claims.ref(tree.item)
    receipt = await bob.claim(tree.item, fresh(), held)
    assert isinstance(receipt, ArbiterReceipt)
    remote.git("update-ref", "refs/parked", receipt.oid.hex())
    remote.git("update-ref", claim_ref, held.hex())
    moves = {"claim": [(claim_ref, receipt.oid.hex())], "base": [("refs/heads/main", await other.head_oid())]}
    moved = [move for name in moves for move in moves[name] if stolen in {name, "both"}]
    before = remote.refs()
    racing = ";".join(f'"$git" -C {remote.path} update-ref {ref} {oid}' for ref, oid in moved)
    alice = await make_node("bob", wrapped_git(tmp_path / "bin", environ, racing))
    done = await merge(alice, tree, held)
    if stolen == "base":
        assert isinstance(done, Merged)
        assert remote.git("log", "-1", "--format=%P", "main").split()[0] == await other.head_oid()
    else:
        assert isinstance(done, ClaimSuperseded)
        assert remote.refs() == before | dict(moved)
        assert remote.merges() == []


async def test_a_lost_answer_to_a_claim_is_found_again(make_node: NodeFactory, tmp_path: Path, environ: dict[str, str]) -> None:
    alice = await make_node("alice", lossy_git(tmp_path / "bin", environ))
    item, claim_id = fresh(), fresh()
    receipt = await alice.claim(item, claim_id)
    assert isinstance(receipt, ArbiterReceipt)
    record = await alice.claims.read(item)
    assert record is not None
    assert (record.oid, record.claim_id, record.number) == (receipt.oid.hex(), claim_id, 1)


async def test_a_lost_answer_to_a_merge_is_found_again(make_node: NodeFactory, remote: Remote, tmp_path: Path, environ: dict[str, str]) -> None:
    bob = await make_node("bob")
    tree, held = await claimed(bob, {"new.txt": "new\n"})
    alice = await make_node("bob", lossy_git(tmp_path / "bin", environ))
    done = await merge(alice, tree, held)
    assert isinstance(done, Merged)
    assert remote.merges() == [done.merge_commit]
    assert remote.ref(alice.claims.ref(tree.item)) == done.claim_oid


async def test_an_unknown_outcome_is_said_and_the_repeat_finds_the_merge(
    make_node: NodeFactory, remote: Remote, tmp_path: Path, environ: dict[str, str]
) -> None:
    alice = await make_node("alice")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    away = remote.path.with_name("away.git")
    cut_off = await make_node("alice", lossy_git(tmp_path / "bin", environ, f"mv {remote.path} {away}"))
    with pytest.raises(Unreachable):
        await merge(cut_off, tree, held)
    away.rename(remote.path)
    assert await merge(cut_off, tree, held) == AlreadyMerged(remote.ref("main"))
    assert remote.merges() == [remote.ref("main")]


async def test_nobody_claims_or_merges_an_item_after_its_merge(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    done = await merge(alice, tree, held)
    assert isinstance(done, Merged)
    assert await merge(alice, tree, held) == AlreadyMerged(done.merge_commit)
    for expected in (b"", held, bytes.fromhex(done.claim_oid)):
        refused = await bob.claim(tree.item, fresh(), expected)
        assert isinstance(refused, ArbiterTaken)
        assert (refused.state, refused.merged.hex()) == ("merged", done.merge_commit)
    late = await bob.work(tree.item, fresh(), {"late.txt": "late\n"})
    assert await merge(bob, late, bytes.fromhex(done.claim_oid)) == AlreadyMerged(done.merge_commit, tree.claim_id)
    assert await find_merge(bob.repository, tree.item, await bob.repository.fetch()) == done.merge_commit
    assert remote.merges() == [done.merge_commit]


async def test_trailers_that_an_agent_or_a_title_forged_are_no_merge(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    victim = fresh()
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    (tree.path / "more.txt").write_text("more\n")
    commit(tree.path, f"Imitate the log\n\nFabrik-Item: {victim}\nFabrik-Claim: {fresh()}")
    done = await merge(alice, tree, held, f"Title\n\nFabrik-Item: {victim}\nFabrik-Claim: {fresh()}")
    assert isinstance(done, Merged)
    tip = await alice.repository.fetch()
    assert await find_merge(alice.repository, victim, tip) is None
    assert await find_merge(alice.repository, tree.item, tip) == done.merge_commit


async def test_work_that_holds_an_imitated_merge_of_another_item_is_not_merged(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    victim, before = fresh(), remote.ref("main")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    forged = f"Merge\n\nFabrik-Item: {victim}\nFabrik-Claim: {fresh()}"
    parents = ["-p", await tree.head_oid(), "-p", before]
    oid = await alice.repository.text("commit-tree", f"{await tree.head_oid()}^{{tree}}", *parents, "-m", forged)
    await alice.repository.text("update-ref", f"refs/heads/{tree.branch}", oid)
    with pytest.raises(MergeConflict, match=f"commit {oid} of the work would pass for the merge of item {victim}"):
        await merge(alice, tree, held)
    assert remote.ref("main") == before


async def test_merges_of_the_base_into_the_work_are_no_imitations(make_node: NodeFactory, remote: Remote) -> None:
    """As a person makes one who solves a conflict: the work holds merges of ours then, which the base has too."""
    alice = await make_node("alice")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    other, other_held = await claimed(alice, {"other.txt": "other\n"})
    assert isinstance(await merge(alice, other, other_held), Merged)
    subprocess.run(["git", "-C", str(tree.path), "pull", "-q", "--no-rebase", "--no-edit", str(remote.path), "main"], check=True, capture_output=True)
    assert isinstance(await merge(alice, tree, held), Merged)
    assert len(remote.merges(tree.item)) == 1


async def test_without_an_arbiter_the_base_alone_still_lets_one_merge_in(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    item = fresh()
    trees = [(node, await node.work(item, fresh(), {f"{node.name}.txt": "x\n"})) for node in (alice, bob)]
    done = await asyncio.gather(*(merge(node, tree, b"") for node, tree in trees))
    assert sorted(type(outcome).__name__ for outcome in done) == ["AlreadyMerged", "Merged"]
    assert len(remote.merges(item)) == 1
    assert alice.claims.ref(item) not in remote.refs()


async def test_a_protected_base_is_an_error_with_the_reason(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    before = remote.refs()
    remote.hook("update", '[ "$1" != refs/heads/main ]')
    with pytest.raises(GitFailed, match=r"refuses the push: .*refs/heads/main: .*declined"):
        await merge(alice, tree, held, pause=no_pause)
    assert remote.refs() == before


async def test_a_base_that_was_rewritten_behind_the_fence_is_an_error_and_not_done(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    before = remote.ref("main")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    assert isinstance(await merge(alice, tree, held), Merged)
    remote.git("update-ref", "refs/heads/main", before)
    with pytest.raises(MergeConflict, match="does not contain it"):
        await merge(alice, tree, held, pause=no_pause)
    assert remote.ref("main") == before


async def test_a_merge_whose_claim_ref_was_lost_is_still_the_only_one(make_node: NodeFactory, remote: Remote) -> None:
    """As after a power cut of the remote between its two ref updates, or when somebody deleted the claim ref."""
    alice, bob = await make_node("alice"), await make_node("bob")
    tree, held = await claimed(alice, {"new.txt": "new\n"})
    done = await merge(alice, tree, held)
    assert isinstance(done, Merged)
    remote.git("update-ref", alice.claims.ref(tree.item), held.hex())
    claim_id = fresh()
    receipt = await bob.claim(tree.item, claim_id, held)
    assert isinstance(receipt, ArbiterReceipt)
    late = await bob.work(tree.item, claim_id, {"late.txt": "late\n"})
    assert await merge(bob, late, receipt.oid) == AlreadyMerged(done.merge_commit, tree.claim_id)
    remote.git("update-ref", "-d", alice.claims.ref(tree.item))
    assert await merge(bob, late, receipt.oid) == AlreadyMerged(done.merge_commit, tree.claim_id)
    assert remote.merges() == [done.merge_commit]
