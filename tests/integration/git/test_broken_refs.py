"""A ref that names no object ends every fetch of git. A full disk or a power cut leaves one, and a command may write one: the work of others goes on."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.git.forge import Node, NodeFactory, Remote, commit

from fabrik_node.errors import GitFailed, Unreachable
from fabrik_node.git import Merged, MergeRequest, Repository, Worktree, fenced_merge, pause_from
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ArbiterReceipt

ITEM, C1, OTHER, C2, C3 = (show_id(new_id(1_700_000_000_000 + number)) for number in range(5))
BRANCHES = f"refs/heads/fabrik/{ITEM}"
NOTHING = "1" * 40
"""An object id of nothing."""


def _git(repository: Repository, *args: str, stdin: str = "") -> str:
    told = ["git", "-C", str(repository.directory), "-c", "user.name=x", "-c", "user.email=x@example.org", *args]
    return subprocess.run(told, check=True, capture_output=True, text=True, input=stdin).stdout.strip()


def _advance(remote: Remote) -> str:
    made = remote.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", "main^{tree}", "-p", "main", "-m", "next")
    remote.git("update-ref", "refs/heads/main", made)
    return made


def _refs(repository: Repository) -> dict[str, bytes]:
    folders = ("refs", f"worktrees/{C1}")
    return {str(path): path.read_bytes() for folder in folders for path in sorted((repository.directory / folder).rglob("*")) if path.is_file()}


def _replaced(path: Path, content: str) -> Callable[[], None]:
    """Write it; what puts back what was there."""
    before = path.read_bytes() if path.exists() else None
    path.write_text(content)
    return path.unlink if before is None else lambda: (path.write_bytes(before), None)[1]


def _file(path: str, content: str) -> Callable[[Repository], Callable[[], None]]:
    return lambda repository: _replaced(repository.directory / path, content)


def _packs_away(repository: Repository) -> Callable[[], None]:
    """Objects that can not be read for the moment: git calls them missing."""
    _git(repository, "repack", "-adq")
    packs, away = repository.directory / "objects/pack", repository.directory / "away"
    packs.rename(away)
    packs.mkdir()

    def back() -> None:
        for pack in away.iterdir():
            pack.rename(packs / pack.name)

    return back


def _empty_object(repository: Repository, ref: str) -> Callable[[], None]:
    """As a power cut leaves it: the file is there, its content is not."""
    oid = _git(repository, "rev-parse", ref)
    path = repository.directory / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    return _replaced(path, "")


def _empty_behind(repository: Repository) -> Callable[[], None]:
    """git itself ends before it has fetched anything."""
    branch = f"{BRANCHES}/{C1}"
    before = _git(repository, "rev-parse", branch)
    _git(repository, "update-ref", branch, _git(repository, "commit-tree", f"{branch}^{{tree}}", "-p", branch, "-m", "more"))
    undo = _empty_object(repository, before)

    def back() -> None:
        undo()
        _git(repository, "update-ref", branch, before)

    return back


def _packed(repository: Repository) -> Callable[[], None]:
    oid = _git(repository, "rev-parse", f"{BRANCHES}/{C1}")
    _git(repository, "pack-refs", "--all")
    path = repository.directory / "packed-refs"
    return _replaced(path, path.read_text().replace(oid, NOTHING))


OTHERS = {
    "missing": _file(f"{BRANCHES}/{C1}", f"{NOTHING}\n"),
    "garbage": _file(f"{BRANCHES}/{C1}", "garbage\n"),
    "empty": _file(f"{BRANCHES}/{C1}", ""),
    "packed": _packed,
    "empty object": lambda repository: _empty_object(repository, f"{BRANCHES}/{C1}"),
    "empty object behind the tip": _empty_behind,
    "somebody else's": _file("refs/heads/mine", f"{NOTHING}\n"),
    "head": _file(f"worktrees/{C1}/HEAD", f"{NOTHING}\n"),
    "garbage in head": _file(f"worktrees/{C1}/HEAD", "garbage\n"),
    "record": _file(f"worktrees/{C1}/commondir", ""),
}
"""Of another item or run. The others go on."""
NAMED = dict.fromkeys(OTHERS, f"{BRANCHES}/{C1}") | {
    "empty object behind the tip": "is empty",
    "somebody else's": "refs/heads/mine",
    "head": f"worktrees/{C1}/HEAD",
    "record": f"worktrees/{C1}/commondir",
}
"""What an operator is told."""
READ_BY_GIT = {"garbage in head"}
"""Git itself goes on."""
NO_BRANCH = ("missing", "garbage", "empty", "packed", "empty object")
FLUSHES = ("fsync/hardware-flush", "hardware-flush")
"""git's own account of a flush."""
BASE = {"missing": _file("refs/remotes/origin/main", f"{NOTHING}\n"), "garbage": _file("refs/remotes/origin/main", "garbage\n")}
"""What the others begin from. All wait."""


async def _two(alice: Node) -> tuple[Worktree, Worktree]:
    """The work that is going to break, and that of another item."""
    worktrees = [await alice.work(item, claim, {f"{claim}.txt": "work\n"}) for item, claim in ((ITEM, C1), (OTHER, C2))]
    return worktrees[0], worktrees[1]


@pytest.mark.parametrize("how", OTHERS)
async def test_a_broken_ref_stops_nobody_else_and_stays_as_it_is(make_node: NodeFactory, remote: Remote, how: str, caplog: pytest.LogCaptureFixture) -> None:
    alice = await make_node("alice")
    broken, sound = await _two(alice)
    kept, undo = await broken.head_oid(), OTHERS[how](alice.repository)
    base = _advance(remote)
    refs = _refs(alice.repository)

    assert await alice.repository.fetch() == base
    assert _git(alice.repository, "rev-list", "--objects", "refs/remotes/origin/main"), "all of it is here"
    assert _refs(alice.repository) == refs | {str(alice.repository.directory / "refs/remotes/origin/main"): f"{base}\n".encode()}
    (sound.path / "more.txt").write_text("more\n")
    tip = await sound.commit_all("more")
    assert await sound.push_branch() == tip
    assert await (await Worktree.create(alice.repository, alice.home / C3, OTHER, C3)).head_oid() == base
    receipt = await alice.claim(OTHER, C2)
    bob = await make_node("bob")
    assert isinstance(receipt, ArbiterReceipt)
    taken = await bob.claims.cas(receipt.oid, bob.intent(OTHER, C3, epoch=2))  # alice has no object of that
    assert isinstance(taken, ArbiterReceipt)
    assert (await alice.claims.current(OTHER)) is not None
    pause = pause_from(random.Random(1))
    done = await fenced_merge(alice.repository, alice.claims, MergeRequest(OTHER, C2, "", tip or "", "Work"), pause)
    assert isinstance(done, Merged)
    assert remote.file("more.txt") == "more"

    told = [record.getMessage() for record in caplog.records if "in spite of it" in record.getMessage()]
    assert len(told) == (how not in READ_BY_GIT), "once, however often it fetches"
    assert all(NAMED[how] in line and f"git -C {alice.repository.directory} fsck --connectivity-only" in line for line in told)
    assert not list(alice.repository.directory.parent.glob("*.apart")), "nothing is left of the way around"
    undo()
    assert await alice.repository.fetch() == done.merge_commit
    assert _git(alice.repository, "rev-parse", broken.branch) == kept


@pytest.mark.parametrize("how", NO_BRANCH)
async def test_the_work_of_a_broken_branch_fails_with_the_name_of_the_branch(make_node: NodeFactory, remote: Remote, how: str) -> None:
    alice = await make_node("alice")
    broken, _ = await _two(alice)
    OTHERS[how](alice.repository)
    for tried in (
        broken.head_oid,
        broken.commits_ahead,
        broken.push_branch,
        lambda: broken.commit_all("keep"),
        lambda: alice.repository.branch_tip(broken.branch),
    ):
        with pytest.raises(GitFailed, match=f"branch {broken.branch} in .* names no commit that git can read") as failure:
            await tried()
        assert failure.value.hint == f"git -C {alice.repository.directory} fsck --connectivity-only, and mend what it names"
    assert (await broken.missing()).startswith(f"the commit that branch {broken.branch} names: git -C ")
    assert await alice.repository.branch_tip(f"fabrik/{ITEM}/{C3}") is None, "one that there is not"


async def test_of_a_head_that_names_nothing_the_files_are_kept_and_it_is_said(make_node: NodeFactory, remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    alice = await make_node("alice")
    broken, _ = await _two(alice)
    tip = await broken.head_oid()
    OTHERS["head"](alice.repository)
    (broken.path / "new.txt").write_text("new\n")
    kept = await broken.commit_all("keep")
    assert _git(alice.repository, "show", f"{kept}:new.txt") == "new"
    assert _git(alice.repository, "rev-parse", f"{kept}^@") == tip
    assert f"names {NOTHING}, which git can not read: only the files there are kept, on {broken.branch}" in caplog.text


@pytest.mark.parametrize("how", BASE)
async def test_where_the_base_can_not_be_read_all_wait_and_nothing_is_taken_away(make_node: NodeFactory, remote: Remote, how: str) -> None:
    alice = await make_node("alice")
    broken, _ = await _two(alice)
    kept, undo = await broken.head_oid(), BASE[how](alice.repository)
    base = _advance(remote)
    refs = _refs(alice.repository)
    with pytest.raises(Unreachable, match=r"git can not read all of .*, so nothing can be fetched into it: fatal: ") as failure:
        await alice.repository.fetch()
    assert failure.value.hint == f"git -C {alice.repository.directory} fsck --connectivity-only, and mend what it names"
    assert _refs(alice.repository) == refs
    undo()
    assert await alice.repository.fetch() == base
    assert _git(alice.repository, "rev-parse", broken.branch) == kept


async def test_the_lock_that_a_killed_git_left_on_the_base_is_named_and_all_wait(make_node: NodeFactory, remote: Remote) -> None:
    """As for a remote that is away: what is finished is not lost for it."""
    alice = await make_node("alice")
    base = _advance(remote)
    lock = alice.repository.directory / "refs/remotes/origin/main.lock"
    lock.touch()
    with pytest.raises(Unreachable, match=f"can not be moved to what was fetched, as {lock} is there: ") as failure:
        await alice.repository.fetch()
    assert failure.value.hint == f"pgrep -a git; when no git is at work there, rm {lock}"
    assert lock.exists(), "another git may be at work"
    lock.unlink()
    assert await alice.repository.fetch() == base


async def test_why_it_can_not_be_fetched_beside_a_broken_ref_is_said(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    await _two(alice)
    OTHERS["missing"](alice.repository)
    base = _advance(remote)
    apart = alice.repository.directory.with_name(f"{alice.repository.directory.name}.apart")
    lock = apart.with_name(f"{apart.name}.lock")
    for place, put, away in ((lock, lock.mkdir, lock.rmdir), (apart, apart.touch, apart.unlink)):
        put()
        with pytest.raises(Unreachable, match=rf"git can not read all of .* {BRANCHES}/{C1}.*; nor beside it: {apart} can not be made: .*{place}"):
            await alice.repository.fetch()
        away()
    assert await alice.repository.fetch() == base


async def test_what_a_killed_fetch_left_and_the_settings_of_the_repository_count_in_spite_of_a_broken_ref(make_node: NodeFactory, remote: Remote) -> None:
    """What was left does not, and is gone; how somebody told git to reach the remote does."""
    alice = await make_node("alice")
    await _two(alice)
    OTHERS["empty object behind the tip"](alice.repository)
    base = _advance(remote)
    apart = alice.repository.directory.with_name(f"{alice.repository.directory.name}.apart")
    for path, content in (("refs/remotes/origin/main", f"{NOTHING}\n"), ("config", "rubbish"), ("HEAD.lock", ""), ("refs/remotes/origin/main.lock", "")):
        (apart / path).parent.mkdir(parents=True, exist_ok=True)
        (apart / path).write_text(content)
    moved = remote.path.rename(remote.path.with_name("moved.git"))
    _git(alice.repository, "config", f"url.{moved}.insteadOf", str(remote.path))
    assert await alice.repository.fetch() == base
    assert not apart.exists()


async def test_a_branch_that_was_renamed_below_itself_is_gone(make_node: NodeFactory, remote: Remote) -> None:
    """Where its file was, there is a folder: no branch that git can not read."""
    alice = await make_node("alice")
    renamed, _ = await _two(alice)
    _git(alice.repository, "branch", "-m", renamed.branch, f"{renamed.branch}/wip")
    assert await alice.repository.branch_tip(renamed.branch) is None
    assert await renamed.missing() == f"the branch {renamed.branch}"
    with pytest.raises(GitFailed, match=f"branch {renamed.branch} is gone from"):
        await renamed.head_oid()


async def test_objects_that_can_not_be_read_for_the_moment_are_fetched_again_and_no_ref_goes(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    broken, _ = await _two(alice)
    kept, undo = await broken.head_oid(), _packs_away(alice.repository)
    base = _advance(remote)
    work = _git(alice.repository, "for-each-ref", "--format=%(refname)", "refs/heads")
    assert await alice.repository.fetch() == base
    assert _git(alice.repository, "rev-list", "--objects", base), "all of it is here"
    assert _git(alice.repository, "for-each-ref", "--format=%(refname)", "refs/heads") == work
    undo()
    assert _git(alice.repository, "rev-parse", f"{broken.branch}^{{commit}}") == kept


async def test_what_is_only_partly_here_is_fetched_whole_in_spite_of_a_broken_ref(make_node: NodeFactory, remote: Remote, tmp_path: Path) -> None:
    alice = await make_node("alice")
    await _two(alice)
    seed = tmp_path / "seed"
    (seed / "big.txt").write_text("big\n")
    commit(seed, "with a file")
    subprocess.run(["git", "-C", str(seed), "push", "-q", str(remote.path), "main"], check=True)
    base = remote.ref("main")
    _git(alice.repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=remote.git("cat-file", "commit", "main") + "\n")
    assert await alice.repository.has_object(base), "the commit, and not its tree"
    OTHERS["head"](alice.repository)
    assert await alice.repository.fetch() == base
    assert _git(alice.repository, "show", f"{base}:big.txt") == "big"


async def test_nothing_is_tidied_up_by_a_fetch_in_spite_of_a_broken_ref(make_node: NodeFactory, remote: Remote) -> None:
    """From where it fetches, the work of all would look unused."""
    alice = await make_node("alice")
    _, sound = await _two(alice)
    for setting in ("gc.autoPackLimit=1", "gc.pruneExpire=now", "fetch.unpackLimit=1"):
        _git(alice.repository, "config", *setting.split("="))
    for _ in range(3):
        _advance(remote)
        OTHERS["missing"](alice.repository)
        await alice.repository.fetch()
    assert await sound.head_oid()
    assert _git(alice.repository, "cat-file", "-t", sound.branch) == "commit"


async def test_a_repository_with_longer_object_ids_is_fetched_in_spite_of_a_broken_ref(make_node: NodeFactory, remote: Remote, tmp_path: Path) -> None:
    shutil.rmtree(remote.path)
    shutil.rmtree(tmp_path / "seed" / ".git")
    for folder, *options in ((remote.path, "--bare"), (tmp_path / "seed",)):
        subprocess.run(["git", "init", "-q", "-b", "main", "--object-format=sha256", *options, str(folder)], check=True)
    commit(tmp_path / "seed", "first")
    subprocess.run(["git", "-C", str(tmp_path / "seed"), "push", "-q", str(remote.path), "main"], check=True)
    alice = await make_node("alice")
    OTHERS["somebody else's"](alice.repository)
    base = _advance(remote)
    assert await alice.repository.fetch() == base


@pytest.mark.parametrize("how", ["", "missing", "empty object behind the tip"])
async def test_what_is_fetched_is_on_the_disk_before_the_base_names_it(
    make_node: NodeFactory, remote: Remote, environ: dict[str, str], tmp_path: Path, how: str
) -> None:
    """A power cut right after a fetch would else leave a base that can not be read. Asked of git's own account of what it wrote: once the objects, once each ref.

    For "missing" git has the objects before it ends; at an object behind the tip it ends before, and only the fetch beside brings them.
    """
    alice = await make_node("alice")
    if alice.repository.git_version < (2, 36):
        pytest.skip("this git can not be told to")
    if how:
        await _two(alice)
        OTHERS[how](alice.repository)
    _advance(remote)
    account = tmp_path / "account"
    Path(environ["HOME"], ".gitconfig").write_text(f"[trace2]\n\teventTarget = {account}\n")
    await alice.repository.fetch()
    events = [json.loads(line) for line in account.read_text().splitlines()]
    commands = {event["sid"]: event["hierarchy"] for event in events if event["event"] == "cmd_name"}
    # "data" with a key, and from git 2.43 "counter" with a name.
    counted = [event for event in events if event.get("category") == "fsync" and event.get("key", event.get("name")) in FLUSHES]
    flushed = sorted(commands[event["sid"]] for event in counted if int(event.get("value", event.get("count"))))
    assert flushed == ["fetch", "fetch/unpack-objects", *(["update-ref"] if how else [])], "the ref of the fetch, the objects, and the ref here"


async def test_a_remote_that_answers_and_gives_nothing_is_not_called_away(make_node: NodeFactory, remote: Remote) -> None:
    """And nothing here is taken away for it."""
    alice = await make_node("alice")
    worktree = await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    made = _advance(remote)
    path = remote.path / "objects" / made[:2] / made[2:]
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(Unreachable, match="answers, but nothing could be fetched from it"):
        await alice.repository.fetch()
    assert await worktree.head_oid()
    path.write_bytes(content)
    assert await alice.repository.fetch() == made
