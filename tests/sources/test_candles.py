"""Holes of the grid, which are what a venue's silence is read from."""

from __future__ import annotations

import itertools
from datetime import date

import numpy as np
from collecting import KLINES
from hypothesis import given
from hypothesis import strategies as st

from crypto_assets.catalog import MarketDay
from crypto_assets.sources.candles import MINUTE_US, grid_holes
from crypto_assets.sources.columns import micros

PART = MarketDay(KLINES.name, "BTC-USDT", date(2024, 3, 5))
START = micros(PART.starts_at)


@given(st.sets(st.integers(0, 1439)))
def test_holes_and_candles_tile_the_day(minutes: set[int]) -> None:
    opened = np.array([START + MINUTE_US * at for at in sorted(minutes)], dtype=np.int64)
    holes = grid_holes(opened, MINUTE_US, PART)
    missing = {
        (at - START) // MINUTE_US for starts, ends in holes for at in range(starts, ends, MINUTE_US)
    }
    assert missing == set(range(1440)) - minutes
    assert all(starts < ends for starts, ends in holes)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(holes))
