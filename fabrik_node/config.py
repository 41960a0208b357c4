"""Settings: one TOML file per home, plus flags; unknown keys are refused. The only room that reads the environment.

Precedence: flag > ``FABRIK_*`` variable > ``config.toml`` in the home > default.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from fabrik_node.domain.leases import HOLDER_STOPS_AT, LeaseTiming
from fabrik_node.errors import BadConfig

__all__ = [
    "NAME_BYTES_MAX",
    "AgentConfig",
    "ClaimsConfig",
    "Config",
    "EventsConfig",
    "GitConfig",
    "LeaseConfig",
    "MetricsConfig",
    "NodeConfig",
    "RunsConfig",
    "bare_url",
    "check_config",
    "child_environment",
    "home_path",
    "load_config",
    "no_color",
    "run_access",
    "shown_config",
    "user_paths",
]


NAME_BYTES_MAX = 64
"""Of a node's, an agent's and a mesh's name: what the registers take."""


_SECONDS_MAX = 30 * 86_400.0
"""No wait is longer: TOML also has ``inf`` and ``nan``, with which a lease would never end."""


class _Shown(Enum):
    PLAIN = auto()
    URL = auto()


Plain = Annotated[str, _Shown.PLAIN]
"""Text that may be shown to anybody who may read this node's figures. Text of any other type is hidden by :func:`shown_config`."""
Url = Annotated[str, _Shown.URL]
"""May carry a password or a token: shown without user, query and fragment."""


class _Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class NodeConfig(_Table, frozen=True):
    """``[node]``: where to listen and whom to dial."""

    name: Plain = ""
    listen: Plain = ""
    """``HOST:PORT``, with TLS; ``ws://127.0.0.1:PORT`` without, on loopback only. Empty: do not listen."""
    peers: list[Url] = []
    """WebSocket URLs to dial besides those learned by joining."""
    stale_s: float = 300.0
    """What was heard of a node, a run or a claim longer ago is shown as stale."""
    quiet_s: float = 60.0
    """A run without progress for longer is shown as quiet."""
    stall_s: float = 900.0
    """A run without progress for longer is shown as stalled."""


class LeaseConfig(_Table, frozen=True):
    """``[lease]``: seconds. See :class:`~fabrik_node.domain.leases.LeaseTiming`."""

    beat_s: float = 10.0
    ttl_s: float = 90.0
    grace_s: float = 30.0
    lock_delay_s: float = 15.0
    settle_s: float = 2.0
    stage_ttl_s: dict[str, float] = {}
    """By the name of a stage: the TTL of claims while their item is there."""
    stage_beat_s: dict[str, float] = {}
    """By the name of a stage: the time between renewals while the item is there."""
    minority_waits: bool = True
    """Take nothing over while fewer than half of the nodes are to be seen."""
    mass_loss: int = 3
    """So many claims lost within one TTL (or 30 % of all, two at least) stop takeovers for a while; 0: never."""

    def timing(self) -> LeaseTiming:
        """The same as the domain's type. Raises :class:`BadConfig` when the numbers do not fit together."""
        seconds = (self.beat_s, self.ttl_s, self.grace_s, self.lock_delay_s, self.settle_s, *self.stage_ttl_s.values(), *self.stage_beat_s.values())
        if not all(value <= _SECONDS_MAX for value in seconds):  # nan compares as False
            raise BadConfig("[lease]: each setting is a number of seconds, at most 30 days", "mend [lease] in config.toml")
        if min(self.beat_s, self.ttl_s, *self.stage_beat_s.values()) <= 0 or min(self.grace_s, self.lock_delay_s, self.settle_s) < 0:
            raise BadConfig("[lease]: beat_s and ttl_s must be above 0, the others not below", "mend [lease] in config.toml")
        if self.mass_loss < 0:
            raise BadConfig("[lease]: mass_loss must be 0 or more", "mend [lease] in config.toml")
        _check_work_stages("[lease]: stage_ttl_s", self.stage_ttl_s)
        _check_work_stages("[lease]: stage_beat_s", self.stage_beat_s)
        pairs = [("ttl_s", self.ttl_s, "beat_s", self.beat_s)]
        for stage in {**self.stage_ttl_s, **self.stage_beat_s}:
            of_ttl = ("ttl_s", self.ttl_s) if stage not in self.stage_ttl_s else (f"stage_ttl_s.{stage}", self.stage_ttl_s[stage])
            of_beat = ("beat_s", self.beat_s) if stage not in self.stage_beat_s else (f"stage_beat_s.{stage}", self.stage_beat_s[stage])
            pairs.append((*of_ttl, *of_beat))
        for name, ttl_s, beat, beat_s in pairs:
            if beat_s * 2 > ttl_s * HOLDER_STOPS_AT:
                raise BadConfig(
                    f"[lease]: {name} = {ttl_s:g} leaves no room for two beats of {beat_s:g} s ({beat}) before the holder stops itself at 80 %",
                    f"raise {name} or lower {beat} in [lease] of config.toml",
                )
        return LeaseTiming(
            self.beat_s,
            self.ttl_s,
            self.grace_s,
            self.lock_delay_s,
            self.settle_s,
            dict(self.stage_ttl_s),
            self.minority_waits,
            self.mass_loss,
            dict(self.stage_beat_s),
        )


def _check_work_stages(what: str, names: Collection[str], *, commands: bool = False) -> None:
    if not names:
        return
    from fabrik_node.domain.stages import Coding, Merge, Qa  # late: commands read the configuration too, and need no stages for that

    known = [stage.name for stage in ((Coding, Qa) if commands else (Coding, Qa, Merge))]
    for name in names:
        if name not in known:
            raise BadConfig(f"{what}.{name}: {'no command runs' if commands else 'nobody works'} in such a stage", f"stages: {', '.join(known)}")


class ClaimsConfig(_Table, frozen=True):
    """``[claims]``: what agents may take at once."""

    limits: dict[str, int] = {}
    """By a label of items: so many claims of them may live in the mesh, as far as this node can see."""


class GitConfig(_Table, frozen=True):
    """``[git]``: the remote that work is merged into. Without one there is no arbiter and no merge."""

    remote: Url = ""
    base: Plain = "main"
    author_name: Plain = "fabrik-node"
    author_email: Plain = "fabrik-node@localhost"


class AgentConfig(_Table, frozen=True):
    """``[agent]``: what a build agent runs. Commands are argument lists, or one string for the shell."""

    command: list[str] | str = ""
    """Changes the program and commits. Empty: this node takes no work."""
    qa: list[str] | str = ""
    """Runs the program's tests; empty: no tests are run in Qa."""
    name: Plain = "agent"
    slots: int = 1
    labels: list[Plain] = []
    timeout_s: float = 3600.0
    """For each command."""
    stage_timeout_s: dict[str, float] = {}
    """By the name of a stage: what counts for its command in place of ``timeout_s``."""
    max_attempts: int = 3
    max_interruptions: int = 10
    """Runs of an item in a row that were lost (their node died, or its lease) before it is held; 0: never."""
    backoff_s: float = 30.0
    """Wait after a failed attempt; doubles with each, at most 15 minutes."""
    kill_grace_s: float = 10.0
    """Between SIGTERM and SIGKILL of the process group."""
    remote_wait_s: float = 3600.0
    """For so long finished work waits, with its claim, for a git remote that can not be reached."""
    cgroup: Plain = "auto"
    """Control groups for runs: ``auto`` below the node's own where that is allowed, ``off``, or the folder of a group that was delegated to its user."""
    isolation: Literal["off", "on"] = "off"
    """Whether the home is kept from commands, by namespaces of their own (Linux). Where the kernel refuses those, ``on`` means that no work is taken."""
    network: Literal["on", "off"] = "on"
    """``off``: commands have a loopback device of their own and nothing else. Needs ``isolation``."""
    memory_bytes_max: int = 0
    """All processes of a run together; 0: no limit. Needs control groups with a memory controller."""
    processes_max: int = 0
    """Of a run at once; 0: no limit. Needs control groups with a pids controller."""
    log_bytes_max: int = 16_777_216
    """Per run; what comes after is cut and said."""
    crash_s: float = 10.0
    """A run that fails within so many seconds counts for the crash guard."""
    crash_count: int = 3
    """Such runs in a row, of different items, after which the agent takes nothing more until a person says so; 0: never."""
    keep_worktrees: Literal["always", "failed", "never"] = "failed"

    def timeout_in_s(self, stage: str) -> float:
        """Seconds that the command of ``stage`` may take."""
        return self.stage_timeout_s.get(stage, self.timeout_s)


class RunsConfig(_Table, frozen=True):
    """``[runs]``: how long the folders of runs stay."""

    keep_days: float = 30.0
    """After the end of the run."""
    keep_bytes: int = 1_073_741_824
    """What all of them may take together; the oldest go first."""


class EventsConfig(_Table, frozen=True):
    """``[events]``: the exported stream."""

    rotate_bytes: int = 16_777_216
    keep_files: int = 4


class MetricsConfig(_Table, frozen=True):
    """``[metrics]``: figures for Prometheus. Off unless ``listen`` is set."""

    listen: Plain = ""
    """``HOST:PORT``, the host an address. Empty: there is no endpoint."""
    public: bool = False
    """Allow an address that is not loopback: the figures name nodes, and nobody has to show a key for them."""

    def address(self) -> tuple[str, int] | None:
        """Where to listen; None for nowhere. Raises :class:`BadConfig`."""
        if not self.listen:
            return None
        host, colon, port = self.listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            where = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            where = None
        if where is None or not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise BadConfig(f"[metrics]: listen = {self.listen!r} is no address with a port", 'listen = "127.0.0.1:9464" in [metrics] of config.toml')
        if not where.is_loopback and not self.public:
            raise BadConfig(
                f"[metrics]: {self.listen} can be read from other hosts, by anybody", "listen on 127.0.0.1, or say public = true in [metrics] of config.toml"
            )
        return str(where), int(port)


class Config(_Table, frozen=True):
    """The whole file."""

    node: NodeConfig = NodeConfig()
    lease: LeaseConfig = LeaseConfig()
    claims: ClaimsConfig = ClaimsConfig()
    git: GitConfig = GitConfig()
    agent: AgentConfig = AgentConfig()
    runs: RunsConfig = RunsConfig()
    events: EventsConfig = EventsConfig()
    metrics: MetricsConfig = MetricsConfig()


def load_config(path: Path) -> Config:
    """Read ``path``; the defaults when there is no such file. Raises :class:`BadConfig` naming the file and the key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror or error}", "--home DIR, for a folder that can be used") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{path}: {error}", f"mend {path}") from error
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{path}: {_told(str(error))}", f"mend {path}; every key is in docs/howto/configure.md") from error
    return check_config(config, str(path))


def _told(problem: str) -> str:
    """What msgspec says, in the words of the file: table and key instead of a path."""
    said, _, path = problem.partition(" - at `$")
    table, _, key = path.rstrip("`").removeprefix(".").partition(".")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", said):
        return f"unknown key {found[1]!r} in [{table}]" if table else f"unknown table or key {found[1]!r}"
    if not table:
        return said
    return f"[{table}] {key}: {said.replace('`', '')}" if key else f"[{table}]: {said.replace('`', '')}"


def check_config(config: Config, where: str) -> Config:
    """The same config when its numbers make sense; raises :class:`BadConfig` naming ``where`` otherwise."""
    try:
        config.lease.timing()
        _check_work_stages("[agent]: stage_timeout_s", config.agent.stage_timeout_s, commands=True)
        config.metrics.address()
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}", error.hint) from error
    if len(config.node.name.encode()) > NAME_BYTES_MAX:
        raise BadConfig(f"{where}: [node]: name is longer than {NAME_BYTES_MAX} bytes", "--name NAME, or name in [node] of config.toml")
    if not 0 < config.node.stale_s <= _SECONDS_MAX:
        raise BadConfig(f"{where}: [node]: stale_s must be above 0 and at most 30 days", "mend [node] in config.toml")
    if not 0 < config.node.quiet_s < config.node.stall_s <= _SECONDS_MAX:
        raise BadConfig(f"{where}: [node]: quiet_s must be above 0 and below stall_s, and stall_s at most 30 days", "mend [node] in config.toml")
    if not 0 <= config.runs.keep_days <= 36_500 or config.runs.keep_bytes < 0:
        raise BadConfig(f"{where}: [runs]: keep_days must be 0 to 36500, keep_bytes 0 or more", "mend [runs] in config.toml")
    for label, limit in config.claims.limits.items():
        if not label or label.endswith("?") or limit < 1:
            raise BadConfig(
                f'{where}: [claims]: limits."{label}" = {limit}: a label without a question mark, and a number from 1', "mend [claims] in config.toml"
            )
    agent = config.agent
    wrong = [
        f"{name} must be {rule}"
        for name, rule, ok in (
            ("labels", "without node: and engine:, which the node gives by itself", not agent.labels or _are_settable(agent.labels)),
            ("name", "1 to 64 bytes", 1 <= len(agent.name.encode()) <= NAME_BYTES_MAX),
            ("slots", "1 to 64", 1 <= agent.slots <= 64),
            ("timeout_s", "above 0 and at most 30 days", 0 < agent.timeout_s <= _SECONDS_MAX),
            ("stage_timeout_s", "above 0 and at most 30 days", all(0 < seconds <= _SECONDS_MAX for seconds in agent.stage_timeout_s.values())),
            ("max_attempts", "at least 1", agent.max_attempts >= 1),
            ("max_interruptions", "0 or more", agent.max_interruptions >= 0),
            ("backoff_s", "0 or more and at most 30 days", 0 <= agent.backoff_s <= _SECONDS_MAX),
            ("kill_grace_s", "0 or more and at most 30 days", 0 <= agent.kill_grace_s <= _SECONDS_MAX),
            ("remote_wait_s", "0 or more and at most 30 days", 0 <= agent.remote_wait_s <= _SECONDS_MAX),
            ("crash_s", "0 or more and at most 30 days", 0 <= agent.crash_s <= _SECONDS_MAX),
            ("crash_count", "0 or more", agent.crash_count >= 0),
            ("cgroup", '"auto", "off" or an absolute path', agent.cgroup in {"auto", "off"} or agent.cgroup.startswith("/")),
            ("network", '"on" without isolation = "on"', agent.network == "on" or agent.isolation == "on"),
            ("memory_bytes_max", "0 or at least 1048576", agent.memory_bytes_max == 0 or agent.memory_bytes_max >= 1_048_576),
            ("processes_max", "0 or more", agent.processes_max >= 0),
            ("log_bytes_max", "at least 4096", agent.log_bytes_max >= 4096),
        )
        if not ok
    ]
    if wrong:
        raise BadConfig(f"{where}: [agent]: {'; '.join(wrong)}", "every setting is in docs/howto/configure.md")
    return config


def _are_settable(labels: Collection[str]) -> bool:
    from fabrik_node.domain.targets import is_given  # late, as above

    return not any(is_given(label) for label in labels)


def shown_config(config: Config) -> dict[str, dict[str, Any]]:
    """Every setting for a report that others may read. By type: numbers, choices and :data:`Plain` text as they are, :data:`Url` without its secrets, all else hidden."""
    return {name: {key: _shown(kind, getattr(table, key)) for key, kind in _types(type(table)).items()} for name, table in _tables(config)}


def _tables(config: Config) -> list[tuple[str, _Table]]:
    return [(name, getattr(config, name)) for name in _types(Config)]


def _types(table: type[_Table]) -> Mapping[str, Any]:
    hints = get_type_hints(table, include_extras=True)
    return {name: hints[name] for name in table.__struct_fields__}


def _shown(kind: Any, value: Any) -> Any:
    if get_origin(kind) is list:
        return [_shown(get_args(kind)[0], part) for part in value]
    if get_origin(kind) is dict:  # names of stages and labels, with numbers
        return dict(value)
    if kind in (bool, int, float) or get_origin(kind) is Literal or kind == Plain:
        return value
    if not value:
        return value
    return bare_url(value) if kind == Url else f"hidden: {len(str(value))} characters"


def bare_url(text: str) -> str:
    """A URL without its secrets: scheme, host and path; what is no URL (a path, or ``user@host:path`` of ssh) as it is, up to a question mark."""
    if "://" not in text:
        return text.partition("?")[0]
    try:
        parts = urlsplit(text)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return f"hidden: {len(text)} characters"


def home_path(flag: str | None) -> Path:
    """The node's home: ``--home``, else ``FABRIK_HOME``, else ``~/.fabrik-node``."""
    chosen = flag or os.environ.get("FABRIK_HOME") or "~/.fabrik-node"
    return Path(chosen).expanduser().absolute()


def run_access(flag: str | None) -> tuple[str, str] | None:
    """Socket and token of the node whose command we run below (``FABRIK_API``, ``FABRIK_TOKEN``); None outside of commands, and when a home is named.

    A node gives its commands no ``FABRIK_HOME``: where it is set, somebody means another node.
    """
    api, token = os.environ.get("FABRIK_API"), os.environ.get("FABRIK_TOKEN")
    return (api, token) if api and token and not flag and not os.environ.get("FABRIK_HOME") else None


def no_color() -> bool:
    """True when ``NO_COLOR`` is set to anything or the terminal is dumb (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """Our own environment without ``FABRIK_*``, plus ``extra``: what a child process gets."""
    return {key: value for key, value in os.environ.items() if not key.startswith("FABRIK_")} | extra


def user_paths() -> str:
    """``PATH`` as the node sees it, for messages about missing programs."""
    return os.environ.get("PATH", "")
