"""Where everything of one profile lies: the only module that knows a path of the lake.

    <home>/lake/raw/<dataset>/market=BTC-USDT/date=2024-01-01/<dataset>.parquet   committed
    <home>/lake/raw/<dataset>/range=018426000-018426999/<dataset>.parquet
    <home>/inflight/<dataset>/market=BTC-USDT/date=2024-01-01/                    being fetched
    <home>/inflight/<chain>/range=018426000-018426999/                            its three datasets
    <home>/inflight/<chain>_calls/range=018426000-018426999/                      its calls
    <home>/quarantine/…/<reason>-<hash>/                                          refused
    <home>/stale/<chain>/range=018426000-018426999.json                           see `ranges`
    <home>/locks/                                                                 see below
    <home>/marts/<schema>/<table>/date=2024-01-01.parquet                         published
    <home>/checks/<suite>/date=2024-01-01.parquet                                 check results

Locks are kernel locks on files of their own: a killed process releases them, whatever it held.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from pathlib import Path

from filelock import FileLock

from crypto_assets.catalog import (
    CALLS,
    KINDS,
    AnyKind,
    BlockRange,
    ChainRange,
    MarketDay,
    Part,
    RangePart,
    Unit,
)
from crypto_assets.catalog.chains import dataset_name
from crypto_assets.errors import CatalogError

_DAY = re.compile(
    r"(?P<dataset>[a-z0-9_]+)/market=(?P<market>[A-Z0-9-]+(@[a-z0-9]+)?)/"
    r"date=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
)
_RANGE = re.compile(r"(?P<dataset>[a-z0-9_]+)/range=(?P<key>[0-9-]+)")
# Partitions that share a lock file. More than any run fetches at once, so that two of one run
# never wait for each other, and few enough that lock files do not grow with history.
_LOCK_STRIPES = 64


@dataclass(frozen=True, slots=True)
class Lake:
    """Paths and locks below one profile's home folder."""

    home: Path

    @property
    def raw(self) -> Path:
        """Root of all committed files."""
        return self.home / "lake" / "raw"

    @property
    def marts(self) -> Path:
        """Root of the published marts."""
        return self.home / "marts"

    @property
    def check_results(self) -> Path:
        """Root of the kept check results."""
        return self.home / "checks"

    def file(self, part: Part) -> Path:
        """The committed file of a partition, whether or not it exists."""
        return self.raw / part.folder / f"{part.dataset}.parquet"

    def inflight(self, unit: Unit) -> Path:
        """Folder of what is already fetched for a partition that is not committed yet."""
        return self.home / "inflight" / unit.folder

    def quarantine(self, unit: Unit) -> Path:
        """Folder of what was refused for a partition."""
        return self.home / "quarantine" / unit.folder

    def stale(self, part: ChainRange) -> Path:
        """The file that marks a range as stale, whether or not it exists."""
        return (self.home / "stale" / part.folder).with_suffix(".json")

    def partition_lock(self, unit: Unit) -> FileLock:
        """Held while a partition is fetched: two runs of it at once become one after the other."""
        return self._lock(f"{unit.family}.{unit.number % _LOCK_STRIPES}")

    def commit_lock(self, unit: Unit) -> FileLock:
        """Held from looking at the neighbours to the commit, so that neighbours see each other."""
        return self._lock(f"{unit.family}.commit")

    def committed(self, dataset: str | None = None) -> Iterator[tuple[MarketDay, Path]]:
        """Every committed day's file (of one dataset, or of all), in path order."""
        for path in sorted(self.raw.glob(f"{dataset or '*'}/market=*/date=*/*.parquet")):
            if isinstance(part := self.parse(path), MarketDay):
                yield part, path

    def chains(self) -> list[str]:
        """Every chain of which the lake has a range, or a part of one, by name."""
        return sorted(
            {
                folder.name.removesuffix(dataset_name("", kind))
                for kind in (*KINDS, CALLS)
                for folder in self.raw.glob(dataset_name("*", kind))
                if next(_range_folders(folder), None) is not None
            }
        )

    def ranges(self, chain: str, kind: AnyKind = "blocks") -> list[ChainRange]:
        """Every range of a chain with a file of a dataset, of blocks the commit record, in order.

        By names alone, a quarter of a second for 25,000 ranges; see `find_range`.
        """
        dataset = dataset_name(chain, kind)
        folders = sorted(_range_folders(self.raw / dataset), key=itemgetter(1))
        return [
            ChainRange(chain, blocks)
            for blocks, folder in folders
            if os.path.exists(f"{folder}/{dataset}.parquet")  # noqa: PTH110 - a third of the time
        ]

    def range_folders(self, chain: str) -> list[str]:
        """Names of the folders of a chain's blocks, `range=018426000-018426999`, in block order.

        A folder may lack its file, and a name may be of another hand. A fiftieth of a second for
        25,000 of them: what looks at a few ranges of many begins here.
        """
        folder = self.raw / dataset_name(chain, "blocks")
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(folder) if name.startswith("range="))  # noqa: PTH208 - names alone
        return []

    def range_size(self, chain: str) -> int | None:
        """Blocks per range of what the lake has of a chain; None if it has nothing."""
        folder = self.raw / dataset_name(chain, "blocks")
        return next((blocks.size for blocks, _ in _range_folders(folder)), None)

    def check_grid(self, chain: str, size: int) -> None:
        """Raise CatalogError if a chain is held in ranges of another size: blocks would be twice.

        To be called before ranges of that size are registered anywhere.
        """
        held = self.range_size(chain)
        if held not in {None, size}:
            raise CatalogError(
                f"{chain}: the lake holds this chain in ranges of {held} blocks, not of {size}; "
                f"set its range_size in chains.yaml back to {held}, or begin with an empty "
                "CRYPTO_ASSETS_DATA_DIR"
            )

    def quarantined_ranges(self, chain: str) -> list[ChainRange]:
        """Every range of a chain with a folder in quarantine, in block order."""
        folder = self.quarantine(ChainRange(chain, BlockRange(0, 0))).parent
        return sorted(ChainRange(chain, blocks) for blocks, _ in _range_folders(folder))

    def strays(self) -> Iterator[tuple[MarketDay, Path]]:
        """Every file in a day's folder that is not its committed one, in path order."""
        for part, path in self._strays("*/market=*/date=*/*"):
            if isinstance(part, MarketDay):
                yield part, path

    def range_strays(self, chain: str) -> Iterator[tuple[RangePart, Path]]:
        """Every file in a folder of a chain's ranges that is not its committed one, in order."""
        for kind in (*KINDS, CALLS):
            for part, path in self._strays(f"{dataset_name(chain, kind)}/range=*/*"):
                if isinstance(part, RangePart):
                    yield part, path

    def parse(self, path: Path) -> Part | None:
        """The partition that a committed path stands for, None if it is no such path."""
        part = self._parse_folder(path.parent)
        return part if part is not None and path == self.file(part) else None

    def clear_inflight(self, unit: Unit) -> None:
        """Remove what was fetched for a partition, once it is committed or in quarantine."""
        # What cannot be removed is only in the way; the next run of the partition tries again.
        shutil.rmtree(self.inflight(unit), ignore_errors=True)

    def _strays(self, pattern: str) -> Iterator[tuple[Part, Path]]:
        for path in sorted(self.raw.glob(pattern)):
            part = self._parse_folder(path.parent)
            if part is not None and path != self.file(part):
                yield part, path

    def _parse_folder(self, folder: Path) -> Part | None:
        is_below = folder.is_relative_to(self.raw)
        return _parse(folder.relative_to(self.raw).as_posix()) if is_below else None

    def _lock(self, name: str) -> FileLock:
        folder = self.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock", thread_local=False)


def _range_folders(folder: Path) -> Iterator[tuple[BlockRange, str]]:
    """The ranges that have a folder in another one, in no order."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("range="):
                with suppress(ValueError):
                    yield BlockRange.parse(entry.name.removeprefix("range=")), entry.path


def _parse(folder: str) -> Part | None:
    try:
        if (match := _DAY.fullmatch(folder)) is not None:
            return MarketDay(match["dataset"], match["market"], date.fromisoformat(match["day"]))
        if (match := _RANGE.fullmatch(folder)) is not None:
            return RangePart(match["dataset"], BlockRange.parse(match["key"]))
    except ValueError:  # the 30th of February, or a range that ends before it starts
        return None
    return None
