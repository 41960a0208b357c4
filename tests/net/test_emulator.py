"""The link emulator itself: what it does to packets, and TCP through it between two namespaces."""

from __future__ import annotations

import socket
import subprocess
import threading
from random import Random

import pytest
from net.emulator import QUEUE_BYTES, Conditions, Link, inside
from net.network import Network, why_not

REASON = why_not()
needs_namespaces = pytest.mark.skipif(bool(REASON), reason=REASON or "namespaces are there")


def run(conditions: Conditions, count: int = 2_000, seed: int = 1, size: int = 1_000, gap_s: float = 0.001) -> tuple[Link, list[list[float]]]:
    link = Link(Random(seed), conditions)
    return link, [link.send(size, n * gap_s) for n in range(count)]


def test_a_link_without_conditions_delivers_at_once_and_in_order() -> None:
    link, found = run(Conditions())
    assert found == [[n * 0.001] for n in range(2_000)]
    assert link.dropped == 0


def test_each_condition_does_what_it_says() -> None:
    delayed = [at for (at,) in run(Conditions(delay_s=0.02, jitter_s=0.01))[1]]
    assert all(0.02 <= at - n * 0.001 <= 0.03 for n, at in enumerate(delayed))
    assert delayed == sorted(delayed), "jitter alone does not reorder"
    lossy, found = run(Conditions(loss=0.1))
    assert 140 <= lossy.dropped <= 260
    assert sum(not each for each in found) == lossy.dropped
    doubled, found = run(Conditions(duplicate=0.1))
    assert sum(len(each) == 2 for each in found) == doubled.doubled > 100
    swapped, found = run(Conditions(delay_s=0.02, reorder=0.1))
    times = [at for (at,) in found]
    assert times != sorted(times)
    assert swapped.overtook > 100
    assert all(each == [] for each in run(Conditions(cut=True))[1])
    slow, found = run(Conditions(rate=100_000), count=1_000, gap_s=0.0)
    arrived = [each[0] for each in found if each]
    assert arrived == sorted(arrived)
    assert arrived[-1] == pytest.approx(len(arrived) * 1_000 / 100_000)
    assert QUEUE_BYTES <= len(arrived) * 1_000 <= QUEUE_BYTES + 2_000
    assert slow.dropped == 1_000 - len(arrived)


def test_a_seed_gives_the_same_network_again() -> None:
    bad = Conditions(delay_s=0.02, jitter_s=0.01, loss=0.05, duplicate=0.05, reorder=0.05, rate=1e6)
    assert run(bad, seed=5)[1] == run(bad, seed=5)[1]
    assert run(bad, seed=5)[1] != run(bad, seed=6)[1]


def listen(network: Network, number: int) -> socket.socket:
    with inside(network.names[number - 1]):
        listener = socket.create_server((network.address(number), 7_420))
    listener.settimeout(20.0)
    return listener


def connect(network: Network, number: int, to: int) -> socket.socket:
    with inside(network.names[number - 1]):
        link = socket.socket()
    link.settimeout(20.0)
    link.connect((network.address(to), 7_420))
    return link


def echo(listener: socket.socket) -> None:
    stream, _ = listener.accept()
    with stream:
        while data := stream.recv(65_536):
            stream.sendall(data)


@needs_namespaces
def test_tcp_passes_between_namespaces_over_a_bad_link() -> None:
    sent = Random(1).randbytes(300_000)
    with Network(2, seed=1) as network, listen(network, 2) as listener:
        network.everywhere(delay_s=0.002, jitter_s=0.002, loss=0.01, duplicate=0.01, reorder=0.02, rate=20e6)
        thread = threading.Thread(target=echo, args=(listener,))
        thread.start()
        with connect(network, 1, 2) as stream:
            writing = threading.Thread(target=stream.sendall, args=(sent,))
            writing.start()
            came = b""
            while len(came) < len(sent):
                came += stream.recv(65_536)
            writing.join()
        thread.join()
        seen = network.set(1, 2)
    assert came == sent
    assert seen["passed"] > 200
    assert min(seen["dropped"], seen["overtook"], seen["doubled"]) > 0


@needs_namespaces
def test_a_cut_swallows_and_a_mended_link_delivers() -> None:
    with Network(2, seed=2) as network, listen(network, 2) as listener, connect(network, 1, 2) as stream:
        other, _ = listener.accept()
        with other:
            network.set(1, 2, cut=True)
            stream.sendall(b"into the dark")
            other.sendall(b"the other direction is open")
            assert stream.recv(100) == b"the other direction is open"
            other.settimeout(0.3)
            with pytest.raises(TimeoutError):
                other.recv(100)
            assert network.set(1, 2, cut=False)["dropped"] > 0
            other.settimeout(20.0)
            assert other.recv(100) == b"into the dark", "TCP sends it again"


@needs_namespaces
def test_the_emulator_ends_with_its_test_and_leaves_nothing() -> None:
    with Network(2, seed=3) as network:
        names = network.names
        emulator = network._emulator
    assert emulator is not None
    assert emulator.returncode == 0
    assert not set(names) & set(subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split())
