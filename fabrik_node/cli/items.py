"""``items``: the work, from adding it to reading who changed it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fabrik_node.cli import render_items
from fabrik_node.cli.grammar import DRY_RUN, command, group
from fabrik_node.cli.session import Session, given
from fabrik_node.errors import Precondition, Unreachable, UsageError

__all__ = ["items"]


@group("items")
def items() -> None:
    """Work items: the board, one item, and changes to them."""


def _body(text: str | None, file: str | None) -> str | None:
    if file is None:
        return text
    if text is not None:
        raise UsageError("--body and --body-file exclude each other", "leave one of them out")
    try:
        with click.open_file(file, encoding="utf-8") as source:
            return str(source.read())
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: {error.reason}", "--body TEXT") from error
    except OSError as error:
        raise UsageError(f"can not read {file}: {error.strerror or error}", "--body TEXT") from error


@command("add", parent=items)
@click.argument("title")
@click.option("--body", metavar="TEXT", help="What is to be done.")
@click.option("--body-file", metavar="FILE", help="Read the body from a file; - is stdin.")
@click.option("--label", "labels", metavar="LABEL", multiple=True, help="Agents choose by labels (repeatable).")
@click.option("--priority", metavar="N", type=int, help="Higher is taken first. Default: 0.")
@click.option("--depends-on", metavar="ID", multiple=True, help="Wait until this item is done (repeatable).")
@click.option("--on", metavar="NODE", help="Only the agent of this node may take it, by name or first digits of its key.")
@click.option("--begun", is_flag=True, help="Wait until an agent has begun it, and show the run.")
@click.option("--only-pushed", is_flag=True, help="Refuse when the git tree here has anything that the base branch on the remote has not.")
@DRY_RUN
@click.pass_obj
def add(
    session: Session,
    title: str,
    body: str | None,
    body_file: str | None,
    labels: tuple[str, ...],
    priority: int | None,
    depends_on: tuple[str, ...],
    on: str | None,
    begun: bool,
    only_pushed: bool,
    dry_run: bool,
) -> None:
    """Add an item to the backlog.

    Agents work on the base branch of the git remote. Typed in a clone of it, the command says what of that clone they do not get.
    """
    tree = _tree(session, must_be_pushed=only_pushed)
    args = given(title=title, body=_body(body, body_file), labels=list(labels) or None, priority=priority, depends_on=list(depends_on) or None, on=on)
    if dry_run:
        session.change("items.add", render_items.added, dry_run=True, **args)
        return
    data = session.write("items.add", **args) | ({} if tree is None else {"tree": tree})
    if data.get("note"):
        session.note(data["note"])
    if begun:
        session.note(f"item {data['item']['id']} is added; waiting for an agent to begin it")
        data = {**data, "run": _begun(session, data["item"]["id"])}
    session.show(data, render_items.added)


def _tree(session: Session, *, must_be_pushed: bool) -> Mapping[str, Any] | None:
    """What agents get of the git tree in which this is typed; a note says what they do not get. None: it is no tree of theirs."""
    from fabrik_node.cli.tree import TreeUnknown, has_tree, look

    try:
        folder = Path.cwd()
    except FileNotFoundError:  # it was removed under us
        return None
    if not has_tree(folder):
        return None
    try:
        tree = look(folder, **session.write("whoami")["git"])  # of the running node: what follows needs it, too
    except TreeUnknown as unknown:
        if must_be_pushed:
            raise Precondition(f"what is pushed of this tree is not known: {unknown}", "leave out --only-pushed") from unknown
        session.note(f"agents begin at the base branch of their remote; what of this tree is there is not known: {unknown}")
        return None
    if tree is None:
        return None
    if tree.unsent and must_be_pushed:
        raise Precondition(f"agents would not get {tree.unsent} of {tree.top}", f"commit, and git push to {tree.base}; or leave out --only-pushed")
    if tree.unsent:
        session.note(
            f"not sent: {tree.unsent}. Agents begin at {tree.base}, which was {tree.base_commit[:12]} at the last fetch here",
            f"commit, and git push to {tree.base}",
        )
    return tree.shown()


def _begun(session: Session, item: str) -> Mapping[str, Any]:
    """Its first run, as soon as there is one."""
    for news in session.stream("runs.watch", follow=True, item=item, ended=True):  # it may have begun, and even ended, while we asked
        return dict(news["run"])
    raise Unreachable("the node ended the stream before the item was begun", f"fabrik-node why {item}")


@command("list", parent=items)
@click.option("--stage", metavar="STAGE", help="Only items in this stage.")
@click.option("--reason", metavar="REASON", help="Only items archived for this reason.")
@click.option("--label", metavar="LABEL", help="Only items with this label.")
@click.option("--held", is_flag=True, help="Only items that are held back after failures.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def list_(session: Session, /, held: bool, **filters: Any) -> None:
    """The board: every item with its stage and who holds it."""
    chosen = {name: value for name, value in filters.items() if value is not None} | ({"held": True} if held else {})
    session.show(session.read("items.list", **chosen), render_items.Board(filtered=bool(chosen)))


@command("show", parent=items)
@click.argument("id")
@click.pass_obj
def show(session: Session, id: str) -> None:
    """One item with its claim, outcome and runs."""
    session.show(session.read("items.show", id=id), render_items.item)


@command("move", parent=items)
@click.argument("id")
@click.argument("stage")
@click.option("--branch", metavar="NAME", help="To Merge: the branch with the work.")
@click.option("--commits-ahead", metavar="N", type=int, help="To Merge: how many commits it is ahead; at least 1.")
@click.option("--merge-commit", metavar="OID", help="To Done: the commit that merged the work.")
@click.option("--reason", metavar="REASON", help="To Archived: Completed, Abandoned, Superseded, Blocked, MergeFailed or ReviewHeld.")
@DRY_RUN
@click.pass_obj
def move(session: Session, /, id: str, stage: str, dry_run: bool, **fields: Any) -> None:
    """Move an item to another stage. A claim on it ends, and the answer says whose work that stops."""
    session.change("items.move", render_items.moved, dry_run=dry_run, id=id, to=stage, **fields)


@command("edit", parent=items)
@click.argument("id")
@click.option("--title", metavar="TEXT", help="A new title.")
@click.option("--body", metavar="TEXT", help="A new body.")
@click.option("--body-file", metavar="FILE", help="Read the new body from a file; - is stdin.")
@click.option("--label", "labels", metavar="LABEL", multiple=True, help="The labels from now on (repeatable).")
@click.option("--no-labels", is_flag=True, help="No labels from now on.")
@click.option("--priority", metavar="N", type=int, help="A new priority.")
@click.option("--depends-on", metavar="ID", multiple=True, help="What it waits for from now on (repeatable).")
@click.option("--no-depends-on", is_flag=True, help="It waits for nothing from now on.")
@click.option("--on", metavar="NODE", help="From now on only the agent of this node may take it.")
@DRY_RUN
@click.pass_obj
def edit(
    session: Session,
    id: str,
    title: str | None,
    body: str | None,
    body_file: str | None,
    labels: tuple[str, ...],
    no_labels: bool,
    priority: int | None,
    depends_on: tuple[str, ...],
    no_depends_on: bool,
    on: str | None,
    dry_run: bool,
) -> None:
    """Change an item's title, body, labels, priority or dependencies."""
    session.change(
        "items.edit",
        render_items.one_line,
        dry_run=dry_run,
        id=id,
        title=title,
        body=_body(body, body_file),
        labels=_replaced("--label", labels, no_labels),
        priority=priority,
        depends_on=_replaced("--depends-on", depends_on, no_depends_on),
        on=on,
    )


def _replaced(flag: str, values: tuple[str, ...], none: bool) -> list[str] | None:
    if values and none:
        raise UsageError(f"{flag} and its opposite exclude each other", "leave one of them out")
    return [] if none else list(values) or None


@command("history", parent=items)
@click.argument("id")
@click.pass_obj
def history(session: Session, id: str) -> None:
    """Every change to an item, with its author. The last column is the digest of the signed op."""
    session.show(session.read("items.history", id=id), render_items.history)


@command("requeue", parent=items)
@click.argument("id")
@click.option("--anew", is_flag=True, help="Begin in Backlog and at the base; what was done stays on its branch.")
@DRY_RUN
@click.pass_obj
def requeue(session: Session, id: str, anew: bool, dry_run: bool) -> None:
    """Let agents go on with a held item, with fresh attempts.

    It stays in its stage; in Merge its finished work is tested and merged. One that was archived as Blocked, MergeFailed or ReviewHeld returns to the stage that it left.

    An agent of another node that claims the item in the moment of --anew goes on with the old work all the same: items show tells, and claims release ends that.
    """
    session.change("items.requeue", render_items.moved, dry_run=dry_run, id=id, anew=anew or None)


@command("resolve", parent=items)
@click.argument("id")
@click.option("--branch", metavar="NAME", help="Merge this branch of the remote instead of the one that the item names.")
@DRY_RUN
@click.pass_obj
def resolve(session: Session, id: str, branch: str | None, dry_run: bool) -> None:
    """Have the finished work of a held item tested and merged."""
    session.change("items.resolve", render_items.moved, dry_run=dry_run, id=id, branch=branch)
