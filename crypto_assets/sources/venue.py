"""What a source of market data offers: datasets, and one partition of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from crypto_assets.catalog import Dataset, Listing, MarketDay


@dataclass(frozen=True, slots=True)
class Document:
    """One document as the source delivered it: where from, its SHA-256, its length in bytes."""

    url: str
    etag: str | None
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch `[started_at, ended_at)`, UTC microseconds since 1970, that the source explains."""

    started_at_us: int
    ended_at_us: int
    reason: Literal["venue_halt", "not_listed", "no_trades", "source_missing"]
    evidence: str


@dataclass(frozen=True, slots=True)
class Extract:
    """One partition as delivered: batches in the dataset's schema and key order, and claims.

    `batches` may be read once. `row_count` tells how many rows the source has, by a count that
    does not rest on parsing them; call it once `batches` is exhausted. `checks` are the claims
    that were verified on the way.
    """

    batches: Iterator[pa.RecordBatch]
    row_count: Callable[[], int]
    documents: tuple[Document, ...]
    checks: dict[str, str]
    holes: tuple[Hole, ...] = field(default=())


class Venue(Protocol):
    """A venue: raises SourceError, IntegrityError or, if the disk refuses, StorageError only.

    `fetch` may keep what it downloaded in `workdir`, which outlives a killed run, and finds it
    there again; it must verify what it finds.
    """

    datasets: tuple[Dataset, ...]

    def fetch(self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        """Deliver one partition of a day on which the market is listed."""
        ...
