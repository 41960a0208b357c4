"""What the command line needs and may not import: filled in by the composition root.

Every method imports what it needs when it is called, so that a plain read of a running node stays fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["Hooks", "NodeAnswer", "OfflineReader", "ServeOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Flags of ``serve`` and of ``--rendezvous``. None or empty: not given, so the configuration decides."""

    listen: str | None = None
    peers: list[str] = field(default_factory=list)
    rendezvous: str = ""
    """A token or a URL; empty for ``serve``."""
    name: str | None = None
    labels: list[str] = field(default_factory=list)
    slots: int | None = None
    command: str | None = None
    """The agent's command, as one string for the shell."""
    qa: str | None = None
    remote: str | None = None
    base: str | None = None
    agent: str | None = None
    drain_s: float = 30.0
    """How long SIGTERM waits for running work."""
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    new_store: bool = False
    """Begin with an empty database for a key that was used before."""


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What the node of a home said when it was asked for its status. All empty: nobody is there to ask."""

    status: Mapping[str, Any] | None = None
    refused: bool = False
    """It is there, and does not tell this caller; ``error`` and ``hint`` are its words. Otherwise they say why it gave no answer."""
    error: str = ""
    hint: str = ""


class OfflineReader(Protocol):
    """Answers reads from the store of a home that no node serves; every answer says ``"source": "store"``."""

    def call(self, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Like the node's own. Raises :class:`~fabrik_node.errors.NoNode` for what only a running node can do."""
        ...

    def stream(self, op: str, args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What is there, then the end: nothing can be followed."""
        ...


class Hooks(Protocol):
    """The heavy half of the program. All raise :class:`~fabrik_node.errors.FabrikError` only."""

    def serve(self, home: Path, options: ServeOptions) -> int:
        """Run the node in the foreground until a signal; the exit status."""
        ...

    def init(self, home: Path, *, name: str, mesh: str, recovery: Path | None = None) -> dict[str, Any]:
        """Make a node and its own mesh. ``name`` empty: the host's name. ``recovery``: the file for the mesh's recovery key; None: one in the home.

        Answers node, node_id, mesh, mesh_id, home, recovery_key.
        """
        ...

    def join(self, home: Path, token: str, *, name: str) -> dict[str, Any]:
        """Make a node in an existing mesh: dial, redeem, first sync. Answers like :meth:`init`."""
        ...

    def knock(self, home: Path, url: str, fingerprint: str, *, name: str, say: Callable[[str, str], None]) -> dict[str, Any]:
        """Make a key in this home, ask the node with this fingerprint to be let in, wait for it, and join. ``say`` gets news and what to type. Answers like :meth:`init`."""
        ...

    def offline(self, home: Path) -> OfflineReader: ...

    def key_files(self, home: Path) -> dict[str, Any]:
        """Which key files lie in the home: next_file, next_commitment, recovery_file; each may be None."""
        ...

    def use_key(self, home: Path, file: Path, *, dry_run: bool = False) -> dict[str, Any]:
        """Make the key in ``file``, to which this home's key was rotated, its key. Answers old, new, fingerprint, and dry_run, when nothing was done."""
        ...

    def seed_in(self, path: Path) -> str:
        """The seed in a key file that the operator keeps, as hex digits."""
        ...

    def keep_next(self, home: Path, target: Path, *, move: bool, dry_run: bool = False) -> dict[str, Any]:
        """Put the next key into the file ``target``, which must not be there, and with ``move`` take it out of the home. Answers file, moved, fingerprint, commitment, and dry_run, when nothing was done."""
        ...

    def doctor(self, home: Path, answer: NodeAnswer, *, remote: str | None) -> dict[str, Any]:
        """Look at all that a node needs. ``answer``: of the running node; ``remote``: a URL, empty for that of the settings, None for none. Answers checks, ok, warn, fail."""
        ...

    def lock_show(self, home: Path) -> dict[str, Any]:
        """Who owns the home."""
        ...

    def lock_clear(self, home: Path) -> dict[str, Any]:
        """Remove the mark of an owner that is gone. Refuses while it lives."""
        ...
