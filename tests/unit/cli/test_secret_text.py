"""Tokens by stdin or from a file: nothing secret has to be an argument."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.promise("I22")
def test_a_token_comes_from_stdin_or_a_file(cli: Any, hooks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("  fabrik1-abc\n")
    for argument in ("-", f"@{file}", "fabrik1-abc"):
        monkeypatch.setattr("sys.stdin", io.StringIO("fabrik1-abc\n\n"))
        assert cli("join", argument).status == 0
        assert hooks.called[-1][1][1] == "fabrik1-abc"
        monkeypatch.setattr("sys.stdin", io.StringIO("fabrik1-abc\n"))
        assert cli("--rendezvous", argument, "--command", "true").status == 0
        assert hooks.called[-1][1].rendezvous == "fabrik1-abc"


def test_no_token_where_one_should_be(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for argument, said in (
        ("-", "no token in stdin"),
        (f"@{empty}", "no token in"),
        (f"@{tmp_path / 'none'}", "can not be read"),
        (f"@{tmp_path}", "can not be read"),
    ):
        printed = cli("join", argument)
        assert (printed.status, said in printed.err) == (2, True), printed.err
