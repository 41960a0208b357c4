"""Sets of logs by author: whether an author's logs are taken is one question, however many logs somebody says that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fabrik_sync.ports import LogId

__all__ = ["ByAuthor"]


class ByAuthor:
    """A set of logs, in the order in which they came."""

    def __init__(self) -> None:
        self._logs: dict[bytes, dict[LogId, None]] = {}
        self._count = 0

    def __contains__(self, log: LogId) -> bool:
        return log in self._logs.get(log.author, ())

    def __len__(self) -> int:
        return self._count

    def add(self, log: LogId) -> None:
        """Nothing happens when it is there."""
        logs = self._logs.setdefault(log.author, {})
        self._count += log not in logs
        logs[log] = None

    def discard(self, log: LogId) -> None:
        """Nothing happens when it is not there."""
        logs = self._logs.get(log.author)
        if logs is not None and log in logs:
            del logs[log]
            self._count -= 1
            if not logs:
                del self._logs[log.author]

    def authors(self) -> Iterable[bytes]:
        """Each once."""
        return self._logs.keys()

    def where(self, is_one: Callable[[bytes], bool]) -> list[LogId]:
        """Those of all authors of whom this is true."""
        return [log for author, logs in self._logs.items() if is_one(author) for log in logs]

    def of(self, author: bytes) -> Iterable[LogId]:
        """Those of one author."""
        return self._logs.get(author, {}).keys()
