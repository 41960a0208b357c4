"""Rules of the house that no linter knows. Each failure names file and line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from tidy.tree import PRODUCT, files, imported, parse, product_trees, shown

LINES_MAX = 500
LINES_GOOD = 300
LONG_FOR_A_REASON = {
    "fabrik_node/app/running.py": "one node from its start to its stop, in the order in which it happens",
    "fabrik_node/agent/shim.py": "a program of its own that may import nothing of ours, so that it starts quickly",
    "fabrik_node/config.py": "every setting, with what it may be, on one page",
    "fabrik_node/node/pipeline.py": "one port, with all of its conditions",
    "fabrik_node/ports/__init__.py": "all ports but the store's on one page, so that they are read together",
    "fabrik_node/service/reading.py": "every read of the command line on one page",
    "fabrik_node/transport/mesh.py": "dialling, accepting and what is said of peers share one table",
    "fabrik_node/node/node.py": "one port, and what the writer asks of it, on one page",
}


def _reads(tree: ast.Module, owner: str, names: set[str]) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names and isinstance(node.value, ast.Name) and node.value.id == owner:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == owner and names & {alias.name for alias in node.names}:
            yield node.lineno


def test_only_config_reads_the_environment() -> None:
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    assert [f"{path}:{line}" for path, tree in product_trees(outside=("fabrik_node/config.py",)) for line in _reads(tree, "os", names)] == []


def test_only_clock_reads_time() -> None:
    outside = ("fabrik_node/clock.py",)
    assert [f"{path}:{line}" for path, tree in product_trees(outside=outside) for line, module in imported(tree) if module == "time"] == []
    now = {"now", "utcnow", "today"}
    assert [f"{path}:{line}" for path, tree in product_trees(outside=outside) for owner in ("datetime", "date") for line in _reads(tree, owner, now)] == []


def test_library_rooms_do_not_print() -> None:
    outside = ("fabrik_node/cli/", "fabrik_node/app.py", "fabrik_node/__main__.py")
    calls = ((path, node) for path, tree in product_trees(outside=outside) for node in ast.walk(tree) if isinstance(node, ast.Call))
    assert [f"{path}:{node.lineno}" for path, node in calls if ast.unparse(node.func) in {"print", "sys.stdout.write"}] == []


def test_nothing_is_swallowed() -> None:
    handlers = ((path, node) for path, tree in product_trees() for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    bare = [f"{path}:{node.lineno}" for path, node in handlers if node.type is None and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))]
    assert bare == []


def test_files_are_short() -> None:
    sizes = {shown(path): path.read_text(encoding="utf-8").count("\n") for path in [*files(*PRODUCT, suffix=".py"), *files("rust", suffix=".rs")]}
    assert {path: lines for path, lines in sizes.items() if lines > LINES_MAX} == {}, "split it by the nouns that it defines"
    long = {path: lines for path, lines in sizes.items() if lines > LINES_GOOD and "/tests/" not in path}
    assert {path: lines for path, lines in long.items() if path not in LONG_FOR_A_REASON} == {}, "split it, or give the reason in LONG_FOR_A_REASON"
    assert set(LONG_FOR_A_REASON) - set(long) == set(), "no longer long: take the reason away"


def test_file_names_say_what_is_inside() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
    assert [shown(path) for path in [*files(*PRODUCT, suffix=".py"), *files("rust", suffix=".rs")] if path.stem in vague] == []


@pytest.mark.parametrize("suffix", [".py", ".rs", ".md", ".toml", ".sql", ".cddl"])
def test_nothing_is_left_for_later_in_the_sources(suffix: str) -> None:
    word = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
    found = [
        f"{shown(path)}:{n}" for path in files(suffix=suffix) for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if word.search(line)
    ]
    assert found == []


@pytest.mark.promise("H1")
def test_no_code_writes_a_json_state_file() -> None:
    found = []
    for path, tree in product_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "json.dump":
                found.append(f"{path}:{node.lineno}: json.dump to a file")
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w./-]*\.json", node.value):
                found.append(f"{path}:{node.lineno}: a JSON file's name, {node.value!r}")
    assert found == []


def test_public_doors_are_listed() -> None:
    missing = [
        shown(path)
        for path in files("fabrik_node", "sync/fabrik_sync", suffix=".py")
        if path.name not in {"__init__.py", "__main__.py"}
        and "__main__" not in path.read_text(encoding="utf-8")
        and not any(isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__" for n in parse(path).body)
    ]
    assert missing == [], "say in __all__ what a module offers"
