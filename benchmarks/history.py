"""What one more day costs with a long history behind it, beside the same day with a short one.

The histories are written by the real collector, one dbt command and one publishing; each is kept
open by a process of its own, and new days are added to them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from benchmarks import tiny
from benchmarks.alone import worker
from benchmarks.report import Line, Scale, note, ratio
from benchmarks.tiny import WHOLE, Timing, best


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """One more day through the whole job, and which part of it grows."""
    timings: dict[int, list[Timing]] = {days: [] for days in scale.histories}
    with ExitStack() as stack:
        processes = {
            days: stack.enter_context(worker(folder / f"{days}.log")) for days in scale.histories
        }
        for days, process in processes.items():
            process.submit(tiny.open_home, folder / str(days)).result()
            process.submit(tiny.fill, days).result()
        # The first run pays for imports.
        for nth in range(scale.repeats + 1):
            for days, process in processes.items():
                day = tiny.FIRST_DAY + timedelta(days=days + nth)
                timings[days].append(process.submit(tiny.run, WHOLE, day, 1).result())
    few, many = (best(timings[days][1:]) for days in scale.histories)
    short, long = scale.histories
    name = f"one more day on a warehouse of {long:,} days"
    yield ratio(name, many.total, few.total, f"on {short} days", at_most=1.2)
    for part, spent in many.parts().items():
        yield note(f"of which {part}", f"{spent:.2f} s", f"{few.parts()[part]:.2f} s")
