"""What an attack has at hand, and the table that it stands in."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

from acceptance.fleet import NodeProcess
from fabrik_twin.author import Author
from fabrik_twin.op import Key
from hostile.raw import Ended, Peer, Wire

from fabrik_node.domain.token import JoinToken

__all__ = ["ATTACKS", "PLAIN", "Attack", "Kit", "attack"]

PLAIN = "ws://127.0.0.1:0"
"""Where the host listens: without TLS every byte is the attacker's to choose."""


class Kit:
    """A real node, the key of a member who is the attacker, and keys of nobody. Every epoch and key is used once."""

    def __init__(self, host: NodeProcess, second: NodeProcess) -> None:
        self.host = host
        self.second = second
        self.url = host.url
        token = self.invite()
        self.genesis = token.genesis
        self.mesh = bytes.fromhex(host.call("status")["mesh_id"])
        self.admin = token.issuer
        self._epochs = itertools.count(1)
        self.key = self.join(token)

    def invite(self, role: str = "peer") -> JoinToken:
        """A fresh token of the host."""
        return JoinToken.decode(self.host.call("invite", role=role, ttl_s=600.0, url=self.url)["token"])

    def join(self, token: JoinToken) -> Key:
        """A new member, by the front door."""
        key = stranger()
        with self.joiner(token, key) as peer:
            peer.greet(token_id=token.token_id).prove(token.secret)
        return key

    def joiner(self, token: JoinToken, key: Key) -> Peer:
        """A connection of one who has a token, and nothing proven yet."""
        return Peer(self.url, key, self.mesh, (token.token_id, token.secret))

    def author(self, key: Key | None = None) -> Author:
        """A fresh log of the attacker."""
        return Author(self.genesis, key or self.key, epoch=next(self._epochs))

    def wire(self) -> Wire:
        """A TCP connection."""
        return Wire(self.url)

    def peer(self, key: Key | None = None) -> Peer:
        """A WebSocket of the attacker, or of another key."""
        return Peer(self.url, key or self.key, self.mesh)

    def member(self) -> Peer:
        """A session of the attacker after the first exchange."""
        peer = self.peer().ready()
        peer.meet()
        return peer

    def lamport(self) -> int:
        """The host's clock."""
        return int(self.host.call("status")["lamport"])


def stranger() -> Key:
    """A key of nobody."""
    return Key(os.urandom(32))


@dataclass(frozen=True, slots=True)
class Attack:
    """``run`` gives the outcome: how the node ended the connection (see :class:`hostile.raw.Ended`), or ``ignored``. ``expected``: what it may be."""

    name: str
    room: str
    expected: tuple[str, ...]
    run: Callable[[Kit], str]


ATTACKS: list[Attack] = []


def attack(name: str, *expected: str) -> Callable[[Callable[[Kit], str]], Callable[[Kit], str]]:
    """Put a function into the table. One that raises ``Ended`` is how it ended."""

    def add(run: Callable[[Kit], str]) -> Callable[[Kit], str]:
        def guarded(kit: Kit) -> str:
            try:
                return run(kit)
            except Ended as end:
                return end.outcome

        ATTACKS.append(Attack(name, run.__module__.rpartition("_")[2], expected, guarded))
        return run

    return add
