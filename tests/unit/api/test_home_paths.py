"""The layout of a home, and where its socket goes when the home's path is long."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from fabrik_node.api import LocalApi
from fabrik_node.api.use_cases import UseCases
from fabrik_node.cli.client import Client
from fabrik_node.clock import SystemClock
from fabrik_node.errors import Precondition
from fabrik_node.paths import SOCKET_PATH_BYTES_MAX, HomePaths, private_folder


def test_everything_lies_in_the_home() -> None:
    paths = HomePaths(Path("/h"))
    found = [getattr(paths, name) for name in dir(paths) if not name.startswith("_") and isinstance(getattr(paths, name), Path)]
    assert len(found) == len(set(found)) == 17
    assert all(path.is_relative_to("/h") for path in found)
    assert paths.run_folder("01k8") == Path("/h/runs/01k8")


def test_a_short_home_has_its_socket_inside() -> None:
    home = Path("/h" + "x" * (SOCKET_PATH_BYTES_MAX - len("/h/run/node.sock")))
    assert HomePaths(home).socket == home / "run" / "node.sock"
    assert len(os.fsencode(HomePaths(home).socket)) == SOCKET_PATH_BYTES_MAX


def test_a_long_home_has_its_socket_in_a_folder_of_its_own() -> None:
    one, other = HomePaths(Path("/h" + "x" * 90)), HomePaths(Path("/h" + "é" * 45))
    assert one.socket != other.socket
    for paths in (one, other):
        assert paths.socket == HomePaths(paths.home).socket
        assert not paths.socket.is_relative_to(paths.home)
        assert len(os.fsencode(paths.socket)) <= SOCKET_PATH_BYTES_MAX


async def test_a_node_in_a_long_home_is_found(tmp_path: Path) -> None:
    class Nothing:
        def run_of(self, peer: object) -> str:
            return ""

        def caller(self, token: object, peer: object) -> None:
            return None

        async def call(self, op: str, args: object, caller: object) -> dict[str, object]:
            return {"op": op}

        def stream(self, op: str, args: object, caller: object) -> object:
            raise AssertionError(op)

    paths = HomePaths(tmp_path / ("deep" * 30))
    service: UseCases = Nothing()  # type: ignore[assignment]
    api = LocalApi(service, paths.socket, SystemClock())
    await api.start()
    try:
        assert stat.S_IMODE(paths.socket.parent.stat().st_mode) == 0o700
        client = Client.connect(paths)
        assert client is not None
        with client:
            import asyncio

            assert await asyncio.to_thread(client.call, "echo", {}) == {"op": "echo"}
    finally:
        await api.stop()
        shutil.rmtree(paths.socket.parent)


def test_a_private_folder_is_made_or_closed(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    private_folder(tmp_path / "open")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "file/below"):
        with pytest.raises(Precondition):
            private_folder(tmp_path / name)
