"""Why an item or a run is as it is: the causes, each with what to type next. Pure: facts in, causes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.requests import Asked
from fabrik_node.domain.run_state import RunVerdict
from fabrik_node.domain.runs import FINAL_STATES, WORK_STATES, RunState
from fabrik_node.domain.stages import REASON_NAMES, RESUMABLE_REASONS, Archived, Done, Merge, Stage
from fabrik_node.domain.targets import is_given

__all__ = ["AgentFacts", "Cause", "ClaimFacts", "ItemFacts", "Needed", "why_item", "why_run"]

_NAMED_MAX = 5
"""Agents or items that one sentence names."""
_PLAIN_WORK = (RunState.STARTING, RunState.RUNNING, RunState.DRAINING)
_LAST = "a member gave its claim the last number that there is, so none can follow it, and no agent takes the item: delete it, and add it anew"


@dataclass(frozen=True, slots=True)
class Cause:
    """``code`` is stable; ``text`` one line; ``next`` what to type, empty when there is nothing to do."""

    code: str
    text: str
    next: str = ""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """A node that said that it takes work, or why it does not now (``problem``). ``labels`` None: it did not say which."""

    name: str
    near: Nearness
    labels: frozenset[str] | None
    slots: int = 1
    busy: int = 0
    problem: str = ""

    @property
    def is_there(self) -> bool:
        """Seen to live, or this node itself."""
        return self.near in (Nearness.SELF, Nearness.ALIVE)


@dataclass(frozen=True, slots=True)
class Needed:
    """An item that must be done before. ``stage`` None: it was deleted, or is not known here."""

    item: str
    title: str
    stage: Stage | None
    deleted: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """The winning claim while it is not released, and what is known of its lease here (``lease`` None: no node runs here)."""

    holder: str
    run: str
    lease: LeaseState | None
    age_s: float | None
    heard: bool
    takeover_s: float
    held_back: str = ""
    """Why this node takes nothing over now."""
    verdict: RunVerdict | None = None
    """Of its run; None: its run is not known here yet."""


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What decides whether somebody works on an item. ``ahead``: items that agents take before it."""

    item: str
    stage: Stage
    hold: str | None
    claim: ClaimFacts | None
    labels: frozenset[str]
    needs: Sequence[Needed]
    attempts: int
    ahead: int
    agents: Sequence[AgentFacts]
    full: str = ""
    """The limit of labels that is reached, as this node sees it; empty when there is room."""
    asks: Asked | None = None
    """A question of it that waits for a person."""
    unclear: str = ""
    """Name of a step of which nobody knows whether it has happened."""
    is_last: bool = False
    """No claim can follow its winning one."""
    listens: bool = True
    """False: a store that no node serves, so nothing is known of agents."""
    failure: tuple[str, str] = ("", "")
    """Its last run that failed, and why."""


def why_item(facts: ItemFacts) -> list[Cause]:
    """At least one cause, the one that counts first."""
    over = _over(facts)
    if over is not None:
        return [over]
    held = [] if facts.hold is None else [Cause("held", f"it is held: {facts.hold or 'no reason was given'}", _out(facts))]
    claimed = [] if facts.claim is None else [_claimed(facts.item, facts.claim, asks=facts.asks is not None)]
    last = [Cause("last_claim", _LAST, f"fabrik-node tombstone {facts.item}")] if facts.is_last else []
    blocking = [*last, *_asks(facts), *held, *claimed, *(cause for needed in facts.needs if (cause := _needs(facts.item, needed)) is not None)]
    if facts.full:
        blocking.append(Cause("limit", facts.full, "fabrik-node claims list"))
    if any(cause.code != "takeover" for cause in blocking):
        return blocking
    return [*blocking, _agents(facts)]


def _out(facts: ItemFacts) -> str:
    """Of a hold, or of the archive: to the stage that the item left."""
    if facts.hold is not None and facts.unclear:
        return f"fabrik-node steps done {facts.item} {facts.unclear}, or fabrik-node steps again {facts.item} {facts.unclear}; then fabrik-node items requeue {facts.item}"
    # Finished work that is held has two ways out, and the item's page tells both.
    return f"fabrik-node items {'show' if isinstance(facts.stage, Merge) else 'requeue'} {facts.item}"


def _asks(facts: ItemFacts) -> list[Cause]:
    """Nobody waits for the answer while nobody has the item in hand: then the question is in nobody's way."""
    if facts.asks is None or facts.claim is None or facts.claim.lease is LeaseState.LOST:
        return []
    return [Cause("asks", f"its run asks people: {facts.asks.text}", facts.asks.command)]


def _over(facts: ItemFacts) -> Cause | None:
    if isinstance(facts.stage, Done):
        return Cause("done", f"it is done: merged as {facts.stage.merge_commit.hex()}")
    if isinstance(facts.stage, Archived):
        back = _out(facts) if facts.stage.reason in RESUMABLE_REASONS else ""
        return Cause("archived", f"it is archived ({REASON_NAMES[facts.stage.reason]})", back)
    return None


def _claimed(item: str, claim: ClaimFacts, *, asks: bool) -> Cause:
    """``asks``: that it waits for people is said already."""
    look = f"fabrik-node runs show {claim.run}" if claim.run else f"fabrik-node claims show {item}"
    verdict = claim.verdict
    if claim.lease is None or claim.age_s is None:
        known = verdict is not None and verdict.state is not RunState.UNKNOWN
        still = f"its run is {verdict.state.value}: {verdict.evidence}" if verdict is not None and known else "whether it still works nobody knows here"
        return Cause("claimed", f"{claim.holder} has claimed it; {still}", "fabrik-node serve")
    if claim.lease is LeaseState.LOST:
        if claim.held_back:
            return Cause(
                "held_back",
                f"the lease of {claim.holder} is over, and this node takes nothing over now: {claim.held_back}",
                f"fabrik-node claims release {item}",
            )
        return Cause("takeover", f"the lease of {claim.holder} is over: any agent may take it")
    if claim.lease is LeaseState.UNREACHABLE:
        said = f"{claim.holder} has claimed it and was last heard {int(claim.age_s)} s ago"
        left_s = max(0.0, claim.takeover_s - claim.age_s)
        return Cause(
            "holder_unreachable",
            f"{said}; others may take it within {left_s:.0f} s",
            f"fabrik-node claims release {item}, when its work is not to be waited for",
        )
    if not claim.heard:
        return Cause("claimed", f"{claim.holder} has claimed it; no heartbeat was heard here yet", look)
    if verdict is None or (verdict.state is RunState.WAITING and asks):
        return Cause("claimed", f"{claim.holder} has it in hand, heard {int(claim.age_s)} s ago", look)
    if verdict.state in _PLAIN_WORK:
        lost = f" ({verdict.degraded})" if verdict.degraded else ""
        return Cause("claimed", f"{claim.holder} has it in hand: {verdict.evidence}{lost}", look)
    does = "has it in hand" if verdict.state in WORK_STATES else "has claimed it"
    return Cause("claimed", f"{claim.holder} {does}; its run is {verdict.state.value}: {verdict.evidence}", look)


def _needs(item: str, needed: Needed) -> Cause | None:
    if needed.done:
        return None
    without = f"fabrik-node items edit {item} --no-depends-on"
    if needed.stage is None:
        gone = "was deleted" if needed.deleted else "is not known here"
        return Cause("depends", f"it depends on {needed.item}, which {gone}", without if needed.deleted else "fabrik-node status")
    if isinstance(needed.stage, Archived):
        return Cause("depends", f"it depends on {needed.item} ({needed.title}), which was archived ({REASON_NAMES[needed.stage.reason]}) and not done", without)
    return Cause("depends", f"it waits for {needed.item} ({needed.title}), which is in {needed.stage.name}", f"fabrik-node why {needed.item}")


def _told(agent: AgentFacts, *, all_of_them: bool) -> list[str]:
    """Its labels; those that every agent has by being where it is only where somebody asked for one."""
    return [label for label in agent.labels or () if all_of_them or not is_given(label)]


def _agents(facts: ItemFacts) -> Cause:
    """Nothing of the item itself is in the way: who could take it?"""
    if not facts.listens:
        return Cause("not_served", "no node runs here, so nothing is known of agents", "fabrik-node serve")
    there = [agent for agent in facts.agents if agent.is_there]
    if not there:
        silent = _listed([agent.name for agent in facts.agents])
        heard = f": {silent} took work, and nothing shows that they live" if silent else ""
        return Cause(
            "no_agent",
            f"no node that is heard here takes work{heard}",
            "fabrik-node serve --command CMD --remote URL, or on another machine: fabrik-node --rendezvous TOKEN",
        )
    fitting = [agent for agent in there if agent.labels is None or facts.labels <= agent.labels]
    if not fitting:
        aimed = any(is_given(label) for label in facts.labels)
        offers = _listed([f"{agent.name} has {', '.join(sorted(_told(agent, all_of_them=aimed))) or 'none'}" for agent in there])
        return Cause(
            "labels",
            f"no agent has all of its labels ({', '.join(sorted(facts.labels))}): {offers}",
            f"fabrik-node items edit {facts.item} --on NODE, or --no-labels"
            if aimed
            else f"fabrik-node serve --label LABEL, or fabrik-node items edit {facts.item} --no-labels",
        )
    able = [agent for agent in fitting if not agent.problem]
    if not able:
        return Cause("agent_problem", _listed([f"{agent.name} can not claim work: {agent.problem}" for agent in fitting]), "fabrik-node status, on that node")
    ahead = "" if not facts.ahead else ", and 1 item is before it" if facts.ahead == 1 else f", and {facts.ahead} items are before it"
    free = [agent for agent in able if agent.busy < agent.slots]
    if not free:
        busy = _listed([f"{agent.name} {agent.busy} of {agent.slots}" for agent in able])
        return Cause("busy", f"every agent that could take it is at work ({busy}){ahead}", "fabrik-node runs list")
    if facts.attempts:
        tried = "1 attempt" if facts.attempts == 1 else f"{facts.attempts} attempts"
        run, reason = facts.failure
        last = f", the last with {reason}; " if reason else ": "
        look = f"fabrik-node runs logs {run}" if run else f"fabrik-node items show {facts.item}"
        return Cause("backoff", f"{tried} failed{last}agents wait longer after each, at most 15 minutes{ahead}", look)
    return Cause(
        "ready", f"nothing is in the way: {_listed([agent.name for agent in free])} may take it at the next look{ahead}", "fabrik-node events --follow"
    )


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names[:_NAMED_MAX]) + (f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else "")


def why_run(run: str, item: str, verdict: RunVerdict, *, own: bool, asks: Asked | None = None) -> Cause:
    """The verdict as a cause, with the command that tells more. Output of a run can be read from any node."""
    state = verdict.state
    if state is RunState.WAITING and asks is not None:
        follow = asks.command
    elif state in FINAL_STATES and state is not RunState.SUPERSEDED:
        follow = f"fabrik-node runs logs {run}"
    elif state in WORK_STATES:
        follow = f"fabrik-node runs logs {run} --follow"
    elif state is RunState.SUPERSEDED:
        follow = f"fabrik-node claims show {item}"
    else:
        follow = "fabrik-node status" if own else "fabrik-node nodes list"
    return Cause(state.value, verdict.evidence, follow)
