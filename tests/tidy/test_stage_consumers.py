"""Stages are types. Whoever adds one meets this file first, with the list of places to go through."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from tidy.tree import files, parse, product_trees, shown

from fabrik_node.domain.stages import STAGE_TYPES, TRANSITIONS

HOME = "fabrik_node/domain/stages.py"
NAMES = {cls.name for cls in STAGE_TYPES}
CLASSES = {cls.__name__ for cls in STAGE_TYPES}


def _patterns(match: ast.Match) -> Iterator[str]:
    for case in match.cases:
        for node in ast.walk(case.pattern):
            if isinstance(node, ast.MatchClass):
                yield ast.unparse(node.cls).rpartition(".")[2]


def _stage_matches() -> Iterator[tuple[str, ast.Match]]:
    for path in files("fabrik_node", suffix=".py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Match) and len(CLASSES & set(_patterns(node))) >= 2:
                yield f"{shown(path)}:{node.lineno}", node


def _imports_stages(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module == "fabrik_node.domain.stages" for node in ast.walk(tree))


@pytest.mark.promise("E6")
def test_a_new_stage_is_seen_by_every_consumer() -> None:
    consumers = sorted({HOME} | {path for path, tree in product_trees() if _imports_stages(tree)})
    known = ["Backlog", "Coding", "Qa", "Merge", "Done", "Archived"]
    assert [cls.name for cls in STAGE_TYPES] == known, (
        "the stages changed. Go through every consumer, docs/spec/merge.md and the Rust core, then change this list:\n" + "\n".join(consumers)
    )
    assert set(TRANSITIONS) == set(STAGE_TYPES)


@pytest.mark.promise("E6")
def test_every_match_on_stages_is_closed() -> None:
    matches = dict(_stage_matches())
    assert matches, "nothing matches on stages: this test looks in the wrong place"
    for where, match in matches.items():
        last = match.cases[-1]
        closed = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and "assert_never" in ast.unparse(last)
        assert closed, f"{where}: the match on stages does not end in `case _: assert_never(...)`"
        assert set(_patterns(match)) >= CLASSES, f"{where}: does not handle {sorted(CLASSES - set(_patterns(match)))}"


@pytest.mark.promise("E7")
def test_no_stage_is_compared_as_text() -> None:
    found = []
    for path, tree in product_trees(outside=(HOME,)):
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                texts = [n.value for side in (node.left, *node.comparators) for n in ast.walk(side) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            elif isinstance(node, ast.MatchValue):
                texts = [node.value.value] if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else []
            elif isinstance(node, ast.Dict):
                texts = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            else:
                continue
            found += [f"{path}:{node.lineno}: {text!r}" for text in texts if text in NAMES]
    assert found == [], "use the classes of fabrik_node.domain.stages"
