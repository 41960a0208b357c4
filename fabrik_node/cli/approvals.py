"""``ask``, for the command of a run, and ``approvals``, for the people who answer."""

from __future__ import annotations

from typing import Any

import click

from fabrik_node.cli import render_approvals
from fabrik_node.cli.grammar import DRY_RUN, DURATION, command, group
from fabrik_node.cli.session import Session
from fabrik_node.errors import Precondition

__all__ = ["approvals", "ask"]


@command("ask")
@click.argument("text")
@click.option("--option", "options", multiple=True, metavar="ANSWER", help="An answer to choose from (repeat it); without any, every text is one.")
@click.option("--timeout", metavar="TIME", type=DURATION, help="Wait no longer than this: 90s, 15m, 1h.")
@click.option("--default", metavar="ANSWER", help="The answer after the timeout. Without it the command ends with 5, and the item is held.")
@click.option("--wait/--no-wait", default=True, help="Without waiting it ends with 5 when nobody has answered yet.")
@click.pass_obj
def ask(session: Session, text: str, options: tuple[str, ...], timeout: float | None, default: str | None, wait: bool) -> None:
    """Ask people inside a run, wait, and print the answer.

    For the command of a run. People of any node answer with fabrik-node approvals. Meanwhile the run is waiting, its lease is renewed, and its time stands still. The same question of
    the same item is asked once: a run that begins anew meets the answer, or the question that still waits for one.
    """
    timeout_ms = None if timeout is None else max(1, round(timeout * 1000))
    data = session.write("ask", text=text, options=list(options), timeout_ms=timeout_ms, default=default)
    request: dict[str, Any] = data["request"]
    if request["state"] == "open" and not wait:
        raise Precondition(f"nobody has answered yet: {request['text']}", request["next"])
    for part in session.stream("ask.wait", follow=True, need="ask needs one", id=request["id"]):
        if part.get("waiting"):
            session.note(f"waits for an answer of a person: {request['text']}", part["request"]["next"])
        elif session.json:
            session.show({name: value for name, value in part.items() if name != "end"}, render_approvals.request)
        else:
            session.show_raw(f"{part['answer']}\n")


@group("approvals")
def approvals() -> None:
    """Approvals: what runs ask people."""


@command("list", parent=approvals)
@click.option("--all", "all_", is_flag=True, help="Questions that are over, too.")
@click.option("--item", metavar="ID", help="Only of this item.")
@click.pass_obj
def list_(session: Session, all_: bool, item: str | None) -> None:
    """Questions that wait for an answer, of all nodes."""
    session.show(session.read("approvals.list", all=all_ or None, item=item), render_approvals.requests)


@command("show", parent=approvals)
@click.argument("id")
@click.pass_obj
def show(session: Session, id: str) -> None:
    """One question with its answers, those that came too late, too. Reads the whole log."""
    session.show(session.read("approvals.show", id=id), render_approvals.request)


@command("answer", parent=approvals)
@click.argument("id")
@click.argument("answer")
@click.option("--note", metavar="TEXT", help="For those who read it later; it is shown with the answer.")
@DRY_RUN
@click.pass_obj
def answer(session: Session, id: str, answer: str, note: str | None, dry_run: bool) -> None:
    """Answer a question, on any node with the role peer or admin. The first answer that the run meets counts; a later one is refused, or shown as too late."""
    session.change("approvals.answer", render_approvals.request, dry_run=dry_run, id=id, answer=answer, note=note)
