"""Reads: everything that is shown, with its source and the time it is true for.

Works on a running node and, with fewer signals, on a store that no node serves. Arguments come as text, answers go as JSON.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from fabrik_node import __version__
from fabrik_node._core import Genesis, Replica, Touch, digests, history
from fabrik_node.clock import Clock, iso
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTable
from fabrik_node.domain.requests import Asked
from fabrik_node.domain.run_inputs import engine
from fabrik_node.domain.run_state import STALE_S, STILLS_S, RunVerdict
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.domain.schema import ItemField, Kind, Role, RunField
from fabrik_node.domain.stages import STAGE_TYPES, decode_stage, stage_fields
from fabrik_node.errors import InvalidOp, NotFound, UsageError
from fabrik_node.ids import fingerprint, matching, parse_id, resolve, show_id, show_key, show_value
from fabrik_node.node.audit import Divergence
from fabrik_node.node.board import Board
from fabrik_node.node.by_item import ByItem
from fabrik_node.node.past_runs import interruptions_of
from fabrik_node.node.presence import Heard
from fabrik_node.node.requests import Requests, asked
from fabrik_node.node.steps import StepBook
from fabrik_node.ports import CONNECTED, ItemView, OpReads, PeerStatus
from fabrik_node.process import is_alive
from fabrik_node.service.checking import Checking, SetAside
from fabrik_node.service.drift import Drift, InputsNow
from fabrik_node.service.health import log_health
from fabrik_node.service.keys import KeyLines
from fabrik_node.service.listing import claims_page, items_page, limited, run_state
from fabrik_node.service.nodes import Neighbours, NodeLines, said_text
from fabrik_node.service.one_state import Watch
from fabrik_node.service.proving import Proving
from fabrik_node.service.run_rows import RunRows
from fabrik_node.service.run_views import AtWork, RunViews
from fabrik_node.service.step_views import steps_json
from fabrik_node.service.views import Views, claim_json

__all__ = ["Read", "Reader", "stage_json"]

Read: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
_ROWS_AT_ONCE = 256
"""Runs that are judged before others have their turn."""


class Reader:
    """``source`` is ``node`` or ``store``; ``as_of_ms`` None means now. ``leases``, ``heard`` and ``peers`` exist only on a running node."""

    def __init__(
        self,
        *,
        replica: Replica,
        genesis: Genesis,
        store: OpReads,
        clock: Clock,
        own: bytes,
        source: str,
        leases: LeaseTable | None = None,
        heard: Callable[[], Mapping[bytes, Heard]] = dict,
        peers: Callable[[], Sequence[PeerStatus]] = tuple,
        connected: Callable[[], int] | None = None,
        diverged: Callable[[], Mapping[bytes, Divergence]] = dict,
        beat_s: float = 10.0,
        stale_s: float = STALE_S,
        stills_s: tuple[float, float] = STILLS_S,
        as_of_ms: int | None = None,
        names: Callable[[], Mapping[bytes, str]] | None = None,
        set_aside: SetAside | None = None,
        at_work: Callable[[], AtWork] = AtWork,
        inputs_now: InputsNow | None = None,
        requests: Requests | None = None,
        contained: Callable[[str], str] | None = None,
        by_item: ByItem | None = None,
        held: Callable[[], Iterable[tuple[bytes, Claim]]] | None = None,
        watch: Watch = lambda _: lambda: None,
    ) -> None:
        self.replica = replica
        self.board = Board(replica)
        self.requests = Requests(replica) if requests is None else requests
        self.by_item = ByItem(replica) if by_item is None else by_item
        self.steps = StepBook(replica, self.by_item)
        self._held = held
        self._watch = watch
        self._run_rows = RunRows(replica, store, self.by_item)
        self._genesis = genesis
        self._store = store
        self._clock = clock
        self._own = own
        self._source = source
        self._leases = leases
        self._heard = heard
        self._peers = peers
        self._count_connected = connected
        self._diverged = diverged
        self._beat_s = beat_s
        self._stale_s, self._stills_s = stale_s, stills_s
        self._as_of_ms = as_of_ms
        self._current_names = self.board.names if names is None else names
        self._at_work = at_work
        self._inputs_now = inputs_now
        self._contained = contained
        self._names: Mapping[bytes, str] = {}
        self._proving = Proving(store, genesis.mesh_id, self.stamp, self._name_now)
        self.checking = Checking(replica, store, self.stamp, self._name_now, set_aside)

    @property
    def operations(self) -> Mapping[str, Read]:
        """Reads by name. Each answer says, besides :meth:`stamp`, how far the view is behind."""
        return {name: self.measured(read) for name, read in self._reads.items()}

    @property
    def _reads(self) -> Mapping[str, Read]:
        return {
            "status": self.status,
            "items.list": self.items_list,
            "items.show": self.items_show,
            "items.history": self.items_history,
            "claims.list": self.claims_list,
            "claims.show": self.claims_show,
            "tombstones.list": self.tombstones_list,
            "nodes.list": self.nodes_list,
            "runs.list": self.runs_list,
            "runs.show": self.runs_show,
            **self._proving.operations,
            "ops.check": self.checking.ops_check,
            **KeyLines(self.replica, self._genesis, self._own, self._name_now, self.stamp).operations,
        }

    # ---- finding --------------------------------------------------------------------------------

    def find_item(self, text: str) -> bytes:
        """The id of one item. A deleted one is not found, and the message says that it was deleted."""
        whole = parse_id(text)
        if whole is not None and self.replica.tombstoned(whole):
            raise NotFound(f"item {text} was deleted; its id is never used again", "fabrik-node tombstones list")
        if whole is not None and self.replica.get(Kind.ITEM, whole, ItemField.TITLE) is not None:
            return whole
        text = text if whole is None else show_id(whole)  # an id may be typed in capitals, or with o for 0
        known = () if whole is not None else matching(text, (item for item, row in self.replica.rows(Kind.ITEM) if ItemField.TITLE in row))
        found = parse_id(resolve(text, map(show_id, known), "item"))
        if found is None:
            raise NotFound(f"no item {text!r}", "fabrik-node items list")
        return found

    def must_item(self, text: str) -> ItemView:
        """One item."""
        item = self.board.item(self.find_item(text))
        if item is None:
            raise NotFound(f"no item {text!r}", "fabrik-node items list")
        return item

    async def find_run(self, text: str) -> RunRow:
        """One run, own or foreign."""
        return await self._run_rows.find(text)

    @property
    def own(self) -> bytes:
        """This node's key."""
        return self._own

    def mesh(self) -> dict[str, str]:
        """By name and id."""
        return {"mesh": self._genesis.name, "mesh_id": show_key(self._genesis.mesh_id)}

    def role(self, key: bytes) -> Role:
        """Of a key, now."""
        return self.board.roles().get(key, Role.NONE)

    async def own_run(self, run_id: bytes) -> RunRow | None:
        """A run of this node, as it is written down here."""
        return await self._store.run(run_id)

    async def runs(self, item: bytes | None = None) -> list[RunRow]:
        """All runs, or those of one item, newest first: own ones as written down here, foreign ones as their owners summed them up."""
        return await self._run_rows.all(item)

    def views(self) -> Views:
        """For one answer."""
        self._names = self._current_names()
        return Views(name_of=self.name_of, leases=self._leases, now=self._clock.now(), wall_ms=self._clock.wall_ms(), stale_s=self._stale_s)

    def run_views(self) -> RunViews:
        """For one answer: the only way to what is shown of a run."""
        self._names = self._current_names()
        return RunViews(
            own=self._own,
            name_of=self.name_of,
            leases=self._leases,
            now=self._clock.now(),
            wall_ms=self._clock.wall_ms(),
            near=self.near(),
            alive=lambda row: None if row.process is None else is_alive(row.process),
            at_work=None if self._leases is None else self._at_work(),
            is_heard=self._connected() > 0 or not self._peers(),
            stale_s=self._stale_s,
            stills_s=self._stills_s,
            asks=self.asks,
        )

    def drift(self) -> Drift:
        """For one answer."""
        heard = self._heard()

        def engine_of(key: bytes) -> str:
            version = __version__ if key == self._own else said_text(heard.get(key), "version")
            return engine(version) if version else ""

        return Drift(self.replica, self._own, engine_of, self._inputs_now)

    def asks(self, row: RunRow) -> Asked | None:
        """The question for whose answer a run waits; None when it waits for none, or that is not open any more."""
        if row.state is not RunState.WAITING:
            return None
        summary = self.replica.get(Kind.RUN, row.run_id, RunField.SUMMARY)  # an own row has it there alone
        named = row.asks or (b"" if summary is None else summary.value.get("asks"))
        request = self.requests.get(named) if isinstance(named, bytes) else None
        return None if request is None or request.question.item != row.item or not self.requests.is_open(request) else asked(request)

    @property
    def leases(self) -> LeaseTable | None:
        """As this node times them; None when no node runs here."""
        return self._leases

    def held_views(self) -> list[ItemView]:
        """The items that somebody holds."""
        held = self.board.claims() if self._held is None else self._held()
        return [view for item, claim in held if claim.held and (view := self.board.item(item)) is not None]

    def heard(self) -> Mapping[bytes, Heard]:
        """The newest message of each node."""
        return self._heard()

    def now(self) -> float:
        """On the clock by which ages are measured."""
        return self._clock.now()

    def verdict(self, row: RunRow) -> RunVerdict:
        """Of one run, now."""
        return self.run_views().verdict(row, self.board.claim(row.item))

    def near(self, peers: Sequence[PeerStatus] | None = None) -> Neighbours:
        """What is known of each node, for one answer."""
        return Neighbours(
            own=self._own,
            now=self._clock.now(),
            beat_s=self._beat_s,
            listens=self._leases is not None,
            heard=self._heard(),
            peers=self._peers() if peers is None else peers,
        )

    def name_of(self, key: bytes) -> str:
        """A node's name as of the last :meth:`views`."""
        return self._names.get(key) or show_key(key)[:8]

    def _name_now(self, key: bytes) -> str:
        self._names = self._current_names()
        return self.name_of(key)

    def stamp(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Say what an answer rests on."""
        as_of = self._clock.wall_ms() if self._as_of_ms is None else self._as_of_ms
        names = self._current_names()
        return {
            "as_of": iso(as_of),
            "source": self._source,
            "node": names.get(self._own) or show_key(self._own)[:8],
            "peers_connected": self._connected(),
            **data,
        }

    # ---- operations -----------------------------------------------------------------------------

    async def status(self, _args: Mapping[str, Any]) -> dict[str, Any]:
        """The replica's own figures; a running node adds its own."""
        frontier, state, _ = await asyncio.to_thread(digests, self.replica)  # of one moment; much may have changed, and the loop does not wait
        stages = await asyncio.to_thread(self.board.stages)
        own = [head for head in self.replica.heads() if head.author == self._own]
        names = self._current_names()
        return self.stamp(
            {
                "node_id": show_key(self._own),
                "fingerprint": fingerprint(self._own),
                **self.mesh(),
                "epoch": own[-1].epoch if own else None,
                "lamport": self.replica.lamport,
                "ops": self.replica.ops,
                "voided": self.replica.voided,
                "registers": self.replica.registers,
                "items": {cls.name: stages[cls] for cls in STAGE_TYPES},
                "runs": await self._open_runs(),
                "questions": await asyncio.to_thread(self.requests.count_open),
                "state_digest": show_key(state),
                "frontier_digest": show_key(frontier),
                **log_health(self.replica, self._own, lambda key: names.get(key) or show_key(key)[:8]),
                "peers": [self._peer(peer) for peer in self._peers()],
            }
        )

    async def items_list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The board. Filters: ``stage``, ``reason`` (of archived ones), ``label``, ``held``."""
        return {**self.stamp({}), **await items_page(self.board, self._watch, self.views(), args)}

    async def items_show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """One item and its runs."""
        view = self.must_item(_text(args, "id"))
        views, run_views = self.views(), self.run_views()
        rows = await self.runs(view.id)
        runs = [run_views.run(row, claim=self.board.claim(row.item), title=view.title) for row in rows]
        drift = self.drift()
        live = [{"run_id": show_id(row.run_id), **each} for row in rows if row.state not in FINAL_STATES for each in drift.of(row, view)]
        in_hand = view.claim.claim_id if view.claim is not None and view.claim.held else b""
        lost = interruptions_of(self.replica, self.by_item, view.id, in_hand)
        return self.stamp({"item": {**views.item(view), "interruptions": lost.count}, "runs": runs, "drift": live, "steps": steps_json(self.steps, view)})

    async def items_history(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Every write to an item and its claim, oldest first, with author, claim and op digest. Reads the whole log."""
        text = _text(args, "id")
        whole = parse_id(text)
        item = whole if whole is not None and self.replica.tombstoned(whole) else self.find_item(text)
        self.views()
        changes = [self._touch(item, touch) for touch in await self.touches(item) if touch.kind in (Kind.ITEM, Kind.CLAIM, Kind.TOMBSTONE)]
        changes.sort(key=lambda change: (change["lamport"], change["digest"]))
        return self.stamp({"id": show_id(item), "changes": changes})

    async def touches(self, item: bytes, read: Callable[[Sequence[bytes], bytes], list[Touch]] = history) -> list[Touch]:
        """Every write to an item that ``read`` finds in the whole log; by default also those of void ops, whose values may be anything."""
        return [touch async for batch in self._store.load() for touch in read([row.data for row in batch], item)]

    def _touch(self, item: bytes, touch: Any) -> dict[str, Any]:
        register = self.replica.get(touch.kind, item, touch.field)
        value = touch.value  # of a void op it may be anything
        claim_id = touch.fence[2] if touch.fence else None
        match touch.kind:
            case Kind.ITEM:
                name = ItemField(touch.field).name.lower() if touch.field in list(ItemField) else f"field {touch.field}"
                shown = stage_json(value) if touch.field == ItemField.STAGE else show_value(value)
            case Kind.CLAIM:
                name = "claim"
                named = value.get(1) if isinstance(value, dict) else None
                claim_id = named if isinstance(named, bytes) else None
                shown = claim_json(value, self.name_of)
            case _:
                name, shown = "tombstone", show_value(value)
        return {
            "at": iso(touch.wall_ms),
            "node": self.name_of(touch.author),
            "author": show_key(touch.author),
            "epoch": touch.epoch,
            "seq": touch.seq,
            "lamport": touch.lamport,
            "digest": show_key(touch.digest),
            "field": name,
            "value": shown,
            "claim_id": show_id(claim_id) if claim_id else None,
            "won": register is not None and register.digest == touch.digest and (touch.kind != Kind.ITEM or self.board.reads(item, touch.field, register)),
        }

    async def claims_list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Held claims; with ``all`` the released ones too."""
        held = None if self._held is None else list(self._held())
        return {**self.stamp({}), **await claims_page(self.board, self._watch, self.views(), args, held)}

    async def claims_show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The winning claim of one item."""
        view = self.must_item(_text(args, "item"))
        if view.claim is None:
            raise NotFound(f"item {show_id(view.id)} was never claimed", f"fabrik-node items show {show_id(view.id)}")
        views = self.views()
        return self.stamp({"claim": views.claim(view.id, view.claim, view.title, view.stage), "item": views.item(view)})

    async def tombstones_list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Deleted ids."""
        self.views()
        found = []
        for item, said in self.board.tombstones():
            register = self.replica.get(Kind.TOMBSTONE, item, 1)
            by, at = ("", 0) if register is None else (self.name_of(register.author), register.wall_ms)
            found.append({"id": show_id(item), "at": iso(at), "by": by, "reason": str(said.get("reason", ""))})
        return self.stamp({"tombstones": limited(found, args), "total": len(found)})

    async def nodes_list(self, _args: Mapping[str, Any]) -> dict[str, Any]:
        """Members with what was last heard of each."""
        return self.stamp({"nodes": self.node_lines()})

    def node_lines(self, peers: Sequence[PeerStatus] | None = None) -> list[dict[str, Any]]:
        """See :class:`~fabrik_node.service.nodes.NodeLines`. ``peers``: when they were looked at just now."""
        self.views()
        lines = NodeLines(
            own=self._own, near=self.near(peers), clock=self._clock, stale_s=self._stale_s, diverged=self._diverged(), frontier=self.replica.frontier_digest
        )
        return lines.all(self.board.roles(), self.name_of, lambda key: self.replica.member(key).successor)

    async def runs_list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Runs of all hosts, newest first. Filters: ``item``, ``node`` (name or key prefix), ``state``."""
        item = self.find_item(_text(args, "item")) if args.get("item") else None
        state = run_state(str(args.get("state") or ""))
        rows, views = await self.runs(item), self.run_views()
        chosen = views.chosen(rows, str(args.get("node") or ""), state, self.board.claim)
        if not chosen:
            self.check_node(args.get("node"))
        shown = []
        for at, row in enumerate(limited(chosen, args)):  # judged when they are shown: of very many people see few
            if at % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
                await asyncio.sleep(0)
            title = self.replica.get(Kind.ITEM, row.item, ItemField.TITLE)
            shown.append(views.run(row, claim=self.board.claim(row.item), title="" if title is None else title.value))
        return self.stamp({"runs": shown, "total": len(chosen)})

    def check_node(self, node: object) -> None:
        """Raises NotFound when no member has this name, or a key that begins with it; None is everybody."""
        text = str(node or "")
        if text and not any(self.name_of(key) == text or show_key(key).startswith(text) for key in self.board.roles()):
            raise NotFound(f"no node {text!r}", "fabrik-node nodes list")

    async def runs_show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """One run, with what it worked from."""
        row = await self.find_run(_text(args, "id"))
        rows = await self.runs(row.item)
        view = self.board.item(row.item)
        run = self.run_views().run(row, claim=self.board.claim(row.item), title="" if view is None else view.title)
        if self._contained is not None and row.process is not None and row.state not in FINAL_STATES:
            run["contained"] = self._contained(run["run_id"])
        return self.stamp({"run": run, **self.drift().shown(row, view, rows), "steps": steps_json(self.steps, view, row.run_id)})

    # ---- inside ---------------------------------------------------------------------------------

    def measured(self, read: Read) -> Read:
        """The same read, with what is said of every view."""

        async def measured(args: Mapping[str, Any]) -> dict[str, Any]:
            return {**await read(args), **self._behind()}

        return measured

    def _behind(self) -> dict[str, Any]:
        """How old a view is: the ops that a connected peer is known to have and we lack (None: no peer is connected), and the age of the newest word of any other node."""
        known = [peer.lag_in for peer in self._peers() if peer.state in CONNECTED and peer.lag_in is not None]
        news = [heard.at for key, heard in self._heard().items() if key != self._own]
        return {"behind_ops": max(known, default=None), "last_news_s": max(0.0, self._clock.now() - max(news)) if news else None}

    async def _open_runs(self) -> dict[str, int]:
        """How many of the runs that have no end yet are in which state."""
        rows, views = await self._run_rows.open(self._own), self.run_views()
        return dict(Counter(views.verdict(row, self.board.claim(row.item)).state.value for row in rows))

    def _connected(self) -> int:
        """Asked for every answer, so without the lag of each peer where the node can say."""
        return self._count_connected() if self._count_connected is not None else sum(1 for peer in self._peers() if peer.state in CONNECTED)

    def _peer(self, peer: PeerStatus) -> dict[str, Any]:
        return {
            "url": peer.url,
            "key": show_key(peer.key),
            "name": peer.name or (self._current_names().get(peer.key, "") if peer.key else ""),
            "state": peer.state,
            "direction": peer.direction,
            "attempts": peer.attempts,
            "lag_ops": peer.lag_ops,
            "lag_out": peer.lag_out,
            "lag_in": peer.lag_in,
            "lag_s": peer.lag_s,
            "outbox_bytes": peer.outbox_bytes,
            "last_contact_s": peer.last_contact_s,
            "detail": peer.detail,
            "bytes_in": peer.bytes_in,
            "bytes_out": peer.bytes_out,
        }


def stage_json(value: Any) -> Any:
    """A stage register's value by its name; of a newer version or a void op, as :func:`show_value` gives it."""
    try:
        stage = decode_stage(value)
        fields = stage_fields(stage)
    except (InvalidOp, AttributeError, KeyError):
        return show_value(value)
    return {"stage": stage.name, **show_value(fields)}


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is missing", "fabrik-node --help")
    return value
