"""The composition root: puts the real parts together and runs them. Nothing else may import it.

``main`` imports little: the command line answers from a running node over a socket; the heavy rooms load only to serve.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fabrik_node.cli.hooks import NodeAnswer, OfflineReader, ServeOptions

__all__ = ["main"]


class Hooks:
    """What the command line may ask of the product without importing it (``fabrik_node.cli.hooks``)."""

    def serve(self, home: Path, options: ServeOptions) -> int:
        """Run the node in the foreground; the exit status."""
        from fabrik_node.app.serving import serve

        return serve(home, options)

    def init(self, home: Path, *, name: str, mesh: str, recovery: Path | None = None) -> dict[str, Any]:
        """Make a mesh and its first node."""
        from fabrik_node.app.setup import init

        return init(home, name=name, mesh=mesh, recovery=recovery)

    def join(self, home: Path, token: str, *, name: str) -> dict[str, Any]:
        """Enter a mesh; returns when the first sync is done."""
        from fabrik_node.app.serving import join

        return join(home, token, name=name)

    def knock(self, home: Path, url: str, fingerprint: str, *, name: str, say: Callable[[str, str], None]) -> dict[str, Any]:
        """Ask to be let into a mesh, wait for it, and enter."""
        from fabrik_node.app.knocking import join_by_knocking

        return join_by_knocking(home, url, fingerprint, name=name, say=say)

    def offline(self, home: Path) -> OfflineReader:
        """Reads from the store, with no node running."""
        from fabrik_node.app.offline import OfflineReader

        return OfflineReader(home)

    def key_files(self, home: Path) -> dict[str, Any]:
        """Which key files lie in the home."""
        from fabrik_node.app.keyfiles import key_files

        return key_files(home)

    def use_key(self, home: Path, file: Path, *, dry_run: bool = False) -> dict[str, Any]:
        """Another key for a home that no node serves."""
        from fabrik_node.app.key_use import use_key

        return use_key(home, file, dry_run=dry_run)

    def seed_in(self, path: Path) -> str:
        """The seed in a key file."""
        from fabrik_node.app.keyfiles import seed_in

        return seed_in(path)

    def keep_next(self, home: Path, target: Path, *, move: bool, dry_run: bool = False) -> dict[str, Any]:
        """Put the next key elsewhere."""
        from fabrik_node.app.keyfiles import keep_next

        return keep_next(home, target, move=move, dry_run=dry_run)

    def doctor(self, home: Path, answer: NodeAnswer, *, remote: str | None) -> dict[str, Any]:
        """Look at all that a node needs."""
        from fabrik_node.app.doctor import examine

        return examine(home, answer, remote=remote)

    def lock_show(self, home: Path) -> dict[str, Any]:
        """Who owns this home."""
        from fabrik_node.app.setup import lock_show

        return lock_show(home)

    def lock_clear(self, home: Path) -> dict[str, Any]:
        """Forget a dead owner."""
        from fabrik_node.app.setup import lock_clear

        return lock_clear(home)


def main() -> int:
    """Entry point of ``fabrik-node``."""
    from fabrik_node.cli.main import run

    return run(Hooks(), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
