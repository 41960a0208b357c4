"""What an agent as a whole is doing."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AgentState"]


class AgentState(StrEnum):
    """What this agent is doing. Local to the node, never replicated."""

    IDLE = "Idle"
    PENDING = "Pending"
    RUNNING = "Running"
    RATE_LIMITED = "RateLimited"
    HALTED = "Halted"
    COMPLETED = "Completed"
