"""``db dump``: all that a node holds, for people who look for a fault, one record after the other, and no secret in any of them.

What holds a secret is not read here: key files, invitations, the output of commands. The configuration comes redacted (:func:`fabrik_node.config.shown_config`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fabrik_node import __version__
from fabrik_node._core import blake3, cbor_decode, schema
from fabrik_node.clock import iso
from fabrik_node.domain.schema import Kind
from fabrik_node.errors import FabrikError, UsageError
from fabrik_node.ids import show_id, show_key, show_value
from fabrik_node.node.node import Node
from fabrik_node.ports import OpReads, StoredSegment
from fabrik_node.service.following import event_json
from fabrik_node.service.health import limit_hits
from fabrik_node.service.reading import Reader

__all__ = ["DUMP_VERSION", "Dump"]

DUMP_VERSION = 1
_READ_BYTES = 262_144
"""Of the log at a time: what a dump holds in memory, about."""
_EVENTS = 500
Record = dict[str, Any]
Records = AsyncIterator[Record]


class Dump:
    """``node`` None: a home that no node serves, so what lives in memory only is left out. ``config`` is redacted; ``status`` as the ``status`` command has it."""

    def __init__(
        self,
        reader: Reader,
        store: OpReads,
        config: Callable[[], Mapping[str, Any]],
        status: Callable[[Mapping[str, Any]], Awaitable[Record]],
        node: Node | None,
    ) -> None:
        self._reader = reader
        self._store = store
        self._config = config
        self._status = status
        self._node = node
        self._parts: Mapping[str, Callable[[], Records]] = {
            "status": self._states,
            "config": self._configs,
            "limits": self._counters,
            "store": self._stores,
            "peer": self._peers,
            "member": self._members,
            "presence": self._presences,
            "lease": self._leases,
            "head": self._heads,
            "register": self._registers,
            "run": self._runs,
            "pending": self._pending,
            "fork": self._forks,
            "damaged": self._damaged,
            "op": self._ops,
            "event": self._events,
        }

    async def stream(self, args: Mapping[str, Any]) -> Records:
        """Each record has a ``type``; the last one is ``{"end": True}`` with the number of each. ``only``: these types. Raises UsageError for others."""
        only = args.get("only") or list(self._parts)
        unknown = [name for name in only if name not in self._parts] if isinstance(only, list) else [only]
        if unknown:
            raise UsageError(f"a dump has no {unknown[0]!r}", f"types: {', '.join(self._parts)}")
        counts: Counter[str] = Counter()
        yield self._reader.stamp({"type": "dump", "version": DUMP_VERSION, "program": __version__, "parts": [name for name in self._parts if name in only]})
        for name, part in self._parts.items():
            if name in only:
                async for record in part():
                    counts[name] += 1
                    yield {"type": name, **record}
        yield {"end": True, "counts": dict(counts)}

    # ---- the node -------------------------------------------------------------------------------

    async def _states(self) -> Records:
        yield await self._status({})

    async def _configs(self) -> Records:
        yield dict(self._config())

    async def _counters(self) -> Records:
        if self._node is None:
            return
        traffic = self._node.traffic()
        ends = [{"kind": kind, "code": code, "direction": way, "count": count} for (kind, code, way), count in traffic.ends.items()]
        yield {"hits": limit_hits(self._node, traffic), "traffic": dict(traffic.counts), "ends": ends, "tally": asdict(self._node.tally)}

    async def _stores(self) -> Records:
        suspended = [{"author": show_key(author), "epoch": epoch} for author, epoch in await self._store.suspended()]
        yield {**await self._store.stats(), "suspended": suspended}

    async def _peers(self) -> Records:
        for peer in await self._store.peers():
            yield {"url": peer.url, "key": show_key(peer.key)}

    async def _members(self) -> Records:
        for line in self._reader.node_lines():
            yield line

    async def _presences(self) -> Records:
        for author, heard in tuple(self._node.presence.heard().items()) if self._node is not None else ():
            age_s = max(0.0, self._node.clock.now() - heard.at) if self._node is not None else None
            yield {
                "author": show_key(author),
                "counter": heard.counter,
                "age_s": age_s,
                "changed": heard.changed,
                "payload": show_value(_without_output(heard.payload)),
            }

    async def _leases(self) -> Records:
        """As this node times them."""
        views = self._reader.views()
        for item, claim in self._reader.board.claims() if self._node is not None else ():
            if claim.held:
                shown = views.claim(item, claim, stage=self._reader.board.stage(item))
                yield {name: shown[name] for name in ("item", "claim_id", "node", "epoch", "receipt", "state", "lease", "lease_age_s", "lease_heard", "ttl_s")}

    # ---- what is replicated -----------------------------------------------------------------------

    async def _heads(self) -> Records:
        for head in self._reader.replica.heads():
            base = None if head.base is None else {"branch": head.base[0], "seq": head.base[1]}
            yield {**_place(head.author, head.epoch, head.branch), "base": base, "seq": head.seq, "h": show_key(head.head), "lamport": head.clock}

    async def _registers(self) -> Records:
        """The live ones, tombstones among them, with the op that won."""
        replica, names = self._reader.replica, _names()
        for kind in Kind:
            for register_id, row in await asyncio.to_thread(replica.rows, kind):
                for field in row:
                    register = replica.get(kind, register_id, field)
                    if register is not None:
                        yield {
                            "kind": kind.name.lower(),
                            "id": show_value(register_id),
                            "field": names.get((kind, field), str(field)),
                            "value": show_value(register.value),
                            "fence": _fence(register.fence),
                            "lamport": register.lamport,
                            "digest": show_key(register.digest),
                            **_place(register.author, register.epoch),
                            "seq": register.seq,
                            "at": iso(register.wall_ms),
                        }
                await asyncio.sleep(0)  # others want their turn

    async def _runs(self) -> Records:
        views, board = self._reader.run_views(), self._reader.board
        for row in await self._reader.runs():
            yield views.run(row, claim=board.claim(row.item))

    async def _pending(self) -> Records:
        for author, epoch, first_seq, last_seq, size in self._node.writer.pending.places() if self._node is not None else ():
            yield {**_place(author, epoch), "first_seq": first_seq, "last_seq": last_seq, "bytes": size}

    async def _forks(self) -> Records:
        for fork in await self._store.forks():
            yield {**_place(fork.author, fork.epoch), "number": fork.number, "seq": fork.seq, "at": iso(fork.at_ms), "proof": fork.proof.hex()}

    async def _damaged(self) -> Records:
        for row in await self._store.damaged():
            shown = {"row": row.pos, "first_seq": row.first_seq, "last_seq": row.last_seq, "why": row.why, "at": iso(row.at_ms)}
            yield {**_place(row.author, row.epoch, row.branch), **shown}

    async def _ops(self) -> Records:
        """In the order of arrival, as they are stored."""
        async for batch in self._store.load(_READ_BYTES):
            for row in batch:
                for op in _ops_of(row):
                    yield op
                await asyncio.sleep(0)  # others want their turn

    async def _events(self) -> Records:
        after, (last, _) = 0, await self._store.events_upto()
        while after < last:
            found = await self._store.events(after, _EVENTS)
            if not found:
                return
            for event in found:
                yield {"event": event_json(event)}
            after = found[-1].seq


def _place(author: bytes, epoch: int, branch: int | None = None) -> Record:
    return {"author": show_key(author), "epoch": epoch, **({} if branch is None else {"branch": branch})}


def _names() -> dict[tuple[int, int], str]:
    return {(kind, field): name for _, kind, _, fields in schema() for name, field, *_ in fields}


def _fence(fence: Sequence[Any] | None) -> Any:
    return None if fence is None else {"receipt": fence[0], "epoch": fence[1], "claim_id": show_id(fence[2])}


def _ops_of(row: StoredSegment) -> list[Record]:
    """What a stored segment says (docs/spec/op.cddl), without judging it: ``ops check`` does that."""
    try:
        _, author, epoch, first_seq, _, bodies, signature = cbor_decode(row.data)
        ops = [
            {**_place(author, epoch, row.branch), "row": row.pos, "seq": first_seq + number, "digest": show_key(blake3(body)), **_said(cbor_decode(body))}
            for number, body in enumerate(bodies)
        ]
    except (FabrikError, TypeError, ValueError, AttributeError) as error:
        return [{**_place(row.author, row.epoch, row.branch), "row": row.pos, "first_seq": row.first_seq, "last_seq": row.last_seq, "unreadable": str(error)}]
    ops[-1]["signature"] = show_key(signature)
    return ops


def _said(op: Mapping[int, Any]) -> Record:
    known = {"lamport": op.get(2), "at": iso(op[3]) if isinstance(op.get(3), int) else None, "op_kind": op.get(4), "writes": show_value(op.get(5))}
    more = {str(key): show_value(value) for key, value in op.items() if key > 5}
    return {**known, **({"more": more} if more else {})}


def _without_output(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Answers to questions may hold what commands printed."""
    return {name: value for name, value in payload.items() if name != "tells"}
