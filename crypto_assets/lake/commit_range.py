"""From verified batches to three committed files that count as one: how a block range enters.

The file of blocks is the commit record: it is taken away before the others are replaced and put
back last, so that wherever a commit is cut off, the range is there as it was, or not at all, or as
it is now. Views show transactions and logs of no range without it. Calls that follow from other
logs than are committed now go with those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

import pyarrow as pa

from crypto_assets.catalog import KINDS, ChainRange, Dataset, Kind
from crypto_assets.errors import MissingIdError, NeighbourMismatchError
from crypto_assets.lake.commit_calls import drop_calls
from crypto_assets.lake.durable import remove, replace, storage_errors
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import Proof, SourceFile
from crypto_assets.lake.ranges import find_range
from crypto_assets.lake.rows import Bounds, RowFile, begin, time_bounds

_Side = Literal["previous", "next"]
_SIDES: dict[_Side, int] = {"previous": -1, "next": 1}
_FIRST_INSTANT = datetime(1, 1, 1, tzinfo=UTC)
_LAST_INSTANT = datetime(9999, 12, 31, tzinfo=UTC)


class RangeWriter:
    """Writes one block range; use as a context manager, `write` rows in block order, then `commit`.

    `datasets` are those of the chain in the order of KINDS; its blocks have the columns `hash` and
    `parent_hash`. Leaving without a commit removes the unfinished files and leaves the lake as it
    was. Raises an IntegrityError named after the first claim that the rows break, StorageError if
    the disk does, and CatalogError for a range of another size than those that the lake holds.
    """

    def __init__(self, lake: Lake, datasets: Iterable[Dataset], part: ChainRange) -> None:
        self._lake = lake
        self._part = part
        self._files = {
            kind: _row_file(lake, dataset, part, kind)
            for kind, dataset in zip(KINDS, datasets, strict=True)
        }
        self._parent_hash: str | None = None
        self._first_hash: str | None = None
        self._last_hash: str | None = None

    def __enter__(self) -> Self:
        with storage_errors(self._lake.raw):
            self._lake.check_grid(self._part.chain, self._part.blocks.size)
        begin(*self._files.values())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.discard()

    def write(self, rows: Iterable[pa.RecordBatch]) -> None:
        """Check and add the rows of the next blocks, one batch a dataset in the order of KINDS."""
        batches = dict(zip(KINDS, rows, strict=True))
        blocks = batches["blocks"]
        is_first = self._files["blocks"].rows == 0
        for kind, batch in batches.items():
            self._files[kind].write(batch)
        if blocks.num_rows:
            if is_first:
                self._parent_hash = _hex(blocks["parent_hash"][0])
                self._first_hash = _hex(blocks["hash"][0])
            self._last_hash = _hex(blocks["hash"][blocks.num_rows - 1])

    def commit(
        self,
        *,
        source_row_counts: Mapping[Kind, int],
        source: tuple[SourceFile, ...],
        checks: Mapping[str, str],
        asked: str | None = None,
    ) -> dict[Kind, Proof]:
        """Prove the whole range, seal its files and put them in place; returns their proofs.

        `source_row_counts` must come from the source, not from the rows written. `checks` are the
        claims that the source's own code verified, and `asked` what it was asked for. Where hashes
        do not join those of a committed range beside this one, NeighbourMismatchError says which
        block next to this range that one has; if it is the one that is wrong, mark it stale and
        call `commit` again.
        """
        group = {kind: file.finish(source_row_counts[kind]) for kind, file in self._files.items()}
        blocks = self._part.blocks
        if self._files["blocks"].rows != blocks.size:
            raise MissingIdError(
                f"{self._part}: {self._files['blocks'].rows} of its {blocks.size} blocks were "
                "delivered; run the partition again",
                blocks=self._files["blocks"].rows,
            )
        # Two ranges committed at the same time must each see the other or be seen by it.
        with storage_errors(self._files["blocks"].path), self._lake.commit_lock(self._part):
            self._lake.check_grid(self._part.chain, self._part.blocks.size)
            neighbours = self._join_neighbours()
            proofs = {
                kind: file.seal(
                    status="complete" if file.rows else "empty",
                    first_id=blocks.first,
                    last_id=blocks.last,
                    gap_count=0,
                    source=source,
                    checks={**_own_checks(neighbours), **checks},
                    gaps=(),
                    neighbours=neighbours,
                    group=group,
                    parent_hash=self._parent_hash,
                    first_hash=self._first_hash,
                    last_hash=self._last_hash,
                    asked=asked,
                )
                for kind, file in self._files.items()
            }
            remove(self._lake.file(self._part.of("blocks")))
            drop_calls(self._lake, self._part, group["logs"])
            for kind in reversed(KINDS):
                replace(self._files[kind].path, self._lake.file(self._part.of(kind)))
            remove(self._lake.stale(self._part))
        self._lake.clear_inflight(self._part)
        return proofs

    def _join_neighbours(self) -> dict[_Side, str]:
        """The committed ranges beside this one, whose hashes all join; stale ones do not count."""
        joined: dict[_Side, str] = {}
        for side, step in _SIDES.items():
            beside = self._part.beside(step)
            if (proofs := find_range(self._lake, beside)) is None:
                continue
            other = proofs["blocks"]
            if side == "previous":
                parent, before = self._parent_hash, other.last_hash
                next_to_this = other.last_id, other.last_hash
            else:
                parent, before = other.parent_hash, self._last_hash
                next_to_this = other.first_id, other.first_hash
            if parent != before:
                block = max(self._part, beside).blocks.first
                raise NeighbourMismatchError(
                    f"{self._part}: block {block} names {parent} as its parent, but block "
                    f"{block - 1} has the hash {before}; this range, or {beside.blocks}, which is "
                    "committed, is not of this chain or was reorganised out",
                    side=side,
                    neighbour=beside.partition,
                    neighbour_block=next_to_this[0],
                    neighbour_hash=next_to_this[1],
                )
            joined[side] = beside.partition
        return joined


def _row_file(lake: Lake, dataset: Dataset, part: ChainRange, kind: Kind) -> RowFile:
    blocks = part.blocks
    if (
        dataset.name != part.of(kind).dataset
        or dataset.position_column is None
        or dataset.time_column is None
    ):
        raise ValueError(f"{dataset.name} is no dataset of {kind} of {part.chain}")
    return RowFile(
        dataset,
        part.of(kind),
        lake.inflight(part) / f".{dataset.name}.{os.getpid()}.parquet.tmp",
        Bounds(dataset.position_column, blocks.first, blocks.last + 1, f"the range {blocks}"),
        time_bounds(dataset.time_column, _FIRST_INSTANT, _LAST_INSTANT, "the calendar"),
    )


def _own_checks(neighbours: Mapping[_Side, str]) -> dict[str, str]:
    return {
        "positions_are_inside_the_range": "passed",
        "blocks_are_complete": "passed",
        **{
            f"hashes_join_{side}_range": "passed" if side in neighbours else "not committed yet"
            for side in _SIDES
        },
    }


def _hex(value: pa.Scalar) -> str:
    return f"0x{value.as_py().hex()}"
