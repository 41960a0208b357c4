"""One run of the command line: its flags, its home, whom it asks, and what it prints.

Stdout carries the answer only (with ``--json`` one JSON document, or one per line); everything else goes to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from fabrik_node import config
from fabrik_node.cli.client import Client
from fabrik_node.cli.hooks import Hooks
from fabrik_node.cli.table import Screen, clean
from fabrik_node.errors import AuthError, Internal, NoNode, NotInitialised
from fabrik_node.paths import HomePaths

__all__ = ["Session", "given"]


def given(**args: Any) -> dict[str, Any]:
    """Arguments of a call without those that were left out (None)."""
    return {name: value for name, value in args.items() if value is not None}


class Session:
    """Made once per process. The flags are set by click, before or after the subcommand; the last one counts."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.home_flag: str | None = None
        self.json = False
        self.no_color = False
        self.debug = False

    @property
    def home(self) -> Path:
        """The node's home, absolute. Raises :class:`AuthError` inside the command of a run, unless a home was named: its node is not the command's."""
        if self.in_run:
            raise AuthError("this is the command of a run, and what it asks for is an operator's", "fabrik-node whoami; for another node: --home DIR")
        return config.home_path(self.home_flag)

    @property
    def in_run(self) -> bool:
        """Called by the command of a run, and for its node."""
        return config.run_access(self.home_flag) is not None

    @property
    def paths(self) -> HomePaths:
        """Where things lie in the home."""
        return HomePaths(self.home)

    @property
    def initialised(self) -> bool:
        """There is, or was, a node in this home."""
        return self.paths.identity_key.exists() or self.paths.store.exists()

    # ---- asking -----------------------------------------------------------------------------------

    def read(self, op: str, **args: Any) -> dict[str, Any]:
        """Ask the running node; with none, its store, and say so."""
        client = self._connect()
        if client is None:
            data = self.hooks.offline(self.home).call(op, given(**args))
            self._say_offline(data)
            return data
        with client:
            return client.call(op, given(**args))

    def write(self, op: str, *, patient: bool = False, **args: Any) -> dict[str, Any]:
        """Ask the running node. Raises :class:`NoNode` when there is none. ``patient``: the answer may take as long as the node lives."""
        client = self._connect()
        if client is None:
            raise self._no_node("this needs one")
        with client:
            return client.call(op, given(**args), patient=patient)

    def change(self, op: str, render: Callable[[Screen, Mapping[str, Any]], None], *, dry_run: bool, **args: Any) -> dict[str, Any]:
        """Ask the running node, show its answer, with ``dry_run`` what it would do, and return that."""
        data = self.write(op, dry_run=dry_run or None, **args)
        if dry_run:
            from fabrik_node.cli.render_page import rehearsed

            if data.get("dry_run") is not True:
                raise Internal(f"the node knows no dry run: {op} was done", "fabrik-node events; then restart the node, so that it is of this version")
            render = rehearsed
        self.show(data, render)
        return data

    def stream(self, op: str, *, follow: bool, need: str = "--follow needs one", **args: Any) -> Iterator[dict[str, Any]]:
        """Like :meth:`read`, one answer after the other. Following needs a running node: ``need`` says why."""
        client = self._connect()
        if client is None:
            if follow:
                raise self._no_node(need)
            answers = self.hooks.offline(self.home).stream(op, given(**args))
            first = next(answers, None)  # a refusal comes before the note, and without it
            self._say_offline({})
            if first is not None:
                yield first
                yield from answers
            return
        with client:
            yield from client.stream(op, given(follow=follow, **args), follow=follow)

    def _connect(self) -> Client | None:
        if (access := config.run_access(self.home_flag)) is not None:
            api, token = access
            if (node := Client.connect_to(Path(api), token)) is None:
                raise NoNode(f"nobody listens at {api}: the node that started this command is gone", "end the command: its work is on its branch")
            return node
        client = Client.connect(self.paths)
        if client is None and not self.initialised:
            raise NotInitialised(f"there is no node in {self.home} yet", "fabrik-node init")
        return client

    def _no_node(self, need: str) -> NoNode:
        return NoNode(f"no node is running on {self.home}, and {need}", "fabrik-node serve")

    def _say_offline(self, data: Mapping[str, Any]) -> None:
        dated = f", last change {data['as_of']}" if data.get("as_of") else ""
        self.note(f"no node is running on {self.home}: answered from its store{dated}")

    def here(self, hint: str) -> str:
        """The commands of ``hint`` for this home, also when ``--home`` named it: typed without that they would be for another one."""
        return hint if self.home_flag is None else hint.replace("fabrik-node ", f"fabrik-node --home {quote(str(self.home))} ")

    # ---- showing ----------------------------------------------------------------------------------

    def show(self, data: Mapping[str, Any], render: Callable[[Screen, Mapping[str, Any]], None]) -> None:
        """Print one answer: as it is with ``--json``, else as ``render`` draws it."""
        if self.json:
            _write(json.dumps(data, ensure_ascii=False, indent=2))
        else:
            screen = self.screen()
            render(screen, data)
            _write(screen.text())

    def show_line(self, data: Mapping[str, Any]) -> None:
        """One line of NDJSON, at once."""
        _write(json.dumps(data, ensure_ascii=False, separators=(",", ":")))

    def show_raw(self, text: str) -> None:
        """Text as it is, at once."""
        _write(text, end="")

    def show_foreign(self, text: str) -> None:
        """Text that another host printed: on a terminal it can not move the cursor or recolour the screen. In a pipe or file it is as it was."""
        self.show_raw("\n".join(clean(line) for line in text.split("\n")) if _is_terminal() else text)

    def screen(self) -> Screen:
        """An empty page for stdout, as wide and as colourful as it may be."""
        tty = _is_terminal()
        return Screen(color=tty and not self.no_color and not config.no_color(), tty=tty)

    def note(self, text: str, hint: str = "") -> None:
        """For people, on stderr: one line, and one with what to type next."""
        print(f"fabrik-node: {clean(text)}" + (f"\n  try: {clean(hint)}" if hint else ""), file=sys.stderr)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _write(text: str, end: str = "\n") -> None:
    """UTF-8 whatever the locale is. Lone surrogates (file names that are not UTF-8) become question marks."""
    sys.stdout.flush()
    sys.stdout.buffer.write((text + end).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
