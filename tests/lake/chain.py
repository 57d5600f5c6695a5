"""A small chain in ranges of ten blocks, and the runs that commit them, here and in others."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pyarrow as pa

from crypto_assets import lake as package
from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange, Dataset, Kind
from crypto_assets.errors import NeighbourMismatchError
from crypto_assets.lake import (
    Lake,
    Proof,
    RangeWriter,
    SourceFile,
    find_range,
    is_range_intact,
    tidy_range,
)

CHAIN = Chain(name="ethereum", chain_id=1, range_size=10)
SOURCE = SourceFile(url="https://example.org/rpc", etag=None, sha256="0" * 64, bytes=1)
STARTED_AT = datetime(2024, 1, 1, tzinfo=UTC)
REFUSED = 11

_HASH, _TIME = pa.binary(32), pa.timestamp("us")


def _dataset(kind: Kind, key: tuple[str, ...], time: str, *more: pa.Field) -> Dataset:
    fields = [pa.field(column, pa.int64(), nullable=False) for column in key]
    return Dataset(
        name=CHAIN.dataset(kind),
        venue=CHAIN.name,
        description="",
        schema=pa.schema([*fields, pa.field(time, _TIME, nullable=False), *more]),
        key=key,
        time_column=time,
        position_column=key[0],
    )


DATASETS = (
    _dataset(
        "blocks",
        ("number",),
        "timestamp",
        pa.field("hash", _HASH, nullable=False),
        pa.field("parent_hash", _HASH, nullable=False),
    ),
    _dataset(
        "transactions",
        ("block_number", "transaction_index"),
        "block_timestamp",
        pa.field("hash", _HASH, nullable=False),
    ),
    _dataset(
        "logs",
        ("block_number", "log_index"),
        "block_timestamp",
        pa.field("topic0", _HASH),
        pa.field("data", pa.binary(), nullable=False),
    ),
)


class Rows(NamedTuple):
    blocks: pa.RecordBatch
    transactions: pa.RecordBatch
    logs: pa.RecordBatch


def part_of(block: int) -> ChainRange:
    return ChainRange(CHAIN.name, CHAIN.range_of(block))


PART = part_of(100)


def block_hash(number: int, fork: int = 0) -> bytes:
    return hashlib.sha256(f"{fork} {number}".encode()).digest()


def rows_of(
    blocks: BlockRange = PART.blocks,
    *,
    fork: int = 0,
    forked_at: int = 0,
    started_at: datetime = STARTED_AT,
    seconds: int = 12,
    padding: int = 0,
) -> Rows:
    """The rows of some blocks: two transactions and three logs a block, none in every fifth.

    A fork has other blocks from `forked_at` on.
    """
    numbers = range(blocks.first, blocks.last + 1)
    start = int(started_at.timestamp()) * 1_000_000

    def hash_of(number: int) -> bytes:
        return block_hash(number, fork if number >= forked_at else 0)

    def times(block_numbers: Iterable[int]) -> pa.Array:
        return pa.array([start + n * seconds * 1_000_000 for n in block_numbers]).cast(_TIME)

    def within(each: int) -> list[tuple[int, int]]:
        return [(number, index) for number in numbers if number % 5 for index in range(each)]

    transactions, logs = within(2), within(3)
    return Rows(
        _batch(
            "blocks",
            numbers,
            times(numbers),
            [hash_of(number) for number in numbers],
            [hash_of(number - 1) for number in numbers],
        ),
        _batch(
            "transactions",
            *_columns(transactions),
            times(number for number, _ in transactions),
            [hashlib.sha256(hash_of(n) + bytes([index])).digest() for n, index in transactions],
        ),
        _batch(
            "logs",
            *_columns(logs),
            times(number for number, _ in logs),
            [hash_of(number) if index else None for number, index in logs],
            [hash_of(number)[:index] + bytes(padding) for number, index in logs],
        ),
    )


def changed(rows: Rows, kind: Kind, change: Any) -> Rows:
    """The rows as `change` leaves the list of those of one dataset."""
    items = getattr(rows, kind).to_pylist()
    change(items)
    schema = DATASETS[KINDS.index(kind)].schema
    return rows._replace(**{kind: pa.RecordBatch.from_pylist(items, schema=schema)})


def pieces(rows: Rows, count: int) -> Iterator[Rows]:
    """The same rows in so many parts, cut wherever that falls."""
    for at in range(count):
        yield Rows(
            *(
                batch.slice(batch.num_rows * at // count, _step(batch.num_rows, at, count))
                for batch in rows
            )
        )


def commit(
    lake: Lake,
    rows: Rows | None = None,
    part: ChainRange = PART,
    *,
    parts: int = 1,
    counts: Mapping[Kind, int] | None = None,
    asked: str | None = None,
) -> dict[Kind, Proof]:
    """Commit a range; unless told otherwise, the source has as many rows as there are."""
    given = rows or rows_of(part.blocks)
    told = counts or dict(zip(KINDS, (batch.num_rows for batch in given), strict=True))
    with RangeWriter(lake, DATASETS, part) as writer:
        for piece in pieces(given, parts):
            writer.write(piece)
        return writer.commit(
            source_row_counts=told, source=(SOURCE,), checks={"roots": "passed"}, asked=asked
        )


def run(lake: Lake, rows: Rows, part: ChainRange = PART) -> bool:
    """What a run does with a range: skip it or fetch and commit it; whether it fetched."""
    with lake.partition_lock(part):
        if find_range(lake, part) is not None and is_range_intact(lake, part):
            tidy_range(lake, part)
            return False
        deliver(lake, part)
        commit(lake, rows, part)
        return True


def deliver(lake: Lake, part: ChainRange = PART) -> None:
    lake.inflight(part).mkdir(parents=True, exist_ok=True)
    (lake.inflight(part) / "page-1.json").write_text("[]")


# What follows runs in child processes.


def child_run(home: Path, fork: int, block: int, start: Any) -> None:
    part = part_of(block)
    rows = rows_of(part.blocks, fork=fork)
    start.wait()
    try:
        run(Lake(home), rows, part)
    except NeighbourMismatchError:
        sys.exit(REFUSED)


def child_commit(home: Path, padding: int, started: Any) -> None:
    rows = rows_of(fork=1, padding=padding)
    started.set()
    commit(Lake(home), rows, parts=5)


def child_commit_alone(home: Path, started: Any) -> None:
    """Tells when all rows are written and nothing but the commit itself is left."""
    rows = rows_of(fork=1)
    deliver(Lake(home))
    with RangeWriter(Lake(home), DATASETS, PART) as writer:
        writer.write(rows)
        counts = dict(zip(KINDS, (batch.num_rows for batch in rows), strict=True))
        started.set()
        writer.commit(source_row_counts=counts, source=(SOURCE,), checks={})


def child_killed_at_lines(homes: list[Path], fork: int, step: int) -> None:
    """Commits the range in one home after the other, each time by a process that dies on the way.

    The first dies before the first line of the package `lake` that a commit executes, the next
    `step` lines later, and so on. Exits with the number of those that died.
    """
    rows = rows_of(fork=fork)
    for number, home in enumerate(homes):
        child = os.fork()
        if child == 0:
            _commit_until_line(Lake(home), rows, number * step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(number)
    raise AssertionError(f"a commit executes more than {len(homes) * step} lines")


def child_killed_at_move(home: Path, fork: int, move: int) -> None:
    """Commits in a process that dies before its n-th removal or replacement of a lake's file."""
    moves = itertools.count()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        paths = [str(argument) for argument in arguments]
        is_move = event in {"os.remove", "os.rename"}
        if is_move and any("/lake/raw/" in path for path in paths) and next(moves) == move:
            os.kill(os.getpid(), signal.SIGKILL)

    deliver(Lake(home))
    sys.addaudithook(audit)
    commit(Lake(home), rows_of(fork=fork))


def _commit_until_line(lake: Lake, rows: Rows, line: int) -> None:
    folder = str(Path(package.__file__).parent)
    lines = itertools.count()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line" and next(lines) == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    deliver(lake)
    sys.settrace(trace)
    commit(lake, rows)


def _batch(kind: Kind, *columns: Any) -> pa.RecordBatch:
    schema = DATASETS[KINDS.index(kind)].schema
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for field, column in zip(schema, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [number for number, _ in pairs], [index for _, index in pairs]


def _step(rows: int, at: int, count: int) -> int:
    return rows * (at + 1) // count - rows * at // count
