"""``step``: what it asks before and says after, and that it ends as its command does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.cli.client import ANSWER_WAIT_S, Client


def ended(service: Any) -> list[int]:
    return [args["exit_status"] for op, args in service.asked if op == "step.end"]


def told_to_end(service: Any) -> bool:
    return any(args.get("told_to_end") for op, args in service.asked if op == "step.end")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 9"], 9),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-program"], 127),
        (["/"], 126),
    ],
    ids=["done", "failed", "terminated", "killed", "not found", "not executable"],
)
def test_it_ends_as_its_command_does_and_says_so(cli: Any, service: Any, argv: list[str], status: int) -> None:
    assert cli("step", "build", "--", *argv).status == status
    assert ended(service) == [status]
    assert not told_to_end(service)


def test_what_it_depends_on_is_named_by_content(cli: Any, service: Any, tmp_path: Path) -> None:
    file = tmp_path / "plan.md"
    file.write_text("plan")
    assert cli("step", "build", "--input", str(file), "--input", "v2", "--side-effects", "--", "true", "--input", "x").status == 0
    asked = {"command": ["true", "--input", "x"], "inputs": [f"file {file} sha256:{sha256(b'plan').hexdigest()}", "text v2"], "pid": os.getpid()}
    assert service.asked[0] == ("step.begin", {"name": "build", "side_effects": True, **asked})


def test_arguments_may_be_any_bytes(cli: Any, service: Any) -> None:
    strange = os.fsdecode(b"\xff")
    assert cli("step", "build", "--input", strange, "--", "sh", "-c", 'test "$1" = "$(printf "\\377")"', "sh", strange).status == 0, "it gets them as they are"
    assert service.asked[0][1]["command"][3:] == ["sh", "bytes ff"]
    assert service.asked[0][1]["inputs"] == ["text bytes ff"]


def test_what_is_done_is_not_run(cli: Any, service: Any, tmp_path: Path) -> None:
    service.patch["go"] = False
    printed = cli("step", "build", "--", "touch", str(tmp_path / "ran"))
    assert (printed.status, printed.out) == (0, b"")
    assert "step build was done by run " in printed.err
    assert f", commit {'4d' * 20}" in printed.err
    assert not (tmp_path / "ran").exists()
    assert ended(service) == []


@pytest.mark.parametrize("status", [0, 5])
def test_a_signal_goes_to_the_command_which_ends_it_in_its_own_way(cli: Any, service: Any, status: int) -> None:
    before = signal.getsignal(signal.SIGTERM)
    script = f"trap 'exit {status}' TERM; kill -TERM $PPID; while :; do :; done"
    assert cli("step", "build", "--", "sh", "-c", script).status == status
    assert ended(service) == [status]
    assert told_to_end(service)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_step_needs_a_command(cli: Any, service: Any) -> None:
    assert cli("step", "build").status == 2
    assert service.asked == []
    done = subprocess.run([sys.executable, "-c", "import fabrik_node.cli.steps"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_its_end_may_take_as_long_as_the_node_waits_for_the_git_remote(cli: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call, bounds = Client.call, dict[str, float | None]()

    def noting(self: Client, op: str, args: Any, *, patient: bool = False) -> dict[str, Any]:
        answer = call(self, op, args, patient=patient)
        bounds[op] = self._connection.gettimeout()
        return answer

    monkeypatch.setattr(Client, "call", noting)
    assert cli("step", "build", "--", "true").status == 0
    assert bounds == {"step.begin": ANSWER_WAIT_S, "step.end": None}
