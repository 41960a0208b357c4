"""The socket's side of the local API: who may connect, what goes over the line, what happens when either side misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.api import Limits, LocalApi
from fabrik_node.api import limits as server_limits
from fabrik_node.api.use_cases import STREAMS
from fabrik_node.cli import client
from fabrik_node.clock import SystemClock
from fabrik_node.errors import AuthError, FabrikError, NotFound, Precondition
from fabrik_node.process import Peer
from fabrik_node.service.callers import OPERATOR, Caller

WAIT_S = 10
LINE = '{"v": 1, "op": "echo", "args": {}}'


@dataclass
class Service:
    """``echo`` answers its arguments; the others do what their names say."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    given_out: int = 0
    part: dict[str, Any] = field(default_factory=lambda: {"seq": 1})
    parts: int = 3
    hang: bool = False
    error: BaseException | None = None
    shown: list[tuple[str | None, Peer]] = field(default_factory=list)
    run: str = ""
    """Whose processes connect."""
    spoke: asyncio.Event = field(default_factory=asyncio.Event)

    def run_of(self, peer: Peer) -> str:
        return self.run

    def caller(self, token: str | None, peer: Peer) -> Caller:
        self.shown.append((token, peer))
        self.spoke.set()
        if token == "wrong":
            raise AuthError("a token that does not count")
        return OPERATOR

    async def call(self, op: str, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        match op:
            case "echo":
                return dict(args)
            case "slow":
                self.entered.set()
                await self.release.wait()
                return {"late": True}
            case "fail":
                assert self.error is not None
                raise self.error
            case "big":
                return {"text": "x" * args["bytes"]}
            case _:
                raise NotFound(f"no operation {op}")

    async def stream(self, op: str, args: Mapping[str, Any], caller: Caller) -> AsyncIterator[dict[str, Any]]:
        try:
            for number in range(self.parts):
                self.given_out = number + 1
                if self.error is not None:
                    raise self.error
                yield self.part
            self.entered.set()
            if self.hang:
                await asyncio.Event().wait()
            if op == "runs.logs":
                yield {"end": True, "state": "completed"}
        finally:
            self.closed.set()


@dataclass
class Line:
    """A client that sends and reads raw lines."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, op: str, /, **args: Any) -> dict[str, Any]:
        return await self.send(json.dumps({"v": 1, "op": op, "args": args}).encode() + b"\n")

    async def send(self, raw: bytes) -> dict[str, Any]:
        self.writer.write(raw)
        await self.writer.drain()
        return await self.next()

    async def next(self) -> dict[str, Any]:
        answer = json.loads(await asyncio.wait_for(self.reader.readline(), WAIT_S))
        assert isinstance(answer, dict)
        return answer

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(1), WAIT_S) == b""


@dataclass
class Rig:
    service: Service
    api: LocalApi
    path: Path
    lines: list[Line] = field(default_factory=list)

    async def connect(self) -> Line:
        line = Line(*await asyncio.open_unix_connection(str(self.path), limit=2**26))
        self.lines.append(line)
        return line


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = _rig(tmp_path)
    await made.api.start()
    yield made
    for line in made.lines:
        line.writer.close()
    made.service.release.set()
    await made.api.stop()


def _rig(folder: Path, **limits: Any) -> Rig:
    service = Service()
    path = folder / "run" / "node.sock"
    return Rig(service, LocalApi(service, path, SystemClock(), Limits(**limits)), path)


def _errors(cls: type[FabrikError] = FabrikError) -> Iterator[type[FabrikError]]:
    yield cls
    for sub in cls.__subclasses__():
        if sub.__module__ == "fabrik_node.errors":
            yield from _errors(sub)


# ---- who may connect ----------------------------------------------------------------------------------


async def test_the_socket_is_this_users_only(rig: Rig) -> None:
    assert stat.S_IMODE(rig.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.path.parent.stat().st_mode) == 0o700


async def test_an_open_folder_is_closed_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o777)
    made = _rig(tmp_path)
    await made.api.start()
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    await made.api.stop()


async def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Precondition, match="not a folder of this user"):
        await _rig(tmp_path).api.start()


async def test_a_dead_nodes_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    made = _rig(tmp_path)
    made.path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(made.path))
    await made.api.start()
    assert (await (await made.connect()).ask("echo", a=1))["data"] == {"a": 1}
    made.lines[0].writer.close()
    await made.api.stop()
    assert not made.path.exists()
    made.path.write_text("mine")
    with pytest.raises(Precondition, match="is not a socket"):
        await made.api.start()
    assert made.path.read_text() == "mine"


async def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Precondition, match="longer than 100 bytes"):
        await LocalApi(Service(), tmp_path / ("x" * 120) / "node.sock", SystemClock()).start()


async def test_connections_are_limited_and_the_refused_one_is_told(tmp_path: Path) -> None:
    made = _rig(tmp_path, connections=2)
    await made.api.start()
    first, second = await made.connect(), await made.connect()
    assert (await first.ask("echo"))["ok"]
    assert (await second.ask("echo"))["ok"]
    third = await made.connect()
    refused = await third.next()
    assert refused["error"]["code"] == "unreachable"
    assert "2 local connections" in refused["error"]["message"]
    assert await third.ended()
    assert made.api.counters["connections_refused"] == 1
    first.writer.close()
    async with asyncio.timeout(WAIT_S):
        while made.api.counters["connections"] == 2:
            await asyncio.sleep(0)
    assert (await (await made.connect()).ask("echo", b=2))["data"] == {"b": 2}
    for line in made.lines:
        line.writer.close()
    await made.api.stop()


# ---- questions and answers ------------------------------------------------------------------------------


async def test_many_questions_on_one_connection(rig: Rig) -> None:
    line = await rig.connect()
    for number in range(5):
        assert await line.ask("echo", number=number, text="ünïcode 漢\n") == {"ok": True, "data": {"number": number, "text": "ünïcode 漢\n"}}


@pytest.mark.promise("E27")
@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 - 1, -(2**63)])
async def test_integers_come_back_exactly(rig: Rig, number: int) -> None:
    assert (await (await rig.connect()).ask("echo", number=number))["data"]["number"] == number


@pytest.mark.parametrize("cls", list(_errors()), ids=lambda cls: cls.code)
async def test_every_error_goes_out_under_its_code(rig: Rig, cls: type[FabrikError]) -> None:
    rig.service.error = cls("the cause", "what next")
    line = await rig.connect()
    expected = {"ok": False, "error": {"code": cls.code, "message": "the cause", "hint": "what next"}}
    assert await line.ask("fail") == expected
    assert (await line.ask("echo"))["ok"], "the connection goes on after an error"
    assert await line.ask("events") == expected
    assert await line.ended()


async def test_a_bug_in_one_call_never_ends_the_server(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.service.error = ZeroDivisionError("by zero")
    line = await rig.connect()
    answer = await line.ask("fail")
    assert answer["error"]["code"] == "internal"
    assert "ZeroDivisionError: by zero" in answer["error"]["message"]
    assert "Traceback" in caplog.text
    assert (await line.ask("echo"))["ok"]
    streamed = await (await rig.connect()).ask("events")
    assert streamed["error"]["code"] == "internal"
    assert (await (await rig.connect()).ask("echo"))["ok"]
    assert rig.api.counters["errors"] == {"internal": 2}


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"hello\n", "one JSON object"),
        (b"[]\n", "is a JSON object"),
        (b'{"v":2,"op":"echo"}\n', "speaks version 1 of the local protocol, not 2"),
        (b'{"op":"echo"}\n', "speaks version 1"),
        (b'{"v":1}\n', "a text op"),
        (b'{"v":1,"op":"echo","args":[]}\n', "an object args"),
        (b'{"v":1,"op":"echo","args":{"a":"\xff"}}\n', "one JSON object"),
        (b"[" * 100_000 + b"\n", "one JSON object"),
        (b"\n", "one JSON object"),
    ],
)
async def test_a_malformed_request_is_a_usage_error(rig: Rig, raw: bytes, cause: str) -> None:
    line = await rig.connect()
    answer = await line.send(raw)
    assert answer["error"]["code"] == "usage"
    assert cause in answer["error"]["message"]
    assert (await line.ask("echo"))["ok"]


async def test_a_line_beyond_the_limit_is_refused_and_the_connection_ends(tmp_path: Path) -> None:
    made = _rig(tmp_path, request_bytes=2000)
    await made.api.start()
    assert (await (await made.connect()).ask("echo", text="x" * 1900))["ok"]
    line = await made.connect()
    answer = await line.send(b'{"v":1,"op":"echo","args":{"text":"' + b"x" * 10_000)
    assert answer["error"]["code"] == "usage"
    assert "at most 2000 bytes" in answer["error"]["message"]
    assert await line.ended()
    for each in made.lines:
        each.writer.close()
    await made.api.stop()


async def test_an_answer_beyond_the_limit_asks_for_less(tmp_path: Path) -> None:
    made = _rig(tmp_path, answer_bytes=10_000)
    await made.api.start()
    line = await made.connect()
    assert (await line.ask("big", bytes=9_000))["ok"]
    answer = await line.ask("big", bytes=20_000)
    assert answer["error"]["code"] == "precondition"
    assert "--limit" in answer["error"]["hint"]
    line.writer.close()
    await made.api.stop()


async def test_an_answer_that_is_not_json_is_a_bug_not_a_silence(rig: Rig) -> None:
    rig.service.part = {"number": float("nan")}
    answer = await (await rig.connect()).ask("events")
    assert answer["error"]["code"] == "internal"


def test_both_ends_hold_one_contract() -> None:
    assert client.PROTOCOL_VERSION == server_limits.PROTOCOL_VERSION
    assert Limits().answer_bytes == client.ANSWER_BYTES_MAX


def test_the_page_names_streams_and_limits() -> None:
    page = (Path(__file__).parents[3] / "docs/spec/local-api.md").read_text(encoding="utf-8")
    for name in STREAMS:
        assert f"`{name}`" in page
    for number in (Limits().request_bytes, Limits().answer_bytes, Limits().connections):
        assert f"{number:,}" in page


# ---- streams --------------------------------------------------------------------------------------------


async def test_a_stream_ends_with_its_end(rig: Rig) -> None:
    line = await rig.connect()
    assert [await line.ask("events"), await line.next(), await line.next()] == [{"ok": True, "more": {"seq": 1}}] * 3
    assert await line.next() == {"ok": True, "end": True}
    assert await line.ended()


async def test_the_end_carries_what_the_service_says_of_it(rig: Rig) -> None:
    rig.service.parts = 0
    assert await (await rig.connect()).ask("runs.logs") == {"ok": True, "end": True, "state": "completed"}


async def test_a_caller_that_leaves_ends_its_stream(rig: Rig) -> None:
    rig.service.hang = True
    line = await rig.connect()
    await line.ask("events")
    await asyncio.wait_for(rig.service.entered.wait(), WAIT_S)
    line.writer.close()
    await asyncio.wait_for(rig.service.closed.wait(), WAIT_S)
    assert (await (await rig.connect()).ask("echo"))["ok"]


async def test_a_caller_that_leaves_before_its_answer_is_counted(rig: Rig) -> None:
    line = await rig.connect()
    line.writer.write(b'{"v":1,"op":"slow"}\n')
    await asyncio.wait_for(rig.service.entered.wait(), WAIT_S)
    line.writer.transport.abort()
    rig.service.release.set()
    async with asyncio.timeout(WAIT_S):
        while rig.api.counters["connections"]:
            await asyncio.sleep(0)
    assert (await (await rig.connect()).ask("echo"))["ok"]


async def test_a_connection_error_inside_the_service_is_a_bug_and_answered(rig: Rig) -> None:
    rig.service.error = ConnectionResetError("somewhere else")
    assert (await (await rig.connect()).ask("fail"))["error"]["code"] == "internal"


async def test_a_slow_reader_stops_its_own_stream_and_nobody_else(tmp_path: Path) -> None:
    made = _rig(tmp_path, write_buffer_bytes=65_536)
    made.service.parts, made.service.part = 10_000, {"text": "x" * 10_000}
    await made.api.start()
    slow = socket.socket(socket.AF_UNIX)
    slow.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(slow, str(made.path))
    await loop.sock_sendall(slow, b'{"v":1,"op":"events"}\n')
    quick = await made.connect()
    seen = -1
    async with asyncio.timeout(WAIT_S):
        while seen != made.service.given_out or not seen:
            seen = made.service.given_out
            for _ in range(20):
                assert (await quick.ask("echo"))["ok"]
    assert 0 < seen < 500, "only what fits into the buffers was taken from the service"
    got = b""
    async with asyncio.timeout(WAIT_S):
        while got.count(b"\n") < seen + 50:
            got += await loop.sock_recv(slow, 1_000_000)
    assert made.service.given_out > seen, "it goes on when the reader does"
    slow.close()
    await asyncio.wait_for(made.service.closed.wait(), WAIT_S)
    quick.writer.close()
    await made.api.stop()


# ---- the end ----------------------------------------------------------------------------------------------


async def test_stopping_answers_what_is_under_way(rig: Rig) -> None:
    line = await rig.connect()
    asking = asyncio.ensure_future(line.ask("slow"))
    await asyncio.wait_for(rig.service.entered.wait(), WAIT_S)
    stopping = asyncio.ensure_future(rig.api.stop())
    rig.service.release.set()
    assert await asking == {"ok": True, "data": {"late": True}}
    assert await line.ended()
    await asyncio.wait_for(stopping, WAIT_S)
    assert not rig.path.exists()


async def test_stopping_tells_followers_and_idle_callers(rig: Rig) -> None:
    rig.service.hang = True
    follower, idle = await rig.connect(), await rig.connect()
    await idle.ask("echo")
    await follower.ask("events")
    await follower.next()
    await follower.next()
    await asyncio.wait_for(rig.api.stop(), WAIT_S)
    stopped = {"ok": False, "error": {"code": "unreachable", "message": "the node is stopping", "hint": "fabrik-node serve"}}
    assert await follower.next() == stopped
    assert await idle.next() == stopped
    assert rig.service.closed.is_set()


async def test_a_call_that_hangs_does_not_hold_the_stop(tmp_path: Path) -> None:
    made = _rig(tmp_path, stop_grace_s=0.01)
    await made.api.start()
    line = await made.connect()
    asking = asyncio.ensure_future(line.ask("slow"))
    await asyncio.wait_for(made.service.entered.wait(), WAIT_S)
    await asyncio.wait_for(made.api.stop(), WAIT_S)
    with pytest.raises(json.JSONDecodeError):
        await asking
    line.writer.close()


async def test_stopping_twice_and_before_the_start_is_allowed(tmp_path: Path) -> None:
    made = _rig(tmp_path)
    await made.api.stop()
    made = _rig(tmp_path)
    await made.api.start()
    await made.api.stop()
    await made.api.stop()


async def test_who_speaks_is_asked_for_each_question_with_the_token_and_the_process_that_the_kernel_names(rig: Rig) -> None:
    line = await rig.connect()
    assert (await line.ask("echo", a=1))["data"] == {"a": 1}
    said = await line.send(b'{"v": 1, "op": "echo", "args": {}, "token": "abc"}\n')
    assert said["ok"]
    assert [token for token, _ in rig.service.shown] == [None, "abc"]
    for _, peer in rig.service.shown:
        assert peer.told
        assert peer.standing is not None
        assert peer.standing.above[:2] == (os.getpid(), os.getppid())
    for op in ("echo", "events"):
        said = await line.send(json.dumps({"v": 1, "op": op, "args": {}, "token": "wrong"}).encode() + b"\n")
        assert said["error"]["code"] == "auth"
    said = await (await rig.connect()).send(b'{"v": 1, "op": "echo", "args": {}, "token": 5}\n')
    assert said["error"]["code"] == "usage"


@pytest.mark.promise("A8")
@pytest.mark.parametrize("way", ["says it and exits", "leaves a child behind that says it"])
async def test_who_is_gone_before_it_is_looked_at_is_nobody(rig: Rig, way: str) -> None:
    """A program that connects and is gone is never taken for somebody else: it is found below us, or not at all."""
    fork = "os.fork() and os._exit(0)" if way.startswith("leaves") else ""
    program = (
        f"import os, socket; link = socket.socket(socket.AF_UNIX); link.connect({str(rig.path)!r}); {fork or 'pass'}; link.sendall(b'{LINE}\\n'); os._exit(0)"
    )
    for _ in range(20):
        child = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", program)
        await asyncio.wait_for(child.wait(), WAIT_S)
    while len(rig.service.shown) < 20:
        rig.service.spoke.clear()
        await asyncio.wait_for(rig.service.spoke.wait(), WAIT_S)
    for _, peer in rig.service.shown:
        assert peer.told
        assert peer.standing is None or os.getpid() in peer.standing.above


async def test_a_run_that_opens_connection_after_connection_leaves_room_for_its_operator(tmp_path: Path) -> None:
    rig = _rig(tmp_path, connections=8, connections_of_run=3)
    await rig.api.start()
    try:
        rig.service.run = "r1"
        lines = [await rig.connect() for _ in range(3)]
        for line in lines:
            assert (await line.ask("echo"))["ok"]
        refused = await (await rig.connect()).next()
        assert refused["error"]["code"] == "unreachable"
        assert "run r1 has 3 connections open" in refused["error"]["message"]
        for run in ("r2", ""):
            rig.service.run = run
            assert (await (await rig.connect()).ask("echo"))["ok"]
        rig.service.run = "r1"
        lines[0].writer.write_eof()
        assert await lines[0].ended()
        assert (await (await rig.connect()).ask("echo"))["ok"]
    finally:
        for line in rig.lines:
            line.writer.close()
        await rig.api.stop()
