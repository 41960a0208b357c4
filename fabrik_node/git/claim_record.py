"""One link of a claim chain: the commit that says who holds an item. Bytes in, bytes out; no git is run here.

The format is docs/spec/claim-ref.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from fabrik_node.errors import GitFailed, UsageError
from fabrik_node.git.names import check_id

__all__ = ["ClaimRecord", "ClaimRefState", "format_claim", "parse_claim"]

_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NODE_CHARS_MAX = 200


class ClaimRefState(StrEnum):
    """What the newest link of a chain says. Nothing follows ``merged``: an item is merged at most once."""

    HELD = "held"
    RELEASED = "released"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """A link as read. ``number`` is its place in the chain, from 1; ``ttl_ms`` in milliseconds; ``oid`` is the commit.

    ``merge`` is the merge commit exactly when the state is merged, otherwise empty; ``parent`` is empty for the first link.
    """

    item: str
    claim_id: str
    number: int
    epoch: int
    node: str
    ttl_ms: int
    state: ClaimRefState
    merge: str = ""
    oid: str = ""
    parent: str = ""


def format_claim(record: ClaimRecord) -> str:
    """The commit message of ``record`` (its ``oid`` and ``parent`` are not part of it). Raises :class:`UsageError` for what can not be written."""
    check_id(record.item, "an item")
    check_id(record.claim_id, "a claim")
    if not record.node or len(record.node) > _NODE_CHARS_MAX or not record.node.isprintable() or record.node != record.node.strip():
        raise UsageError(f"{record.node[:40]!r} can not be written as a node into a claim", "fabrik-node nodes list")
    lines = [
        f"fabrik claim {record.number}: {record.state} by {record.node}",
        "",
        f"Fabrik-Item: {record.item}",
        f"Fabrik-Claim: {record.claim_id}",
        f"Fabrik-Number: {record.number}",
        f"Fabrik-Epoch: {record.epoch}",
        f"Fabrik-Node: {record.node}",
        f"Fabrik-Ttl-Ms: {record.ttl_ms}",
        f"Fabrik-State: {record.state}",
    ]
    if record.merge:
        lines.append(f"Fabrik-Merge: {record.merge}")
    return "\n".join(lines) + "\n"


def parse_claim(oid: str, raw: bytes) -> ClaimRecord:
    """The record in the commit object ``oid`` with content ``raw`` (``git cat-file commit``).

    Raises :class:`GitFailed` when it is not a claim: a ref that somebody else wrote to must not be taken for a free one.
    """
    head, _, message = raw.decode("utf-8", "replace").partition("\n\n")
    parents = [line.removeprefix("parent ") for line in head.splitlines() if line.startswith("parent ")]
    pairs = [line.partition(": ") for line in message.rpartition("\n\n")[2].splitlines()]
    fields = {key: value for key, _, value in pairs}
    try:
        if len(fields) != len(pairs) or len(parents) > 1:
            raise ValueError("repeated field or several parents")
        record = ClaimRecord(
            item=check_id(fields["Fabrik-Item"], "an item"),
            claim_id=check_id(fields["Fabrik-Claim"], "a claim"),
            number=_natural(fields["Fabrik-Number"]),
            epoch=_natural(fields["Fabrik-Epoch"]),
            node=fields["Fabrik-Node"],
            ttl_ms=_natural(fields["Fabrik-Ttl-Ms"]),
            state=ClaimRefState(fields["Fabrik-State"]),
            merge=fields.get("Fabrik-Merge", ""),
            oid=oid,
            parent=parents[0] if parents else "",
        )
        if (record.state is ClaimRefState.MERGED) != bool(_OID.fullmatch(record.merge)) or (record.number == 1) != (not parents):
            raise ValueError("fields that contradict each other")
    except (KeyError, ValueError, UsageError) as error:
        raise GitFailed(f"commit {oid} is not a claim: {error}", f"git show {oid}") from error
    return record


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ValueError(f"{text[:40]!r} is not a number")
    return int(text)
