"""Exact columns from what a source wrote: numbers from their text, times in whatever unit.

Pure: arrays and bytes in, record batches out. A raw batch has a dataset's columns with times as the
integers that were written; `typed` turns it into the dataset's own types. What does not fit is an
error with a name: nothing is rounded, nothing becomes NULL.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from crypto_assets.catalog import Dataset, MarketDay
from crypto_assets.errors import (
    MalformedRowError,
    OutsidePartitionError,
    UnexpectedReplyError,
    WrongTimeUnitError,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_NS = {"seconds": 10**9, "milliseconds": 10**6, "microseconds": 10**3, "nanoseconds": 1}
_SCALES = {"milliseconds": 1000, "microseconds": 1}
_UNITS = {scale: unit for unit, scale in _SCALES.items()}


def micros(at: datetime) -> int:
    """Microseconds since 1970 of an instant."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def int64(column: pa.Array) -> npt.NDArray[np.int64]:
    """Integers, or the units of a timestamp, as numpy sees them."""
    return np.asarray(column.cast(pa.int64()), dtype=np.int64)


def time_scale(first: int, part: MarketDay) -> int:
    """Microseconds per unit of a file's times, recognised by the first one and the day it is of.

    Raises WrongTimeUnitError for a unit that no venue documents, OutsidePartitionError for a time
    that is of another day in every unit.
    """
    unit = _unit_of(first, part)
    if unit in _SCALES:
        return _SCALES[unit]
    raise _wrong_time(f"{part}: the first time, {first},", unit, "milliseconds or microseconds")


def raw_schema(dataset: Dataset, *unused: str) -> pa.Schema:
    """A dataset's columns as they are written, followed by text columns that nobody needs."""
    fields = [
        pa.field(field.name, pa.int64() if pa.types.is_timestamp(field.type) else field.type)
        for field in dataset.schema
    ]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in unused)])


def typed(
    raw: pa.RecordBatch, dataset: Dataset, scale: int, part: MarketDay, *, rows_before: int = 0
) -> pa.RecordBatch:
    """A raw batch in the dataset's types, every time inside the day and every number in its type.

    `scale` is the microseconds per unit of its times, `rows_before` how many rows came before it.
    """
    starts, ends = micros(part.starts_at) // scale, micros(part.ends_at) // scale
    columns = []
    for field in dataset.schema:
        column = raw[field.name]
        if pa.types.is_timestamp(field.type):
            times = int64(column)
            # Compared before they are scaled: a stray nanosecond would overflow on the way.
            outside = (times < starts) | (times >= ends)
            if outside.any():
                at = int(np.argmax(outside))
                row = rows_before + at + 1
                raise _wrong_time(
                    f"{part}: {field.name} of row {row}, {times[at]},",
                    _unit_of(int(times[at]), part),
                    _UNITS[scale],
                    row=row,
                    rows=raw.slice(at, 1).to_pylist(),
                )
            column = pa.array(times * scale).view(field.type)
        columns.append(column)
    batch = pa.RecordBatch.from_arrays(columns, schema=dataset.schema)
    # Arrow's CSV reader refuses decimals that do not fit, but lets too large a number pass if few
    # of its digits are decimals ("12345678901.1" as decimal(18, 8)); Parquet wraps it around.
    if not _is_valid(batch):
        at = next(at for at in range(batch.num_rows) if not _is_valid(batch.slice(at, 1)))
        row = rows_before + at + 1
        text = raw.slice(at, 1).to_pylist()
        raise MalformedRowError(
            f"{part}: row {row} has a number with more digits than its type holds: {text[0]}",
            row=row,
            rows=text,
        )
    return batch


def json_rows(body: bytes, what: str) -> list[Any]:
    """The rows of a JSON array, every number exact; raises UnexpectedReplyError if it is none."""
    advice = (
        "something between here and the source answers in its place, or the source changed: check "
        "its address, then run again"
    )
    try:
        rows = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnexpectedReplyError(
            f"{what}: expected a JSON array, got {body[:120]!r}; {advice}"
        ) from error
    if not isinstance(rows, list):
        raise UnexpectedReplyError(f"{what}: expected a JSON array, got {body[:120]!r}; {advice}")
    return rows


def raw_of_json(
    rows: Sequence[Any], keys: Sequence[str | int], schema: pa.Schema, part: MarketDay
) -> pa.RecordBatch:
    """A raw batch from JSON rows; `keys` say where each column of `schema` is in a row.

    Decimals must be strings, as venues write them so that no parser makes a float of them.
    """
    columns = []
    for row in rows:
        if isinstance(row, list) and len(row) != len(keys):
            raise MalformedRowError(
                f"{part}: a row of REST has {len(row)} columns, expected {len(keys)}: {row!r}",
                rows=[row],
            )
    for key, field in zip(keys, schema, strict=True):
        try:
            columns.append(_column([row[key] for row in rows], field.type))
        except (pa.ArrowException, OverflowError, LookupError, TypeError) as error:
            at = next(at for at, row in enumerate(rows) if not _fits(row, key, field.type))
            raise MalformedRowError(
                f"{part}: {field.name} of a row of REST does not fit {field.type}: {rows[at]!r}",
                column=field.name,
                rows=[rows[at]],
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: list[Any], data_type: pa.DataType) -> pa.Array:
    if None in values:
        raise TypeError("null")
    if pa.types.is_decimal(data_type):
        return pa.array(values, pa.string()).cast(data_type)
    if pa.types.is_integer(data_type) and any(type(value) is not int for value in values):
        raise TypeError("Arrow would cut 15.5 to 15")
    return pa.array(values, data_type)


def _fits(row: Any, key: str | int, data_type: pa.DataType) -> bool:
    try:
        _column([row[key]], data_type)
    except (pa.ArrowException, OverflowError, LookupError, TypeError):
        return False
    return True


def _is_valid(batch: pa.RecordBatch) -> bool:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _unit_of(time: int, part: MarketDay) -> str | None:
    """The unit in which a time is of that day; None if there is none."""
    starts, ends = micros(part.starts_at) * 1000, micros(part.ends_at) * 1000
    for unit, nanoseconds in _UNITS_NS.items():
        if starts <= time * nanoseconds < ends:
            return unit
    return None


def _wrong_time(
    what: str, unit: str | None, expected: str, **evidence: Any
) -> WrongTimeUnitError | OutsidePartitionError:
    if unit is None:
        return OutsidePartitionError(f"{what} is not of that UTC day in {expected}", **evidence)
    return WrongTimeUnitError(
        f"{what} is of that day in {unit}, expected {expected} throughout", **evidence
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
