"""What a benchmark is: a name, a goal, and a function that measures. Each result is one JSON line."""

from __future__ import annotations

import functools
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BENCHMARKS", "Benchmark", "Measured", "Scale", "benchmark", "result_line", "spread"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much: ``ops`` of the large logs."""

    ops: int
    full: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A value in the benchmark's unit, and what one has to know to judge it."""

    value: float
    env: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``at_least``: more is better, and the goal is a lower limit; else an upper one."""

    name: str
    unit: str
    goal: float
    at_least: bool
    group: str

    def ok(self, value: float) -> bool:
        return value >= self.goal if self.at_least else value <= self.goal


BENCHMARKS: dict[str, tuple[Benchmark, Callable[[Scale], dict[str, Measured]]]] = {}
"""By name. Benchmarks that one run gives together share their function."""


def benchmark(*rows: tuple[str, str, str, float]) -> Callable[[Callable[[Scale], dict[str, Measured]]], Callable[[Scale], dict[str, Measured]]]:
    """Register a function that measures ``(name, unit, ">=" or "<=", goal)`` rows. It runs once, even when several are asked for."""

    def register(measure: Callable[[Scale], dict[str, Measured]]) -> Callable[[Scale], dict[str, Measured]]:
        once = functools.cache(measure)
        for name, unit, direction, goal in rows:
            BENCHMARKS[name] = (Benchmark(name, unit, goal, direction == ">=", measure.__name__), once)
        return measure

    return register


def spread(values: Iterable[float]) -> dict[str, Any]:
    """How far the runs of one measurement lie apart."""
    runs = sorted(values)
    return {"runs": len(runs), "min": round(runs[0], 4), "median": round(statistics.median(runs), 4), "max": round(runs[-1], 4)}


def result_line(row: Benchmark, measured: Measured) -> str:
    """The one line of a result."""
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1m": round(os.getloadavg()[0], 2),
    }
    value = round(measured.value, 4) if measured.value < 1000 else round(measured.value)
    return json.dumps({"name": row.name, "value": value, "unit": row.unit, "goal": row.goal, "ok": row.ok(measured.value), "env": machine | measured.env})


def note(text: str) -> None:
    """Progress, for people: on stderr."""
    print(text, file=sys.stderr, flush=True)
