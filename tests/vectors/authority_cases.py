"""Authority scenarios: who may write what, whatever arrives first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabrik_twin.author import WALL_MS, Author, id16, seed
from fabrik_twin.authority import commitment_to, rotation_message
from fabrik_twin.op import Key, WriteTuple, advance, genesis_encode, log_start
from vectors.merge_cases import play

ADMIN, BEE, CAT, DOG, RECOVERY, NEXT, AFTER = (Key(seed(number)) for number in (0, 1, 2, 3, 40, 41, 42))
GENESIS = genesis_encode(ADMIN.public, "authority", id16(0), WALL_MS, {6: RECOVERY.public, 7: commitment_to(NEXT.public)})
NOWHERE = (1, 1, bytes(32))

Place = tuple[int, int, bytes]
Scenario = Callable[[], list[bytes]]


def log(key: Key, epoch: int = 1) -> Author:
    """An empty one."""
    return Author(GENESIS, key, epoch)


def head(author: Author) -> Place:
    """The place of its last op."""
    return (author.epoch, len(author.bodies), advance(log_start(author.genesis.mesh_id, author.key.public, author.epoch), author.bodies))


def title(number: int) -> WriteTuple:
    """A title of an item of its own."""
    return (1, id16(number), 1, f"title {number}", None)


def record(key: Key, role: int, *places: Place, next_key: Key | None = None) -> WriteTuple:
    """A record that binds but for what is within these places."""
    first, *more = places or (NOWHERE,)
    value: dict[int, Any] = {1: role, 3: list(first)}
    value |= {4: [list(place) for place in more]} if more else {}
    value |= {5: commitment_to(next_key.public)} if next_key else {}
    return (3, key.public, 1, value, None)


def rotation(author: Author, new: Key, *keeps: Place, next_key: Key | None = None) -> WriteTuple:
    """A rotation for the author's next op."""
    value: dict[int, Any] = {1: new.public}
    value |= {3: commitment_to(next_key.public)} if next_key else {}
    value |= {4: [list(place) for place in keeps]} if keeps else {}
    _, seq, before = head(author)
    message = rotation_message(author.genesis.mesh_id, author.key.public, author.epoch, seq + 1, before, value)
    return (7, author.key.public, 1, value | {2: new.sign(message)}, None)


def _roles() -> list[bytes]:
    admin, logs = log(ADMIN), [log(key) for key in (BEE, CAT, DOG)]
    admin.op(record(BEE, 1), record(CAT, 2), record(DOG, 3), kind=2)
    for number, author in enumerate(logs):
        author.op((4, author.key.public, 1, "name", None))
        author.op((1, id16(20 + number), 3, [1], None))
        author.op(title(number))
        author.op(title(30 + number), (4, author.key.public, 1, "void with the rest of its op", None))
        author.op((1, id16(20 + number), 99, "of a later version", None))
    return [admin.cut(), *(author.cut() for author in logs)]


def _a_new_role_leaves_the_past() -> list[bytes]:
    admin, bee = log(ADMIN), log(BEE)
    admin.op(record(BEE, 2), kind=2)
    bee.op(title(1))
    bee.op((1, id16(9), 3, [1], None))
    first = head(bee)
    admin.op(record(BEE, 3, first))
    bee.op(title(2))
    admin.op(record(BEE, 1, first, head(bee)))
    bee.op(title(3))
    fork, again = bee.branch(1), log(BEE, 2)
    fork.op(title(4))
    again.op(title(5))
    return [admin.cut(), bee.cut(), fork.cut(), again.cut()]


def _revoked_before_and_after() -> list[bytes]:
    admin, bee, cat = log(ADMIN), log(BEE), log(CAT)
    admin.op(record(BEE, 3), record(CAT, 3), kind=2)
    grants = admin.cut()
    bee.op(title(1))
    trusted, old = head(bee), bee.cut()
    bee.op(title(2))
    thief = bee.branch(0)
    thief.op(title(3), lamport=3)
    cat.op(title(4))
    admin.op(record(BEE, 0, trusted))
    admin.op(record(CAT, 0))
    admin.op(record(BEE, 4), record(CAT, 3))
    return [grants, thief.cut(), admin.cut(), cat.cut(), bee.cut(), old, bee.segment(2, 2)]


def _levels() -> list[bytes]:
    admin, bee, cat, dog = log(ADMIN), log(BEE), log(CAT), log(DOG)
    admin.op(record(BEE, 4), kind=2)
    bee.op(record(CAT, 4))
    trusted = head(bee)
    bee.op(record(DOG, 3))
    cat.op(record(BEE, 0))
    dog.op(title(1))
    bee.op(record(ADMIN, 0))
    early = [bee.cut(), admin.cut(), bee.segment(1, 3), cat.cut(), dog.cut()]
    admin.op(record(BEE, 0, trusted))
    return [*early, admin.cut()]


def _both_lose() -> list[bytes]:
    admin, bee, cat, dog = log(ADMIN), log(BEE), log(CAT), log(DOG)
    admin.op(record(BEE, 4), record(CAT, 4), kind=2)
    bee.op(record(DOG, 3))
    kept = head(bee)
    bee.op(record(CAT, 0))
    cat.op(record(BEE, 0, kept))
    bee.op((3, DOG.public, 1, {1: 0}, None))
    bee.op(record(CAT, 0), title(7))
    dog.op(title(1))
    return [admin.cut(), bee.cut(), cat.cut(), dog.cut()]


def _rotation() -> list[bytes]:
    admin, bee, older = log(ADMIN), log(BEE), log(BEE, 2)
    admin.op(record(BEE, 3, next_key=CAT), kind=2)
    bee.op(title(1))
    older.op(title(2))
    thief, copied = bee.branch(0), log(BEE, 3)
    turn = rotation(bee, CAT, head(older), next_key=DOG)
    bee.op(turn)
    bee.op(title(3))
    thief.op(title(4))
    copied.op(turn)
    new, last = log(CAT), log(DOG)
    new.op(title(5))
    new.op(rotation(new, DOG))
    last.op(title(6))
    return [admin.cut(), thief.cut(), older.cut(), copied.cut(), new.segment(1, 1), bee.cut(), new.cut(), last.cut()]


def _not_committed_to() -> list[bytes]:
    admin, bee, cat = log(ADMIN), log(BEE), log(CAT)
    admin.op(record(BEE, 3, next_key=DOG), kind=2)
    bee.op(rotation(bee, CAT))
    bee.op(title(1))
    cat.op(title(2))
    return [admin.cut(), bee.cut(), cat.cut()]


def _the_admin_rotates() -> list[bytes]:
    admin, bee, new = log(ADMIN), log(BEE), log(NEXT)
    admin.op(record(BEE, 3), kind=2)
    thief = admin.branch(1)
    thief.op(record(BEE, 0), lamport=2)
    backdated = log(ADMIN, 5)
    backdated.op(record(ADMIN, 0), lamport=1)
    bee.op(title(1))
    admin.op(rotation(admin, NEXT, next_key=AFTER))
    new.op(record(CAT, 2))
    return [thief.segment(1, 2), bee.cut(), backdated.cut(), admin.cut(), new.cut()]


def _recovery() -> list[bytes]:
    admin, bee, cat, kept = log(ADMIN), log(BEE), log(CAT), log(RECOVERY)
    admin.op(record(BEE, 3), kind=2)
    trusted = head(admin)
    bee.op(title(1))
    admin.op(record(BEE, 0))
    kept.op(record(ADMIN, 0, trusted))
    kept.op(record(CAT, 4))
    kept.op(record(DOG, 3), title(2))
    cat.op(record(DOG, 2))
    return [kept.cut(), cat.cut(), bee.cut(), admin.cut(), bee.segment(1, 1)]


def _odd_keys() -> list[bytes]:
    admin, bee = log(ADMIN), log(BEE)
    admin.op((3, BEE.public, 1, {1: 3, 3: list(NOWHERE), 4: "no places", 5: b"short", 6: None}, None), kind=2)
    admin.op((7, BEE.public, 1, {1: BEE.public, 2: bytes(64)}, None), title(1))
    admin.op((7, ADMIN.public, 1, {1: NEXT.public}, None), title(2))
    bee.op(title(3))
    return [admin.cut(), bee.cut()]


def _a_revocation_ends_a_suspension() -> list[bytes]:
    admin, bee = log(ADMIN), log(BEE)
    admin.op(record(BEE, 3), kind=2)
    bee.op(title(1))
    bee.op(title(2))
    trusted = head(bee)
    thieves = [bee.branch(number % 2) for number in range(64)]
    for number, thief in enumerate(thieves):
        thief.op(title(3 + number), lamport=3)
    admin.op(record(BEE, 0, trusted))
    return [admin.segment(1, 1), bee.cut(), *(thief.cut() for thief in thieves), admin.segment(2, 2)]


SCENARIOS: list[tuple[str, Scenario]] = [
    ("what each role may write", _roles),
    ("a new role leaves the past as it was", _a_new_role_leaves_the_past),
    ("revocations before and after what they cut", _revoked_before_and_after),
    ("levels, and a stolen admin key", _levels),
    ("admins who revoke each other both lose", _both_lose),
    ("rotation, on and on; a thief and a copy", _rotation),
    ("a rotation to a key that nobody committed to", _not_committed_to),
    ("the genesis admin rotates away from a thief", _the_admin_rotates),
    ("the recovery key replaces the admin", _recovery),
    ("a revocation ends a suspension", _a_revocation_ends_a_suspension),
    ("keys of another type, and malformed rotations", _odd_keys),
]
KEYS = {"admin": ADMIN, "bee": BEE, "cat": CAT, "dog": DOG, "recovery": RECOVERY, "next": NEXT, "after": AFTER}


def cases() -> dict[str, Any]:
    """The content of ``authority-v1.json``."""
    return {
        "genesis": GENESIS.hex(),
        "keys": {name: key.public.hex() for name, key in KEYS.items()},
        "scenarios": [play(name, GENESIS, scenario(), [key.public for key in KEYS.values()]) for name, scenario in SCENARIOS],
    }
