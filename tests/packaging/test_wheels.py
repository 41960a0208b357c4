"""What a user installs: both wheels, built here, in an environment of their own, used from elsewhere. No network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 900
pytestmark = pytest.mark.timeout(BUILD_S)


@dataclass(frozen=True, slots=True)
class Installed:
    folder: Path
    node_wheel: Path
    sync_wheel: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FABRIK_", "VIRTUAL_ENV"))}
        return subprocess.run(command, cwd=elsewhere, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def _must(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheels")
    shutil.copytree(ROOT / "sync", folder / "sync", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _must(
        [
            str(Path(sys.executable).with_name("maturin")),
            "build",
            "--release",
            "--frozen",
            "--quiet",
            "--interpreter",
            sys.executable,
            "--out",
            str(folder / "dist"),
        ],
        ROOT,
    )
    _must([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(folder / "sync")], folder)
    wheels = {path.name.partition("-")[0]: path for path in (folder / "dist").glob("*.whl")}
    assert set(wheels) == {"fabrik_node", "fabrik_sync"}

    _must([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], folder)
    python = folder / "venv" / "bin" / "python"
    _must([*pip, "--python", str(python), "install", "--no-index", "--no-deps", *map(str, wheels.values())], folder)
    # The pinned dependencies of this environment; a folder named in a .pth does not bring its own .pth files, so not our checkout.
    site = folder / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return Installed(folder, wheels["fabrik_node"], wheels["fabrik_sync"])


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheels_install_two_names_and_no_other(installed: Installed) -> None:
    for wheel, name in ((installed.node_wheel, "fabrik_node"), (installed.sync_wheel, "fabrik_sync")):
        tops = {path.partition("/")[0] for path in _names(wheel)}
        assert {top for top in tops if not top.endswith(".dist-info")} == {name}
        assert len(tops) == 2


@pytest.mark.parametrize(("folder", "name"), [("fabrik_node", "fabrik_node"), ("sync/fabrik_sync", "fabrik_sync")])
def test_the_wheels_hold_every_file_of_the_tree(folder: str, name: str, installed: Installed) -> None:
    source = ROOT / folder
    wanted = {
        f"{name}/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    held = set(_names(installed.node_wheel if name == "fabrik_node" else installed.sync_wheel))
    assert wanted - held == set()
    extra = {path for path in held if path.startswith(f"{name}/") and path not in wanted}
    assert all(Path(path).name.startswith("_core.") for path in extra)


def test_the_licences_come_along(installed: Installed) -> None:
    names = {Path(path).name for path in _names(installed.node_wheel)}
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= names


def test_imports_come_from_the_wheels(installed: Installed) -> None:
    show = "import fabrik_node, fabrik_node._core, fabrik_node.app, fabrik_sync; print(fabrik_node.__file__, fabrik_node._core.__file__, fabrik_sync.__file__, sep='\\n')"
    done = installed.run(str(installed.bin / "python"), "-P", "-c", show)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if not Path(line).is_relative_to(installed.folder)] == []


def test_the_command_runs(installed: Installed) -> None:
    done = installed.run(str(installed.bin / "fabrik-node"), "version")
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


@pytest.mark.promise("H28")
def test_the_first_command_works_in_an_empty_home(installed: Installed) -> None:
    home = installed.folder / "home"
    program = str(installed.bin / "fabrik-node")
    first = installed.run(program, "--home", str(home), "status")
    assert first.returncode == 0, first.stderr
    made = installed.run(program, "--home", str(home), "init", "--name", "first")
    assert made.returncode == 0, made.stderr
    listed = installed.run(program, "--home", str(home), "--json", "items", "list")
    assert listed.returncode == 0, listed.stderr


@pytest.fixture
def first_hour(installed: Installed, tmp_path: Path) -> Iterator[tuple[Installed, Path]]:
    """A node of the installed program that serves an empty mesh."""
    program, home = str(installed.bin / "fabrik-node"), tmp_path / "home"
    assert installed.run(program, "--home", str(home), "init", "--name", "first").returncode == 0
    node = subprocess.Popen(
        [program, "--home", str(home), "serve"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert _wait_for_source(installed, home, "node"), "the node does not answer"
        yield installed, home
    finally:
        node.terminate()
        node.wait(timeout=30)


def _wait_for_source(installed: Installed, home: Path, source: str) -> bool:
    for _ in range(200):  # each takes a tenth of a second and more
        done = installed.run(str(installed.bin / "fabrik-node"), "--home", str(home), "--json", "status")
        if done.returncode == 0 and json.loads(done.stdout)["source"] == source:
            return True
    return False


READS = [
    ("status",),
    ("items", "list"),
    ("claims", "list"),
    ("runs", "list"),
    ("nodes", "list"),
    ("tombstones", "list"),
]


def _reads(installed: Installed, home: Path, item: str) -> dict[str, dict[str, Any]]:
    program = str(installed.bin / "fabrik-node")
    answers = {}
    for words in [*READS, ("items", "show", item), ("items", "history", item)]:
        done = installed.run(program, "--home", str(home), "--json", *words)
        assert done.returncode == 0, done.stderr
        answers[" ".join(words[:2])] = json.loads(done.stdout)
    return answers


@pytest.mark.promise("I25", "J4")
def test_every_read_says_when_and_from_where_with_and_without_a_node(first_hour: tuple[Installed, Path]) -> None:
    installed, home = first_hour
    program = str(installed.bin / "fabrik-node")
    added = installed.run(program, "--home", str(home), "--json", "items", "add", "first item")
    assert added.returncode == 0, added.stderr
    item = json.loads(added.stdout)["item"]["id"]
    live = _reads(installed, home, item)
    assert {name: answer["source"] for name, answer in live.items()} == dict.fromkeys(live, "node")

    (change, *_) = [change for change in live["items history"]["changes"] if change["field"] == "title"]
    assert change["node"] == "first"
    assert change["value"] == "first item"
    assert len(bytes.fromhex(change["author"])) == 32
    assert len(bytes.fromhex(change["digest"])) == 32

    subprocess.run(["kill", "-TERM", str(live["status"]["pid"])], check=True, timeout=10)
    assert _wait_for_source(installed, home, "store"), "the node does not end"
    answers = _reads(installed, home, item)
    assert {name: answer["source"] for name, answer in answers.items()} == dict.fromkeys(answers, "store")
    assert [name for name, answer in (live | answers).items() if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer["as_of"])] == []
    assert answers["status"]["state_digest"] == live["status"]["state_digest"]
