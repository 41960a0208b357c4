"""Two sessions on one table, frames passed by hand: for tests that look at, change or withhold single frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sim.toy_store import Signer, ToyStore
from sim.world import MESH

from fabrik_sync import Event, Join, Limits, LogId, Session, Wants
from fabrik_sync.frames import Frame
from fabrik_sync.parsing import decode_frame


@dataclass
class Side:
    signer: Signer
    store: ToyStore

    @property
    def log(self) -> LogId:
        return LogId(self.signer.public, 1)

    def connect(
        self,
        *,
        mesh: bytes = MESH,
        limits: Limits | None = None,
        expected_key: bytes | None = None,
        join: Join | None = None,
        wants: Wants | None = None,
        own_cert: bytes = b"",
        peer_cert: bytes = b"",
        cert_key: bytes = b"",
    ) -> Session:
        return Session.connect(
            identity=self.signer,
            mesh=mesh,
            replica=self.store,
            now=0.0,
            limits=limits,
            expected_key=expected_key,
            join=join,
            wants=wants,
            own_cert=own_cert,
            peer_cert=peer_cert,
            cert_key=cert_key,
        )

    def accept(
        self,
        *,
        limits: Limits | None = None,
        unknown_key_hint: str = "",
        wants: Wants | None = None,
        own_cert: bytes = b"",
        peer_cert: bytes = b"",
        cert_key: bytes = b"",
        token_id: bytes = b"",
    ) -> Session:
        return Session.accept(
            identity=self.signer,
            mesh=MESH,
            replica=self.store,
            now=0.0,
            limits=limits,
            unknown_key_hint=unknown_key_hint,
            wants=wants,
            own_cert=own_cert,
            peer_cert=peer_cert,
            cert_key=cert_key,
            token_id=token_id,
        )


def members(*names: str) -> list[Side]:
    """Sides that admit each other."""
    signers = [Signer(name.encode()) for name in names]
    keys = {signer.public for signer in signers}
    sides = [Side(signer, ToyStore(signers[0].public)) for signer in signers]
    for side in sides:
        side.store.members |= keys
    return sides


def stranger(name: str) -> Side:
    """A side that admits only itself."""
    signer = Signer(name.encode())
    return Side(signer, ToyStore(signer.public))


def frames(session: Session) -> list[bytes]:
    """Everything that it wants to send."""
    result = []
    while (frame := session.poll_frame()) is not None:
        result.append(frame)
    return result


def parsed(session: Session) -> list[Frame]:
    return [decode_frame(frame) for frame in frames(session)]


def feed(session: Session, data: list[bytes], now: float = 0.0) -> None:
    for frame in data:
        session.receive_frame(frame, now)


def shuttle(a: Session, b: Session, now: float = 0.0) -> list[bytes]:
    """Pass frames both ways until both are quiet; all of them in order. Events and reads stay for the test."""
    seen: list[bytes] = []
    while True:
        there, back = frames(a), frames(b)
        if not there and not back:
            return seen
        feed(b, there, now)
        feed(a, back, now)
        seen += [*there, *back]


def ready(left: Side, right: Side, *, limits: Limits | None = None) -> tuple[Session, Session]:
    """Two sessions after the handshake and the first exchange."""
    a, b = left.connect(limits=limits), right.accept(limits=limits)
    shuttle(a, b)
    return a, b


def only(session: Session, kind: type[Event]) -> Any:
    """The one event of this class among those that wait."""
    found = [event for event in session.poll_events() if isinstance(event, kind)]
    assert len(found) == 1, found
    return found[0]
