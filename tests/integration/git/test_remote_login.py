"""The password in the URL of a remote: git logs in with it, and no argument of any process, no file but one and no message shows it."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.git.forge import Remote, commit, fresh
from integration.git.http_forge import HttpForge, http_forge

from fabrik_node.errors import Unreachable, UsageError
from fabrik_node.git import GitRunner, Repository, Worktree, examining
from fabrik_node.git.names import repository_name
from fabrik_node.git.probe import RemoteProbe, probe_remote
from fabrik_node.git.remote_login import split_login

PASSWORD = "pw/7d=1f:0c '$(x)"
QUOTED = "pw%2F7d%3D1f:0c%20'$(x)"
PARTS = ("7d=1f", "7d%3D1f")
"""Of it, in either form. Fewer letters would be found in the hex of a commit now and then."""


@pytest.fixture
def forge(remote: Remote) -> Iterator[HttpForge]:
    remote.git("config", "http.receivepack", "true")
    with http_forge(remote.path.parent, f"us er:{PASSWORD}") as made:
        yield made


def shown(home: Path) -> list[Path]:
    """Files with the password in them, in either form."""
    found = [path for path in home.rglob("*") if path.is_file() and any(word.encode() in path.read_bytes() for word in (PASSWORD, QUOTED, *PARTS))]
    return sorted(path.relative_to(home) for path in found)


@pytest.mark.promise("I22")
async def test_git_logs_in_and_no_process_shows_the_password(tmp_path: Path, git: GitRunner, remote: Remote, forge: HttpForge, environ: dict[str, str]) -> None:
    home = tmp_path / "node's home"
    url = forge.url("remote.git", f"us%20er:{QUOTED}")
    repository = await Repository.open(git, home, url, "main")
    item, claim = fresh(), fresh()
    tree = await Worktree.create(repository, home / "work" / claim, item, claim)
    (tree.path / "new.txt").write_text("new\n")
    commit(tree.path, "work")
    await tree.push_branch()
    assert remote.ref(tree.branch) == await tree.head_oid()
    assert forge.let_in > 2
    assert any("git-remote-http" in line for line in forge.seen), "git's helper is what would show it"
    assert [line for line in forge.seen if any(word in line for word in PARTS)] == []
    (login,) = shown(home)
    assert login.suffix == ".login"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home / login, (home / login).parent)] == [0o600, 0o700]

    # The command of an agent talks to the remote from the worktree, without anything in its environment.
    (tree.path / "more.txt").write_text("more\n")
    commit(tree.path, "more")
    subprocess.run(["git", "-C", str(tree.path), "push", "-q", "origin", "HEAD:refs/heads/agents-own"], env=environ, check=True, capture_output=True)
    assert remote.ref("agents-own") == await tree.head_oid()
    assert [line for line in forge.seen if any(word in line for word in PARTS)] == []


@pytest.mark.promise("I22")
async def test_a_look_at_a_remote_writes_its_password_nowhere(tmp_path: Path, git: GitRunner, forge: HttpForge, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[list[Path]] = []

    async def probe(repository: Repository) -> RemoteProbe:
        left.append(shown(tmp_path / "folder"))  # a kill would leave all of this
        found = await probe_remote(repository)
        left.append(shown(tmp_path / "folder"))
        return found

    monkeypatch.setattr(examining, "probe_remote", probe)
    (tmp_path / "folder").mkdir()
    state = await examining.examine_remote(git, forge.url("remote.git", f"us%20er:{QUOTED}"), "main", tmp_path / "folder")
    assert state.probe is not None
    assert state.probe.ok
    assert left == [[], []]
    assert forge.let_in > 2
    assert [line for line in forge.seen if any(word in line for word in PARTS)] == []


@pytest.mark.promise("I22")
async def test_a_refused_password_is_asked_of_nobody_and_shown_to_nobody(tmp_path: Path, git: GitRunner, forge: HttpForge) -> None:
    forge.login = "us er:another one"
    with pytest.raises(Unreachable, match="can not be reached") as failure:
        await Repository.open(git, tmp_path / "home", forge.url("remote.git", f"us%20er:{QUOTED}"), "main")
    assert not any(word in str(failure.value) + failure.value.hint for word in PARTS)
    forge.login = f"us er:{PASSWORD}"
    await Repository.open(git, tmp_path / "home", forge.url("remote.git", f"us%20er:{QUOTED}"), "main")


async def test_what_an_earlier_build_wrote_into_the_repository_is_taken_out(tmp_path: Path, git: GitRunner, forge: HttpForge) -> None:
    home, url = tmp_path / "home", forge.url("remote.git", f"us%20er:{QUOTED}")
    made = await Repository.open(git, home, url, "main")
    made.directory.rename(earlier := home / "git" / repository_name(url))
    await git.run(earlier, "config", "remote.origin.url", url)
    assert len(shown(home)) == 2
    again = await Repository.open(git, home, url, "main")
    assert again.directory == earlier, "its worktrees hang on it"
    assert [path.suffix for path in shown(home)] == [".login"]
    await again.fetch()
    forge.login = "us er:a new password"
    await (await Repository.open(git, home, forge.url("remote.git", "us%20er:a%20new%20password"), "main")).fetch()


@pytest.mark.promise("I22")
async def test_a_password_that_was_taken_out_of_the_url_is_gone_and_the_operators_own_helper_counts(
    tmp_path: Path, git: GitRunner, forge: HttpForge, environ: dict[str, str]
) -> None:
    home = tmp_path / "home"
    made = await Repository.open(git, home, forge.url("remote.git", f"us%20er:{QUOTED}"), "main")
    await git.run(made.directory, "config", "credential.http://elsewhere.example.helper", "the operator's own")
    forge.login = "operator:of the helper"
    (Path(environ["HOME"]) / ".gitconfig").write_text('[credential]\n helper = "!f() { echo username=operator; echo password=of the helper; }; f"\n')
    for _ in range(2):
        again = await Repository.open(git, home, forge.url("remote.git"), "main")
        assert again.directory == made.directory
        await again.fetch()
        subprocess.run(["git", "-C", str(again.directory), "ls-remote", "origin"], env=environ, check=True, capture_output=True)
        assert shown(home) == []
        assert list(home.rglob("*.login")) == []
    assert await again.text("config", "--get", "credential.http://elsewhere.example.helper") == "the operator's own"
    forge.login = f"us er:{PASSWORD}"
    back = await Repository.open(git, home, forge.url("remote.git", f"us%20er:{QUOTED}"), "main")
    await back.fetch()
    assert [path.suffix for path in shown(home)] == [".login"]


@pytest.mark.parametrize(
    ("remote_text", "bare", "scope"),
    [
        ("https://u:p@host:8443/x.git", "https://host:8443/x.git", "https://host:8443/x.git"),
        ("https://u:p@host/x.git?private_token=1", "https://host/x.git?private_token=1", "https://host"),
        ("https://:p@host/x.git", "https://host/x.git", "https://host/x.git"),
        ("https://token@host/x.git", "https://token@host/x.git", None),
        ("https://host/x.git", "https://host/x.git", None),
        ("ssh://git:p@host/x.git", "ssh://git@host/x.git", None),
        ("git@host:x.git", "git@host:x.git", None),
        ("/srv/git/a:b@c.git", "/srv/git/a:b@c.git", None),
    ],
)
def test_only_a_password_is_taken_out(remote_text: str, bare: str, scope: str | None) -> None:
    told, login = split_login(remote_text)
    assert (told, None if login is None else login.scope) == (bare, scope)
    assert login is None or "p" not in repr(login).partition(scope or "")[2]


def test_a_password_with_a_line_end_is_refused() -> None:
    with pytest.raises(UsageError, match="control characters"):
        split_login("https://u:p%0Ahost=evil@host/x.git")
