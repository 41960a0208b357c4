"""Every limit of the local API, once, with unit and reason. Hitting one costs the caller who did, nobody else."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROTOCOL_VERSION", "Limits"]

PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults for a node; tests make them smaller."""

    request_bytes: int = 4_194_304
    """Of one request line: an item's largest body is 32 KiB, so this is generous, and a runaway caller is stopped early."""
    answer_bytes: int = 67_108_864
    """Of one answer line: ten thousand items with long bodies. What is larger is refused with the advice to ask for less."""
    connections: int = 128
    """At a time: 32 busy clients and a few dozen followers. Each costs a task and at most two request lines of memory."""
    connections_of_run: int = 16
    """Of those, what the processes of one run may have: a command that opens more and more leaves room for the operator who ends it."""
    write_buffer_bytes: int = 262_144
    """Unsent bytes of one connection before its stream waits for the reader."""
    stop_grace_s: float = 5.0
    """Calls that are under way when the node stops get this long to be answered."""
