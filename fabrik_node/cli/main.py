"""The entry of the command line: the root command, and what becomes of errors and signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from fabrik_node.cli.grammar import EXIT_CODES, group
from fabrik_node.cli.hooks import Hooks
from fabrik_node.cli.secret_text import secret_text
from fabrik_node.cli.serve import AGENT_FLAGS, serve_flags, serve_options
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import clean
from fabrik_node.errors import FabrikError, NoNode, NotInitialised

__all__ = ["root", "run"]

_PROGRAM = "fabrik-node"
_SIGINT_STATUS = 130
_SIGTERM_STATUS = 143
_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {status:>3}  {meaning}" for status, meaning in EXIT_CODES.items())


class _Terminated(BaseException):
    """SIGTERM arrived outside of ``serve``, which has its own way to stop."""


@group(
    _PROGRAM,
    invoke_without_command=True,
    epilog=_EPILOG,
    lazy={
        "init": "fabrik_node.cli.mesh:init",
        "serve": "fabrik_node.cli.serve:serve",
        "invite": "fabrik_node.cli.invitations:invite",
        "invitations": "fabrik_node.cli.invitations:invitations",
        "join": "fabrik_node.cli.mesh:join",
        "status": "fabrik_node.cli.status:status",
        "whoami": "fabrik_node.cli.status:whoami",
        "why": "fabrik_node.cli.why:why",
        "doctor": "fabrik_node.cli.doctor:doctor",
        "items": "fabrik_node.cli.items:items",
        "claims": "fabrik_node.cli.claims:claims",
        "runs": "fabrik_node.cli.runs:runs",
        "ask": "fabrik_node.cli.approvals:ask",
        "approvals": "fabrik_node.cli.approvals:approvals",
        "step": "fabrik_node.cli.steps:step",
        "steps": "fabrik_node.cli.steps:steps",
        "nodes": "fabrik_node.cli.nodes:nodes",
        "drain": "fabrik_node.cli.drain:drain",
        "keys": "fabrik_node.cli.keys:keys",
        "events": "fabrik_node.cli.events:events",
        "ops": "fabrik_node.cli.ops:ops",
        "db": "fabrik_node.cli.db:db",
        "tombstone": "fabrik_node.cli.tombstones:tombstone",
        "tombstones": "fabrik_node.cli.tombstones:tombstones",
        "lock": "fabrik_node.cli.lock:lock",
        "version": "fabrik_node.cli.status:version",
    },
)
@click.option(
    "--rendezvous",
    metavar="TOKEN|URL",
    help="Run a build agent: join with a token (- reads it from stdin, @FILE from a file) or dial a peer of this mesh by its URL; then serve until a signal.",
)
@serve_flags(section="Build agent, with --rendezvous")
@click.pass_context
def root(ctx: click.Context, /, rendezvous: str | None, **flags: Any) -> int | None:
    """One node per host: a replica of the pipeline, and its agents."""
    loose = [parameter.opts[0] for parameter in ctx.command.params if parameter.name in AGENT_FLAGS and _was_typed(ctx, parameter)]
    if ctx.invoked_subcommand is None:
        if rendezvous:
            session: Session = ctx.obj
            return session.hooks.serve(session.home, serve_options(rendezvous=secret_text(rendezvous), **flags))
        if rendezvous is not None:
            raise click.UsageError("--rendezvous is empty: give the token or the URL", ctx)
        if loose:
            raise click.UsageError(f"{loose[0]} needs --rendezvous or the command serve", ctx)
        click.echo(ctx.get_help(), err=True)
        return 2
    if rendezvous is not None:
        raise click.UsageError(f"--rendezvous runs a build agent by itself: leave out {ctx.invoked_subcommand!r}", ctx)
    if loose:
        raise click.UsageError(f"{loose[0]} goes after the command {ctx.invoked_subcommand!r}, or with --rendezvous", ctx)
    return None


def _was_typed(ctx: click.Context, parameter: click.Parameter) -> bool:
    return ctx.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE


def run(hooks: Hooks, argv: Sequence[str] | None = None) -> int:
    """The whole program but for leaving it: the exit status of :data:`~fabrik_node.cli.grammar.EXIT_CODES`."""
    session = Session(hooks)
    with _sigterm_raises():
        try:
            status = _invoke(session, sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of stdout (head, less) has seen enough
            _mute_stdout()
            return 0
        except KeyboardInterrupt:
            return _SIGINT_STATUS
        except _Terminated:
            return _SIGTERM_STATUS
        except Exception as error:  # noqa: BLE001 - the last place where it can be told
            return _tell(error, session)
        return status


def _invoke(session: Session, argv: Sequence[str]) -> int:
    try:
        with root.make_context(_PROGRAM, list(argv), obj=session) as ctx:
            answer = root.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code
    return answer if isinstance(answer, int) else 0


def _tell(error: Exception, session: Session) -> int:
    """One line with the cause, one with what to type next."""
    match error:
        case NotInitialised() | NoNode():
            message, hint, status = str(error), session.here(error.hint), error.exit_status
        case FabrikError():
            message, hint, status = str(error), error.hint, error.exit_status
        case click.UsageError():
            message, hint, status = _sentence(error.format_message()), f"{error.ctx.command_path if error.ctx else _PROGRAM} --help", error.exit_code
        case click.ClickException():
            message, hint, status = _sentence(error.format_message()), "", error.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            in_home = not session.in_run and str(error.filename or "").startswith(str(session.home))
            message, hint, status = f"{where}{error.strerror or error}", "--home DIR, for a folder that can be used" if in_home else "", 1
        case _:
            message, hint, status = f"unexpected error: {type(error).__name__}: {error}", "the same command with --debug, for the traceback", 1
    lines = [f"{_PROGRAM}: {clean(message)}", *([f"  try: {clean(hint)}"] if hint else [])]
    with suppress(OSError):  # stderr is closed: nobody is left to be told
        if session.debug:
            import traceback

            traceback.print_exception(error)
        print("\n".join(lines), file=sys.stderr, flush=True)
    return status


def _sentence(text: str) -> str:
    """Click's messages in our form: one line, no capital, no full stop."""
    line = " ".join(text.split())
    if line[:1].isupper() and line[1:2].islower():
        line = line[0].lower() + line[1:]
    return line.removesuffix(".")


def _mute_stdout() -> None:
    """The interpreter flushes stdout once more when it ends: let that go nowhere (Python library manual, "signal", note on SIGPIPE)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
