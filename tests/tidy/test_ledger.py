"""The ledger of promises, both ways: what is said to be held has a test, and what a test claims is in the ledger."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest
from requirements import PROMISES
from tidy.tree import files, parse, shown


def _marked(decorators: list[ast.expr]) -> Iterator[str]:
    for decorator in decorators:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
            for argument in decorator.args:
                assert isinstance(argument, ast.Constant), f"line {decorator.lineno}: a promise is named by a literal"
                yield str(argument.value)


def _skipped(decorators: list[ast.expr]) -> bool:
    return any("pytest.mark.skip" in ast.unparse(decorator) and "skipif" not in ast.unparse(decorator) for decorator in decorators)


def _python_owners() -> Iterator[tuple[str, str]]:
    for path in files("tests", suffix=".py"):
        if not path.name.startswith("test_"):
            continue
        tree = parse(path)
        whole_file = [
            promise
            for node in tree.body
            if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
            for promise in _marked(node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value])
        ]
        for node in tree.body:
            group = [node] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else node.body if isinstance(node, ast.ClassDef) else []
            of_class = list(_marked(node.decorator_list)) if isinstance(node, ast.ClassDef) else []
            for function in group:
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                is_test = function.name.startswith("test") or any("rule(" in ast.unparse(d) or "invariant(" in ast.unparse(d) for d in function.decorator_list)
                for promise in [*_marked(function.decorator_list), *of_class, *whole_file]:
                    if is_test and not _skipped(function.decorator_list):
                        yield promise, f"{shown(path)}::{function.name}"
            if isinstance(node, ast.ClassDef) and "RuleBasedStateMachine" in ast.unparse(node):
                for promise in of_class:
                    yield promise, f"{shown(path)}::{node.name}"


def _rust_owners() -> Iterator[tuple[str, str]]:
    for path in files("rust", suffix=".rs"):
        for name, promise in re.findall(r"\bfn (promise_([a-j]\d+)_\w+)", path.read_text(encoding="utf-8")):
            yield promise.upper(), f"{shown(path)}::{name}"


@pytest.fixture(scope="module")
def owners() -> dict[str, list[str]]:
    found = defaultdict(list)
    for promise, test in [*_python_owners(), *_rust_owners()]:
        found[promise].append(test)
    return dict(found)


def test_every_row_is_whole() -> None:
    for promise in PROMISES.values():
        assert promise.status in {"held", "partial", "later"}, promise
        assert promise.text, promise
        assert bool(promise.reason) == (promise.status != "held"), f"{promise.id}: a reason stands exactly where a promise is not held"


@pytest.mark.parametrize("promise_id", [promise.id for promise in PROMISES.values() if promise.status != "later"])
def test_a_promise_that_is_held_has_a_test(promise_id: str, owners: dict[str, list[str]]) -> None:
    owned = set(owners)
    assert promise_id in owned, f"no test owns {promise_id} ({PROMISES[promise_id].text}): mark one with @pytest.mark.promise({promise_id!r})"


def test_markers_name_promises_of_the_ledger(owners: dict[str, list[str]]) -> None:
    assert {promise: tests for promise, tests in owners.items() if promise not in PROMISES} == {}


def test_no_test_claims_what_is_promised_for_later(owners: dict[str, list[str]]) -> None:
    early = {promise: tests for promise, tests in owners.items() if promise in PROMISES and PROMISES[promise].status == "later"}
    assert early == {}, "say partial or held in tests/requirements.py"
