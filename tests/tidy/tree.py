"""The repository as the tidy tests see it: its files and their syntax trees."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("fabrik_node", "sync/fabrik_sync")
_SKIPPED = {".git", ".venv", "target", "dist", "build", "node_modules"}


def files(*folders: str, suffix: str) -> list[Path]:
    """Files below ``folders`` (the whole tree when none is given), built things left out, in order."""
    starts = [ROOT / folder for folder in folders] or [ROOT]
    found = {path for start in starts for path in start.rglob(f"*{suffix}") if path.is_file()}
    return sorted(path for path in found if not any(part in _SKIPPED or (part.startswith(".") and part != ".ci") for part in path.relative_to(ROOT).parts[:-1]))


def shown(path: Path) -> str:
    """Relative to the root, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def product_trees(*, outside: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.Module]]:
    """``(shown path, tree)`` of every Python file of the product but those whose path starts with one of ``outside``."""
    for path in files(*PRODUCT, suffix=".py"):
        if not shown(path).startswith(outside):
            yield shown(path), parse(path)


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """``(line, top-level module)`` of each import, late ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]
