"""Settings: read from one file, unknown keys refused, numbers that can not work refused by name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fabrik_node.config import Config, child_environment, home_path, load_config, no_color, shown_config
from fabrik_node.errors import BadConfig


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.toml") == Config()
    assert load_config(written(tmp_path, "")) == Config()


def test_every_setting_is_read(tmp_path: Path) -> None:
    text = """
[node]
name = "n"
listen = "127.0.0.1:1"
peers = ["ws://127.0.0.1:2"]
[lease]
beat_s = 1
ttl_s = 9
grace_s = 0
lock_delay_s = 0
settle_s = 0.5
stage_ttl_s = { Merge = 60, Qa = 3.5 }
[git]
remote = "r"
base = "b"
[agent]
command = ["a", "b"]
qa = "make test"
slots = 3
labels = ["l"]
timeout_s = 5
keep_worktrees = "always"
[events]
rotate_bytes = 100000
"""
    config = load_config(written(tmp_path, text))
    assert (config.node.name, config.node.peers, config.git.base) == ("n", ["ws://127.0.0.1:2"], "b")
    assert (config.agent.command, config.agent.qa, config.agent.slots) == (["a", "b"], "make test", 3)
    timing = config.lease.timing()
    assert (timing.beat_s, timing.ttl_s, timing.settle_s, timing.takeover_after_s(9)) == (1, 9, 0.5, 9)
    assert timing.stage_ttl_s == {"Merge": 60, "Qa": 3.5}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[agent]\ncomand = 'x'", "comand"),
        ("[agnet]\n", "agnet"),
        ("[agent]\nslots = 'two'", "slots"),
        ("[agent]\nslots = 0", "slots"),
        ("[agent]\nslots = 65", "slots"),
        ("[agent]\ntimeout_s = 0", "timeout_s"),
        ("[agent]\nmax_attempts = 0", "max_attempts"),
        ("[agent]\nbackoff_s = -1", "backoff_s"),
        ("[agent]\nkill_grace_s = -1", "kill_grace_s"),
        ("[agent]\nremote_wait_s = -1", "remote_wait_s"),
        ("[agent]\nlog_bytes_max = 1", "log_bytes_max"),
        ("[agent]\nkeep_worktrees = 'sometimes'", "keep_worktrees"),
        ("[agent]\ncrash_count = -1", "crash_count"),
        ("[agent]\ncrash_s = nan", "crash_s"),
        ("[runs]\nkeep_days = inf", "keep_days"),
        ("[runs]\nkeep_bytes = -1", "keep_bytes"),
        ("[lease]\nttl_s = 10", "ttl_s"),
        ("[lease]\nstage_ttl_s = { Qa = 10 }", "stage_ttl_s.Qa"),
        ("[lease]\nstage_ttl_s = { Backlog = 100 }", "stage_ttl_s.Backlog"),
        ("[lease]\nbeat_s = 0", "beat_s"),
        ("[lease]\nstage_beat_s = { Qa = 40 }", "stage_beat_s.Qa"),
        ("[lease]\nstage_beat_s = { Qa = 0 }", "lease"),
        ("[lease]\nstage_beat_s = { Done = 1 }", "stage_beat_s.Done"),
        ("[agent]\nstage_timeout_s = { Merge = 1 }", "stage_timeout_s.Merge"),
        ("[agent]\nstage_timeout_s = { Qa = 0 }", "stage_timeout_s"),
        ("[node]\nquiet_s = 900", "quiet_s"),
        ("[node]\nstall_s = inf", "stall_s"),
        ("[claims]\nlimits = { db = 0 }", "db"),
        ("[claims]\nlimits = { 'db?' = 1 }", "db"),
        ("[lease]\ngrace_s = -1", "lease"),
        ("[node\n", "config.toml"),
        ("a = \x00", "config.toml"),
    ],
)
def test_what_can_not_work_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadConfig, match=named) as raised:
        load_config(written(tmp_path, text))
    assert raised.value.hint
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "key",
    [
        "lease.beat_s",
        "lease.ttl_s",
        "lease.grace_s",
        "lease.lock_delay_s",
        "lease.settle_s",
        "agent.timeout_s",
        "agent.backoff_s",
        "agent.kill_grace_s",
        "agent.remote_wait_s",
    ],
)
def test_numbers_without_end_are_refused(tmp_path: Path, key: str, number: str) -> None:
    """TOML has nan and inf: a lease of either would never end, or end at once."""
    table, name = key.split(".")
    with pytest.raises(BadConfig):
        load_config(written(tmp_path, f"[{table}]\n{name} = {number}\n"))


def test_a_file_that_is_no_text_or_a_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig, match=r"config\.toml"):
        load_config(path)
    with pytest.raises(BadConfig):
        load_config(tmp_path)


def test_the_home_is_the_flag_then_the_variable_then_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FABRIK_HOME", str(tmp_path / "variable"))
    assert home_path(str(tmp_path / "flag")) == tmp_path / "flag"
    assert home_path(None) == tmp_path / "variable"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FABRIK_HOME")
    assert home_path(None) == tmp_path / ".fabrik-node"
    assert home_path("~/x") == tmp_path / "x"
    monkeypatch.chdir(tmp_path)
    assert home_path("rel") == tmp_path / "rel"


def test_children_get_our_environment_without_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIK_HOME", "x")
    monkeypatch.setenv("KEPT", "y")
    found = child_environment({"MORE": "z"})
    assert "FABRIK_HOME" not in found
    assert (found["KEPT"], found["MORE"]) == ("y", "z")


def test_colours_are_off_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not no_color()
    monkeypatch.setenv("NO_COLOR", "1")
    assert no_color()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        ('listen = "127.0.0.1:9464"', ("127.0.0.1", 9464)),
        ('listen = "localhost:1"', ("127.0.0.1", 1)),
        ('listen = "[::1]:9464"', ("::1", 9464)),
        ('listen = "0.0.0.0:9464"\npublic = true', ("0.0.0.0", 9464)),
        ("public = true", None),
    ],
)
@pytest.mark.promise("F16")
def test_metrics_are_off_and_on_loopback_unless_said_otherwise(tmp_path: Path, text: str, address: tuple[str, int] | None) -> None:
    assert load_config(written(tmp_path, f"[metrics]\n{text}")).metrics.address() == address


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9464", "[::]:1", "192.0.2.1:80", "9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "a.example:80", ":80"]
)
def test_a_metrics_address_that_is_public_or_none_is_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(BadConfig, match="metrics") as refused:
        load_config(written(tmp_path, f'[metrics]\nlisten = "{listen}"'))
    assert "config.toml" in str(refused.value.hint)


@pytest.mark.promise("E24", "I22")
def test_a_shown_configuration_has_every_setting_and_no_secret(tmp_path: Path) -> None:
    secret = "s3cret"
    config = load_config(
        written(
            tmp_path,
            f"""
            [node]
            name = "one"
            peers = ["wss://user:{secret}@198.51.100.1:7420/crdt-sync?{secret}"]
            [git]
            remote = "https://user:{secret}@example.org/x.git?token={secret}#{secret}"
            [agent]
            command = "TOKEN={secret} ./agent.sh"
            qa = ["./qa.sh", "--key", "{secret}"]
            labels = ["linux"]
            """,
        )
    )
    shown = shown_config(config)
    assert {name: set(table) for name, table in shown.items()} == {name: set(table) for name, table in msgspec.to_builtins(config).items()}
    assert secret not in repr(shown)
    assert shown["git"]["remote"] == "https://example.org/x.git"
    assert shown["node"] == {"name": "one", "listen": "", "peers": ["wss://198.51.100.1:7420/crdt-sync"], "stale_s": 300.0, "quiet_s": 60.0, "stall_s": 900.0}
    assert (shown["agent"]["command"], shown["agent"]["labels"], shown["agent"]["slots"]) == ("hidden: 23 characters", ["linux"], 1)
    assert shown["agent"]["qa"].startswith("hidden: ")


@pytest.mark.parametrize("remote", ["/srv/git/x.git", "git@example.org:x.git", "ssh://example.org/x"])
def test_a_remote_without_a_secret_is_shown_as_it_is(tmp_path: Path, remote: str) -> None:
    assert shown_config(load_config(written(tmp_path, f'[git]\nremote = "{remote}"')))["git"]["remote"] == remote


def test_text_is_hidden_unless_its_type_says_otherwise() -> None:
    plain = {(name, key) for name, table in shown_config(Config()).items() for key, value in table.items() if isinstance(value, str) and value}
    assert plain == {
        ("git", "base"),
        ("git", "author_name"),
        ("git", "author_email"),
        ("agent", "name"),
        ("agent", "cgroup"),
        ("agent", "isolation"),
        ("agent", "network"),
        ("agent", "keep_worktrees"),
    }
