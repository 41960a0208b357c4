from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from integration.git.forge import NodeFactory, Remote, fresh, no_pause

from fabrik_node.errors import GitFailed, Precondition, Unreachable, UsageError
from fabrik_node.git import GitRunner, MergeRequest, Repository, fenced_merge, probe_remote


async def test_opening_again_needs_no_remote_and_keeps_what_was_fetched(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    base = await alice.repository.base_oid()
    assert base == remote.ref("main")
    remote.path.rename(remote.path.with_name("away.git"))
    again = (await make_node("alice")).repository
    assert again.directory == alice.repository.directory
    assert await again.base_oid() == base
    with pytest.raises(Unreachable, match=r"can not be reached: fatal: .*does not appear to be a git repository"):
        await again.fetch()


async def test_a_new_repository_of_a_remote_that_is_away_leaves_nothing(tmp_path: Path, git: GitRunner) -> None:
    home = tmp_path / "home"
    with pytest.raises(Unreachable) as failure:
        await Repository.open(git, home, "ssh://user:secret@127.0.0.1:1/nowhere.git", "main")
    assert "secret" not in str(failure.value) + failure.value.hint
    assert not [path for path in (home / "git").iterdir() if path.is_dir()]


async def test_a_missing_base_is_named_with_the_way_out(make_node: NodeFactory, remote: Remote, tmp_path: Path, git: GitRunner) -> None:
    with pytest.raises(Precondition, match="has no branch 'trunk'") as failure:
        await Repository.open(git, tmp_path / "home", str(remote.path), "trunk")
    assert "config.toml" in failure.value.hint
    alice = await make_node("alice")
    remote.git("update-ref", "-d", "refs/heads/main")
    with pytest.raises(Precondition, match="has no branch 'main'"):
        await alice.repository.fetch()


async def test_another_base_of_the_same_remote_is_fetched_when_opened(make_node: NodeFactory, remote: Remote, git: GitRunner) -> None:
    alice = await make_node("alice")
    remote.git("update-ref", "refs/heads/x/refs/heads/next", "main")
    remote.git("branch", "next", "main")
    other = await Repository.open(git, alice.home, str(remote.path), "next")
    assert other.directory == alice.repository.directory
    assert await other.base_oid() == remote.ref("next")
    assert await other.remote_refs("refs/heads/next") == {"refs/heads/next": remote.ref("next")}


async def test_concurrent_fetches_wait_for_each_other(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    twin = await make_node("alice")
    commit = remote.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", "main^{tree}", "-p", "main", "-m", "next")
    remote.git("update-ref", "refs/heads/main", commit)
    assert set(await asyncio.gather(*(node.repository.fetch() for node in (alice, twin) * 5))) == {commit}


async def test_a_half_made_repository_of_a_killed_node_is_no_obstacle(make_node: NodeFactory, tmp_path: Path, remote: Remote, git: GitRunner) -> None:
    alice = await make_node("alice")
    home = tmp_path / "other"
    left = home / "git" / f"{alice.repository.directory.name}.new-deadbeef"
    left.mkdir(parents=True)
    (left / "HEAD").write_text("torn")
    repository = await Repository.open(git, home, str(remote.path), "main")
    assert await repository.base_oid() == remote.ref("main")
    assert not left.exists()


async def test_a_sha256_remote_works_too(tmp_path: Path, git: GitRunner) -> None:
    path, seed = tmp_path / "long.git", tmp_path / "seed"
    for args in (
        ["init", "-q", "--bare", "--object-format=sha256", "-b", "main", str(path)],
        ["init", "-q", "--object-format=sha256", "-b", "main", str(seed)],
    ):
        subprocess.run(["git", *args], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(seed), *identity, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run(["git", "-C", str(seed), "push", "-q", str(path), "main"], check=True)
    repository = await Repository.open(git, tmp_path / "home", str(path), "main")
    assert len(await repository.base_oid()) == 64
    assert (await probe_remote(repository)).ok


@pytest.mark.parametrize("remote_text", ["", "-x", "relative/path", "../up", "ext::sh -c id", "a\nb"])
async def test_what_is_no_remote_is_refused_before_anything_is_made(tmp_path: Path, git: GitRunner, remote_text: str) -> None:
    with pytest.raises(UsageError):
        await Repository.open(git, tmp_path / "home", remote_text, "main")
    assert not (tmp_path / "home").exists()


async def test_a_probe_says_what_a_remote_can_do_and_leaves_nothing(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    before = remote.refs()
    probe = await probe_remote(alice.repository)
    assert probe.ok
    assert probe.reason == ""
    remote.git("config", "receive.advertiseAtomic", "false")
    probe = await probe_remote(alice.repository)
    assert (probe.custom_refs, probe.atomic, probe.ok) == (True, False, False)
    assert "atomic" in probe.reason
    remote.git("config", "--unset", "receive.advertiseAtomic")
    remote.hook("update", 'case "$1" in refs/heads/*) exit 0;; esac; exit 1')
    probe = await probe_remote(alice.repository)
    assert (probe.custom_refs, probe.ok) == (False, False)
    assert "declined" in probe.reason
    assert remote.refs() == before


async def test_a_remote_without_atomic_pushes_never_gets_a_half_merge(make_node: NodeFactory, remote: Remote) -> None:

    alice = await make_node("alice")
    item, claim_id = fresh(), fresh()
    held = await alice.claim(item, claim_id)
    tree = await alice.work(item, claim_id, {"new.txt": "new\n"})
    remote.git("config", "receive.advertiseAtomic", "false")
    before = remote.refs()
    with pytest.raises((GitFailed, Unreachable), match="atomic"):
        await fenced_merge(alice.repository, alice.claims, MergeRequest(item, claim_id, held.oid.hex(), await tree.head_oid(), ""), no_pause)
    assert remote.refs() == before
