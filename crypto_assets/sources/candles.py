"""What is true of every venue's candles: they open on a grid, and prices do not contradict them.

Pure checks of a batch in key order, with the columns open, high, low, close and volume. What a hole
of the grid means differs from venue to venue and is said there.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import BrokenCandleError, IntegrityError, OffGridError
from crypto_assets.sources.columns import int64, micros

MINUTE_US = 60_000_000


def check_grid(batch: pa.RecordBatch, step_us: int, part: MarketDay, *, column: str) -> None:
    """Every candle opens on a multiple of the step; raises OffGridError."""
    _refuse(
        OffGridError,
        int64(batch[column]) % step_us != 0,
        batch,
        part,
        f"does not open on its grid of {step_us // 1_000_000} s",
    )


def check_close_times(
    batch: pa.RecordBatch, step_us: int, unit_us: int, part: MarketDay, *, columns: tuple[str, str]
) -> None:
    """Every candle lasts its step less one unit of the source's clock; raises OffGridError.

    The one before a hole, or before midnight, may be cut short: trading halted inside it
    (BTCUSDT 2023-03-24 12:39 closes 18 s early, and the next candle opens at 14:00).
    """
    opened, closed = (int64(batch[column]) for column in columns)
    lasting, whole = closed - opened, step_us - unit_us
    is_before_hole = np.append(np.diff(opened) > step_us, True)
    fits = (lasting == whole) | ((lasting >= 0) & (lasting < whole) & is_before_hole)
    _refuse(OffGridError, ~fits, batch, part, "has a close time that does not fit")


def check_prices(batch: pa.RecordBatch, part: MarketDay) -> None:
    """High and low enclose open and close, prices are above zero; raises BrokenCandleError."""
    check_claims(
        batch,
        part,
        (
            (
                pc.less(batch["high"], pc.max_element_wise(batch["open"], batch["close"])),
                "has a high below its open or close",
            ),
            (
                pc.greater(batch["low"], pc.min_element_wise(batch["open"], batch["close"])),
                "has a low above its open or close",
            ),
            (pc.less_equal(batch["low"], _zero(batch["low"])), "has a price of zero or less"),
            (pc.less(batch["volume"], _zero(batch["volume"])), "has negative volume"),
        ),
    )


def check_claims(
    batch: pa.RecordBatch, part: MarketDay, broken: Iterable[tuple[pa.Array, str]]
) -> None:
    """Raise BrokenCandleError for the first row of a mask, with the words that go with it."""
    for mask, problem in broken:
        _refuse(BrokenCandleError, np.asarray(mask), batch, part, problem)


def is_zero(column: pa.Array) -> pa.Array:
    """Where a column of exact numbers is zero."""
    return pc.equal(column, _zero(column))


def grid_holes(
    opened: npt.NDArray[np.int64], step_us: int, part: MarketDay
) -> list[tuple[int, int]]:
    """Stretches `[start, end)` of the day's grid without a candle, UTC microseconds."""
    edges = np.concatenate(([micros(part.starts_at) - step_us], opened, [micros(part.ends_at)]))
    return [
        (int(edges[at]) + step_us, int(edges[at + 1]))
        for at in np.flatnonzero(np.diff(edges) > step_us)
    ]


def _zero(column: pa.Array) -> pa.Scalar:
    return pa.scalar(Decimal(0) if pa.types.is_decimal(column.type) else 0, column.type)


def _refuse(
    kind: type[IntegrityError],
    wrong: npt.NDArray[Any],
    batch: pa.RecordBatch,
    part: MarketDay,
    problem: str,
) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        row = batch.slice(at, 1).to_pylist()
        opened_at = row[0][batch.schema.names[0]]
        raise kind(f"{part}: candle {opened_at} (row {at + 1}) {problem}", row=at + 1, rows=row)
