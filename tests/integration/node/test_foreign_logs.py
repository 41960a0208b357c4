"""The output of a run of another node: asked for in small pages, with its owner named, and an owner that is away said to be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from line_rig import Line, a_line
from node_rig import BOUND_S, sync

from fabrik_node.domain.runs import RunState
from fabrik_node.errors import NotFound, Precondition, Unreachable, UsageError
from fabrik_node.ids import show_id
from fabrik_node.node.inquiries import PAGE_BYTES_MAX, PAGES_MAX, Page
from fabrik_node.service.following import run_log


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.setattr("fabrik_node.node.inquiries._PAGE_EVERY_S", 0.0)
    monkeypatch.setattr("fabrik_node.node.inquiries._EARLY_S", 0.0)
    async with a_line() as made:
        yield made


async def write(line: Line, path: Path, text: bytes, state: RunState = RunState.COMPLETED) -> None:
    path.write_bytes(text)
    line.row = replace(line.row, log=str(path), state=state, ended_ms=line.row.started_ms + 1 if state is RunState.COMPLETED else 0, reason="ok: merged")
    await line.owner.pipeline.put_run(line.row)
    await sync(line.asker, line.relay, line.owner)


async def read(line: Line, **args: Any) -> list[dict[str, Any]]:
    async def parts() -> list[dict[str, Any]]:
        return [part async for part in line.asker.service.stream("runs.logs", {"id": show_id(line.row.run_id), **args})]

    return await asyncio.wait_for(parts(), BOUND_S)


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for part in parts)


@pytest.mark.promise("B2")
async def test_a_log_is_read_through_a_relay_page_by_page_as_it_is(line: Line, tmp_path: Path) -> None:
    text = ("grün und blau\n" * 700).encode()
    await write(line, tmp_path / "log", text)
    first, *parts, end = await read(line, offset=0)
    assert (first["owner"], first["begins"], first["size"], first["source"]) == ("node2", 0, len(text), "node")
    assert text_of(parts).encode() == text
    assert parts[-1]["offset"] == len(text)
    assert all(len(part["text"].encode()) <= PAGE_BYTES_MAX + 3 for part in parts)
    assert end == {"end": True, "state": "completed"}
    here = [part async for part in run_log(line.owner.reader, line.owner.node.public, {"id": show_id(line.row.run_id)})]
    assert text_of(here).encode() == text, "the owner's own way to the same"
    assert text_of(await read(line, offset=len(text) - 5)) == text[-5:].decode()


async def test_of_a_long_log_the_end_is_shown(line: Line, tmp_path: Path) -> None:
    text = b"".join(b"%06d\n" % number for number in range(20_000))
    await write(line, tmp_path / "log", text)
    first, *parts, _ = await read(line)
    assert first["begins"] == len(text) - 16_384
    assert text_of(parts).encode() == text[-16_384:]
    await write(line, tmp_path / "log", b"short\n")
    first, *parts, _ = await read(line)
    assert (first["begins"], text_of(parts)) == (0, "short\n")
    await write(line, tmp_path / "log", b"")
    assert [part.get("size", part.get("state")) for part in await read(line)] == [0, "completed"]


async def test_a_rotated_log_says_what_is_missing_here_and_elsewhere(line: Line, tmp_path: Path) -> None:
    await write(line, tmp_path / "log", b"begin \xc3")
    for at, part in ((5_000, b"middle "), (5_007, b"end\n")):
        (tmp_path / f"log.{at:016d}").write_bytes(part)
    gone = "\n[fabrik-node: the log is full; 4993 bytes of output left out]\n"
    first, *parts, end = await read(line, offset=0)
    assert (first["size"], end["state"]) == (5_011, "completed")
    assert text_of(parts) == f"begin {gone}middle end\n", "half a character before a gap is none"
    assert [part["left_out"] for part in parts if "left_out" in part] == [4_993]
    here = [part async for part in run_log(line.owner.reader, line.owner.node.public, {"id": show_id(line.row.run_id)})]
    assert text_of(here) == text_of(parts)
    assert text_of((await read(line, offset=100))[1:]) == gone.replace("4993", "4900") + "middle end\n"
    assert text_of((await read(line, offset=5_003))[1:]) == "dle end\n"


@pytest.mark.promise("B2")
async def test_a_followed_log_comes_as_it_grows_and_ends_with_its_run(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "log"
    await write(line, path, b"one\n", RunState.RUNNING)
    seen: list[str] = []
    async with asyncio.timeout(BOUND_S):
        async for part in line.asker.service.stream("runs.logs", {"id": show_id(line.row.run_id), "follow": True}):
            if "text" not in part:
                continue
            seen.append(part["text"])
            if part["text"] == "one\n":
                path.write_bytes(b"one\ntwo\n")
            elif part["text"] == "two\n":
                await write(line, path, b"one\ntwo\nthree\n")
    assert seen == ["one\n", "two\n", "three\n"]


@pytest.mark.promise("B6")
async def test_an_owner_that_is_away_is_said_to_be_with_what_is_known_of_the_run(line: Line, tmp_path: Path) -> None:
    await write(line, tmp_path / "log", b"text\n", RunState.RUNNING)
    line.asker.node.inquiries.patience_s = 0.0
    with pytest.raises(Unreachable, match=r"lies on node2, and its node did not answer 3 questions of 0 s; last known: running, heard 0 s ago") as told:
        await read(line)
    assert f"on node2: fabrik-node runs logs {show_id(line.row.run_id)}" in told.value.hint
    line.asker.node.clock.advance(31)  # type: ignore[attr-defined]
    with pytest.raises(Unreachable, match="nothing shows that its node lives; last known: unreachable, heard 31 s ago"):
        await read(line, follow=True)


async def test_what_the_owner_does_not_have_is_not_found(line: Line, tmp_path: Path) -> None:
    await write(line, tmp_path / "log", b"text\n")
    (tmp_path / "log").unlink()
    with pytest.raises(NotFound, match="node2 has no log of run .* any more: No such file"):
        await read(line)
    with pytest.raises(UsageError, match="offset is a number"):
        await read(line, offset=-1)


ODD = {"log": b"text", "at": 0, "size": 4, "over": True, "state": "completed"}


@pytest.mark.parametrize(
    "said",
    [
        {"state": "running"},
        {**ODD, "log": "text"},
        {**ODD, "log": b""},
        {**ODD, "size": 3},
        {**ODD, "at": -1},
        {**ODD, "state": "rebooting"},
        {**ODD, "over": 1},
    ],
)
async def test_an_owner_of_another_version_or_mind_ends_the_reading(line: Line, tmp_path: Path, said: Mapping[str, Any]) -> None:
    await write(line, tmp_path / "log", b"text\n")

    async def page(_run_id: bytes, _page: Page, _most: int) -> Mapping[str, Any]:
        return said

    line.owner.node.inquiries.page = page
    with pytest.raises(Precondition, match="node2 runs a version that shows no output to other nodes"):
        await read(line)


async def test_only_members_are_answered(line: Line, tmp_path: Path) -> None:
    await write(line, tmp_path / "log", b"text\n")
    pages: list[bytes] = []

    async def page(run_id: bytes, _page: Page, _most: int) -> Mapping[str, Any]:
        pages.append(run_id)
        return ODD

    line.owner.node.inquiries.page = page
    question = {"asks": [[line.owner.node.public, 2**40, line.row.run_id, [0, 0]]]}
    await line.asker.call("nodes.revoke", key=line.relay.node.public.hex())
    await sync(line.asker, line.owner)
    line.relay.node.presence.publish(question)
    assert (line.owner.node.inquiries._tells, pages) == ({}, [])


async def test_a_page_leaves_room_for_leases_and_no_dump_shows_it(line: Line, tmp_path: Path) -> None:
    owner = line.owner.node
    for number in range(128):
        owner.presence.renew(bytes([number]) * 16, line.row.item, line.row.run_id, 1)
    await write(line, tmp_path / "log", b"x" * 20_000)
    assert len(text_of(await read(line))) == 16_384
    line.asker.node.presence.publish({"asks": [[owner.public, 2**40, line.row.run_id, [0, 0]]]})
    await asyncio.wait_for(asyncio.gather(*owner.inquiries._pages), BOUND_S)
    part = owner.inquiries.part(owner.presence.room({}))
    owner.presence.publish(part)
    assert part["tells"][0][2]["log"].startswith(b"xxx")
    dumped = [record async for record in line.owner.service.stream("db.dump", {"only": ["presence"]})]
    assert "x" * 9 not in str(dumped), "fewer may stand in an id"
    assert "78" * 9 not in str(dumped), "nor as hex"


@pytest.mark.promise("B2")
async def test_followers_leave_room_for_each_other_and_for_questions_about_runs(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "log"
    await write(line, path, b"one\n", RunState.RUNNING)
    line.owner.at_work.add(line.row.run_id)
    begun = asyncio.Semaphore(0)

    async def follow() -> str:
        text = ""
        async for part in line.asker.service.stream("runs.logs", {"id": show_id(line.row.run_id), "follow": True}):
            text += part.get("text", "")
            if "text" in part:
                begun.release()
        return text

    followers = [asyncio.create_task(follow()) for _ in range(3 * PAGES_MAX)]
    async with asyncio.timeout(BOUND_S):
        for _ in followers:
            await begun.acquire()
        assert text_of(await read(line)) == "one\n", "one more"
        assert (await line.show())["owner"]["answered"] is True
        await write(line, path, b"one\ntwo\n")
        assert set(await asyncio.gather(*followers)) == {"one\ntwo\n"}


async def test_an_owner_that_looks_up_as_much_as_it_may_says_so_and_is_asked_again(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabrik_node.service.foreign_logs._BUSY_S", 0.0)
    await write(line, tmp_path / "log", b"text\n")
    inquiries, page = line.owner.node.inquiries, line.owner.node.inquiries.page
    let_go = asyncio.Event()

    async def slowly(run_id: bytes, wanted: Page, most: int) -> Mapping[str, Any]:
        await let_go.wait()
        return await page(run_id, wanted, most)

    inquiries.page = slowly
    questions = {"asks": [[line.owner.node.public, 2**40 + number, line.row.run_id, [0, 0]] for number in range(PAGES_MAX)]}
    line.relay.node.presence.publish(questions)
    monkeypatch.setattr("fabrik_node.service.foreign_logs._BUSY_TRIES", 3)
    with pytest.raises(Unreachable, match="it sends output to others all the time"):
        await read(line)
    assert (await line.show())["owner"]["answered"] is True, "questions about runs have places of their own"
    let_go.set()
    assert text_of(await read(line)) == "text\n"
