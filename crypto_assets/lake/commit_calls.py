"""What contracts answered about the logs of a committed range: how it enters the lake.

One file beside the three of its range, by one atomic replace. It counts as long as the range has
the logs that it follows from, and goes with them; the range is there with it or without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import pyarrow as pa

from crypto_assets.catalog import CALLS, ChainRange, Dataset
from crypto_assets.errors import LogsMissingError
from crypto_assets.lake.durable import remove, replace, storage_errors
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import UNSEALED, Proof, SourceFile, find_proof
from crypto_assets.lake.ranges import find_range
from crypto_assets.lake.rows import RowFile, begin


def commit_calls(
    lake: Lake,
    dataset: Dataset,
    part: ChainRange,
    rows: pa.RecordBatch,
    *,
    logs_digest: str,
    asked_count: int,
    source: tuple[SourceFile, ...],
    checks: Mapping[str, str],
    asked: str,
) -> Proof:
    """Prove the answers of a range's calls, seal their file and put it in place.

    `asked_count` is the number of calls that the logs ask for, counted before any was answered;
    `logs_digest` is the content digest of those logs. Raises LogsMissingError if they are not
    committed any more, an IntegrityError named after the first claim that the rows break,
    StorageError if the disk refuses. Without a commit the lake stays as it was.
    """
    calls = part.of(CALLS)
    if dataset.name != calls.dataset:
        raise ValueError(f"{dataset.name} is not of the calls of {part.chain}")
    path = lake.inflight(calls) / f".{dataset.name}.{os.getpid()}.parquet.tmp"
    file = RowFile(dataset, calls, path)
    begin(file)
    try:
        file.write(rows)
        file.finish(asked_count)
        # The range may be replaced at the same time: what it has now must be what was read.
        with storage_errors(path), lake.commit_lock(part):
            if committed_logs(lake, part).content_digest != logs_digest:
                raise LogsMissingError(
                    f"{part}: its logs were replaced while contracts were asked about those before;"
                    " run its calls again"
                )
            proof = file.seal(
                status="complete" if file.rows else "empty",
                first_id=part.blocks.first,
                last_id=part.blocks.last,
                gap_count=0,
                source=source,
                checks=dict(checks),
                gaps=(),
                neighbours={},
                group={"logs": logs_digest},
                asked=asked,
            )
            replace(path, lake.file(calls))
    finally:
        file.discard()
    lake.clear_inflight(calls)
    return proof


def committed_logs(lake: Lake, part: ChainRange) -> Proof:
    """The proof of a range's logs; raises LogsMissingError if the range is not there as a whole."""
    proofs = find_range(lake, part)
    if proofs is None:
        raise LogsMissingError(
            f"{part}: it is not committed, or is stale, and which contracts to ask is told by its "
            "logs; collect the range first"
        )
    return proofs["logs"]


def find_calls(lake: Lake, part: ChainRange, logs_digest: str) -> Proof | None:
    """The proof of a range's calls; None if there are none that follow from those logs."""
    proof = find_proof(lake, part.of(CALLS))
    is_there = (
        proof is not None and proof.file_sha256 != UNSEALED and proof.group == {"logs": logs_digest}
    )
    return proof if is_there else None


def drop_calls(lake: Lake, part: ChainRange, logs_digest: str) -> None:
    """Remove the calls of a range that do not follow from those logs; the commit lock is held."""
    if find_calls(lake, part, logs_digest) is None:
        remove(lake.file(part.of(CALLS)))
