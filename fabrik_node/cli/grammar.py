"""How commands are built: loaded when they are needed, with the global flags on each, and values that people can type."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from fabrik_node.cli.session import Session

__all__ = ["DRY_RUN", "DURATION", "EXIT_CODES", "GLOBAL_FLAGS", "FabrikCommand", "FabrikGroup", "Section", "command", "group"]

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "failed",
    2: "wrong usage or configuration",
    3: "not found",
    4: "conflict, or the claim is lost",
    5: "not possible in this state, or held",
    6: "unreachable, no node is running, or the view is partial",
    7: "not allowed, or not who it should be",
    130: "interrupted (SIGINT)",
    143: "terminated (SIGTERM)",
}
"""What the exit status says. A test holds it equal to the classes of :mod:`fabrik_node.errors`."""

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _keep(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
        session = ctx.find_object(Session)
        if value and session is not None:
            setattr(session, attribute, value)

    return keep


GLOBAL_FLAGS: list[click.Parameter] = [
    click.Option(
        ["--home"],
        metavar="DIR",
        expose_value=False,
        is_eager=True,
        callback=_keep("home_flag"),
        help="The node's home. Else FABRIK_HOME, else ~/.fabrik-node.",
    ),
    click.Option(
        ["--json"], is_flag=True, expose_value=False, is_eager=True, callback=_keep("json"), help="Print the answer as JSON (streams: one object per line)."
    ),
    click.Option(["--no-color"], is_flag=True, expose_value=False, is_eager=True, callback=_keep("no_color"), help="No colours. So does NO_COLOR."),
    click.Option(["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_keep("debug"), help="Print the traceback of an error."),
]
"""Accepted before and after the subcommand."""


class Section:
    """Names the help section of an option: put it into ``click.option(..., cls=Section.option("Title"))``."""

    @staticmethod
    def option(title: str) -> type[click.Option]:
        """An option class whose help stands under ``title``."""
        return type("SectionOption", (click.Option,), {"section": title})


def _write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and isinstance(parameter, click.Option):
            title = "Everywhere" if parameter in GLOBAL_FLAGS else getattr(parameter, "section", "Options")
            sections.setdefault(title, []).append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class FabrikCommand(click.Command):
    """A command that takes the global flags too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, then the global ones."""
        return [*super().get_params(ctx), *GLOBAL_FLAGS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In sections, the global ones last."""
        _write_options(self, ctx, formatter)


class FabrikGroup(click.Group):
    """A group whose subcommands are ``module:attribute`` and imported when one is called or listed."""

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order in which they were given."""
        return [*self._lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it if that was not done yet."""
        if cmd_name in self._lazy:
            module, _, attribute = self._lazy[cmd_name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
            if not isinstance(found, click.Command):
                raise TypeError(f"{self._lazy[cmd_name]} is not a command")
            return found
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but a wrong name is answered with the right ones."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            raise click.UsageError(f"no command {name!r}; there are: {', '.join(self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it, but a missing name is answered with the possible ones."""
        if not self.invoke_without_command and not [*ctx._protected_args, *ctx.args]:  # noqa: SLF001 - click's only place for what was not parsed
            raise click.UsageError(f"which command? There are: {', '.join(self.list_commands(ctx))}", ctx)
        return super().invoke(ctx)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, then the global ones."""
        return [*super().get_params(ctx), *GLOBAL_FLAGS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In sections, the global ones last; then the subcommands."""
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def command(name: str, *, parent: click.Group | None = None) -> Callable[[Callable[..., Any]], FabrikCommand]:
    """Decorator: a command whose docstring is its help."""

    def build(function: Callable[..., Any]) -> FabrikCommand:
        made = click.command(name, cls=FabrikCommand, context_settings=_SETTINGS)(function)
        if parent is not None:
            parent.add_command(made)
        return made

    return build


def group(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], FabrikGroup]:
    """Decorator: a group whose docstring is its help."""
    return click.group(name, cls=FabrikGroup, context_settings=_SETTINGS, no_args_is_help=False, **attributes)


DRY_RUN = click.option("--dry-run", is_flag=True, help="Check all of it, print what would be written and whose work that stops, and write nothing.")
"""Of a command that changes something: give it to :meth:`~fabrik_node.cli.session.Session.change`."""


class _Duration(click.ParamType[float]):
    """Seconds, written ``90``, ``90s``, ``15m``, ``1h`` or ``7d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds above 0."""
        if isinstance(value, float | int):
            return float(value)
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", str(value).strip())
        seconds = float(found.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}[found.group(2)] if found else 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is not a duration above 0 such as 90s, 15m, 1h or 7d", param, ctx)
        return seconds


DURATION = _Duration()
