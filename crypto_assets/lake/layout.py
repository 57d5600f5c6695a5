"""Where everything of one profile lies: the only module that knows a path of the lake.

    <home>/lake/raw/<dataset>/market=BTC-USDT/date=2024-01-01/<dataset>.parquet   committed
    <home>/inflight/<dataset>/market=BTC-USDT/date=2024-01-01/                    being fetched
    <home>/quarantine/<dataset>/market=BTC-USDT/date=2024-01-01/<reason>-<hash>/  refused
    <home>/locks/                                                                 see below
    <home>/marts/<schema>/<table>/date=2024-01-01.parquet                         published
    <home>/checks/<suite>/date=2024-01-01.parquet                                 check results

Locks are kernel locks on files of their own: a killed process releases them, whatever it held.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from filelock import FileLock

from crypto_assets.catalog import MarketDay

_FOLDER = re.compile(
    r"(?P<dataset>[a-z0-9_]+)/market=(?P<market>[A-Z0-9-]+(@[a-z0-9]+)?)/"
    r"date=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
)
# Days that share a lock file. More than any run fetches at once, so that two days of one run
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

    def file(self, part: MarketDay) -> Path:
        """The committed file of a partition, whether or not it exists."""
        return self.raw / _folder(part) / f"{part.dataset}.parquet"

    def inflight(self, part: MarketDay) -> Path:
        """Folder of what is already fetched for a partition that is not committed yet."""
        return self.home / "inflight" / _folder(part)

    def quarantine(self, part: MarketDay) -> Path:
        """Folder of what was refused for a partition."""
        return self.home / "quarantine" / _folder(part)

    def partition_lock(self, part: MarketDay) -> FileLock:
        """Held while a partition is fetched: two runs of it at once become one after the other."""
        return self._lock(f"{part.dataset}.{part.market}.{part.day.toordinal() % _LOCK_STRIPES}")

    def commit_lock(self, part: MarketDay) -> FileLock:
        """Held from looking at the neighbours to the commit, so that neighbours see each other."""
        return self._lock(f"{part.dataset}.{part.market}.commit")

    def committed(self, dataset: str | None = None) -> Iterator[tuple[MarketDay, Path]]:
        """Every committed file (of one dataset, or of all), in path order."""
        for path in sorted(self.raw.glob(f"{dataset or '*'}/market=*/date=*/*.parquet")):
            if (part := self.parse(path)) is not None:
                yield part, path

    def strays(self) -> Iterator[tuple[MarketDay, Path]]:
        """Every file in a partition's folder that is not its committed one, in path order."""
        for path in sorted(self.raw.glob("*/market=*/date=*/*")):
            part = self._parse_folder(path.parent)
            if part is not None and path != self.file(part):
                yield part, path

    def parse(self, path: Path) -> MarketDay | None:
        """The partition that a committed path stands for, None if it is no such path."""
        part = self._parse_folder(path.parent)
        return part if part is not None and path == self.file(part) else None

    def clear_inflight(self, part: MarketDay) -> None:
        """Remove what was fetched for a partition, once it is committed or in quarantine."""
        # What cannot be removed is only in the way; the next run of the partition tries again.
        shutil.rmtree(self.inflight(part), ignore_errors=True)

    def _parse_folder(self, folder: Path) -> MarketDay | None:
        if not folder.is_relative_to(self.raw):
            return None
        match = _FOLDER.fullmatch(folder.relative_to(self.raw).as_posix())
        if match is None:
            return None
        try:
            return MarketDay(match["dataset"], match["market"], date.fromisoformat(match["day"]))
        except ValueError:  # the 30th of February
            return None

    def _lock(self, name: str) -> FileLock:
        folder = self.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock", thread_local=False)


def _folder(part: MarketDay) -> Path:
    return Path(part.dataset, f"market={part.market}", f"date={part.partition}")
