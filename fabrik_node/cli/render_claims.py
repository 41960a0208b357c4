"""Claims as people see them: who holds an item, and what is known of the lease; never more than that."""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, cut_short, footer
from fabrik_node.cli.table import Screen, age, clean, short_ids
from fabrik_node.domain.leases import LeaseState

__all__ = ["claim", "claims", "conflicts", "holder", "kept", "released"]


def claims(screen: Screen, data: Data) -> None:
    """``claims list``."""
    entries: Sequence[Data] = data["claims"]
    ids = short_ids([entry["item"] for entry in entries], at_least=FILTERED_ID_CHARS)
    rows = [
        (
            ids[entry["item"]],
            entry.get("title") or "",
            f"{entry['node_name']}/{entry['agent']}",
            entry["label"],
            entry["epoch"],
            f"{entry['ttl_s']:g}s",
            _claim_news(entry),
        )
        for entry in entries
    ]
    screen.table(("ITEM", "TITLE", "HOLDER", "LABEL", "EPOCH", "TTL", "LEASE"), rows, flexible="TITLE", empty="no claims")
    cut_short(screen, data, entries)
    footer(screen, data)


def claim(screen: Screen, data: Data) -> None:
    """``claims show``."""
    if data["claim"] is None:
        screen.line(clean(f"no claim on item {data['item']['id']} {data['item']['title']} has effect"))
    else:
        _fields(screen, data, data["claim"])
    for each in data.get("conflicts", ()):
        screen.line(clean(f"conflict ({each['kind']}): {_side(each['winner'])} was kept, for {each['why']}"), "yellow")
        screen.line(clean(f"  not used: {_side(each['loser'])}, on branch {each['loser']['branch']}{_cost(each)}"))
    if data.get("claims"):
        rows = [
            (
                each["claim_id"],
                f"{each['node_name']}/{each['agent']}",
                each["label"],
                each["epoch"],
                each["receipt"],
                each["first_at"],
                each.get("without_effect") or each["reason"],
            )
            for each in data["claims"]
        ]
        screen.table(("CLAIM", "HOLDER", "LABEL", "EPOCH", "RECEIPT", "SINCE", "REASON"), rows, flexible="REASON", empty="no claims")
    footer(screen, data)


def _fields(screen: Screen, data: Data, entry: Data) -> None:
    screen.fields(
        [
            ("item", f"{entry['item']}  {entry.get('title') or data.get('item', {}).get('title', '')}"),
            ("claim", entry["claim_id"]),
            ("holder", f"{entry['node_name']}/{entry['agent']}"),
            ("node", entry["node"]),
            ("label", entry["label"]),
            ("lease", _claim_news(entry)),
            ("ttl", f"{entry['ttl_s']:g}s"),
            ("epoch", entry["epoch"]),
            ("receipt", entry["receipt"] or "none: no arbiter granted it"),
            ("follows", entry.get("follows")),
        ]
    )


def conflicts(screen: Screen, data: Data) -> None:
    """``claims conflicts``."""
    entries: Sequence[Data] = data["conflicts"]
    ids = short_ids([entry["item"] for entry in entries], at_least=FILTERED_ID_CHARS)
    rows = [
        (
            ids[entry["item"]],
            entry["kind"],
            _side(entry["winner"]),
            entry["why"],
            _side(entry["loser"]),
            entry["loser"]["branch"],
            "" if entry["wasted_s"] is None else age(entry["wasted_s"]),
        )
        for entry in entries
    ]
    screen.table(("ITEM", "KIND", "KEPT", "WHY", "NOT USED", "ITS BRANCH", "COST"), rows, flexible="WHY", empty="no conflicts")
    cut_short(screen, data, entries)
    if data.get("wasted_s"):
        screen.line(f"{age(data['wasted_s'])} of work were done twice in all")
    footer(screen, data)


def _side(side: Data) -> str:
    return f"{side['node_name'] or 'somebody'}/{side['agent']}"


def _cost(conflict: Data) -> str:
    return "" if conflict["wasted_s"] is None else f" ({age(conflict['wasted_s'])} of work)"


def _claim_news(entry: Data) -> str:
    return f"over: {entry['reason']}" if entry.get("reason") else _lease(entry)


def released(screen: Screen, data: Data) -> None:
    """``claims release``."""
    was = data.get("was") or data["claim"]
    screen.line(clean(f"the claim of {was['node_name']}/{was['agent']} on {was['item']} is over"))
    if data.get("note"):
        screen.line(clean(data["note"]), "yellow")


def kept(screen: Screen, data: Data) -> None:
    """``claims keep``."""
    item = data["item"]
    screen.line(clean(f"{item['id']} {item['title']}: branch {data['branch']} is to be tested and merged"))
    if data.get("note"):
        screen.line(clean(data["note"]), "yellow")


def holder(held: Data) -> str:
    """Who, under which label, and what is known of the lease: never more than that."""
    return f"{held['node_name']}/{held['agent']} {held['label']}, {_lease(held)}"


def _lease(held: Data) -> str:
    heard = held.get("lease_age_s")
    if heard is None:
        return "lease not known here"
    stale = ", stale" if held.get("stale") else ""
    if held.get("lease_heard") is False:
        return f"{'' if held.get('lease') == LeaseState.FRESH.value else str(held.get('lease')) + ', '}no heartbeat here in {age(heard)}"
    if held.get("lease") == LeaseState.FRESH.value:
        return f"heard {age(heard)} ago{stale}"
    return f"{held.get('lease')}, last heard {age(heard)} ago{stale}"
