"""A mesh that is about to be in two halves: who can reach whom is decided by ports alone."""

from __future__ import annotations

from dataclasses import dataclass

from acceptance.fleet import Fleet, NodeProcess

__all__ = ["Halves"]


@dataclass(frozen=True, slots=True)
class Halves:
    """``host`` and ``other`` serve and hold the same item, and can not find each other before ``host`` listens at ``meeting_point``. The agents joined and do not run."""

    host: NodeProcess
    other: NodeProcess
    agents: dict[str, NodeProcess]
    item: str
    meeting_point: str

    @classmethod
    def part(cls, fleet: Fleet, config: str, title: str) -> Halves:
        """Make the mesh and the item, and take it apart."""
        host = fleet.host(config=config)
        meeting_point = host.url.removeprefix("wss://").removesuffix("/crdt-sync")
        other = fleet.member(host, "other", "--listen", "127.0.0.1:0", config=config)
        agents = {name: fleet.new(name, config) for name in ("one", "two")}
        for name, agent in agents.items():
            agent.ask("join", fleet.token(host, "agent"), "--name", name)
        item = host.add(title)
        fleet.await_equal([host, other])
        host.stop()
        host.start("serve", "--listen", "127.0.0.1:0")  # where the other half does not look for it
        return cls(host, other, agents, item, meeting_point)
