"""Refs that name no object. git stops every fetch at one of them ("bad object refs/..."), whosever it is, as long as it is there.

A full disk or a power cut leaves them, for git does not wait for the disk with each file, and so may a command that wrote there. What is
looked at is the node's own: branches of runs, what was fetched of the remote, records of worktrees, and files of objects without content.
A command may write at the same moment, so no link of it is followed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.git.runner import GitRunner
from fabrik_node.git.worktree_link import set_head, unlink_worktree

__all__ = ["SetAside", "fault_of", "set_aside"]

_WORK, _FETCHED = "refs/heads/fabrik/", "refs/remotes/origin/"
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_LOOSE_OBJECT = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")
_REF_BYTES_MAX = 1024
"""Of a file that holds one ref: its name has at most 255 bytes in each part."""
_COMMONDIR = "../.."


@dataclass(frozen=True, slots=True)
class SetAside:
    """What was taken away or mended, a line for each. ``lost``: objects of the remote are among it, or may be."""

    lines: list[str]
    lost: bool


async def fault_of(git: GitRunner, directory: Path) -> str:
    """Why git can not go through the refs of the repository ``directory``, which each fetch does; empty when it can. The network is not touched."""
    answer = await git.call(directory, "rev-list", "--quiet", "--stdin", "--not", "--all")
    return "" if answer.ok else answer.cause


async def set_aside(git: GitRunner, directory: Path) -> SetAside:
    """Take refs away that name no object, as far as they are the node's, and say what each was. For who holds the lock of the repository.

    A worktree whose head is broken is put back on its branch; one without a branch is forgotten, its folder stays. Raises :class:`GitFailed`.
    """
    done = await asyncio.to_thread(_remove_empty_objects, directory)
    lost = bool(done)
    loose = await asyncio.to_thread(lambda: list(_loose(directory)))
    absent = await _absent(git, directory, (value for _, value in loose))
    for ref, value in loose:
        if value in absent and await asyncio.to_thread(_unlink, directory, ref):
            lost = lost or ref.startswith(_FETCHED)
            done.append(f"the ref {ref}, which was {value[:80]!r}, is taken away: there is no such object")
    listed = [(oid, ref) for oid, symref, ref in await _listed(git, directory) if not symref]
    absent = await _absent(git, directory, (oid for oid, _ in listed))
    for oid, ref in listed:
        if oid in absent and (await git.call(directory, "update-ref", "--no-deref", "-d", ref, oid)).ok:
            lost = lost or ref.startswith(_FETCHED)
            done.append(f"the packed ref {ref}, which was {oid}, is taken away: there is no such object")
    done += await _worktrees(git, directory, [ref for oid, ref in listed if oid not in absent and ref.startswith(_WORK)])
    return SetAside(done, lost)


async def _worktrees(git: GitRunner, directory: Path, branches: list[str]) -> list[str]:
    """Mend or forget the records at which git stops."""
    records = directory / "worktrees"
    names = await asyncio.to_thread(
        lambda: sorted(entry.name for entry in os.scandir(records) if entry.is_dir(follow_symlinks=False)) if records.is_dir() else []
    )
    heads = {name: _read(str(records / name / "HEAD")) for name in names}
    absent = await _absent(git, directory, (head for head in heads.values() if _OID.fullmatch(head)))
    done = []
    for name, head in heads.items():
        commondir = _read(str(records / name / "commondir"))
        if head not in absent and commondir:
            continue
        branch = next((ref for ref in branches if ref.endswith(f"/{name}")), "")
        if branch and commondir == _COMMONDIR:
            await asyncio.to_thread(set_head, directory, name, f"ref: {branch}")
            done.append(f"the worktree {name} is put back on {branch}: its head was {head[:80]!r}, and there is no such object")
        else:
            await asyncio.to_thread(unlink_worktree, directory, name)
            done.append(f"the record of the worktree {name} is taken away: its head was {head[:80]!r}, its commondir {commondir[:80]!r}")
    return done


async def _listed(git: GitRunner, directory: Path) -> list[tuple[str, str, str]]:
    """``(object id, symref, ref)`` of what git can read of the own refs, packed ones too."""
    answer = await git.call(directory, "for-each-ref", "--format=%(objectname)%00%(symref)%00%(refname)", _WORK, _FETCHED)
    rows = (line.split("\0") for line in answer.stdout.decode("utf-8", "replace").splitlines())
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


async def _absent(git: GitRunner, directory: Path, values: Iterable[str]) -> set[str]:
    """Those of ``values`` that are no id of an object that is here."""
    asked = set(values)
    oids = sorted(value for value in asked if _OID.fullmatch(value))
    if not oids:
        return asked
    said = (await git.text(directory, "cat-file", "--batch-check", stdin="".join(f"{oid}\n" for oid in oids).encode())).splitlines()
    return asked - {line.split(" ")[0] for line in said if not line.endswith(" missing")}


def _loose(directory: Path) -> Iterator[tuple[str, str]]:
    """``(ref, content)`` of the own refs that are files. Locks, hidden files and refs that name other refs are left out; of a link the content is empty."""
    for root in (_WORK, _FETCHED):
        if not (directory / root).is_dir():
            continue
        for folder, folders, files, at in os.fwalk(directory / root, follow_symlinks=False):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in (*files, *links):
                if name.startswith(".") or name.endswith(".lock"):
                    continue
                content = _read(name, at)
                if not content.startswith("ref:"):
                    yield str(Path(folder, name).relative_to(directory)), content


def _read(path: str, at: int | None = None) -> str:
    """The beginning of a small file; empty for a link, a device, and what can not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _REF_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _unlink(directory: Path, ref: str) -> bool:
    """Remove the file of a ref. Its folders are opened one by one, so none of them is a link."""
    *folders, name = ref.split("/")
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        os.unlink(name, dir_fd=at)
    except OSError:  # somebody was faster, or it can not be removed: then the next look at the refs says so
        return False
    finally:
        os.close(at)
    return True


def _remove_empty_objects(directory: Path) -> list[str]:
    """Files of objects with nothing in them, as a power cut leaves them: git takes them for objects that are there, and never writes them again."""
    done = []
    for folder in os.scandir(directory / "objects"):
        if len(folder.name) != 2 or not folder.is_dir(follow_symlinks=False):
            continue
        for entry in os.scandir(folder.path):
            if _LOOSE_OBJECT.fullmatch(entry.name) and entry.is_file(follow_symlinks=False) and not entry.stat(follow_symlinks=False).st_size:
                Path(entry.path).unlink(missing_ok=True)
                done.append(f"the file of the object {folder.name}{entry.name} is taken away: it was empty")
    return done
