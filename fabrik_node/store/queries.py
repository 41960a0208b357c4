"""The SQL of this room, by name, from ``queries/*.sql``. Each block starts with a line ``-- name: xyz``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from fabrik_node.errors import Internal

__all__ = ["parse_queries", "queries"]

_MARK = "-- name:"


@cache
def queries() -> Mapping[str, str]:
    """Every query of the package. Read once."""
    found: dict[str, str] = {}
    for entry in sorted(resources.files("fabrik_node.store").joinpath("queries").iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".sql"):
            continue
        for name, sql in parse_queries(entry.read_text(encoding="utf-8")).items():
            if name in found:
                raise Internal(f"two queries are named {name!r}")
            found[name] = sql
    return MappingProxyType(found)


def parse_queries(text: str) -> dict[str, str]:
    """The named blocks of one file. Raises :class:`Internal` for a name that is used twice, an empty block or text before the first name."""
    found: dict[str, str] = {}
    before, *blocks = ("\n" + text).split("\n" + _MARK)
    if before.strip():
        raise Internal("a query file starts with something that has no name")
    for block in blocks:
        name, _, sql = block.partition("\n")
        name = name.strip()
        if not sql.strip():
            raise Internal(f"query {name!r} is empty")
        if name in found:
            raise Internal(f"two queries are named {name!r}")
        found[name] = sql.strip()
    return found
