"""The store of record: one proven Parquet file per dataset, market and day, and what is on its way.

A file is committed by one atomic replace, with its proof in its own metadata. Nothing here knows
a venue, Dagster or DuckDB.
"""

from crypto_assets.lake.commit import PartitionWriter
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import Gap, Proof, SourceFile, Status, find_proof, read_proof
from crypto_assets.lake.quarantine import quarantine
from crypto_assets.lake.verify import Finding, verify

__all__ = [
    "Finding",
    "Gap",
    "Lake",
    "PartitionWriter",
    "Proof",
    "SourceFile",
    "Status",
    "find_proof",
    "quarantine",
    "read_proof",
    "verify",
]
