"""From verified batches to one committed file: the only way a market's day enters the lake.

Every batch is checked and written beside the lake as it passes (`rows`); the commit adds the claims
that need the whole day and its neighbours, seals the file and moves it into place.
"""

from __future__ import annotations

import os
from itertools import pairwise
from types import TracebackType
from typing import Literal, Self

import pyarrow as pa

from crypto_assets.catalog import Dataset, MarketDay
from crypto_assets.errors import NeighbourMismatchError, RowCountMismatchError
from crypto_assets.lake.durable import replace, storage_errors
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import Gap, Proof, SourceFile, Status, find_proof
from crypto_assets.lake.rows import RowFile, begin, time_bounds

_Side = Literal["previous", "next"]


class PartitionWriter:
    """Writes one day; use as a context manager, `write` batches in key order, then `commit`.

    Leaving without a commit removes the unfinished file and leaves the lake as it was. Raises an
    IntegrityError named after the first claim that the rows break, StorageError if the disk does.
    """

    def __init__(self, lake: Lake, dataset: Dataset, part: MarketDay) -> None:
        self._lake = lake
        self._dataset = dataset
        self._part = part
        assert dataset.time_column is not None  # noqa: S101 - a market's rows all have a time
        self._file = RowFile(
            dataset,
            part,
            lake.inflight(part) / f".{dataset.name}.{os.getpid()}.parquet.tmp",
            time_bounds(dataset.time_column, part.starts_at, part.ends_at, "the UTC day"),
        )

    def __enter__(self) -> Self:
        begin(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.discard()

    def write(self, batch: pa.RecordBatch) -> None:
        """Check and add rows; they must follow the rows written before in key order."""
        self._file.write(batch)

    def commit(
        self,
        *,
        status: Status,
        source_row_count: int,
        source: tuple[SourceFile, ...],
        checks: dict[str, str],
        gaps: tuple[Gap, ...] = (),
    ) -> Proof:
        """Prove the whole partition, seal the file and put it in place; returns the proof.

        `source_row_count` must come from the source or its bytes, not from the rows written.
        `checks` are the claims that the source's own code verified.
        """
        file = self._file
        file.finish(source_row_count)
        if (status == "complete") != (file.rows > 0):
            raise RowCountMismatchError(
                f"{self._part}: {file.rows} rows cannot have status {status}", rows=file.rows
            )
        # Two days committed at the same time must each see the other or be seen by it.
        with storage_errors(file.path), self._lake.commit_lock(self._part):
            neighbours, missing_beside = self._join_neighbours(status)
            proof = file.seal(
                status=status,
                first_id=file.first_id,
                last_id=file.last_id,
                gap_count=len(gaps),
                source=source,
                checks={**checks, **self._own_checks(neighbours, missing_beside)},
                gaps=gaps,
                neighbours=neighbours,
            )
            replace(file.path, self._lake.file(self._part))
        self._lake.clear_inflight(self._part)
        return proof

    def _own_checks(
        self, neighbours: dict[_Side, str], missing_beside: dict[_Side, int]
    ) -> dict[str, str]:
        checks = {"times_are_inside_the_day": "passed"}
        if self._dataset.id_rule is not None:
            checks["ids_are_contiguous"] = _counted(self._file.missing_ids)
            sides: tuple[_Side, ...] = ("previous", "next")
            for side in sides:
                joined = side in neighbours
                checks[f"ids_join_{side}_day"] = (
                    _counted(missing_beside.get(side, 0)) if joined else "not committed yet"
                )
        return checks

    def _join_neighbours(self, status: Status) -> tuple[dict[_Side, str], dict[_Side, int]]:
        """Days around this one whose ids join, and how many are missing there if some may be.

        Raises NeighbourMismatchError if ids do not join. Those around a day without a row join each
        other.
        """
        if self._dataset.id_rule is None or status == "not_listed":
            return {}, {}
        may_miss = self._dataset.id_rule == "expected"
        missing: dict[_Side, int] = {}
        previous, following = self._nearest(-1), self._nearest(1)
        days = [
            (proof.partition, proof.first_id, proof.last_id) if proof is not None else None
            for proof in (previous, following)
        ]
        if self._file.rows:
            days.insert(1, (self._part.partition, self._file.first_id, self._file.last_id))
        for (left, _, last), (right, first, _) in pairwise(filter(None, days)):
            if first is None or last is None:
                continue
            if may_miss and first > last:
                if right != self._part.partition:
                    missing["next"] = first - last - 1
                if left != self._part.partition:
                    missing["previous"] = first - last - 1
            elif first != last + 1:
                raise NeighbourMismatchError(
                    f"{self._part}: its ids do not join the committed days around it: {left} ends "
                    f"with id {last} and {right} starts with {first}; one of the days lacks rows "
                    "or has others' rows",
                    left=left,
                    left_last_id=last,
                    right=right,
                    right_first_id=first,
                )
        joined: dict[_Side, str] = {}
        if previous is not None:
            joined["previous"] = previous.partition
        if following is not None:
            joined["next"] = following.partition
        return joined, missing

    def _nearest(self, step: int) -> Proof | None:
        """The first committed day with rows on one side, with committed empty days in between."""
        other = self._part.beside(step)
        while (proof := find_proof(self._lake, other)) is not None and proof.status == "empty":
            other = other.beside(step)
        return proof if proof is not None and proof.status == "complete" else None


def _counted(missing_ids: int) -> str:
    return f"{missing_ids} ids missing" if missing_ids else "passed"
