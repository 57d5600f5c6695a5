"""What one more partition costs in a single run: the difference of two runs of unequal length.

Start-up, dbt's own and whatever else a run pays once cancels out. Each run is in a home and a
process of its own, after a run of one day that pays for imports and for building the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from benchmarks import tiny
from benchmarks.alone import worker
from benchmarks.report import Line, Scale, note, seconds
from benchmarks.tiny import RAW_ALONE, WHOLE, Timing, best

_Runs = dict[str, Timing]


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """Cost of one more day, where it goes, and what it is without fetching or of fetching alone."""
    few, many = scale.runs
    runs: dict[int, list[_Runs]] = {few: [], many: []}
    for nth in range(scale.repeats):
        for count, timings in runs.items():
            timings.append(_runs(folder / f"{count}-days-{nth}", count))
    short, long = (
        {kind: best([run[kind] for run in timings]) for kind in timings[0]}
        for timings in runs.values()
    )
    more = many - few
    whole, proven, raw = (
        (long[kind].total - short[kind].total) / more for kind in ("whole", "proven", "raw")
    )
    name = f"orchestration, one more partition in a single run ({few} and {many} days)"
    yield seconds(name, whole, at_most=0.1)
    for part, spent in long["whole"].parts().items():
        yield note(f"of which {part}", f"{(spent - short['whole'].parts()[part]) / more:.3f} s")
    yield note("the same with the raw data already proven", f"{proven:.3f} s")
    yield note("the raw assets alone, without checks", f"{raw:.3f} s")
    yield note(f"the whole run of {few} days", f"{short['whole'].total:.2f} s")


def _runs(folder: Path, count: int) -> _Runs:
    """The whole job over new days, again over the same days, and the raw assets over more days."""
    first = tiny.FIRST_DAY + timedelta(days=1)
    with worker(folder.with_suffix(".log")) as process:
        process.submit(tiny.open_home, folder).result()
        process.submit(tiny.run, WHOLE, tiny.FIRST_DAY, 1).result()
        return {
            "whole": process.submit(tiny.run, WHOLE, first, count).result(),
            "proven": process.submit(tiny.run, WHOLE, first, count).result(),
            "raw": process.submit(
                tiny.run, RAW_ALONE, first + timedelta(days=count), count
            ).result(),
        }
