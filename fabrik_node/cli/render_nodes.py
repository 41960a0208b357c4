"""The mesh and this node as people see them."""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_node.cli.render_page import Data, footer, lag
from fabrik_node.cli.table import Screen, age, clean

__all__ = ["nodes", "pending", "status"]


def nodes(screen: Screen, data: Data) -> None:
    """``nodes list``."""
    rows = [
        (
            entry["name"],
            "rotated" if entry.get("successor") else entry["role"],
            entry["fingerprint"],
            _presence(entry),
            _lag(entry),
            entry.get("version") or "",
            _marks(entry),
        )
        for entry in data["nodes"]
    ]
    screen.table(("NAME", "ROLE", "FINGERPRINT", "PRESENCE", "LAG", "VERSION", "NOTE"), rows, empty="no nodes", flexible="NOTE")
    if data.get("pending"):
        screen.line(f"{len(data['pending'])} waiting to be let in: fabrik-node nodes pending")
    footer(screen, data)


def pending(screen: Screen, data: Data) -> None:
    """``nodes pending``. The name is a stranger's word."""
    rows = [(entry["fingerprint"], entry["name"], entry["address"], f"{age(entry['waits_s'])} ago", f"{age(entry['last_s'])} ago") for entry in data["pending"]]
    screen.table(("FINGERPRINT", "CALLS ITSELF", "ADDRESS", "SINCE", "LAST KNOCK"), rows, empty="nobody waits to be let in", flexible="CALLS ITSELF")
    footer(screen, data)


def _presence(entry: Data) -> str:
    """The words for :class:`fabrik_node.domain.nearness.Nearness`."""
    if entry.get("me"):
        return "this node"
    if entry.get("successor"):
        return f"its key is {entry['successor'][:16]} now"
    known = age(entry.get("last_contact_s"))
    match entry.get("state"):
        case "alive" if entry.get("last_contact_s") is None:
            return "connected"
        case "alive":
            return f"{'connected' if entry.get('connected') else 'alive'}, heard {known} ago"
        case "silent":
            return f"silent since {entry.get('silent_since')}, heard {known} ago"
        case "unconfirmed":
            return f"heard of {known} ago, not seen to live"
        case "never":
            return "never heard here"
        case _:
            return "not known: nobody listens"


def _lag(entry: Data) -> str:
    """What it lacks and what we lack, in ops, and how long it lacks it."""
    out, back, seconds = entry.get("lag_out"), entry.get("lag_in"), entry.get("lag_s")
    if out is None or back is None:
        return lag(entry.get("lag_ops"))
    if not out and not back:
        return "0 ops"
    parts = [f"lacks {out}" + (f" for {age(seconds)}" if seconds is not None else "") if out else "", f"has {back} more" if back else ""]
    return ", ".join(part for part in parts if part)


def _marks(entry: Data) -> str:
    skew = entry.get("clock_skew_s")
    marks = [
        "STATE DIFFERS" if entry.get("diverged") else "",
        "stale" if entry.get("stale") and entry.get("last_contact_s") is not None and not entry.get("me") else "",
    ]
    if entry.get("agent_problem"):
        marks.append(f"can not claim work: {entry['agent_problem']}")
    if entry.get("clock_warning") and skew is not None:
        marks.append(f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}")
    return ", ".join(mark for mark in marks if mark)


def status(screen: Screen, data: Data) -> None:
    """``status``: one screen."""
    agent: Data = data.get("agent") or {}
    waiting: Data = data.get("waiting") or {}
    process = f"pid {data['pid']}, up {age(data.get('uptime_s'))}, version {data.get('version')}" if data.get("pid") else "not running"
    working = f"{len(agent.get('running') or [])} of {agent.get('slots')} slots busy" + (_not_taking(agent) if agent.get("draining") else "")
    screen.fields(
        [
            ("node", f"{data.get('node')}  {data.get('node_id')}"),
            ("mesh", f"{data.get('mesh')}  {data.get('mesh_id')}"),
            ("home", data.get("home")),
            ("process", process),
            ("listen", data.get("listen") or ("no: peers can not dial this node" if data.get("pid") else "")),
            ("metrics", data.get("metrics") or ""),
            ("local API", data.get("socket") or ""),
            ("runs in", agent.get("contained")),
            ("isolation", agent.get("isolation")),
            ("agent", working if agent.get("enabled") else "off: this node takes no work" if data.get("pid") else ""),
            ("items", "  ".join(f"{name} {count}" for name, count in (data.get("items") or {}).items())),
            ("runs", "  ".join(f"{state} {count}" for state, count in sorted((data.get("runs") or {}).items()))),
            ("questions", f"{data['questions']} for people: fabrik-node approvals list" if data.get("questions") else ""),
            (
                "log",
                f"{data.get('ops')} ops, {data.get('voided')} void, lamport {data.get('lamport')}, epoch {data.get('epoch')}, {data.get('registers')} registers",
            ),
            ("doubt", f"{data['doubt']}: the next write opens a new epoch" if data.get("doubt") else ""),
            ("waiting", f"{waiting['segments']} segments, {waiting['bytes']} bytes, for what comes before them" if waiting.get("segments") else ""),
            ("state", data.get("state_digest")),
            ("frontier", data.get("frontier_digest")),
        ]
    )
    peers: Sequence[Data] = data.get("peers") or []
    if peers:
        screen.line()
        rows = [
            (
                peer.get("name") or str(peer.get("key") or "?")[:8],
                _peer(peer),
                _lag(peer),
                age(peer.get("last_contact_s")),
                peer.get("url") or "",
                peer.get("detail") or "",
            )
            for peer in peers
        ]
        screen.table(("PEER", "STATE", "LAG", "LAST CONTACT", "URL", "DETAIL"), rows, flexible="DETAIL")
    for warning in data.get("warnings") or []:
        screen.line(clean(f"warning: {warning}"), "yellow")
    footer(screen, data)


def _not_taking(agent: Data) -> str:
    halt = agent.get("halt")
    return f", takes nothing new since {halt['since']}: {halt['code']}" if halt else ", draining"


def _peer(peer: Data) -> str:
    attempts = peer.get("attempts") or 0
    return f"{peer.get('state')} ({peer.get('direction')})" + (f", attempt {attempts}" if attempts > 1 else "")
