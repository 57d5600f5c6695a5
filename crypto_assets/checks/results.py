"""Kept check results: one Parquet file per suite and day, replaced when the day is checked again.

Grain of the rows: one expectation evaluated for one partition; read as `raw.check_results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crypto_assets.lake.durable import replacing
from crypto_assets.lake.layout import Lake

CHECK_RESULTS = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("asset", pa.string(), nullable=False),
        pa.field("partition", pa.string(), nullable=False),
        pa.field("expectation", pa.string(), nullable=False),
        pa.field("passed", pa.bool_(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("blocking", pa.bool_(), nullable=False),
        pa.field("observed", pa.string(), nullable=False),
        pa.field("unexpected_count", pa.int64(), nullable=False),
        pa.field("evaluated_at", pa.timestamp("us"), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)


def write_results(lake: Lake, suite: str, day: date, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace what is kept of one suite and day; `rows` have the columns of CHECK_RESULTS."""
    target = lake.check_results / suite / f"date={day.isoformat()}.parquet"
    table = pa.Table.from_pylist(list(rows), schema=CHECK_RESULTS)
    with replacing(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")
