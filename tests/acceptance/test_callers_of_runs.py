"""A real command asks its node: it is known as its run, sees its own work, and is refused the rest, with its token and without."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance.fleet import PROGRAM, Fleet, environment, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, Gate
from agent_rig import needs_isolation

REFUSED = (
    "items list",
    "items show {other}",
    "items add more",
    "db dump",
    "events",
    "keys list",
    "init",
    "--home {home} status",
    "--home {home} items move $FABRIK_ITEM archived --reason Completed",
)

HASTY = """
import os, socket, sys
for number in range(20):
    if os.fork() == 0:
        link = socket.socket(socket.AF_UNIX)
        link.connect(sys.argv[1])
        link.sendall(b'{"v": 1, "op": "items.add", "args": {"title": "by nobody"}}\\n')
        os._exit(0)
"""
"""Says it without a token, many times, and never waits for an answer: gone before anybody can look."""


@pytest.mark.promise("A8", "F15", "H33")
@pytest.mark.parametrize("isolation", ["off", "on"])
def test_a_command_is_its_run_for_its_node_and_nothing_more(fleet: Fleet, tmp_path: Path, isolation: str) -> None:
    if isolation == "on":
        needs_isolation(tmp_path)
    remote, out = make_remote(fleet.folder / "git"), tmp_path / "out"
    out.mkdir()
    home = fleet.folder / "host"
    with Gate(tmp_path / "gate") as gate:
        script = out / "command.sh"
        host = fleet.host(
            "--remote", str(remote), "--command", f"sh {script}", "--label", "here", config=f'{LONG_LEASES}{QUICK_AGENT}isolation = "{isolation}"\n'
        )
        other = host.add("not for us", "--label", "nobody")
        lines = [f"cd /; {PROGRAM} whoami --json > {out}/outside.json; cd - > /dev/null; {PROGRAM} whoami --json > {out}/inside.json"]
        lines += [f'{PROGRAM} items show "$FABRIK_ITEM" --json > {out}/own.json', f"echo $FABRIK_TOKEN > {out}/token; echo $FABRIK_API > {out}/api"]
        lines += [f"{PROGRAM} {each.format(home=home, other=other)}; echo $? >> {out}/codes" for each in REFUSED]
        (out / "hasty.py").write_text(HASTY)
        lines += [f"{sys.executable} -I -S {out}/hasty.py $FABRIK_API"]
        lines += [f"command -v fabrik-node > {out}/found"]
        lines += [f"{PROGRAM} runs logs $FABRIK_RUN > {out}/log; echo $? >> {out}/codes", f"cat {gate.path} > /dev/null; {COMMIT}"]
        script.write_text("\n".join(lines) + "\n")
        item = host.add("its work", "--label", "here")
        gate.await_waiting()
        run = host.listed_run()
        said = "commands see their own worktree" if isolation == "on" else "can open this node's files"
        assert said in host.ask("status")["agent"]["isolation"]
        assert said in host.ask("runs", "show", run["run_id"])["run"]["contained"]
        for name in ("inside", "outside"):
            said = json.loads((out / f"{name}.json").read_text())
            assert [said[each] for each in ("caller", "item", "run", "claim", "branch", "node")] == [
                "run",
                item,
                run["run_id"],
                run["claim_id"],
                run["branch"],
                "host",
            ]
        assert json.loads((out / "own.json").read_text())["item"]["id"] == item
        assert (out / "codes").read_text().split() == ["7"] * len(REFUSED) + ["0"]
        assert "is no operator" in (out / "log").read_text()
        assert [entry["title"] for entry in host.ask("items", "list")["items"]] == ["not for us", "its work"]

        token, api = (out / "token").read_text().strip(), Path((out / "api").read_text().strip())
        assert len(bytes.fromhex(token)) == 32
        shown = [
            host.run(*argv).stdout for argv in (("runs", "show", run["run_id"], "--json"), ("events", "--json"), ("db", "dump"), ("items", "history", item))
        ]
        kept = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        assert kept
        assert all(shown)
        assert not any(token.encode() in text for text in [*kept, *(text.encode() for text in shown), *(line.encode() for line in host.stderr)])
        assert Path((out / "found").read_text().strip()).samefile(PROGRAM), "the program is found, though it was not on the node's PATH"
        private = [api.parent, home / "identity", home / "runs" / run["run_id"], home / "store", home / "work", home / "git"]
        assert [
            stat.S_IMODE(path.stat().st_mode)
            for path in [*private, api, home / "runs" / run["run_id"] / "output.log", home / "store/fabrik.db", home / "events.ndjson"]
        ] == [0o700] * 6 + [0o600] * 4
        me = host.ask("whoami")
        assert (me["caller"], me["role"], me["home"]) == ("operator", "admin", str(home))
    host.await_stage(item, "Done")
    assert git(remote, "show", f"main:{item}.txt") == "its work"
    late = subprocess.run([PROGRAM, "whoami"], env=environment() | {"FABRIK_API": str(api), "FABRIK_TOKEN": token}, capture_output=True, text=True, check=False)
    assert (late.returncode, late.stdout) == (7, "")
    assert "does not count" in late.stderr
