"""What a node says in figures: one family for each, made anew for each question. No text of an item is in them, and no secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fabrik_node import __version__
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.stages import STAGE_TYPES
from fabrik_node.ids import fingerprint
from fabrik_node.node.node import Node
from fabrik_node.ports import CONNECTED, PeerStatus
from fabrik_node.service.health import limit_hits
from fabrik_node.service.reading import Reader

__all__ = ["PEER_STATES", "Figures"]

_OVER_MAX = 32
"""Authors that are named one by one."""
PEER_STATES = (*CONNECTED, "connecting", "waiting", "refused", "closed")


class Figures:
    """A collector of :mod:`prometheus_client`. Ask from the event loop. ``api``: the local API's own counters."""

    def __init__(self, node: Node, reader: Reader, api: Callable[[], Mapping[str, Any]]) -> None:
        self._node = node
        self._reader = reader
        self._api = api

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield _labelled(GaugeMetricFamily, "fabrik_build", "The version that runs.", ("version",), {(__version__,): 1})
        yield from self._replica()
        yield from self._store()
        peers = list(self._node.peers())  # once: it takes time with the number of logs
        yield from self._peers(peers)
        yield from self._traffic()
        yield from self._nodes(peers)
        yield from self._local_api()

    def _replica(self) -> Iterator[Metric]:
        node, replica = self._node, self._node.replica
        branches = Counter((head.author, head.epoch) for head in replica.heads())
        stages = self._reader.board.stages()
        yield _gauge("fabrik_ops", "Ops that are held.", replica.ops)
        yield _gauge("fabrik_void_ops", "Ops that are held without effect, because they break a rule.", replica.voided)
        yield _gauge("fabrik_registers", "Live registers.", replica.registers)
        yield _gauge("fabrik_lamport", "The logical clock.", replica.lamport)
        yield _gauge("fabrik_logs", "Logs that are held.", len(branches))
        yield _gauge("fabrik_forked_logs", "Logs of which two histories were signed.", sum(1 for count in branches.values() if count > 1))
        yield _gauge("fabrik_suspended_logs", "Logs with too many histories, without effect.", len(replica.suspended()))
        yield _labelled(GaugeMetricFamily, "fabrik_items", "Items by stage.", ("stage",), {(cls.name,): stages[cls] for cls in STAGE_TYPES})
        yield _gauge("fabrik_questions", "Questions of runs that wait for a person.", node.requests.count_open())
        yield _labelled(
            CounterMetricFamily,
            "fabrik_merged_ops",
            "Ops that became durable and were merged, by where they came from.",
            ("source",),
            {("local",): node.tally.ops_local, ("peer",): node.tally.ops_remote},
        )
        yield _counter("fabrik_duplicate_ops", "Ops that came and were held already.", node.tally.duplicates)
        yield _counter("fabrik_gaps", "Segments that came before what they stand on.", node.tally.gaps)
        yield _counter("fabrik_forks", "Branches of logs that were met for the first time.", node.tally.forks)
        yield _counter("fabrik_refused_segments", "Segments that did not verify.", node.refused_segments)
        yield _counter("fabrik_unknown_authors", "Segments of authors that nobody admitted.", node.tally.unknown_segments)
        over = list(node.quotas.over)[:_OVER_MAX]
        yield _labelled(
            GaugeMetricFamily,
            "fabrik_over_quota_ops",
            "Ops of each author that has written more of them, or begun more logs, than is expected of a node.",
            ("node", "name"),
            {(fingerprint(author), node.name_of(author)): node.quotas.over[author].ops for author in over},
        )
        yield _gauge("fabrik_diverged_nodes", "Nodes that made another state of the same ops.", len(node.audit.diverged))
        yield _counter("fabrik_audits_skipped", "Messages without digests because the core was busy.", node.audit.skipped)
        yield _counter("fabrik_divergences", "Times that a node was found to have made another state of the same ops.", node.audit.alarms)

    def _store(self) -> Iterator[Metric]:
        node, pending = self._node, self._node.writer.pending
        yield _labelled(
            CounterMetricFamily,
            "fabrik_commits",
            "Durable transactions of ops, by where these came from.",
            ("source",),
            {("local",): node.tally.commits_local, ("peer",): node.tally.commits_remote},
        )
        yield _gauge("fabrik_failed", "1 when this node stopped writing for good (fail-stop).", int(node.writer.failed is not None))
        yield _gauge("fabrik_disk_full", "1 while the disk is full and nothing is written.", int(node.upkeep.full is not None))
        yield _counter("fabrik_disk_full_times", "Times that the disk became full.", node.tally.disk_full)
        yield _gauge("fabrik_pending_segments", "Segments that wait for what comes before them.", pending.count)
        yield _gauge("fabrik_pending_bytes", "Their bytes.", pending.bytes)
        yield _gauge("fabrik_holes", "Ranges of stored ops that are damaged and asked for again.", len(node.repair.holes))
        yield _gauge("fabrik_doubt", "1 while this node doubts its own log.", int(bool(node.epochs.doubt)))
        yield _gauge("fabrik_events", "Number of the newest event.", node.stream.last)

    @staticmethod
    def _peers(peers: Sequence[PeerStatus]) -> Iterator[Metric]:
        states = Counter(peer.state if peer.state in PEER_STATES else "closed" for peer in peers)
        yield _labelled(
            GaugeMetricFamily,
            "fabrik_peers",
            "Connections and addresses that are dialled, by state.",
            ("state",),
            {(state,): states[state] for state in PEER_STATES},
        )
        yield _gauge(
            "fabrik_outbox_bytes", "Bytes of ops that were read for peers and that these have not confirmed.", sum(peer.outbox_bytes for peer in peers)
        )

    def _traffic(self) -> Iterator[Metric]:
        traffic = self._node.traffic()
        counts, presence = traffic.counts, self._node.presence
        both = (("in",), ("out",))
        limits = {**limit_hits(self._node, traffic), "api_connections": int(self._api().get("connections_refused", 0))}
        for name, doc in (("bytes", "Bytes of frames"), ("frames", "Frames"), ("segments", "Segments"), ("segment_bytes", "Bytes of segments")):
            yield _labelled(
                CounterMetricFamily,
                f"fabrik_sync_{name}",
                f"{doc} of all connections, by direction.",
                ("direction",),
                {label: counts.get(f"{name}_{label[0]}", 0) for label in both},
            )
        for name, doc in (
            ("segments_dropped", "Segments that came for a log that is not taken."),
            ("duplicates_avoided", "Times that nothing was sent because the peer had it."),
            ("unknown_frames", "Frames of unknown types."),
        ):
            yield _counter(f"fabrik_sync_{name}", doc, counts.get(name, 0))
        yield _labelled(
            CounterMetricFamily,
            "fabrik_gate_callers",
            "Callers by how far they came: through the gate, refused by it, too slow for it, or gone for newer ones.",
            ("outcome",),
            {(name,): counts.get(f"gate_{name}", 0) for name in ("passed", "shut", "welcomed", "timed_out", "evicted")},
        )
        refused = {(code, direction): count for (kind, code, direction), count in traffic.ends.items() if kind == "refused"}
        closed = {(code, direction): count for (kind, code, direction), count in traffic.ends.items() if kind == "closed"}
        yield _labelled(CounterMetricFamily, "fabrik_refused", "Connections that were refused, by code and by who called.", ("code", "direction"), refused)
        yield _labelled(
            CounterMetricFamily, "fabrik_closed", "Connections that ended after they were ready, by code and by who called.", ("code", "direction"), closed
        )
        yield _labelled(
            CounterMetricFamily,
            "fabrik_presence_ignored",
            "Messages about nodes that were not taken, by why: forged, of nobody who is a member (yet), or not news.",
            ("why",),
            {("refused",): presence.refused, ("early",): presence.early.kept, ("stale",): presence.stale},
        )
        yield _labelled(
            CounterMetricFamily,
            "fabrik_limit_hits",
            "How often each limit was hit.",
            ("limit",),
            {(name,): count for name, count in limits.items()},
        )

    def _nodes(self, peers: Sequence[PeerStatus]) -> Iterator[Metric]:
        lines = self._reader.node_lines(peers)
        others = [(line, (line["fingerprint"], line["name"])) for line in lines if not line["me"]]
        states = Counter(line["state"] for line in lines)
        who = ("node", "name")
        yield _labelled(
            GaugeMetricFamily,
            "fabrik_nodes",
            "Members by what is known of their life.",
            ("state",),
            {(state.value,): states[state.value] for state in Nearness},
        )
        for name, key, doc in (
            ("fabrik_node_last_contact_seconds", "last_contact_s", "Seconds since the last new message of a node, on our clock."),
            ("fabrik_node_lag_seconds", "lag_s", "Seconds since we committed the oldest op that a node lacks, where that is known."),
            ("fabrik_node_clock_skew_seconds", "clock_skew_s", "How far a node's wall clock is ahead of ours. Nothing is decided by it."),
        ):
            yield _labelled(GaugeMetricFamily, name, doc, who, {labels: line[key] for line, labels in others if line[key] is not None})
        lag = {(*labels, way): line[f"lag_{way}"] for line, labels in others for way in ("in", "out") if line[f"lag_{way}"] is not None}
        yield _labelled(
            GaugeMetricFamily, "fabrik_node_lag_ops", "Ops of ours that a node lacks (out), and of its that we lack (in).", (*who, "direction"), lag
        )

    def _local_api(self) -> Iterator[Metric]:
        api = self._api()
        errors: Mapping[str, int] = api.get("errors") or {}
        yield _gauge("fabrik_api_connections", "Open connections of the local API.", int(api.get("connections", 0)))
        yield _counter("fabrik_api_calls", "Calls of the local API.", int(api.get("calls", 0)))
        yield _labelled(
            CounterMetricFamily,
            "fabrik_api_errors",
            "Calls that were refused or failed, by code.",
            ("code",),
            {(code,): count for code, count in errors.items()},
        )


def _gauge(name: str, doc: str, value: float) -> Metric:
    return GaugeMetricFamily(name, doc, value=value)


def _counter(name: str, doc: str, value: float) -> Metric:
    return CounterMetricFamily(name, doc, value=value)


def _labelled(kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, doc: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = kind(name, doc, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family
