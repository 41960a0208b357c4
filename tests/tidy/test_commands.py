"""Commands and their documents: the reference page is complete, and every command that is named anywhere exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import click
import pytest
from tidy.tree import ROOT, files, product_trees, shown

from fabrik_node.cli.grammar import EXIT_CODES
from fabrik_node.cli.main import root

PAGE = ROOT / "docs" / "howto" / "commands.md"
EVERYWHERE = {"--home", "--json", "--no-color", "--debug", "--help"}
NAMED = re.compile(r"fabrik-node(?: --[a-z-]+(?: [A-Z~./][^\s,;:]*)?)*((?: [a-z]+)+)")

PROSE = {"on", "is", "of"}
"""A sentence about the program, not a command."""


def _commands(command: click.Command = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command, info_name="fabrik-node")
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _commands(found, (*path, name))


COMMANDS = dict(_commands())
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def test_every_command_and_option_is_described() -> None:
    rows = re.findall(r"^\| `([a-z ]+)` \| .+? \|([^|]*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    described = {name: set(re.findall(r"--[a-z-]+", options)) for name, options in rows}
    real = {
        name: {next(text for text in option.opts if text.startswith("--")) for option in command.params if isinstance(option, click.Option)} - EVERYWHERE
        for name, command in COMMANDS.items()
    }
    assert described == real


def test_every_exit_code_is_described() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## Exit codes")[2]
    described = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)}
    assert described == dict(EXIT_CODES), "in the words of --help"


def _is_real(words: str) -> bool:
    first, *rest = words.split()
    if first in PROSE or (first in GROUPS and not rest):  # a group by itself lists its commands; an f-string may go on with one
        return True
    if first in COMMANDS:
        return True
    return first in GROUPS and bool(rest) and f"{first} {rest[0]}" in COMMANDS


def _unreal(text: str) -> list[str]:
    return [found.strip() for found in NAMED.findall(text) if not _is_real(found)]


@pytest.mark.parametrize("page", [*files("docs", suffix=".md"), ROOT / "README.md"], ids=shown)
def test_commands_in_documents_exist(page: object) -> None:
    text = (ROOT / str(page)).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`(fabrik-node [^`]*)`", text))
    assert _unreal(code) == []


def test_commands_in_hints_exist() -> None:
    found = []
    for path, tree in product_trees():
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found += [f"{path}:{node.lineno}: fabrik-node {words}" for words in _unreal(node.value)]
    assert not found, "a hint has to be something that one can type:\n" + "\n".join(found)
