"""Merge scenarios: segments offered in an order, what becomes of each, and what the replica shows at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabrik_twin.author import Author, claim, id16, new_genesis, seed, sign_segment
from fabrik_twin.cbor import Refused, encode
from fabrik_twin.merge import HEADS_MAX, STEP_MAX
from fabrik_twin.op import Key, WriteTuple, digest, log_start, op_encode, segment_decode
from fabrik_twin.schema import step_id
from fabrik_twin.world import World
from fabrik_twin.worlds import QUESTION, step

ADMIN, BEE, CAT = (Key(seed(number)) for number in range(3))
GENESIS = new_genesis(ADMIN)
ITEM, SECOND, THIRD = id16(1), id16(2), id16(3)
# Claim ids in claim order: the first has the lower BLAKE3(ITEM || claim id), so it ranks higher.
STRONG, WEAK = sorted((id16(20), id16(21)), key=lambda claim_id: digest(ITEM + claim_id))

Scenario = Callable[[Author, Author, Author], list[bytes]]


def title(text: str, item: bytes = ITEM) -> WriteTuple:
    """A write of an item's title."""
    return (1, item, 1, text, None)


def member(key: Key, role: int, more: dict[int, Any] | None = None) -> WriteTuple:
    """A member record."""
    return (3, key.public, 1, {1: role} | (more or {}), None)


def admit(admin: Author) -> bytes:
    """The admin's first segment: the genesis op and two agents."""
    admin.op(kind=2)
    admin.op(member(BEE, 2), member(CAT, 2))
    return admin.cut()


def _empty(_admin: Author, _bee: Author, _cat: Author) -> list[bytes]:
    return []


def _every_field(admin: Author, _bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    admin.op(
        (1, ITEM, 1, "t" * 200, None),
        (1, ITEM, 2, "b" * 1000, None),
        (1, ITEM, 3, [3, "f" * 255, 2**32 - 1], (0, 1, STRONG)),
        (1, ITEM, 4, {"result": "ok", "deep": {"1": [2**64 - 1]}}, (0, 1, STRONG)),
        (1, ITEM, 5, ["l" * 64] * 32, None),
        (1, ITEM, 6, -(2**63), None),
        (1, ITEM, 7, [id16(n) for n in range(64)], None),
        (1, ITEM, 8, 2**64 - 1, None),
        (1, ITEM, 9, None, None),
        (1, ITEM, 10, 2**53 + 1, (0, 1, STRONG)),
    )
    admin.op((1, SECOND, 3, [0], None), (1, SECOND, 9, {"why": "later"}, None), (1, SECOND, 6, 2**63 - 1, None))
    for index, stage in enumerate(([0], [1], [2], [3, "b", 1], [4, 0, bytes(20)], [4, 2**64 - 1, bytes(32)], [5, 1, 0], [5, 1, 5])):
        admin.op((1, id16(100 + index), 3, stage, None))
    admin.op((2, ITEM, 1, claim(ADMIN.public, STRONG, extra={9: "r", 10: b"", 11: WEAK, 12: [1], 2**64 - 1: None}), None))
    admin.op((3, CAT.public, 1, {1: 4, 2: "c" * 64, 3: [1, 1, bytes(32)], 4: "later"}, None))
    admin.op((4, ADMIN.public, 1, "n" * 64, None), (4, ADMIN.public, 2, {"os": "linux"}, None))
    admin.op((6, THIRD, 1, {"node": ADMIN.public, "exit": 0}, None))
    admin.op((5, id16(4), 1, {"reason": "spam"}, None))
    return [first, admin.cut()]


def _equal_lamports(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op(title("bee"), lamport=10)
    cat.op(title("cat"), lamport=10)
    return [first, bee.cut(), cat.cut()]


def _identical_ops(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    again = Author(GENESIS, CAT, 2)
    for author in (bee, cat, again):
        author.op(title("same"), (5, SECOND, 1, {"why": "same"}, None), lamport=10)
    assert bee.bodies == cat.bodies == again.bodies
    return [first, *(author.cut() for author in sorted((bee, cat, again), key=lambda author: author.key.public, reverse=True))]


def _one_op_twice_one_register(admin: Author, _bee: Author, _cat: Author) -> list[bytes]:
    admin.op(title("first"), title("second"))
    admin.op((1, ITEM, 3, [1], (0, 2, STRONG)), (1, ITEM, 3, [2], (0, 1, STRONG)))
    admin.op((5, SECOND, 1, {"n": "first"}, None), (5, SECOND, 1, {"n": "second"}, None))
    return [admin.cut()]


def _fence_over_clock(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op((1, ITEM, 3, [2], (0, 2, WEAK)))
    cat.op((1, ITEM, 3, [1], (0, 1, STRONG)), lamport=1000)
    admin.op((1, ITEM, 3, [0], None), lamport=5000)
    return [first, bee.cut(), cat.cut(), admin.cut()]


def _receipt_over_epoch(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op((2, ITEM, 1, claim(BEE.public, WEAK, receipt=1), None), (1, ITEM, 3, [1], (1, 1, WEAK)))
    cat.op((2, ITEM, 1, claim(CAT.public, STRONG, epoch=9, state=2), None), (1, ITEM, 3, [2], (0, 9, STRONG)), lamport=50)
    return [first, bee.cut(), cat.cut()]


def _rank(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op((2, ITEM, 1, claim(BEE.public, STRONG), None), (1, ITEM, 3, [1], (0, 1, STRONG)))
    cat.op((2, ITEM, 1, claim(CAT.public, WEAK, state=2), None), (1, ITEM, 3, [2], (0, 1, WEAK)), lamport=50)
    return [first, bee.cut(), cat.cut()]


def _zero_fence_over_none(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op((1, ITEM, 10, 1, (0, 0, WEAK)))
    admin.op((1, ITEM, 10, 2, None), lamport=900)
    return [first, bee.cut(), admin.cut()]


def _released(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op((2, ITEM, 1, claim(BEE.public, STRONG), None))
    bee.op((2, ITEM, 1, claim(BEE.public, STRONG, state=2), None))
    bee.op((2, ITEM, 1, claim(BEE.public, STRONG, state=1), None), lamport=99)
    released = [first, bee.cut()]
    cat.op((2, SECOND, 1, claim(CAT.public, STRONG, state=2), None))
    cat.op((2, SECOND, 1, claim(CAT.public, WEAK, epoch=2, extra={11: STRONG}), None))
    return [*released, cat.cut()]


def _tombstone(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op(title("early"), (6, ITEM, 1, {"node": BEE.public}, None), (6, THIRD, 1, {"node": BEE.public, "item": ITEM}, None))
    bee.op((2, ITEM, 1, claim(BEE.public, STRONG), None))
    cat.op((5, ITEM, 1, {"by": "cat"}, None), lamport=20)
    admin.op((5, ITEM, 1, {"by": "admin"}, None), lamport=30)
    bee.op(title("late"), title("other", SECOND), lamport=500)
    return [first, bee.cut(), cat.cut(), admin.cut()]


def _clock_step(admin: Author, _bee: Author, _cat: Author) -> list[bytes]:
    admin.op(title("one"), lamport=STEP_MAX)
    admin.op(title("one step and one: void"), lamport=2 * STEP_MAX + 1)
    admin.op(title("not above: void"), lamport=STEP_MAX)
    admin.op(title("absurd: void"), lamport=2**53)
    admin.op(title("two"), lamport=2 * STEP_MAX)
    admin.op(title("after"))
    return [admin.cut()]


def _void(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    bad: list[WriteTuple] = [
        title("t" * 201),
        title("ü" * 101),
        (1, ITEM, 1, b"bytes", None),
        (1, ITEM, 1, "fenced where none belongs", (0, 1, STRONG)),
        title("short id", ITEM[:15]),
        title("long id", ITEM + b"x"),
        (1, ITEM, 2, "b" * 32769, None),
        (1, ITEM, 3, "Backlog", None),
        (1, ITEM, 3, [0, 0], None),
        (1, ITEM, 3, [6], None),
        (1, ITEM, 3, [], None),
        (1, ITEM, 3, [True], None),
        (1, ITEM, 3, [3, "", 1], None),
        (1, ITEM, 3, [3, "b", 0], None),
        (1, ITEM, 3, [3, "b", 2**32], None),
        (1, ITEM, 3, [3, "b" * 256, 1], None),
        (1, ITEM, 3, [4, 0, bytes(21)], None),
        (1, ITEM, 3, [4, -1, bytes(20)], None),
        (1, ITEM, 3, [5, 0, 6], None),
        (1, ITEM, 3, [5, 0], None),
        (1, ITEM, 4, None, None),
        (1, ITEM, 4, {1: 2}, None),
        (1, ITEM, 5, ["l"] * 33, None),
        (1, ITEM, 5, ["l" * 65], None),
        (1, ITEM, 5, "l", None),
        (1, ITEM, 6, 2**63, None),
        (1, ITEM, 6, True, None),
        (1, ITEM, 7, [id16(0)] * 65, None),
        (1, ITEM, 7, [bytes(15)], None),
        (1, ITEM, 8, -1, None),
        (1, ITEM, 9, False, None),
        (1, ITEM, 10, -1, None),
        (2, ITEM, 1, claim(CAT.public, STRONG), None),
        (2, ITEM, 1, claim(BEE.public, STRONG, state=3), None),
        (2, ITEM, 1, claim(BEE.public, STRONG[:15]), None),
        (2, ITEM, 1, claim(BEE.public, STRONG, epoch=-1), None),
        (2, ITEM, 1, claim(BEE.public, STRONG, extra={"x": 1}), None),
        (2, ITEM, 1, claim(BEE.public, STRONG, extra={0: 1}), None),
        (2, ITEM, 1, claim(BEE.public, STRONG, extra={10: "text"}), None),
        (2, ITEM, 1, {key: value for key, value in claim(BEE.public, STRONG).items() if key != 8}, None),
        (2, ITEM, 1, claim(BEE.public, STRONG), (0, 1, STRONG)),
        (3, CAT.public, 1, {1: 4}, None),
        (4, CAT.public, 1, "not mine", None),
        (4, BEE.public, 1, "n" * 65, None),
        (4, BEE.public, 2, {b"k": 1}, None),
        (5, ITEM, 1, None, None),
        (5, ITEM + ITEM, 1, {}, None),
        (6, THIRD, 1, {"node": CAT.public}, None),
        (6, THIRD, 1, {}, None),
        (6, THIRD, 1, {"node": BEE.public[:31]}, None),
    ]
    for index, write in enumerate(bad):
        bee.op(title(f"beside {index}", id16(200 + index)), write)
    bee.op(title("still counted"))
    admin.op((3, BEE.public, 1, {1: 5}, None), title("beside"))
    admin.op((3, BEE.public, 1, {1: 2, 2: "n" * 65}, None))
    admin.op((3, BEE.public, 1, {1: 2, 3: [0, 1, bytes(32)]}, None))
    admin.op((3, BEE.public[:31], 1, {1: 2}, None))
    return [first, bee.cut(), admin.cut()]


def _kinds(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    admin.op(member(BEE, 2), member(CAT, 2), kind=2)
    admin.op(title("genesis twice"), kind=2)
    admin.op(title("unknown op kind"), kind=77)
    admin.op((1, ITEM, 99, "unknown field", None), (99, ITEM, 1, "unknown kind", (1, 1, WEAK)), (1, b"?", 77, 0, None), title("known"), extra={9: "unknown"})
    bee.op(title("genesis by another"), kind=2)
    bee.op(title("opening in the middle"), kind=3, follows=(1, 1, bytes(32)))
    bee.op(title("follows without opening"), follows=(1, 1, bytes(32)))
    bee.op(title("fine", SECOND))
    cat.op(title("opening without follows", THIRD), kind=3)
    cat.op(title("fine", id16(4)))
    opened = Author(GENESIS, BEE, 2)
    opened.op(title("opened", id16(5)), lamport=40, kind=3, follows=(1, 4, bee.segment(1, 4)[-32:]))
    return [admin.cut(), bee.cut(), cat.cut(), opened.cut()]


def _chain(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    mesh = bee.genesis.mesh_id
    bee.op(title("one"))
    bee.op(title("two"))
    bee.op(title("three"))
    bee.op(title("four"))
    unknown = bee.segment(1, 1)
    first = admit(admin)
    other = [*bee.bodies[:2], op_encode(3, 9, [title("fork")])]
    head2 = log_start(mesh, BEE.public, 1)
    for body in bee.bodies[:2]:
        head2 = digest(head2 + digest(body))
    return [
        unknown,
        first,
        bee.segment(2, 3),
        bee.segment(1, 2),
        bee.segment(1, 2),
        bee.segment(1, 1),
        sign_segment(ADMIN, mesh, 1, 1, bytes(32), [op_encode(1, 1)]),
        bee.segment(2, 3),
        sign_segment(BEE, mesh, 1, 3, head2, other[2:]),
        sign_segment(BEE, mesh, 1, 4, digest(b"elsewhere"), bee.bodies[3:]),
        bee.segment(4, 4)[:-1],
        bee.segment(4, 4)[:-1] + b"\x00",
        bee.segment(1, 4),
    ]


def _members(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    bee.op(title("bee"))
    bee.op(title("bee, later"))
    cat.op(title("cat", SECOND))
    admin.op(kind=2)
    admin.op(member(BEE, 1))
    one = admin.cut()
    admin.op(member(BEE, 0))
    two = admin.cut()
    admin.op(member(CAT, 0))
    three = admin.cut()
    return [cat.segment(1, 1), one, bee.segment(1, 1), two, bee.segment(2, 2), three, cat.segment(1, 1)]


def _two_branches(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    for text in ("trunk", "left", "left again"):
        bee.op(title(text))
    right = bee.branch(1)
    right.op(title("right"), (1, SECOND, 6, 7, None), lamport=9)
    right.op((5, THIRD, 1, {"why": "deleted on one branch"}, None))
    bee.op(title("written by the other branch", THIRD), lamport=99)
    twig = right.branch(2)
    twig.op((1, SECOND, 6, 8, None), lamport=11)
    return [first, right.segment(2, 3), bee.segment(1, 2), twig.segment(1, 3), bee.segment(2, 4), right.segment(1, 3), right.segment(3, 3)]


def _fork_at_the_first_op(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op(title("one"), lamport=3)
    other = bee.branch(0)
    other.op(title("another"), lamport=3)
    admins = admin.branch(1)
    admins.op(member(BEE, 1), title("the admin's disk was copied too", SECOND))
    return [first, bee.cut(), other.cut(), admins.cut()]


def _one_body_on_two_branches(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op(title("trunk"))
    low, high = bee.branch(1), bee.branch(1)
    low.op(title("low", SECOND), lamport=5)
    high.op(title("high", SECOND), lamport=2 * 10**7 - STEP_MAX)
    body = low.op(title("a full step from one, too far from the other"), lamport=2 * 10**7)
    high.copy(body)
    for path in (low, high):
        path.op(title("after", THIRD))
    return [first, bee.cut(), low.segment(2, 4), high.segment(2, 4)]


def _opening_after_a_fork(admin: Author, bee: Author, _cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op(title("shared"))
    copy = bee.branch(1)
    bee.op(title("home"))
    copy.op(title("copy"))
    again = Author(GENESIS, BEE, 2**32 | 99)
    head = segment_decode(bee.segment(1, 2)).head
    again.op(kind=3, follows=(1, 2, head), lamport=3)
    again.op(title("goes on in an epoch of its own"))
    writing = Author(GENESIS, BEE, 2**33 | 1)
    writing.op(title("an opening may write", SECOND), kind=3, follows=(2**32 | 99, 2, segment_decode(again.segment(1, 2)).head), lamport=8)
    late = writing.branch(0)
    late.op(title("not an opening, at the first place", SECOND), lamport=9)
    return [first, bee.cut(), copy.cut(), again.cut(), writing.cut(), late.cut()]


def _suspended(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    first = admit(admin)
    bee.op(title("no effect at last"))
    cat.op(title("cat", SECOND))
    twigs = []
    for number in range(HEADS_MAX + 2):
        twig = bee.branch(1)
        twig.op((1, ITEM, 6, number, None), lamport=1000 + number)
        twigs.append(twig.cut())
    bee.op(title("after"))
    return [first, bee.segment(1, 1), cat.cut(), *twigs[:-1], twigs[-1], bee.segment(2, 2), bee.segment(1, 1), twigs[0]]


def _crowded_admin(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    admin.op(kind=2)
    bee.op(title("bee"), lamport=2000)
    cat.op(title("cat", SECOND))
    twigs = []
    for number in range(HEADS_MAX + 2):
        twig = admin.branch(1)
        writes = [(1, ITEM, 6, number, None), *([member(BEE, 2)] if number == 5 else []), *([member(CAT, 2)] if number == HEADS_MAX + 1 else [])]
        twig.op(*writes, lamport=1000 + number)
        twigs.append(twig.cut())
    admin.op(title("goes on", THIRD))
    return [cat.segment(1, 1), admin.segment(1, 1), *twigs[:-1], cat.segment(1, 1), bee.cut(), twigs[-1], cat.cut(), admin.segment(2, 2), twigs[0]]


def _steps_and_requests(admin: Author, bee: Author, cat: Author) -> list[bytes]:
    nowhere = [1, 1, bytes(32)]
    admin.op(kind=2)
    admin.op(member(BEE, 2, {3: nowhere}), member(CAT, 1, {3: nowhere}))
    full = step(ITEM, "n" * 100, 1, {8: bytes(20), 9: 0, 11: True, 12: "c" * 1000, 13: None})
    bee.op((8, step_id(ITEM, "n" * 100), 1, full, (0, 1, WEAK)), (8, step_id(ITEM, "build"), 1, step(ITEM, "build"), (0, 1, WEAK)))
    # Of claims of one receipt and epoch the winner's step wins, as its stage does: the rank is of the item, not of the register's id.
    bee.op((8, step_id(ITEM, "build"), 1, step(ITEM, "build", 2), (0, 1, STRONG)), lamport=20)
    bee.op((8, step_id(ITEM, "build"), 1, step(ITEM, "build", 1, {8: bytes(32)}), (0, 1, WEAK)), lamport=30)
    bee.op((8, step_id(ITEM, "build"), 1, step(ITEM, "test"), (9, 9, WEAK)), title("void: an agent writes no titles"), lamport=40)
    # What an agent may not answer has no effect, and voids nothing; nor does a reader's question, or a step that says another name than its id.
    bee.op((9, THIRD, 1, QUESTION, None), (9, THIRD, 2, {1: "yes", 2: 6, 4: "person"}, None), lamport=50)
    bee.op((8, step_id(SECOND, "build"), 1, step(SECOND, "test"), None), (1, ITEM, 10, 3, (0, 1, WEAK)), lamport=60)
    cat.op((9, SECOND, 1, QUESTION, None), (4, CAT.public, 1, "counts", None), lamport=70)
    admin.op((9, SECOND, 2, {1: "no", 2: 6, 3: "note", 4: "person"}, None), (9, SECOND, 3, {"why": "asked twice"}, None), lamport=80)
    return [admin.segment(1, 2), bee.cut(), cat.cut(), admin.segment(3, 3)]


SCENARIOS: list[tuple[str, Scenario]] = [
    ("steps and requests: ranks, roles, ids", _steps_and_requests),
    ("empty", _empty),
    ("every field at its limit", _every_field),
    ("equal lamports: the digest decides", _equal_lamports),
    ("byte-identical ops of two authors: the higher key and epoch have written it", _identical_ops),
    ("one op writes one register twice", _one_op_twice_one_register),
    ("a fence beats any clock", _fence_over_clock),
    ("a receipt beats any epoch", _receipt_over_epoch),
    ("of equal claims the rank decides, for the stage too", _rank),
    ("any fence beats none", _zero_fence_over_none),
    ("released beats confirmed beats tentative", _released),
    ("deleted stays deleted", _tombstone),
    ("clock steps", _clock_step),
    ("void ops", _void),
    ("op kinds", _kinds),
    ("chain outcomes", _chain),
    ("admission and revocation", _members),
    ("two branches, and a branch of one: all have effect", _two_branches),
    ("forks at the first op, and of the admin's log", _fork_at_the_first_op),
    ("one body on two branches, void on one of them", _one_body_on_two_branches),
    ("a new epoch after a fork", _opening_after_a_fork),
    ("too many heads: the log has no effect, nothing more is taken", _suspended),
    ("the admin's log has any number of heads, all with effect", _crowded_admin),
]


def _shown(marker: tuple[int, bytes]) -> tuple[int, str]:
    return marker[0], marker[1].hex()


def play(name: str, genesis: bytes, segments: list[bytes], keys: list[bytes]) -> dict[str, Any]:
    """A scenario as it stands in a vector file; ``keys``: those whose roles it shows."""
    world = World(genesis)
    steps = []
    for data in segments:
        try:
            verdict = world.offer(data)
            steps.append({"hex": data.hex(), "verdict": verdict.outcome, "stored": verdict.stored, "duplicates": verdict.duplicates, "forked": verdict.forked})
        except Refused as error:
            steps.append({"hex": data.hex(), "verdict": error.verdict, "stored": 0, "duplicates": 0, "forked": 0})
    state = world.state
    registers = []
    for (kind, id_, field), touch in sorted(state.winners.items()):
        registers.append(
            {
                "register": [kind, id_.hex(), field],
                "value": encode(touch.write.value).hex(),
                "lamport": touch.op.lamport,
                "digest": touch.op.digest.hex(),
                "author": touch.author.hex(),
                "epoch": touch.epoch,
                "seq": touch.op.seq,
            }
        )
    return {
        "name": name,
        "steps": steps,
        "state_digest": state.state_digest().hex(),
        "frontier_digest": world.frontier_digest().hex(),
        "lamport": state.lamport,
        "ops": sum(len(tree) for tree in world.logs.values()),
        "heads": [[author.hex(), epoch, end.op.seq, end.head.hex()] for author, epoch in sorted(world.logs) for end in world.heads(author, epoch)],
        "suspended": [[author.hex(), epoch] for author, epoch in sorted(state.suspended)],
        "markers": [[author.hex(), epoch, *_shown(marker)] for author, epoch in sorted(world.logs) if (marker := world.marker(author, epoch))],
        "void": [[author.hex(), epoch, seq] for author, epoch, seq in sorted(state.void)],
        "members": [[key.hex(), state.authority.role(key), state.authority.levels.get(key), state.named(key)] for key in keys],
        "deleted": sorted(item.hex() for item in state.deleted),
        "registers": registers,
    }


def cases() -> dict[str, Any]:
    """The content of ``merge-v1.json``."""

    def written(scenario: Scenario) -> list[bytes]:
        return scenario(Author(GENESIS, ADMIN), Author(GENESIS, BEE), Author(GENESIS, CAT))

    keys = [key.public for key in (ADMIN, BEE, CAT)]
    return {"genesis": GENESIS.hex(), "scenarios": [play(name, GENESIS, written(scenario), keys) for name, scenario in SCENARIOS]}
