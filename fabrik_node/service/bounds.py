"""How long and how large the values are that a caller may give: checked before they become an op, so that the refusal speaks the caller's words.

The registers' own limits are those of docs/spec/merge.md; the core refuses whatever passes here and breaks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabrik_node.errors import UsageError

__all__ = [
    "BODY_BYTES_MAX",
    "BRANCH_BYTES_MAX",
    "COMMITS_MAX",
    "DEPENDENCIES_MAX",
    "INT64_MAX",
    "LABELS_MAX",
    "LABEL_BYTES_MAX",
    "REASON_BYTES_MAX",
    "TITLE_BYTES_MAX",
    "check_count",
    "check_number",
    "check_text",
    "item_id",
]

TITLE_BYTES_MAX = 200
BODY_BYTES_MAX = 32_768
LABEL_BYTES_MAX = 64
LABELS_MAX = 32
DEPENDENCIES_MAX = 64
BRANCH_BYTES_MAX = 255
REASON_BYTES_MAX = 1_000
"""Of a release or a deletion: ours, not the register's, which takes what fits an op."""
INT64_MAX = 2**63 - 1
COMMITS_MAX = 2**32 - 1


def check_text(name: str, value: Any, bytes_max: int) -> str:
    """``value`` when it is text of at most ``bytes_max`` bytes of UTF-8. Raises :class:`UsageError`."""
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text", "fabrik-node items --help")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{name} is not UTF-8 text", "type it in a UTF-8 locale") from error
    if size > bytes_max:
        raise UsageError(f"{name} has {size} bytes, more than the {bytes_max} that are kept", f"shorten it to {bytes_max} bytes")
    return value


def check_count(name: str, values: Any, count_max: int) -> Sequence[Any]:
    """``values`` when they are a list of at most ``count_max``. Raises :class:`UsageError`."""
    if not isinstance(values, list):
        raise UsageError(f"{name} must be a list", "fabrik-node items --help")
    if len(values) > count_max:
        raise UsageError(f"{len(values)} {name} are more than {count_max}", "leave some out")
    return values


def check_number(name: str, value: Any, least: int, most: int) -> int:
    """``value`` when it is an integer from ``least`` to ``most``. Raises :class:`UsageError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{name} must be a number", "fabrik-node items --help")
    if not least <= value <= most:
        raise UsageError(f"{name} {value} is not within {least} and {most}", "give a number within these")
    return value


def item_id(args: Mapping[str, Any]) -> str:
    """The id, or the part of one, of the item that a call is about. Raises UsageError when it is missing."""
    value = args.get("id")
    if not isinstance(value, str) or not value:
        raise UsageError("id is missing", "fabrik-node items list")
    return value
