"""The main job of fabrik-node, for real, on this machine: ``make demo``, or ``make demo KEEP=1`` to keep the folder.

Three nodes as processes (a host and two build agents), a real git remote, seven items. One agent is killed in the middle of an item.
Exit code 0: every item is Done, merged exactly once, the merged program passes its tests, and all three replicas are equal.
"""

from __future__ import annotations

import argparse
import queue
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from fleet import DemoFailed, Fleet, free_port, lines_of, wait_for
from recipes import RECIPES
from story import Story
from verdict import converged, merges, program_passes, show_board

HERE = Path(__file__).resolve().parent
AGENTS = ("anna", "ben")


def start_nodes(fleet: Fleet, story: Story) -> None:
    """The host, and each agent with the one command that a user would type on a fresh machine."""
    fleet.make_home("host")
    made = fleet.call("host", "init", "--name", "host", "--mesh", "demo")
    story.say("demo", f"mesh demo, id {made['mesh_id'][:12]}..., remote {fleet.remote}")
    address = f"127.0.0.1:{free_port()}"
    fleet.start("host", "serve", "--listen", address)
    fleet.wait_serving("host")
    story.say("host", f"serves on {address}, pid {fleet.nodes['host'].pid}")
    worker = shlex.join([sys.executable, "-B", str(HERE / "worker.py")])
    tests = shlex.join([sys.executable, "-B", "-m", "unittest", "--quiet"])
    for name in AGENTS:
        fleet.make_home(name)
        token = fleet.call("host", "invite", "--role", "agent", "--ttl", "5m")["token"]
        flags = [
            "--name",
            name,
            "--agent",
            name,
            "--remote",
            str(fleet.remote),
            "--base",
            "main",
            "--command",
            worker,
            "--qa",
            tests,
            "--slots",
            "1",
            "--label",
            "python",
        ]
        fleet.start(name, "--rendezvous", token, *flags)
    for name in AGENTS:
        fleet.wait_serving(name)
        story.say(name, f"is a build agent, pid {fleet.nodes[name].pid}")


def add_items(fleet: Fleet) -> list[str]:
    """Seven items; two of them wait for others. Their ids."""
    ids: dict[str, str] = {}
    for name, recipe in RECIPES.items():
        needs = [argument for needed in recipe.needs for argument in ("--depends-on", ids[needed])]
        body = f"Write the function `{name}` of textkit/functions.py, with tests. {recipe.task}"
        ids[name] = fleet.call("host", "items", "add", f"Write {name}", "--body", body, "--label", "python", *needs)["item"]["id"]
    return list(ids.values())


class Watcher:
    """Reads the host's event stream in the background; :meth:`until` tells the events up to a condition."""

    def __init__(self, stream: IO[str], story: Story) -> None:
        self._story = story
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for event in lines_of(stream):
            self._queue.put(event)
        self._queue.put(None)

    def until(self, what: str, condition: Any, within_s: float) -> Any:
        """Tell events until ``condition()`` gives something. Raises :class:`DemoFailed` when it does not in time."""
        end = time.monotonic() + within_s
        while not (answer := condition()):
            try:
                event = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise DemoFailed(f"waited {within_s:.0f} s in vain for {what}") from None
            if event is None:
                raise DemoFailed(f"the event stream ended while waiting for {what}")
            self._story.hear(event)
        return answer


def play(fleet: Fleet, story: Story, within_s: float) -> list[str]:
    """The whole demo; what is wrong at its end, one line each."""
    fleet.make_remote(HERE / "program")
    start_nodes(fleet, story)
    watcher = Watcher(fleet.follow_events("host"), story)
    ids = add_items(fleet)

    watcher.until("the first merge", lambda: story.done, within_s)
    item, victim = watcher.until("an agent at work", lambda: next(iter(story.coding.items()), None), within_s)
    wait_for(f"the change of {victim}'s agent", lambda: fleet.run_says(victim, item, "wrote"), 20, 0.05)
    pid = fleet.kill(victim)
    story.say("demo", f"SIGKILL    {victim} (pid {pid}): the change for {story.titles[item]!r} is written, not committed")

    watcher.until("every item to be Done", lambda: story.done >= set(ids), within_s)
    story.say("demo", f"all {len(ids)} items are done; {victim} comes back as a plain node, to see what it missed")
    fleet.start(victim, "serve")
    fleet.wait_serving(victim)
    return examine(fleet, story, ids, item, victim)


def examine(fleet: Fleet, story: Story, ids: list[str], taken: str, victim: str) -> list[str]:
    """Print the end state, and say what of it is not as promised."""
    wrong = []
    names = ["host", *AGENTS]
    digests = converged(fleet, names, within_s=20)
    items = fleet.call("host", "items", "list")["items"]
    show_board(items, story.merged_by)
    wrong += [f"{item['title']!r} is in {item['stage']}, not Done" for item in items if item["stage"] != "Done"]
    if {item["id"] for item in items} != set(ids):
        wrong.append(f"the board has {len(items)} items, {len(ids)} were added")

    print("\nRuns of the item that was taken over")
    runs = fleet.call("host", "runs", "list", "--item", taken)["runs"]
    for run in runs:
        print(f"  {run['run_id'][:10]}  {run['node_name']:<5} {run['state']:<12} {run.get('reason') or run.get('evidence') or ''}")
    if story.merged_by.get(taken) == victim or {run["node_name"] for run in runs} != set(AGENTS):
        wrong.append(f"{story.titles[taken]!r} was not taken over from {victim} by the other agent")

    print("\nState digests")
    for name in names:
        state, frontier = digests.get(name, ("no answer", ""))
        print(f"  {name:<5} {state}  (ops: {frontier[:16]})")
    if len(digests) != len(names) or len(set(digests.values())) != 1:
        wrong.append("the three replicas are not equal")

    print("\nBase branch")
    for line in fleet.git("log", "--oneline", "--graph", "main", folder=fleet.remote).splitlines():
        print(f"  {line}")
    count = merges(fleet)
    wrong += [f"{story.titles.get(item, item)!r} was merged {count[item]} times" for item in ids if count[item] != 1]
    wrong += [f"a merge of the unknown item {item}" for item in count if item not in ids]

    print("\nThe merged program")
    try:
        print(f"  {program_passes(fleet)}")
    except DemoFailed as error:
        wrong.append(str(error))
    wrong += [f"{name} did not end within 15 s of SIGTERM" for name in fleet.stop()]
    try:
        wait_for("all processes to end", lambda: None if fleet.left_behind(fleet.root) else True, 10)
    except DemoFailed:
        wrong += [f"left behind: {process}" for process in fleet.left_behind(fleet.root)]
    return wrong


def how_to_look_around(root: Path) -> str:
    """Commands for whoever kept the folder."""
    program = Path(sys.executable).with_name("fabrik-node")
    return f"""
Kept in {root}. To look around:
  {program} --home {root}/host items list
  {program} --home {root}/host items history ITEM
  {program} --home {root}/host events --after 0
  {program} --home {root}/anna runs list          and: runs logs RUN
  git -C {root}/program.git log --graph --oneline main
  git -C {root}/program.git for-each-ref          the claims, and the branches of all work
  less {root}/host.log {root}/anna.log {root}/ben.log
  rm -rf {root}                                   when you are done"""


def main() -> int:
    """0 when everything is as promised, 1 when not, 130 after ^C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the folder, and say how to look around in it")
    parser.add_argument("--within", type=float, default=120, help="seconds to wait for each part at most (default 120)")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    root = Path(tempfile.mkdtemp(prefix="fabrik-demo-")).resolve()
    story = Story()
    wrong: list[str] = []
    code = 1
    try:
        fleet = Fleet(root)
        try:
            wrong = play(fleet, story, options.within)
        finally:
            fleet.close()
        code = 1 if wrong else 0
    except DemoFailed as error:
        wrong = [str(error)]
    except KeyboardInterrupt:
        wrong, code = ["interrupted"], 130
    finally:
        keep = options.keep or code == 1
        print(how_to_look_around(root) if keep else "")
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{'FAILED' if code else 'OK: every item done and merged once, replicas equal'}, {story.elapsed_s:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
