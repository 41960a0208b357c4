"""The figures of a comparison as Markdown, and where they stand in docs/benchmarks.md."""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["machine", "put_into", "tables"]

_NAMES = {
    "fabrik": "this core",
    "fabrik-one-by-one": "this core, one signature per op",
    "fabrik-snapshot": "this core, from its snapshot",
    "loro-updates": "loro, from its updates",
}
_HEADINGS = (
    "",
    "local writes/s",
    "applied one by one/s",
    "bulk load, writes/s",
    "registers read/s",
    "B per change",
    "B per write, saved",
    "peak MiB",
    "held MiB",
)
_BEGIN = "<!-- measured: written by make bench-peers -->\n"
_END = "<!-- end of what was measured -->\n"
REGISTERS = 80_000
_Cells = dict[str, dict[str, Any]]


def _rate(figures: dict[str, Any] | None, count: int, limit: float) -> str:
    if figures is None:
        return ""
    if figures.get("failed"):
        return "failed"
    if figures.get("stopped"):
        came = f", {figures['done']:,} done" if "done" in figures else ""
        return f"> {limit:g} s{came}"
    return f"{count / figures['seconds']:,.0f}"


def _row(name: str, cells: _Cells, writes: int, limit: float, sizes: dict[str, int]) -> list[str]:
    bulk = cells.get("bulk")
    whole = bulk if bulk and "peak" in bulk else None
    form = {"fabrik-one-by-one": "ops", "fabrik-snapshot": "snapshot", "loro-updates": "updates"}.get(name, "saved")
    change = cells.get("write", {}).get("change_bytes")
    return [
        _NAMES.get(name, name),
        _rate(cells.get("write"), writes, limit),
        _rate(cells.get("each"), writes, limit),
        _rate(bulk, writes, limit),
        f"{REGISTERS / whole['read_seconds']:,.0f}" if whole else "",
        f"{change / writes:,.0f}" if change else "",
        f"{sizes[form] / writes:,.1f}" if form in sizes else "",
        f"{whole['peak'] / 2**20:,.0f}" if whole else "",
        f"{whole['held'] / 2**20:,.0f}" if whole else "",
    ]


def tables(sizes: dict[int, dict[str, _Cells]], limit: float) -> str:
    """One table per number of writes."""
    parts = []
    for writes, found in sizes.items():
        lines = [_HEADINGS, ("---",) + ("---:",) * (len(_HEADINGS) - 1)]
        for name, cells in found.items():
            owner = name.partition("-")[0]
            lines.append(tuple(_row(name, cells, writes, limit, found.get(owner, {}).get("write", {}).get("sizes", {}))))
        parts.append(f"### {writes:,} writes\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n")
    return "".join(parts)


def _cpu() -> str:
    rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in rows if line.startswith("model name")), platform.machine())


def machine(sizes: dict[int, dict[str, _Cells]], load: tuple[float, float, float], seed: int) -> str:
    """What it was measured on, and with which versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {
        _NAMES.get(name.partition("-")[0], name.partition("-")[0]): figures["version"]
        for found in sizes.values()
        for name, cells in found.items()
        for figures in cells.values()
        if "version" in figures
    }
    right = all(
        figures["right"]
        for found in sizes.values()
        for cells in found.values()
        for figures in cells.values()
        if "right" in figures and "stopped" not in figures
    )
    now = dt.datetime.now(dt.UTC)
    rows = [
        ("machine", f"{os.cpu_count()} cores, {_cpu()}, {memory:.0f} GiB of memory; each cell on one core"),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("date", f"{now:%Y-%m-%d %H:%M} UTC"),
        ("load average", f"{load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f} at the start; {os.getloadavg()[0]:.1f} at the end"),
        ("seed", str(seed)),
        ("final values", "the workload's, in every library that finished" if right else "NOT the workload's in some library: these figures mean nothing"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the two marks of the document."""
    before, rest = path.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    path.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", encoding="utf-8")
