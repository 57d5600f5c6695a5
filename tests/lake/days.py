"""Days of Binance and the runs that commit them, in this process and in others."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa

from crypto_assets import lake as package
from crypto_assets.catalog import MarketDay
from crypto_assets.errors import NeighbourMismatchError
from crypto_assets.lake import Lake, PartitionWriter, Proof, SourceFile, Status, find_proof
from crypto_assets.sources.binance import KLINES, TRADES

DATASETS = {dataset.name: dataset for dataset in (TRADES, KLINES)}
SIBLINGS = {TRADES.name: frozenset({KLINES.name}), KLINES.name: frozenset({TRADES.name})}
DAY = date(2024, 3, 1)
PART = MarketDay(TRADES.name, "BTC-USDT", DAY)
SOURCE = SourceFile(url="https://example.org/day.zip", etag=None, sha256="0" * 64, bytes=1)


def trades(part: MarketDay = PART, *, first_id: int = 1, rows: int = 10) -> pa.RecordBatch:
    """Trades over the whole day, the first at 00:00:00.000000, with all digits in use."""
    ids = np.arange(first_id, first_id + rows)
    dice = ids * 2_654_435_761 % 100_000_007
    starts = int(part.starts_at.timestamp()) * 1_000_000
    columns = {
        "id": pa.array(ids),
        "price": _decimals(4_200_000_000_000 + dice, 18),
        "qty": _decimals(1 + dice, 28),
        "quote_qty": _decimals(42_000 * (1 + dice), 28),
        "time": pa.array(starts + np.arange(rows) * (86_400_000_000 // max(rows, 1))),
        "is_buyer_maker": pa.array(dice % 2 == 0),
        "is_best_match": pa.array(np.ones(rows, dtype=bool)),
    }
    arrays = [columns[field.name].cast(field.type) for field in TRADES.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=TRADES.schema)


def klines(part: MarketDay, *, rows: int = 10) -> pa.RecordBatch:
    """The first minutes of the day."""
    starts = int(part.starts_at.timestamp()) * 1_000_000
    opens = starts + np.arange(rows) * 60_000_000
    values = {"open_time": opens, "close_time": opens + 59_999_999, "count": np.ones(rows, int)}
    arrays = [
        pa.array(values[field.name]).cast(field.type)
        if field.name in values
        else _decimals(np.arange(1, rows + 1) * 12_345_678_901, field.type.precision)
        for field in KLINES.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=KLINES.schema)


def changed(batch: pa.RecordBatch, change: Callable[[list[dict[str, Any]]], object]) -> pa.Table:
    """The rows as `change` leaves them, in the same schema."""
    rows = batch.to_pylist()
    change(rows)
    return pa.RecordBatch.from_pylist(rows, schema=batch.schema)


def pieces(batch: pa.RecordBatch, rows: int) -> list[pa.RecordBatch]:
    return [batch.slice(at, rows) for at in range(0, batch.num_rows, rows)]


def commit(
    lake: Lake,
    batches: pa.RecordBatch | Iterable[pa.RecordBatch],
    part: MarketDay = PART,
    *,
    status: Status | None = None,
    source_row_count: int | None = None,
) -> Proof:
    """Commit a day; unless told otherwise, the source has as many rows as there are."""
    given = [batches] if isinstance(batches, pa.RecordBatch) else list(batches)
    rows = sum(batch.num_rows for batch in given)
    with PartitionWriter(lake, DATASETS[part.dataset], part) as writer:
        for batch in given:
            writer.write(batch)
        return writer.commit(
            status=status or ("complete" if rows else "empty"),
            source_row_count=rows if source_row_count is None else source_row_count,
            source=(SOURCE,),
            checks={},
        )


def run(lake: Lake, batches: list[pa.RecordBatch], part: MarketDay = PART) -> bool:
    """What a run does with a partition: skip it or fetch and commit it; whether it fetched."""
    with lake.partition_lock(part):
        if find_proof(lake, part) is not None:
            lake.clear_inflight(part)
            return False
        lake.inflight(part).mkdir(parents=True, exist_ok=True)
        (lake.inflight(part) / "page-1.json").write_text("[]")
        commit(lake, batches, part)
        return True


def files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path from there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def inflight(lake: Lake) -> list[str]:
    return list(files(lake.home / "inflight"))


# What follows runs in child processes.

SKIPPED, REFUSED = 10, 11


def child_run(home: Path, batch: pa.RecordBatch, part: MarketDay, start: Any) -> None:
    """Exits with 0, SKIPPED or REFUSED (by its neighbours)."""
    start.wait()
    try:
        sys.exit(0 if run(Lake(home), [batch], part) else SKIPPED)
    except NeighbourMismatchError:
        sys.exit(REFUSED)


def child_commit(home: Path, rows: int, started: Any) -> None:
    batches = pieces(trades(rows=rows), 20_000)
    started.set()
    commit(Lake(home), batches)


def child_killed_at_lines(homes: list[Path], batches: list[pa.RecordBatch], step: int) -> None:
    """Commits the day in one home after the other, each time by a process that dies on the way.

    The first dies before the first line of the package `lake` that a commit executes, the next
    `step` lines later, and so on. Exits with the number of those that died.
    """
    for number, home in enumerate(homes):
        child = os.fork()
        if child == 0:
            _commit_until_line(Lake(home), batches, number * step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(number)
    raise AssertionError(f"a commit executes more than {len(homes) * step} lines")


def _commit_until_line(lake: Lake, batches: list[pa.RecordBatch], line: int) -> None:
    folder = str(Path(package.__file__).parent)
    lines = itertools.count()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line" and next(lines) == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    lake.inflight(PART).mkdir(parents=True, exist_ok=True)
    (lake.inflight(PART) / "page-1.json").write_text("[]")
    sys.settrace(trace)
    commit(lake, batches)


def _decimals(units: Any, precision: int) -> pa.Array:
    """Decimals with eight places from counts of the last one."""
    words = np.zeros((len(units), 2), np.int64)
    words[:, 0] = units
    kind = pa.decimal128(precision, 8)
    return pa.Array.from_buffers(kind, len(units), [None, pa.py_buffer(words)])
