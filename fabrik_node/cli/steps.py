"""``step``, for commands of runs, and ``steps``, for people."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from fabrik_node.cli import render_steps
from fabrik_node.cli.grammar import DRY_RUN, command, group
from fabrik_node.cli.session import Session

__all__ = ["step", "steps"]

_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@command("step")
@click.argument("name")
@click.option("--input", "inputs", metavar="FILE|TEXT", multiple=True, help="What its result depends on: the content of a file, or a text. Repeatable.")
@click.option(
    "--side-effects",
    is_flag=True,
    help="It does something outside its files (deploys, sends, pays): once begun and cut off, never repeated without a person's word; after a plain failure it may be.",
)
@click.option("--changed-ok", is_flag=True, help="Done with other inputs than now: do it again instead of refusing.")
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def step(session: Session, name: str, inputs: Sequence[str], *, side_effects: bool, changed_ok: bool, argv: Sequence[str]) -> int:
    """Inside an agent's command: run COMMAND once for its item.

    However often the work is interrupted, and whoever goes on with it. What it left in the worktree is committed and pushed before it counts as done; then no run does it again.
    A git remote that is away is waited for. With --side-effects it counts as done as soon as COMMAND ended with 0; but an end by a signal, of COMMAND or of this, is none: the item is held until a person says what became of it.
    Exits as COMMAND does; 0 without running when it is done; 4 when another process runs it; 5 when it was done with other inputs or a person has to decide.
    """
    digests = [_input(each) for each in inputs]
    flags: dict[str, Any] = {"side_effects": side_effects or None, "changed_ok": changed_ok or None}
    begun = session.write("step.begin", name=name, command=[_as_text(each) for each in argv], inputs=digests, pid=os.getpid(), **flags)
    known = begun["step"]
    if not begun["go"]:
        if session.json:
            session.show_line(begun)
        else:
            session.note(f"step {name} was done by run {known['run']}" + (f", commit {known['commit']}" if known["commit"] else ""))
        return 0
    status, told_to_end = _run(argv, session)
    ended = session.write("step.end", patient=True, name=name, attempt=known["attempt"], exit_status=status, told_to_end=told_to_end or None)
    if session.json:
        session.show_line(ended)
    return status


@group("steps")
def steps() -> None:
    """Steps of the work on an item: what is not done again."""


@command("list", parent=steps)
@click.argument("item")
@click.pass_obj
def list_(session: Session, item: str) -> None:
    """The steps of an item, with the commit that has their files."""
    session.show(session.read("steps.list", id=item), render_steps.steps)


@command("done", parent=steps)
@click.argument("item")
@click.argument("name")
@DRY_RUN
@click.pass_obj
def done(session: Session, item: str, name: str, dry_run: bool) -> None:
    """Say that a step has happened, so that no run does it again."""
    session.change("steps.done", render_steps.said, dry_run=dry_run, id=item, name=name)


@command("again", parent=steps)
@click.argument("item")
@click.argument("name")
@DRY_RUN
@click.pass_obj
def again(session: Session, item: str, name: str, dry_run: bool) -> None:
    """Let a step run again, whatever became of it."""
    session.change("steps.again", render_steps.said, dry_run=dry_run, id=item, name=name)


def _input(given: str) -> str:
    """A file is known by its content."""
    path = Path(given)
    try:
        if not path.is_file():
            return f"text {_as_text(given)}"
        from hashlib import sha256

        return f"file {_as_text(given)} sha256:{sha256(path.read_bytes()).hexdigest()}"
    except (OSError, ValueError):  # too long for a name, or not readable: then it is the text that was given
        return f"text {_as_text(given)}"


def _as_text(argument: str) -> str:
    """An argument may be any bytes, and a request is text: one that is not UTF-8 is told by its bytes."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return f"bytes {os.fsencode(argument).hex()}"
    return argument


def _run(argv: Sequence[str], session: Session) -> tuple[int, bool]:
    """The command's exit status, 128 and the number for one that a signal ended; and whether we were told to end before it had. It has our streams, and our process group, so that it ends with the run."""
    sys.stdout.flush()
    try:
        with _forwarding() as (forward_to, heard), subprocess.Popen(list(argv)) as child:
            forward_to(child)
            status = child.wait()
    except OSError as error:
        session.note(f"{argv[0]}: {error.strerror or error}")
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE, False
    return status if status >= 0 else 128 - status, bool(heard)


@contextmanager
def _forwarding() -> Iterator[tuple[Callable[[subprocess.Popen[bytes]], None], list[int]]]:
    """Signals to us go to the command that is named, those from before its start, too: it ends, and then its end is told. With the signals that came."""
    children: list[subprocess.Popen[bytes]] = []
    heard: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    def forward_to(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        for number in tuple(heard):
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield forward_to, heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
