"""Kept check results: one Parquet file per suite and partition, replaced when checked again.

Grain of the rows: one expectation evaluated for one partition; read as `raw.check_results`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crypto_assets.checks.scope import Grid
from crypto_assets.lake.durable import replacing
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import Proof

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


# Why a range is refused whose check has not been made since it was committed.
NOT_CHECKED = "not checked"

_NAMES: dict[Grid, str] = {"day": "date", "range": "range"}


def write_results(
    lake: Lake, suite: str, grid: Grid, partition: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Replace what is kept of one suite and partition; `rows` have the columns of CHECK_RESULTS."""
    target = lake.check_results / suite / f"{_NAMES[grid]}={partition}.parquet"
    table = pa.Table.from_pylist(list(rows), schema=CHECK_RESULTS)
    with replacing(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def refusals(lake: Lake, suites: Iterable[str], proofs: Iterable[Proof]) -> list[str]:
    """Why block ranges may not be built upon: a check that failed, or was not made since.

    `proofs` are those of the ranges' blocks, `suites` the names of all that guard them.
    """
    return [
        f"{suite} {proof.partition}: {why}"
        for proof in proofs
        for suite in suites
        if (why := _refusal(lake, suite, proof))
    ]


def _refusal(lake: Lake, suite: str, proof: Proof) -> str | None:
    path = lake.check_results / suite / f"{_NAMES['range']}={proof.partition}.parquet"
    rows = pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []
    committed_at = proof.fetched_at.astimezone(UTC).replace(tzinfo=None)
    if not rows or min(row["evaluated_at"] for row in rows) < committed_at:
        return NOT_CHECKED
    return ", ".join(row["expectation"] for row in rows if _is_failure(row)) or None


def failures(
    lake: Lake, grid: Grid, partitions: Iterable[str], *, assets: Container[str] | None = None
) -> list[str]:
    """Kept results of severity ERROR that did not pass, in words.

    Of some partitions (`*` for all), and of some assets or of all.
    """
    paths = [
        path
        for partition in partitions
        for path in sorted(lake.check_results.glob(f"*/{_NAMES[grid]}={partition}.parquet"))
    ]
    return [
        f"{row['asset']} {row['suite']} {row['partition']}: {row['expectation']}"
        for path in paths
        for row in pq.read_table(path, partitioning=None).to_pylist()
        if _is_failure(row) and (assets is None or row["asset"] in assets)
    ]


def _is_failure(row: Mapping[str, Any]) -> bool:
    return not row["passed"] and row["severity"] == "ERROR"
