"""From events to lines that a person reads: who claimed, who was lost, who merged."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Story"]


class Story:
    """Tells events as they happen and keeps what the end of the demo has to know."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.titles: dict[str, str] = {}
        self.done: set[str] = set()
        self.merged_by: dict[str, str] = {}
        self.coding: dict[str, str] = {}
        """Item to the node whose command is at work on it right now."""
        self.lost: dict[str, tuple[str, str]] = {}
        """Item to (old holder, new holder) of a claim that was taken over."""
        self._holders: dict[str, str] = {}

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def say(self, who: str, text: str) -> None:
        """One line: when, who, what."""
        print(f"{self.elapsed_s:6.1f} s  {who:<5} {text}", flush=True)

    def hear(self, event: dict[str, Any]) -> None:
        """Tell one event of the host's stream."""
        item = str(event.get("item", ""))
        title = self.titles.get(item, item[:10])
        match event.get("type"):
            case "item.added":
                self.titles[item] = str(event["title"])
                self.say(event["by"], f"added      {event['title']}")
            case "claim.taken":
                self._holders[item] = str(event["holder"])
                again = f" (claim {event['epoch']}, after the lost one)" if item in self.lost else ""
                self.say(event["holder"], f"claimed    {title}{again}")
            case "claim.superseded":
                self.lost[item] = (str(event["holder"]), str(event["by"]))
                self.coding.pop(item, None)
                self.say(event["holder"], f"WAS LOST   {title}: its lease is over, {event['by']} takes the item")
            case "item.moved":
                self._moved(event, item, title)
            case "run.changed":
                self._run(event, item, title)
            case "item.held":
                self.say(event["by"], f"held       {title}: {event.get('reason')}")
            case "member.changed" if event.get("role") != "admin":
                self.say(event["by"], f"admitted   {event['name']} as {event['role']}")
            case _:
                return

    def _moved(self, event: dict[str, Any], item: str, title: str) -> None:
        stage = event["to"]
        if stage == "Done":
            self.done.add(item)
            self.merged_by[item] = str(event["by"])
            self.say(event["by"], f"MERGED     {title} as {str(event.get('merge_commit', ''))[:10]}")
        elif stage == "Merge":
            self.say(event["by"], f"-> Merge   {title}: {event.get('commits_ahead')} commit ahead on {str(event.get('feature_branch'))[:18]}...")
        else:
            self.say(event["by"], f"-> {stage:<7} {title}")

    def _run(self, event: dict[str, Any], item: str, title: str) -> None:
        node, state, phase = str(event.get("node")), event.get("state"), event.get("phase")
        if state == "running" and phase == "coding":
            self.coding[item] = node
        elif self.coding.get(item) == node:
            self.coding.pop(item)
        if state in {"failed", "cancelled", "interrupted", "superseded"}:
            self.say(node, f"run ended  {title}: {state}, {event.get('reason', 'no reason given')}")
