"""Links between network namespaces, in user space and from a seed: delay, jitter, loss, duplication, reordering, rate and cuts.

``python emulator.py SEED NAME...`` takes one existing network namespace per name. Each gets a device ``tun0`` with the address ``10.77.0.N`` (N from 1), by which it
reaches all others. Commands come as JSON lines on stdin, ``{"from": 1, "to": 2, "delay_s": 0.02, ...}``; each is answered with a line on stdout.
It ends when stdin does, however that ended, and takes the namespaces and their devices with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import json
import os
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from random import Random

__all__ = ["MTU", "Conditions", "Link", "inside"]

MTU = 1_400
QUEUE_BYTES = 262_144
"""What a link with a rate keeps waiting; more is dropped, as a router does."""
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000


@dataclass
class Conditions:
    """Of one direction. Probabilities are of single packets; ``rate`` is in bytes per second, 0 for no limit."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    rate: float = 0.0
    cut: bool = False


@dataclass
class Link:
    """One direction: what happens to each packet. Pure: ``now`` comes in, moments of delivery go out."""

    random: Random
    conditions: Conditions = field(default_factory=Conditions)
    free_at: float = 0.0
    last_at: float = 0.0
    passed: int = 0
    dropped: int = 0
    overtook: int = 0
    doubled: int = 0

    def send(self, size: int, now: float) -> list[float]:
        """When a packet of so many bytes arrives: never, once or twice. It keeps its place in the order but for ``reorder``."""
        here = self.conditions
        lost, twice, early = (self.random.random() for _ in range(3))
        jitter = self.random.uniform(0.0, here.jitter_s)
        if here.cut or lost < here.loss:
            self.dropped += 1
            return []
        at = now
        if here.rate:
            self.free_at = max(self.free_at, now)
            if (self.free_at - now) * here.rate > QUEUE_BYTES:
                self.dropped += 1
                return []
            self.free_at += size / here.rate
            at = self.free_at
        self.passed += 1
        if early < here.reorder and self.last_at > at:
            self.overtook += 1
            return [at]
        at = self.last_at = max(self.last_at, at + here.delay_s + jitter)
        if twice < here.duplicate:
            self.doubled += 1
            return [at, at]
        return [at]


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in a network namespace. What is opened there stays there."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"can not enter the network namespace {namespace}")
        try:
            yield
        finally:
            if libc.setns(here, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "can not leave the network namespace")
    finally:
        os.close(here)
        os.close(there)


def open_tun(namespace: str, address: str) -> int:
    """The packet end of a new device in the namespace."""
    with inside(namespace):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"tun0", _IFF_TUN | _IFF_NO_PI))
    for command in (
        ["address", "add", f"{address}/24", "dev", "tun0"],
        ["link", "set", "tun0", "mtu", str(MTU), "up"],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run(["ip", "-n", namespace, *command], check=True, capture_output=True)
    return tun


class Emulator:
    """All links between the namespaces."""

    def __init__(self, seed: str, namespaces: list[str]) -> None:
        self.tuns = {number: open_tun(name, f"10.77.0.{number}") for number, name in enumerate(namespaces, 1)}
        self.links = {(a, b): Link(Random(f"{seed} {a} {b}")) for a in self.tuns for b in self.tuns if a != b}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = itertools.count()

    def run(self) -> None:
        """Until stdin ends."""
        with selectors.DefaultSelector() as selector:
            for number, tun in self.tuns.items():
                selector.register(tun, selectors.EVENT_READ, number)
            selector.register(sys.stdin, selectors.EVENT_READ, 0)
            while True:
                wait = None if not self._due else max(0.0, self._due[0][0] - time.monotonic())
                for key, _ in selector.select(wait):
                    if key.data:
                        self._read(key.data)
                    elif line := sys.stdin.readline():
                        print(json.dumps(self._obey(json.loads(line))), flush=True)
                    else:
                        return
                self._deliver()

    def _read(self, number: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(self.tuns[number], 65_536)
            except BlockingIOError:
                return
            to = packet[19] if packet[0] >> 4 == 4 and packet[16:19] == b"\x0a\x4d\x00" else 0
            link = self.links.get((number, to))
            for at in [] if link is None else link.send(len(packet), time.monotonic()):
                heapq.heappush(self._due, (at, next(self._count), to, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, to, packet = heapq.heappop(self._due)
            try:
                os.write(self.tuns[to], packet)
            except OSError:
                continue  # the queue of the device is full, or it is down: a router drops too

    def _obey(self, command: dict[str, object]) -> dict[str, object]:
        link = self.links[int(str(command.pop("from"))), int(str(command.pop("to")))]
        link.conditions = Conditions(**(asdict(link.conditions) | command))
        return {each.name: getattr(link, each.name) for each in fields(link) if each.name in {"passed", "dropped", "overtook", "doubled"}}


if __name__ == "__main__":
    try:
        Emulator(sys.argv[1], sys.argv[2:]).run()
    finally:
        for each in sys.argv[2:]:
            subprocess.run(["ip", "netns", "delete", each], check=False, capture_output=True)
