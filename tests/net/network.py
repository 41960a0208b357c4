"""Network namespaces of one test, joined by the emulator. Made by the test, gone after it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from net.emulator import inside

__all__ = ["Network", "why_not"]


def why_not() -> str:
    """Why this machine can not have network namespaces with TUN devices of ours; empty when it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "making network namespaces and TUN devices needs root"
    if shutil.which("ip") is None:
        return "there is no ip command (iproute2)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "there is no /dev/net/tun"
    name = f"fabrik-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    try:
        with inside(name):
            return ""
    except OSError as error:
        return f"network namespaces can not be entered here: {error}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Network:
    """``count`` namespaces with the addresses 10.77.0.1, 10.77.0.2 ... Use as a context manager."""

    def __init__(self, count: int, seed: int) -> None:
        self.seed = seed
        self.names = [f"fabrik-{os.getpid()}-{number}" for number in range(1, count + 1)]
        self._emulator: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            for name in self.names:
                subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
            program = str(Path(__file__).with_name("emulator.py"))
            self._emulator = subprocess.Popen(
                [sys.executable, program, str(self.seed), *self.names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            self.set(1, 2)  # it is up
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._emulator is not None:
            assert self._emulator.stdin is not None
            assert self._emulator.stdout is not None
            self._emulator.stdin.close()
            self._emulator.stdout.close()
            self._emulator.wait(10)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def set(self, a: int, b: int, **conditions: Any) -> dict[str, int]:
        """Change what happens from ``a`` to ``b`` (numbers from 1); what has happened there so far."""
        assert self._emulator is not None
        assert self._emulator.stdin is not None
        assert self._emulator.stdout is not None
        self._emulator.stdin.write(json.dumps({"from": a, "to": b, **conditions}) + "\n")
        self._emulator.stdin.flush()
        line = self._emulator.stdout.readline()
        assert line, "the emulator has ended"
        return dict(json.loads(line))

    def both(self, a: int, b: int, **conditions: Any) -> None:
        """The same in both directions."""
        self.set(a, b, **conditions)
        self.set(b, a, **conditions)

    def everywhere(self, **conditions: Any) -> None:
        """On all links."""
        for a in range(1, len(self.names) + 1):
            for b in range(1, a):
                self.both(a, b, **conditions)

    @staticmethod
    def address(number: int) -> str:
        """Of a namespace."""
        return f"10.77.0.{number}"

    def command(self, number: int) -> list[str]:
        """What stands before a command that shall run in a namespace."""
        return ["ip", "netns", "exec", self.names[number - 1]]
