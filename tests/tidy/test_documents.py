"""Documents that can not rot: links lead somewhere, settings are described, records are whole."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from tidy.tree import ROOT, files, shown

from fabrik_node.config import Config

DECISION_HEADINGS = ["Context", "Options", "Decision", "Consequences"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _pages() -> list[Path]:
    return files(suffix=".md")


@pytest.mark.parametrize("page", _pages(), ids=shown)
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target) and not target.startswith("#")]
    assert [target for target in targets if not (page.parent / target.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("*.md")), ids=shown)
def test_decision_records_are_whole(page: Path) -> None:
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page.name)
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == DECISION_HEADINGS


def test_code_of_examples_in_documents_is_that_of_their_files() -> None:
    quoted = [
        (page, *found)
        for page in _pages()
        for found in re.findall(r"^<!-- (\S+) -->\n```\w+\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]
    assert {path for _, path, _ in quoted} >= {"demo/agents/shell_agent.sh"}
    assert [f"{shown(page)}: {path}" for page, path, text in quoted if text != (ROOT / path).read_text(encoding="utf-8")] == []


def test_changes_are_written_down() -> None:
    assert re.search(r"^## Unreleased$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_setting_is_described() -> None:
    page = (ROOT / "docs/howto/configure.md").read_text(encoding="utf-8")
    for table in msgspec.structs.fields(Config):
        section = re.search(rf"^## \[{table.name}\]$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, f"docs/howto/configure.md has no section [{table.name}]"
        described = set(re.findall(r"^\| `(\w+)` \|", section.group(1), re.MULTILINE))
        assert described == {field.name for field in msgspec.structs.fields(table.type)}, table.name


def test_the_lock_names_no_host() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "://" in line or line.startswith("-")] == []
    pins = [line for line in lines if line and not line.startswith(("#", " "))]
    assert [line for line in pins if not re.fullmatch(r"[a-z0-9.-]+==[\w.]+(?: ; .+)? \\", line)] == []


def test_the_lock_covers_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=!~ ]", name)[0].lower() for name in [*project["dependencies"], *project["optional-dependencies"]["dev"]]}
    pinned = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if "==" in line}
    assert wanted - pinned == {"fabrik-sync"}
