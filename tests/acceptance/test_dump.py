"""What a node says to anybody, dumps and all, and every file of its home: no key, no token, no password is in them."""

from __future__ import annotations

import json
import stat
import urllib.request
from pathlib import Path

import pytest
from acceptance.fleet import FAST_LEASES, Fleet, NodeProcess

from fabrik_node.domain.token import JoinToken

PASSWORD, QUERY, COMMAND = "pw-7d1f0c", "query-51aa9e", "command-e0b2c4"
CONFIG = f"""{FAST_LEASES}
[git]
remote = "http://user:{PASSWORD}@127.0.0.1:9/x.git?private_token={QUERY}"
[agent]
command = "AGENT_TOKEN={COMMAND} false"
backoff_s = 0.1
[metrics]
listen = "127.0.0.1:0"
"""


def dump(node: NodeProcess) -> str:
    done = node.run("db", "dump")
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.promise("E24", "I22")
def test_no_secret_shows_in_dumps_files_events_logs_or_figures(fleet: Fleet) -> None:
    node = fleet.new("one")
    node.ask("init", "--name", "one")
    (node.home / "config.toml").write_text(CONFIG)
    node.start("serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug")
    used, open_token = fleet.token(node), fleet.token(node)
    guest = fleet.new("guest")
    guest.ask("join", used, "--name", "guest")
    node.add("work that nobody can fetch")
    node.await_true(lambda: node.ask("status")["agent"]["problem"], "the remote can not be reached")
    with urllib.request.urlopen(node.ask("status")["metrics"], timeout=30) as answer:
        said = {"figures": str(answer.read().decode())}
    for command in (("status",), ("nodes", "list"), ("items", "list"), ("runs", "list"), ("claims", "list", "--all"), ("keys", "list"), ("events",)):
        for flag in ((), ("--json",)):
            done = node.run(*command, *flag)
            said[" ".join((*command, *flag))] = done.stdout + done.stderr
    said["dump, live"] = dump(node)
    node.stop()
    said["dump, stopped"] = dump(node)
    said["log"] = "\n".join(node.stderr)
    for name, source in (("dump, live", "node"), ("dump, stopped", "store")):
        records = [json.loads(line) for line in said[name].splitlines()]
        assert records[0]["source"] == source
        assert records[-1]["end"] is True
        assert {"op", "head", "register", "event", "config", "status"} <= records[-1]["counts"].keys()
        config = next(record for record in records if record.get("type") == "config")
        assert config["git"]["remote"] == "http://127.0.0.1:9/x.git", "the rest of the address is there"

    keys = [path for path in files(node.home) if path.name.endswith(".key")]
    assert keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in keys} == {0o700}
    seeds = [path.read_text().strip() for path in keys]
    secrets = [JoinToken.decode(token).secret for token in (used, open_token)]
    words = [PASSWORD, QUERY, COMMAND, used, open_token, "PRIVATE KEY", *seeds, *(secret.hex() for secret in secrets)]
    for name, text in said.items():
        assert [word for word in words if word in text] == [], name
    raw = [word.encode() for word in words] + [bytes.fromhex(seed) for seed in seeds] + secrets
    logins = list(node.home.glob("git/**/*.login"))  # for git, which may not get it as an argument
    assert [stat.S_IMODE(path.stat().st_mode) for path in logins] == [0o600]
    for path in files(node.home):
        if path in (*keys, *logins) or path.name == "config.toml":
            continue
        data = path.read_bytes()
        assert [number for number, word in enumerate(raw) if word in data] == [], (
            f"{path}: of the invitation that is still open the store has the sealed secret"
        )
    assert stat.S_IMODE((node.home / "store").stat().st_mode) == 0o700
