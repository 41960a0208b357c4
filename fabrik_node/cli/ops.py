"""``ops``: proofs of what was written, for people who hold nothing but a key."""

from __future__ import annotations

import json
import re

import click

from fabrik_node.cli import render_ops
from fabrik_node.cli.grammar import command, group
from fabrik_node.cli.session import Session
from fabrik_node.errors import NotFound, UsageError

__all__ = ["ops"]


@group("ops")
def ops() -> None:
    """Signed ops: proofs, forks, and a check of what is stored."""


@command("proof", parent=ops)
@click.argument("id")
@click.pass_obj
def proof(session: Session, id: str) -> None:
    """Print the proof of an op or a fork as JSON. ID is the digest of an op, as in the last column of items history, or what ops forks shows."""
    data = session.read("ops.proof", id=id)
    for place in data["also"]:
        session.note(f"the same bytes were also written by {place['author']} in epoch {place['epoch']} as op {place['seq']}; this proof is not of that one")
    session.show_raw(json.dumps(data["proof"], indent=2) + "\n")


@command("verify", parent=ops)
@click.argument("file")
@click.option("--author", metavar="KEY", help="It must be of this author: 64 hex digits, as nodes list prints them.")
@click.option("--mesh", metavar="ID", help="It must be of this mesh: 64 hex digits, the mesh_id of status.")
@click.pass_obj
def verify(session: Session, file: str, author: str | None, mesh: str | None) -> None:
    """Check a proof, without a node, a home or the network. FILE may be - for stdin."""
    from fabrik_node.domain.proofs import check_document

    says = check_document(_read(file), author=_key("--author", author), mesh=_key("--mesh", mesh))
    session.show({"holds": True, **says}, render_ops.proven)
    if author is None:
        session.note("this says which key signed, not whose key it is", "--author KEY, with a key that you know")


@command("forks", parent=ops)
@click.pass_obj
def forks(session: Session) -> None:
    """Logs of which two histories were signed, with the proofs."""
    session.show(session.read("ops.forks"), render_ops.forks)


@command("check", parent=ops)
@click.pass_obj
def check(session: Session) -> int:
    """Read every stored op again: bytes, signatures, chains. Ends with 1 when anything is damaged."""
    data = session.read("ops.check")
    session.show(data, render_ops.checked)
    return 0 if data["sound"] else 1


def _read(file: str) -> bytes:
    from fabrik_node.domain.proofs import DOCUMENT_BYTES_MAX

    try:
        with click.open_file(file, "rb") as source:
            return bytes(source.read(DOCUMENT_BYTES_MAX + 1))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}", "fabrik-node ops verify --help") from error
    except OSError as error:
        raise UsageError(f"can not read {file}: {error.strerror or error}", "fabrik-node ops verify --help") from error


def _key(option: str, text: str | None) -> bytes:
    if text is None:
        return b""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise UsageError(f"{option} takes 64 hex digits, not {text!r}", "fabrik-node ops verify --help")
    return bytes.fromhex(text)
