"""What 25,000 block ranges, all of mainnet, cost whoever waits: a run, a sensor, the UI, a person.

A run is held against the same run where ten are registered; each home has a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import range_home
from benchmarks.alone import worker
from benchmarks.report import Line, Scale, note, seconds

# In seconds, for what runs and sensors do, and for a page of the UI.
_MOST = 1.0
_MOST_OF_A_PAGE = 2.0
_RARE = {
    "registering the newer half",
    "registering the older half below it",
    "what there is to verify of a day",
    "status of the newest 1,000",
    "status of all of them",
}
_RUNS = (1, 10)


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """Registering, runs, what the UI asks, and what is asked of the lake."""
    few, many = scale.ranges
    with ExitStack() as stack:
        homes = {
            count: stack.enter_context(worker(folder / f"{count}.log")) for count in scale.ranges
        }
        for count, process in homes.items():
            process.submit(range_home.open_home, folder / str(count), count).result()
        registered = [process.submit(range_home.register).result() for process in homes.values()]
        for name, spent in registered[-1].items():
            yield _line(f"{many:,} ranges: {name}", spent, name)
        for process in homes.values():
            process.submit(range_home.record).result()
        for size in _RUNS:
            spent_on: dict[int, list[float]] = {count: [] for count in homes}
            # The first run pays for imports.
            for _ in range(scale.repeats + 1):
                for count, process in homes.items():
                    spent_on[count].append(process.submit(range_home.run, size).result())
            short, long = (min(runs[1:]) for runs in spent_on.values())
            yield Line(
                f"a run over {size} of {many:,} ranges",
                f"{long:.2f} s",
                f"of {few} {short:.2f} s",
                f"{long / short:.2f} x",
                f"<= {_MOST} s",
                long <= _MOST,
            )
        home = homes[many]
        first, again = (home.submit(range_home.ask).result() for _ in range(2))
        home.submit(range_home.grow).result()
        grown = home.submit(range_home.ask).result()
        for name, spent in again.items():
            yield seconds(f"UI: {name}", spent, at_most=_MOST_OF_A_PAGE)
            yield note("the first time ever", f"{first[name]:.2f} s")
            yield note("the first time after one more range", f"{grown[name]:.2f} s")
        home.submit(range_home.fill).result()
        for name, spent in home.submit(range_home.look).result().items():
            yield _line(f"lake: {name}", spent, name)


def _line(name: str, spent: float, what: str) -> Line:
    return Line(name, f"{spent:.2f} s") if what in _RARE else seconds(name, spent, at_most=_MOST)
