"""The benchmark of many ranges works, at a size where it measures nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks import many_ranges
from benchmarks.report import SCALES


def test_everything_that_is_waited_for_is_measured(tmp_path: Path) -> None:
    scale = replace(SCALES["small"], ranges=(10, 40), repeats=1)
    lines = list(many_ranges.measure(scale, tmp_path))
    names = [line.name for line in lines]
    assert len({name for name in names if not name.startswith(" ")}) == 17
    assert all(line.ours.endswith(" s") for line in lines)
    assert "a run over 10 of 40 ranges" in names
