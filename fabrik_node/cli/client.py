"""The other end of the local API: one Unix socket, JSON lines, no asyncio (docs/spec/local-api.md)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from fabrik_node.errors import FabrikError, Internal, Unreachable, UsageError, by_code
from fabrik_node.paths import HomePaths

__all__ = ["ANSWER_BYTES_MAX", "ANSWER_WAIT_S", "PROTOCOL_VERSION", "Client", "read_owner"]

PROTOCOL_VERSION = 1
ANSWER_BYTES_MAX = 67_108_864
"""Of one line from the node: ten thousand items with long bodies fit. A test holds it equal to the server's limit."""
ANSWER_WAIT_S = 60.0
"""The longest a node may take for one answer; a stream that is followed may be silent for ever."""
_CONNECT_WAIT_S = 5.0


def read_owner(path: Path) -> dict[str, str]:
    """The ``key=value`` lines of an owner record; empty when there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, mark, value in pairs if mark}


def _recorded_socket(paths: HomePaths) -> str:
    """Where this home's owner says that it listens; empty when it does not, or when the record came with a copy of another home.

    A record of an older version names neither home nor file: it is believed.
    """
    record = read_owner(paths.owner_lock)
    if "home" in record and record["home"] != os.path.realpath(paths.home):
        return ""
    if "inode" in record and record["inode"] != str(paths.owner_lock.stat().st_ino):
        return ""
    return record.get("socket", "")


class Client:
    """One connection. Use as a context manager; one question at a time, a stream is its last."""

    def __init__(self, connection: socket.socket, token: str = "") -> None:
        self._connection = connection
        self._token = token
        self.refused = False
        """The node answered, and the answer was no."""
        self._lines: BinaryIO = connection.makefile("rb")

    @classmethod
    def connect(cls, paths: HomePaths) -> Client | None:
        """The node that serves this home, or None when none does. Raises :class:`Unreachable` when it is there and can not be reached."""
        recorded = _recorded_socket(paths)
        return cls.connect_to(Path(recorded) if recorded else paths.socket)

    @classmethod
    def connect_to(cls, path: Path, token: str = "") -> Client | None:
        """The node that listens there, spoken to with ``token`` if there is one. Otherwise like :meth:`connect`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_CONNECT_WAIT_S)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            connection.close()
            return None
        except OSError as error:
            connection.close()
            raise Unreachable(f"can not reach the node at {path}: {error.strerror or error}", "fabrik-node lock show") from error
        connection.settimeout(ANSWER_WAIT_S)
        return cls(connection, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._connection.close()

    def call(self, op: str, args: Mapping[str, Any], *, patient: bool = False) -> dict[str, Any]:
        """One question, one answer. Raises what the node says, as the class of its code. ``patient``: it may take as long as the node lives."""
        self._send(op, args)
        if patient:
            self._connection.settimeout(None)
        answer = self._receive(op)
        if answer is None:
            raise _silent(op)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise Internal(f"the node's answer to {op} has no data", "fabrik-node version")
        return data

    def stream(self, op: str, args: Mapping[str, Any], *, follow: bool) -> Iterator[dict[str, Any]]:
        """One question, many answers. The last one is ``{"end": true, ...}``; leave the loop to stop before it."""
        self._send(op, args)
        if follow:
            self._connection.settimeout(None)
        while (answer := self._receive(op)) is not None:
            if answer.get("end") is True:
                yield {key: value for key, value in answer.items() if key != "ok"}
                return
            yield answer.get("more") or {}
        raise Unreachable("the node ended the stream without saying why", "fabrik-node status")

    def _send(self, op: str, args: Mapping[str, Any]) -> None:
        shown = {"token": self._token} if self._token else {}
        request = json.dumps({"v": PROTOCOL_VERSION, "op": op, "args": dict(args), **shown}, ensure_ascii=False, separators=(",", ":"))
        try:
            self._connection.sendall(request.encode() + b"\n")
        except UnicodeEncodeError as error:
            raise UsageError("an argument is not UTF-8 text", "type it in a UTF-8 locale") from error
        except TimeoutError as error:
            raise Unreachable(f"the node takes no questions: {op} was not sent", "fabrik-node lock show") from error
        except (BrokenPipeError, ConnectionResetError):
            return  # it may have said why: the answer is read next

    def _receive(self, op: str) -> dict[str, Any] | None:
        try:
            line = self._lines.readline(ANSWER_BYTES_MAX + 1)
        except TimeoutError as error:
            raise Unreachable(f"the node did not answer {op} within {ANSWER_WAIT_S:g} s: whether it was done is not known", "fabrik-node lock show") from error
        except ConnectionResetError:
            return None
        if not line.endswith(b"\n"):
            return None
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise Internal(f"the node's answer to {op} is not JSON", "fabrik-node version") from error
        if not isinstance(answer, dict):
            raise Internal(f"the node's answer to {op} is not an object", "fabrik-node version")
        if answer.get("ok") is not True:
            self.refused = True
            raise _refusal(answer.get("error"))
        return answer


def _refusal(said: object) -> FabrikError:
    if not isinstance(said, dict):
        return Internal("the node refused without saying why", "fabrik-node status")
    return by_code(str(said.get("code", "")))(str(said.get("message", "")), str(said.get("hint", "")))


def _silent(op: str) -> Unreachable:
    return Unreachable(f"the node went away before it answered {op}: whether it was done is not known", "fabrik-node status")
