"""The store of record: proven Parquet files by day or block range, and what is on its way there.

A day is committed by one atomic replace of one file, with its proof in its own metadata; a block
range is three files that count as one. Nothing here knows a venue, a node, Dagster or DuckDB.
"""

from crypto_assets.lake.commit import PartitionWriter
from crypto_assets.lake.commit_calls import (
    commit_calls,
    committed_logs,
    find_calls,
)
from crypto_assets.lake.commit_range import RangeWriter
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import Gap, Proof, SourceFile, Status, find_proof, read_proof
from crypto_assets.lake.quarantine import quarantine
from crypto_assets.lake.ranges import (
    StaleRange,
    find_range,
    find_stale,
    is_part_intact,
    is_range_intact,
    mark_stale,
    ranges_between,
    stale_ranges,
    tidy_range,
)
from crypto_assets.lake.verify import Finding, verify
from crypto_assets.lake.verify_lake import verify_lake
from crypto_assets.lake.verify_ranges import verify_ranges

__all__ = [
    "Finding",
    "Gap",
    "Lake",
    "PartitionWriter",
    "Proof",
    "RangeWriter",
    "SourceFile",
    "StaleRange",
    "Status",
    "commit_calls",
    "committed_logs",
    "find_calls",
    "find_proof",
    "find_range",
    "find_stale",
    "is_part_intact",
    "is_range_intact",
    "mark_stale",
    "quarantine",
    "ranges_between",
    "read_proof",
    "stale_ranges",
    "tidy_range",
    "verify",
    "verify_lake",
    "verify_ranges",
]
