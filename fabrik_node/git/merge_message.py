"""The message of a merge commit, and finding that commit again by its trailers."""

from __future__ import annotations

from fabrik_node.git.names import check_id
from fabrik_node.git.repository import Repository

__all__ = ["find_imitation", "find_merge", "find_merge_and_claim", "merge_message"]

_SUBJECT_CHARS_MAX = 100
_BODY_CHARS_MAX = 4000


def merge_message(item: str, claim_id: str, text: str) -> str:
    """``text`` (first line: the subject) and the two trailers.

    Trailers count in the last paragraph only (git-interpret-trailers(1)), which is always ours: a title can not forge one.
    """
    printable = ("".join(char if char.isprintable() else " " for char in line).rstrip() for line in text.splitlines())
    first, _, rest = "\n".join(printable).strip().partition("\n")
    subject = " ".join(first.split())[:_SUBJECT_CHARS_MAX] or f"Merge item {item}"
    body = rest.strip()[:_BODY_CHARS_MAX]
    trailers = f"Fabrik-Item: {check_id(item, 'an item')}\nFabrik-Claim: {check_id(claim_id, 'a claim')}\n"
    return "\n\n".join(part for part in (subject, body, trailers) if part)


async def find_merge(repository: Repository, item: str, tip: str, beyond: str = "") -> str | None:
    """The commit of :func:`find_merge_and_claim` alone."""
    found = await find_merge_and_claim(repository, item, tip, beyond)
    return None if found is None else found[0]


async def find_merge_and_claim(repository: Repository, item: str, tip: str, beyond: str = "") -> tuple[str, str] | None:
    """The newest merge commit of ``item`` that is reachable from ``tip`` and, if given, not from ``beyond``, and the claim that made it; None when there is none.

    A merge commit counts when it has two parents and both trailers. Ordinary commits never do: authors of work copy the style of the
    history that they see, trailers included. Without ``beyond`` the whole history is walked (about a second per 100,000 merges).
    """
    wanted = check_id(item, "an item")
    for oid, found, claim in await _merges(repository, f"Fabrik-Item: {wanted}", tip, beyond):
        if found == wanted:
            return oid, claim
    return None


async def find_imitation(repository: Repository, work: str, base: str) -> tuple[str, str] | None:
    """A commit that ``work`` has and ``base`` has not, and that would pass for the merge of an item, and what item it names; None when there is none.

    Merged, it would close that item, whose work nobody may have done.
    """
    return next(((oid, item) for oid, item, _ in await _merges(repository, "Fabrik-Item: ", work, base)), None)


async def _merges(repository: Repository, said: str, tip: str, beyond: str) -> list[tuple[str, str, str]]:
    """Merge commits with both trailers, newest first, and their items and claims."""
    known = [f"^{beyond}"] if beyond else []
    trailers = "%(trailers:key=Fabrik-Item,valueonly,separator=%x2C)%x09%(trailers:key=Fabrik-Claim,valueonly,separator=%x2C)"
    rows = await repository.text(
        "rev-list",
        "--min-parents=2",
        "--fixed-strings",
        f"--grep={said}",
        "--no-commit-header",
        f"--format=%H%x09{trailers}",
        tip,
        *known,
    )
    split = ([*row.split("\t"), "", ""][:3] for row in rows.splitlines())
    return [(oid, found, claim) for oid, found, claim in split if found and claim]
