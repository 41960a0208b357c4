"""One face for the libraries that are compared: write as an author, apply another's change, load the saved form, read.

A library is imported when its class is made, so that a process holds one of them only. What each one can not do is said in docs/benchmarks.md.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from changes import AUTHORS, FIELDS, ITEMS, Value, author_key, item_key

__all__ = ["SYSTEMS", "AutomergeSystem", "FabrikOneByOne", "FabrikSnapshot", "FabrikSystem", "LoroSystem", "LoroUpdates", "PycrdtSystem", "System"]


class System(ABC):
    """One document of one library."""

    distribution: str
    exchanges_bytes = True
    """False: a change goes from document to document only, not as bytes."""
    form = "saved"
    """Which of :meth:`forms` this one loads."""

    @property
    def version(self) -> str:
        """Of the package."""
        return importlib.metadata.version(self.distribution)

    @abstractmethod
    def begin(self) -> list[bytes]:
        """Make the empty table; what a second replica must have before the first write."""

    @abstractmethod
    def turn(self, author: int) -> None:
        """The next writes are this author's, who has seen everything so far."""

    @abstractmethod
    def write(self, item: int, field: int, value: Value) -> None:
        """One write in a transaction of its own; what others need of it is added to :attr:`changes`."""

    changes: list[bytes]

    @abstractmethod
    def saved(self) -> list[bytes]:
        """Everything, as the library keeps it in a file or sends it to a newcomer."""

    def forms(self) -> dict[str, list[bytes]]:
        """All saved forms that are measured, by name."""
        return {"saved": self.saved()}

    @abstractmethod
    def join(self, opening: list[bytes]) -> None:
        """Become the second replica, before the first write."""

    @abstractmethod
    def apply(self, change: bytes) -> None:
        """Take one change of somebody else."""

    @abstractmethod
    def load(self, saved: list[bytes]) -> None:
        """Take everything at once, from empty."""

    @abstractmethod
    def read(self, item: int, field: int) -> Value | None:
        """A register's value."""


class FabrikSystem(System):
    """This project's core. Every change is signed when it is written, and verified when it is taken."""

    distribution = "fabrik-node"
    _BATCH = 16
    """Segments per call, as many as the node takes at once."""
    _EPOCH = 1 << 32 | 7
    _WALL_MS = 1_780_000_000_000
    _NUMBERS = (1, 2, 5, 6, 4, 8, 9, 10)
    """The fields' numbers in merge.md. A label is a list there, outcome and hold are maps: the value is wrapped."""

    def __init__(self) -> None:
        self.core: Any = importlib.import_module("fabrik_node._core")
        self.keys = [self.core.SigningKey.from_seed(author_key(author)) for author in range(AUTHORS)]
        self.genesis: bytes = self.core.genesis_encode(self.keys[0].public, "bench", bytes(16), self._WALL_MS)
        self.replica = self.core.Replica(self.genesis)
        self.ids = [item_key(item) for item in range(ITEMS)]
        self.logs: list[list[bytes]] = [[] for _ in self.keys]
        self.author = 0
        self.changes = []

    @property
    def version(self) -> str:
        """Of this tree."""
        return f"{importlib.import_module('fabrik_node').__version__}, format {self.core.SPEC_VERSION}"

    def begin(self) -> list[bytes]:
        draft = self.replica.draft(self.keys[0], self._EPOCH)
        chained = draft.genesis(self._WALL_MS)
        chained += draft.append([(3, key.public, 1, {1: 3}, None) for key in self.keys[1:]], self._WALL_MS)
        self.replica.merge(chained)
        self.logs[0] += [each.data for each in chained]
        return [each.data for each in chained]

    def turn(self, author: int) -> None:
        self.author = author

    def write(self, item: int, field: int, value: Value) -> None:
        wrapped: Any = [value] if field == 2 else {"v": value} if field in {4, 6} else value
        draft = self.replica.draft(self.keys[self.author], self._EPOCH)
        chained = draft.append([(1, self.ids[item], self._NUMBERS[field], wrapped, None)], self._WALL_MS)
        self.replica.merge(chained)
        data = chained[-1].data
        self.logs[self.author].append(data)
        self.changes.append(data)

    def saved(self) -> list[bytes]:
        joined = [segment for log in self.logs if log for segment in self.core.coalesce(log, self.core.SEGMENT_BYTES_MAX)]
        return [self.genesis, *joined]

    def forms(self) -> dict[str, list[bytes]]:
        single = [op for log in self.logs for op in log]
        return {"saved": self.saved(), "ops": [self.genesis, *single], "snapshot": [self.genesis, self.replica.snapshot()]}

    def join(self, opening: list[bytes]) -> None:
        self.replica = self.core.Replica(self.genesis)
        for data in opening:
            self.apply(data)

    def apply(self, change: bytes) -> None:
        replica = self.replica
        replica.merge(replica.chain(replica.verify([change])).chained)

    def load(self, saved: list[bytes]) -> None:
        replica = self.replica = self.core.Replica(saved[0])
        for at in range(1, len(saved), self._BATCH):
            replica.merge(replica.chain(replica.verify(saved[at : at + self._BATCH])).chained)

    def read(self, item: int, field: int) -> Value | None:
        register = self.replica.get(1, self.ids[item], self._NUMBERS[field])
        if register is None:
            return None
        value: Any = register.value
        plain: Value = value[0] if field == 2 else value["v"] if field in {4, 6} else value
        return plain


class FabrikOneByOne(FabrikSystem):
    """The baseline of the core's own design: bulk load with one signature per op instead of one per segment."""

    form = "ops"
    _BATCH = 1024


class FabrikSnapshot(FabrikSystem):
    """The core's snapshot of its registers: what a node that starts again loads. It has no history in it and proves nothing to others."""

    form = "snapshot"

    def load(self, saved: list[bytes]) -> None:
        self.replica = self.core.Replica.restore(saved[0], saved[1])


class PycrdtSystem(System):
    """pycrdt: a map of maps. Setting a key is a transaction of its own."""

    distribution = "pycrdt"

    def __init__(self) -> None:
        self.library: Any = importlib.import_module("pycrdt")
        self.names = [item_key(item).hex() for item in range(ITEMS)]
        self.changes = []
        self._open(self._document(0))

    def _document(self, author: int) -> Any:
        return self.library.Doc(client_id=int.from_bytes(author_key(author)[:4], "big"))  # as large as the random ones that it takes itself

    def _open(self, doc: Any) -> None:
        self.doc = doc
        self.root = doc.get("items", type=self.library.Map)

    def begin(self) -> list[bytes]:
        with self.doc.transaction():
            for name in self.names:
                self.root[name] = self.library.Map()
        return [self.doc.get_update()]

    def turn(self, author: int) -> None:
        seen = self.doc.get_update()
        self._open(self._document(author))
        self.doc.apply_update(seen)
        self.maps = [self.root[name] for name in self.names]
        changes = self.changes
        self.doc.observe(lambda event: changes.append(event.update))

    def write(self, item: int, field: int, value: Value) -> None:
        self.maps[item][FIELDS[field]] = value

    def saved(self) -> list[bytes]:
        return [self.doc.get_update()]

    def join(self, opening: list[bytes]) -> None:
        self._open(self._document(AUTHORS))
        self.doc.apply_update(opening[0])

    def apply(self, change: bytes) -> None:
        self.doc.apply_update(change)

    def load(self, saved: list[bytes]) -> None:
        self.doc.apply_update(saved[0])

    def read(self, item: int, field: int) -> Value | None:
        found = self.root[self.names[item]].get(FIELDS[field])
        return int(found) if isinstance(found, float) else found


class LoroSystem(System):
    """loro: a map of maps, one commit per write, updates by subscription; saved as a snapshot with its history."""

    distribution = "loro"

    def __init__(self) -> None:
        self.library: Any = importlib.import_module("loro")
        self.names = [item_key(item).hex() for item in range(ITEMS)]
        self.changes = []
        self._open()

    def _open(self) -> None:
        self.doc = self.library.LoroDoc()
        self.root = self.doc.get_map("items")

    def begin(self) -> list[bytes]:
        self.turn(0)
        self.maps = [self.root.insert_container(name, self.library.LoroMap()) for name in self.names]
        self.doc.commit()
        opening = [self.doc.export(self.library.ExportMode.Snapshot())]
        self.subscription = self.doc.subscribe_local_update(self._keep)
        return opening

    def _keep(self, data: bytes) -> bool:
        self.changes.append(data)
        return True

    def turn(self, author: int) -> None:
        self.doc.peer_id = int.from_bytes(author_key(author)[:8], "big")

    def write(self, item: int, field: int, value: Value) -> None:
        self.maps[item].insert(FIELDS[field], value)
        self.doc.commit()

    def saved(self) -> list[bytes]:
        return [self.doc.export(self.library.ExportMode.Snapshot())]

    def forms(self) -> dict[str, list[bytes]]:
        everything = self.library.ExportMode.Updates(self.library.VersionVector())
        return super().forms() | {"updates": [self.doc.export(everything)]}

    def join(self, opening: list[bytes]) -> None:
        self._open()
        self.doc.import_(opening[0])

    def apply(self, change: bytes) -> None:
        self.doc.import_(change)

    def load(self, saved: list[bytes]) -> None:
        self.doc.import_(saved[0])

    def read(self, item: int, field: int) -> Value | None:
        found = self.root.get(self.names[item]).container.get(FIELDS[field])
        return None if found is None else found.value


class LoroUpdates(LoroSystem):
    """loro, from its updates in place of a snapshot: the history is replayed, as a newcomer does that is sent what it lacks."""

    form = "updates"


class AutomergeSystem(System):
    """automerge: a map of maps, one transaction per write. Its Python package can not apply a change from bytes: documents merge with each other."""

    distribution = "automerge"
    exchanges_bytes = False

    def __init__(self) -> None:
        self.library: Any = importlib.import_module("automerge.core")
        self.names = [item_key(item).hex() for item in range(ITEMS)]
        self.changes = []
        self.doc = self.library.Document(author_key(0)[:16])
        kinds = self.library.ScalarType
        self.types: Callable[[Value], Any] = lambda value: kinds.Int if isinstance(value, int) else kinds.Str

    def begin(self) -> list[bytes]:
        kind = self.library.ObjType.Map
        with self.doc.transaction() as transaction:
            root = transaction.put_object(self.library.ROOT, "items", kind)
            self.maps = [transaction.put_object(root, name, kind) for name in self.names]
        self.heads = self.doc.get_heads()
        return [self.doc.save()]

    def turn(self, author: int) -> None:
        self.doc.set_actor(author_key(author)[:16])

    def write(self, item: int, field: int, value: Value) -> None:
        with self.doc.transaction() as transaction:
            transaction.put(self.maps[item], FIELDS[field], self.types(value), value)
        (change,) = self.doc.get_changes(self.heads)
        self.heads = [change.hash]
        self.changes.append(change.bytes)

    def saved(self) -> list[bytes]:
        return [self.doc.save()]

    def join(self, opening: list[bytes]) -> None:
        self._find(self.library.Document.load(opening[0]))

    def _find(self, doc: Any) -> None:
        self.doc = doc
        self.root = doc.get(self.library.ROOT, "items")[1]

    def apply(self, change: bytes) -> None:
        raise NotImplementedError("the package has no call for it; see merge_from")

    def merge_from(self, other: AutomergeSystem) -> None:
        """Take what the other document has and this one has not."""
        self.doc.merge(other.doc)

    def load(self, saved: list[bytes]) -> None:
        self._find(self.library.Document.load(saved[0]))

    def read(self, item: int, field: int) -> Value | None:
        found = self.doc.get(self.doc.get(self.root, self.names[item])[1], FIELDS[field])
        return None if found is None else found[0][1]


SYSTEMS: dict[str, Callable[[], System]] = {
    "fabrik": FabrikSystem,
    "fabrik-one-by-one": FabrikOneByOne,
    "fabrik-snapshot": FabrikSnapshot,
    "pycrdt": PycrdtSystem,
    "loro": LoroSystem,
    "loro-updates": LoroUpdates,
    "automerge": AutomergeSystem,
}
