"""Hypothesis strategies: small meshes whose authors write over few ids, so that everything collides with everything."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from fabrik_twin.author import Author, claim, id16, new_genesis, seed
from fabrik_twin.merge import STEP_MAX
from fabrik_twin.op import GENESIS, OPENING, WRITE, Fence, Key, WriteTuple
from fabrik_twin.schema import step_id

KEYS = [Key(seed(number)) for number in range(5)]
"""Key 0 is the genesis admin; the last one is never a member."""
MESH_GENESIS = new_genesis(KEYS[0])
ITEMS = [id16(number) for number in range(2)]
CLAIMS = [id16(50 + number) for number in range(3)]
RUNS = [id16(80 + number) for number in range(2)] + ITEMS[1:]
"""The last one shares its id with an item, as if by accident. Items after the first are deleted now and then."""

BIG = [0, 1, 2**53 + 1, 2**63 - 1]
ITEM_VALUES: dict[int, list[Any]] = {
    1: ["a", "b", ""],
    2: ["", "body"],
    3: [[0], [1], [2], [3, "branch", 1], [4, 5, bytes(20)], [5, 5, 1]],
    4: [{}, {"result": "ok"}, {"n": 2**64 - 1, "m": -(2**63)}],
    5: [[], ["x"], ["x", "y"]],
    6: [*BIG, -1, -(2**53) - 1, -(2**63)],
    7: [[], ITEMS[:1]],
    8: [*BIG, 2**64 - 1],
    9: [None, {"why": "held"}, {"why": "failed", "claim": CLAIMS[1]}],
    10: [*BIG, 2**64 - 1],
    11: [None, {"why": "cancelled"}],
    12: [None, *({"why": "failed", "claim": each} for each in CLAIMS[:2])],
}
FENCED = (3, 4, 10, 12)
_ENDED: tuple[dict[int, Any], ...] = ({}, {15: True}, {11: CLAIMS[1], 15: True})
_STAGES = ([1], [2], [3, "found", 2], [5, 5, 0], [9], [1, 1], [True], [3, "found", 0], "Coding")
FOUND: list[dict[int, Any]] = [{}, {}, {13: [2, 1]}, {13: [2, -1]}, *({13: [2, 1], 14: stage} | _ENDED[number % 3] for number, stage in enumerate(_STAGES))]
"""What a claim says that it found, and what it can not have found."""
STEPS = [(item, name) for item in ITEMS for name in ("build", "test")]


def step(item: bytes, name: str, state: int = 0, more: dict[int, Any] | None = None) -> dict[int, Any]:
    """The value of a step."""
    return {1: item, 2: name, 3: state, 4: bytes(32), 5: 1, 6: CLAIMS[0], 7: RUNS[0], 10: 5} | (more or {})


QUESTION: dict[int, Any] = {1: ITEMS[0], 2: RUNS[0], 3: CLAIMS[0], 4: "may I?", 5: ["yes", "no"], 6: 1000, 7: "no", 8: 5}
REQUEST_VALUES: list[tuple[int, Any]] = [
    (1, QUESTION),
    (2, {1: "yes", 2: 6, 4: "person"}),
    (2, {1: "no", 2: 7, 3: "not now", 4: "timeout", 9: None}),
    (3, {}),
]

BAD_WRITES: list[WriteTuple] = [
    (1, ITEMS[0], 1, "t" * 201, None),
    (1, ITEMS[0], 1, "fenced", (1, 1, CLAIMS[0])),
    (1, ITEMS[0][:15], 1, "short id", None),
    (1, ITEMS[1], 3, "Backlog", None),
    (1, ITEMS[1], 3, [3, "branch", 0], None),
    (1, ITEMS[1], 6, 2**63, None),
    (2, ITEMS[0], 1, {1: CLAIMS[0]}, None),
    (1, ITEMS[0], 11, {"why": "fenced"}, (1, 1, CLAIMS[0])),
    (1, ITEMS[0], 12, "held", (1, 1, CLAIMS[0])),
    (5, ITEMS[0], 1, None, None),
    (6, RUNS[0], 1, {"node": bytes(32)}, None),
    (8, step_id(ITEMS[0], "build"), 1, step(ITEMS[0], "test"), None),
    (8, step_id(ITEMS[0], "build"), 1, step(ITEMS[0], "build", 4), None),
    (8, step_id(ITEMS[0], "build"), 1, step(ITEMS[0], "build", 1, {8: bytes(21)}), None),
    (9, RUNS[0], 1, {key: value for key, value in QUESTION.items() if key != 4}, None),
    (9, RUNS[0], 2, {1: "yes", 2: 6, 4: "person"}, (1, 1, CLAIMS[0])),
]
UNKNOWN_WRITES: list[WriteTuple] = [
    (1, ITEMS[0], 200, {"later": [1, None]}, None),
    (77, b"?", 1, -(2**63), (9, 9, CLAIMS[0])),
    (3, KEYS[1].public, 9, "later", None),
]


@dataclass(frozen=True)
class Mesh:
    """Finished logs of one mesh, the admin's first. The admin's first op admits all of them. A forked log is there once for each of its branches, whole paths."""

    logs: list[Author]

    @property
    def genesis(self) -> bytes:
        """The genesis record."""
        return MESH_GENESIS

    def segments(self, rng: Random) -> list[list[bytes]]:
        """Each log cut at random places, each piece signed by its author."""
        return [author.split(rng.sample(range(1, len(author.bodies) + 1), rng.randint(0, len(author.bodies)))) for author in self.logs]


fences: st.SearchStrategy[Fence | None] = st.none() | st.tuples(st.sampled_from([0, 0, 0, 1]), st.integers(0, 2), st.sampled_from(CLAIMS))

FORMS = ("title", "title", "item", "item", "stage", "stage", "claim", "claim", "claim", "tombstone", "run", "node", "step", "request")
WILD_FORMS = (*FORMS, "member", "unknown", "bad", "bad")


@st.composite
def writes(draw: st.DrawFn, author: bytes, lowest_role: int = 1, wild: bool = True) -> WriteTuple:
    """One write; unless ``wild`` it is legal for ``author``. With ``lowest_role`` 0 it may revoke a member."""
    form = draw(st.sampled_from(WILD_FORMS if wild else FORMS))
    item = draw(st.sampled_from(ITEMS))
    if form == "title":
        return (1, item, 1, draw(st.sampled_from(ITEM_VALUES[1])), None)
    if form == "item":
        field = draw(st.sampled_from(sorted(ITEM_VALUES)))
        return (1, item, field, draw(st.sampled_from(ITEM_VALUES[field])), draw(fences) if field in FENCED else None)
    if form == "stage":
        return (1, item, 3, draw(st.sampled_from(ITEM_VALUES[3])), draw(fences))
    if form == "claim":
        receipt, epoch, state = draw(st.tuples(st.sampled_from([0, 0, 0, 1]), st.sampled_from([1, 1, 2]), st.integers(0, 2)))
        found = draw(st.sampled_from(FOUND))
        return (2, item, 1, claim(author, draw(st.sampled_from(CLAIMS[:2])), receipt=receipt, epoch=epoch, state=state, extra=found), None)
    if form == "tombstone":
        return (5, draw(st.sampled_from(RUNS)), 1, {"reason": draw(st.sampled_from("ab"))}, None)
    if form == "run":
        return (6, draw(st.sampled_from(RUNS)), 1, {"node": author, "exit": draw(st.integers(0, 2))}, None)
    if form == "node":
        return (4, author, *draw(st.sampled_from([(1, "n1"), (1, "n2"), (2, {"os": "linux"})])), None)
    if form == "step":
        item, name = draw(st.sampled_from(STEPS))
        return (8, step_id(item, name), 1, step(item, name, draw(st.integers(0, 3))), draw(fences))
    if form == "request":
        return (9, draw(st.sampled_from(RUNS)), *draw(st.sampled_from(REQUEST_VALUES)), None)
    if form == "member":
        return (3, draw(st.sampled_from(KEYS[1:])).public, 1, {1: draw(st.integers(lowest_role, 4))}, None)
    return draw(st.sampled_from(UNKNOWN_WRITES if form == "unknown" else BAD_WRITES))


CALM = ("next", "next", "next", "far", "seen")
WILD = ("next", "next", "next", "seen", "step", "beyond", "absurd", "stale")


def lamport(form: str, clock: int, seen: int) -> int:
    """A clock for the next op of a log at ``clock`` when ``seen`` is the highest of all."""
    choices = {
        "next": clock + 1,
        "far": clock + 3,
        "seen": max(clock, min(seen, clock + STEP_MAX - 1)) + 1,
        "step": clock + STEP_MAX,
        "beyond": clock + STEP_MAX + 1,
        "absurd": 2**53,
        "stale": clock,
    }
    return min(max(choices[form], 1), 2**53)


@st.composite
def meshes(draw: st.DrawFn, ops_max: int = 24, lowest_role: int = 1, branches_max: int = 0) -> Mesh:
    """One to four authors, perhaps a second epoch of one of them, up to ``ops_max`` ops in a random order of writing.

    Half of the meshes are wild: clocks that jump, void and unknown ops. In the others everything counts, so that everything competes.
    With ``lowest_role`` 0 members are revoked too, and then what is admitted depends on the order of delivery.
    With ``branches_max`` logs are forked on the way, branches of branches too; branches then grow side by side, and may write the same bytes.
    """
    count = draw(st.sampled_from([3, 2, 4, 1]))
    wild = draw(st.booleans())
    logs = [Author(MESH_GENESIS, key) for key in KEYS[:count]]
    logs[0].op(*((3, key.public, 1, {1: 2}, None) for key in KEYS[1:count]), kind=GENESIS)
    if draw(st.booleans()):
        again = Author(MESH_GENESIS, KEYS[count - 1], 2**33 + 5)
        again.op(kind=OPENING, follows=(1, 1, bytes(32)), lamport=draw(st.integers(1, 5)))
        logs.append(again)
    forks = draw(st.integers(0, branches_max))
    for left in range(draw(st.integers(0, ops_max)), 0, -1):
        author = draw(st.sampled_from(logs))
        if forks and author.bodies and (left <= forks or draw(st.integers(0, 2)) == 0):
            forks -= 1
            logs.append(author.branch(draw(st.integers(author is logs[0], len(author.bodies)))))
            author = logs[-1]
        at = len(author.bodies)
        others = [log.bodies[at] for log in logs if log is not author and (log.key, log.epoch) == (author.key, author.epoch) and len(log.bodies) > at > 0]
        if others and draw(st.integers(0, 3)) == 0:
            author.copy(draw(st.sampled_from(others)))
            continue
        clock = lamport(draw(st.sampled_from(WILD if wild else CALM)), author.clock, max(log.clock for log in logs))
        kind = draw(st.sampled_from([WRITE] * 9 + [GENESIS, 55])) if wild else WRITE
        author.op(*draw(st.lists(writes(author.key.public, lowest_role, wild), min_size=not wild, max_size=3)), lamport=clock, kind=kind)
    return Mesh([log for log in logs if log.bodies])
