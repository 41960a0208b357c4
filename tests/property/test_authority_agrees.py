"""Who may write what: the core and the twin agree on any records, cuts, forks and rotations, in any order of delivery."""

from __future__ import annotations

from random import Random

import pytest
from fabrik_twin.author import Author
from fabrik_twin.compare import Held, same
from fabrik_twin.op import WriteTuple
from fabrik_twin.schema import step_id
from fabrik_twin.world import World
from fabrik_twin.worlds import REQUEST_VALUES, step
from hypothesis import given
from hypothesis import strategies as st
from vectors.authority_cases import ADMIN, AFTER, BEE, CAT, DOG, GENESIS, NEXT, RECOVERY, Place, head, log, record, rotation, title

STEP = step_id(bytes(16), "build")
WRITERS = [ADMIN, ADMIN, BEE, BEE, BEE, CAT, CAT, DOG, RECOVERY, NEXT, AFTER]
SUBJECTS = [ADMIN, BEE, BEE, CAT, CAT, DOG, NEXT, AFTER]


class Story:
    """Random logs whose records name ops that were there when they were written."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.logs: list[Author] = []
        self.places: dict[bytes, list[Place]] = {}
        self.seen: set[str] = set()

    def tell(self, ops: int) -> list[Author]:
        """So many ops by anybody."""
        for _ in range(ops):
            author = self._author()
            author.op(*self._writes(author), lamport=author.clock + self.rng.choice([1, 1, 2, 7]))
            self.places.setdefault(author.key.public, []).append(head(author))
        return [log for log in self.logs if log.bodies]

    def _author(self) -> Author:
        key = self.rng.choice(WRITERS)
        epoch = self.rng.choice([1, 1, 1, 1, 2])
        own = [log for log in self.logs if (log.key.public, log.epoch) == (key.public, epoch)]
        if own and self.rng.random() < 0.2:
            base = self.rng.choice(own)
            self.logs.append(base.branch(self.rng.randint(0, len(base.bodies))))
        elif own:
            return self.rng.choice(own)
        else:
            self.logs.append(log(key, epoch))
        return self.logs[-1]

    def _some(self, key: bytes) -> list[Place]:
        held = self.places.get(key, [])
        return self.rng.sample(held, min(len(held), self.rng.choice([0, 1, 1, 2])))

    def _writes(self, author: Author) -> list[WriteTuple]:
        rng = self.rng
        if rng.random() < 0.4:
            own: WriteTuple = (4, author.key.public, 1, "name", None)
            later: list[WriteTuple] = [(8, STEP, 1, step(bytes(16), "build", rng.randint(0, 3)), None), (9, bytes(16), *rng.choice(REQUEST_VALUES), None)]
            return rng.sample([title(rng.randint(1, 3)), (1, bytes(16), 3, [1], None), own, (1, bytes(16), 99, 0, None), *later], 2)
        if rng.random() < 0.15:
            return [rotation(author, rng.choice([NEXT, AFTER, DOG]), *self._some(author.key.public), next_key=rng.choice([None, AFTER, DOG]))]
        subject = rng.choice(SUBJECTS)
        if rng.random() < 0.1:
            return [(3, subject.public, 1, {1: rng.randint(0, 4)}, None)]
        found = [record(subject, rng.choice([0, 0, 1, 2, 3, 4, 4, 4]), *self._some(subject.public), next_key=rng.choice([None, NEXT, AFTER, DOG]))]
        return [*found, title(9)] if rng.random() < 0.1 else found


@pytest.mark.promise("I14", "E28")
@given(st.integers(0, 2**32))
def test_any_route_ends_in_the_twins_answer(seed: int) -> None:
    rng = Random(seed)
    logs = Story(rng).tell(rng.randint(1, 26))
    pieces = [piece for author in logs for piece in author.split([rng.randint(0, len(author.bodies)) for _ in range(3)])]
    world = World(GENESIS)
    for author in logs:
        world.offer(author.segment(1, len(author.bodies)), admit_all=True)
    for _ in range(2):
        held = Held(GENESIS)
        waiting = list(pieces)
        while waiting:
            rng.shuffle(waiting)
            waiting = [piece for piece in waiting if held.take([piece], admit_all=True).gaps]
        same(held.replica, world)


@pytest.mark.promise("I14")
@given(st.integers(0, 2**32))
def test_what_is_taken_by_the_rules_is_the_same_in_any_order(seed: int) -> None:
    rng = Random(seed)
    pieces = [author.segment(1, len(author.bodies)) for author in Story(rng).tell(rng.randint(1, 20))]
    ends = []
    for _ in range(2):
        held, world, waiting, before = Held(GENESIS), World(GENESIS), list(pieces), -1
        while len(waiting) != before:
            rng.shuffle(waiting)
            before = len(waiting)
            waiting = [piece for piece in waiting if held.take([piece]).unknown]
        for piece in sorted(pieces):
            if piece not in waiting:
                world.offer(piece, admit_all=True)
        same(held.replica, world)
        ends.append((held.replica.state_digest(), held.replica.frontier_digest()))
    assert ends[0] == ends[1]
