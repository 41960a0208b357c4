"""Help and pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from fabrik_node.cli.grammar import GLOBAL_FLAGS
from fabrik_node.cli.main import root
from fabrik_node.config import Config
from fabrik_node.domain.stages import REASON_NAMES

SETTINGS = Path(__file__).parents[3] / "docs/howto/configure.md"


def _walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    found = [(" ".join(path), command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += _walk(below, (*path, name))
    return found


@pytest.mark.parametrize(("name", "command"), _walk(root), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_says_what_it_does_in_one_line(cli: Any, name: str, command: click.Command) -> None:
    assert command.get_short_help_str(200)
    assert not command.get_short_help_str(63).endswith("..."), "it is cut in the list of commands"
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option
    for flag in ("--help", "-h"):
        printed = cli(*name.split(), flag)
        assert (printed.status, printed.err) == (0, "")
        assert all(option in printed.text for option in ("--home", "--json", "--no-color", "--debug"))


@pytest.mark.parametrize(("name", "command"), _walk(root), ids=lambda value: value if isinstance(value, str) else "")
def test_no_option_hides_a_global_one(name: str, command: click.Command) -> None:
    names = [text for option in [*command.params, *GLOBAL_FLAGS] for text in option.opts]
    assert len(names) == len(set(names))


def test_the_help_of_a_move_names_the_reasons(cli: Any) -> None:
    text = " ".join(cli("items", "move", "--help").text.split())
    assert re.findall(r"\b[A-Z]\w+", text.partition("To Archived: ")[2].partition(".")[0]) == list(REASON_NAMES.values())


def test_the_defaults_on_the_page_are_the_real_ones() -> None:
    page = SETTINGS.read_text(encoding="utf-8")
    for table in msgspec.structs.fields(Config):
        section = re.search(rf"^## \[{table.name}\]$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section
        shown = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section.group(1), re.MULTILINE))
        for field in msgspec.structs.fields(table.type):
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            text = shown[field.name].strip("`")
            if default == "":
                assert text in {"none", "the host's name"}, field.name
            else:
                assert text == (f"{default:g}" if isinstance(default, float) else str(default)), field.name
