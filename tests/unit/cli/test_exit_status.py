"""What the shell learns: the documented status for each error, one line with the cause, one with what to type next."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.cli.grammar import EXIT_CODES
from fabrik_node.errors import FabrikError

PROGRAM = """
import sys
from fabrik_node.cli.main import run

class Hooks:
    def serve(self, home, options):
        import threading
        print("serving", flush=True)
        while not threading.Event().wait(0.05):  # not signal.pause(): a signal just before it would be waited for in vain
            pass
        return 0

sys.exit(run(Hooks()))
"""


def _classes(cls: type[FabrikError] = FabrikError) -> Iterator[type[FabrikError]]:
    yield cls
    for sub in cls.__subclasses__():
        if sub.__module__ == "fabrik_node.errors":
            yield from _classes(sub)


@pytest.mark.parametrize("cls", list(_classes()), ids=lambda cls: cls.code)
def test_every_error_has_its_documented_status(cli: Any, service: Any, cls: type[FabrikError]) -> None:
    service.fail = cls("the cause in one line", "what-next")
    for argv in (["items", "list"], ["items", "list", "--json"], ["items", "add", "T"], ["events", "--json"]):
        printed = cli(*argv)
        assert (printed.status, printed.out, printed.err) == (cls.exit_status, b"", "fabrik-node: the cause in one line\n  try: what-next\n")
    assert cls.exit_status in EXIT_CODES


@pytest.mark.parametrize("cls", list(_classes()), ids=lambda cls: cls.code)
def test_errors_of_hooks_end_the_same_way(cli: Any, hooks: Any, cls: type[FabrikError]) -> None:
    hooks.fail = cls("no")
    printed = cli("serve")
    assert (printed.status, printed.out, printed.err) == (cls.exit_status, b"", "fabrik-node: no\n")


def test_the_help_lists_every_exit_status(cli: Any) -> None:
    printed = cli("--help")
    listed = {int(number) for number in re.findall(r"^ +(\d+)  \w", printed.text.partition("Exit codes:")[2], re.MULTILINE)}
    assert listed == {0, 130, 143} | {cls.exit_status for cls in _classes()} == set(EXIT_CODES)


@pytest.mark.parametrize(
    ("argv", "cause"),
    [
        ([], "Usage: fabrik-node"),
        (["items"], "fabrik-node: which command? There are: add, list, show, move, edit, history, requeue, resolve"),
        (["items", "lsit"], "fabrik-node: no command 'lsit'; there are: add, list, show, move, edit, history, requeue, resolve"),
        (["nonsense"], "fabrik-node: no command 'nonsense'"),
        (["items", "add"], "fabrik-node: missing argument 'TITLE'"),
        (["items", "list", "--sage", "qa"], "fabrik-node: no such option '--sage'"),
        (["items", "list", "--limit", "0"], "fabrik-node: invalid value for '--limit'"),
        (["items", "move", "x", "merge", "--commits-ahead", "two"], "fabrik-node: invalid value for '--commits-ahead'"),
        (["invite", "--ttl", "soon"], "fabrik-node: invalid value for '--ttl': 'soon' is not a duration above 0"),
        (["serve", "--slots", "0"], "fabrik-node: invalid value for '--slots'"),
        (["--rendezvous", ""], "fabrik-node: --rendezvous is empty"),
        (["--rendezvous", "t", "items", "list"], "fabrik-node: --rendezvous runs a build agent by itself: leave out 'items'"),
        (["--name", "n"], "fabrik-node: --name needs --rendezvous or the command serve"),
        (["--name", "n", "serve"], "fabrik-node: --name goes after the command 'serve'"),
    ],
)
def test_wrong_usage_is_one_clear_line(cli: Any, hooks: Any, argv: list[str], cause: str) -> None:
    printed = cli(*argv)
    assert (printed.status, printed.out) == (2, b"")
    assert printed.err.startswith(cause)
    assert not argv or re.fullmatch(r"fabrik-node: .+\n  try: fabrik-node.*\n", printed.err), printed.err
    assert hooks.called == []


def test_a_bug_is_one_line_and_the_traceback_is_for_the_asking(cli: Any, hooks: Any) -> None:
    hooks.fail = KeyError("broken")
    printed = cli("serve")
    assert (printed.status, printed.out) == (1, b"")
    assert printed.err == "fabrik-node: unexpected error: KeyError: 'broken'\n  try: the same command with --debug, for the traceback\n"
    loud = cli("serve", "--debug")
    assert loud.err.startswith("Traceback")
    assert loud.err.endswith(printed.err)


def test_an_error_of_the_system_is_one_line(cli: Any, hooks: Any) -> None:
    hooks.fail = PermissionError(13, "Permission denied", "/somewhere")
    assert cli("serve").err == "fabrik-node: /somewhere: Permission denied\n"


def test_control_characters_in_an_error_stay_on_their_line(cli: Any, service: Any) -> None:
    service.fail = FabrikError("title\x1b[2J\nsecond")
    assert cli("items", "list").err == "fabrik-node: title\\x1b[2J second\n"


def test_an_error_of_a_newer_node_is_still_an_error(cli: Any, service: Any) -> None:
    class Newer(FabrikError):
        code = "of_the_future"

    service.fail = Newer("something new", "upgrade")
    printed = cli("items", "list")
    assert (printed.status, printed.err) == (1, "fabrik-node: something new\n  try: upgrade\n")


def test_the_status_of_serve_is_the_nodes(cli: Any, hooks: Any) -> None:
    hooks.serve_status = 5
    assert cli("serve").status == 5
    assert cli("--rendezvous", "token").status == 5


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_status_and_quietly(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "--home", str(tmp_path), "serve"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"serving\n"
        child.send_signal(number)
        assert child.wait(timeout=30) == status
        assert child.stderr.read() == b""


@pytest.mark.parametrize("argv", [["items", "list"], ["items", "list", "--json"], ["events"], ["--help"]], ids=" ".join)
def test_a_closed_pipe_ends_it_quietly(service: Any, home: Any, argv: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "--home", str(home.home), *argv], stdout=writing, stderr=subprocess.PIPE) as child:
        os.close(writing)
        assert child.stderr is not None
        assert child.stderr.read() == b""
        assert child.wait(timeout=30) == 0


def test_a_full_disk_under_stdout_is_an_error(service: Any, home: Any) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("wb") as sink:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "--home", str(home.home), "items", "list"], stdout=sink, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"fabrik-node: No space left on device\n")
