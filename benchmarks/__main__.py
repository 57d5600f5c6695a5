"""`python -m benchmarks [NAME ...] [--scale full|small]`: one table, and 1 if a limit is broken."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import archive, candles, chain, history, many_ranges, orchestration
from benchmarks.report import SCALES, Line, Scale

BENCHMARKS: dict[str, Callable[[Scale, Path], Iterator[Line]]] = {
    "archive": archive.measure,
    "candles": candles.measure,
    "chain": chain.measure,
    "orchestration": orchestration.measure,
    "history": history.measure,
    "ranges": many_ranges.measure,
}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_LIBRARIES = ("duckdb", "pyarrow", "pandas", "dagster", "dbt-core", "dbt-duckdb")


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHMARKS)}.")] = None,
    scale: Annotated[str, typer.Option(help=f"Of {', '.join(SCALES)}.")] = "full",
) -> None:
    """Measure the groups named, or all of them."""
    wrong = [name for name in names or () if name not in BENCHMARKS]
    if wrong or scale not in SCALES:
        raise typer.BadParameter(f"unknown: {', '.join([*wrong, scale])}")
    console = Console()
    console.print(machine(), highlight=False)
    broken = 0
    table = Table("", "ours", "peer", "figure", "limit", "ok", title=f"scale: {scale}")
    for name in names or BENCHMARKS:
        with (
            console.status(f"{name} ..."),
            tempfile.TemporaryDirectory(prefix=f"benchmark-{name}-") as folder,
        ):
            lines = list(BENCHMARKS[name](SCALES[scale], Path(folder)))
        for line in lines:
            is_broken = SCALES[scale].is_judged and line.is_within is False
            broken += is_broken
            table.add_row(*cells(line, SCALES[scale]), style="red" if is_broken else "")
        table.add_section()
    console.print(table)
    console.print(
        "Both sides took turns on this machine and the best of each counts; what else ran at the "
        "same time shows in the figures."
    )
    if not SCALES[scale].is_judged:
        console.print("Fixed costs dominate at this scale, so the limits are not judged.")
    sys.exit(1 if broken else 0)


def cells(line: Line, scale: Scale) -> tuple[str, ...]:
    """A line as the table shows it."""
    verdict = "" if line.is_within is None or not scale.is_judged else "yes"
    if verdict and not line.is_within:
        verdict = "NO"
    return line.name, line.ours, line.peer, line.figure, line.limit, verdict


def machine() -> str:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"{platform.system()} {platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {libraries}"
    )


if __name__ == "__main__":
    # A run that is stopped takes its temporary folders, which hold gigabytes, with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    app()
