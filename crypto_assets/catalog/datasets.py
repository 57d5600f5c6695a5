"""What a raw dataset is: its columns, its key, and the claims its rows must satisfy.

The datasets themselves are declared by the source that fetches them; `lake` stores and proves any
dataset by this description alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import pyarrow as pa

IdRule = Literal["contiguous", "expected"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One raw dataset, stored as one Parquet file per market and UTC day.

    `key` orders the rows of a file and is unique in it. `time_column` must lie inside the
    partition. `price_column` draws the day for a person. `id_column` with `id_rule` "contiguous"
    names ids that the venue numbers without holes, over midnight too; with "expected" it seems to,
    but promises nothing, so that holes are counted in the proof and not refused.
    """

    name: str
    venue: str
    description: str
    schema: pa.Schema
    key: tuple[str, ...]
    time_column: str
    price_column: str
    id_column: str | None = None
    id_rule: IdRule | None = None


@dataclass(frozen=True, slots=True)
class MarketDay:
    """The unit of commit: one dataset, one market, one UTC day `[00:00, 24:00)`."""

    dataset: str
    market: str
    day: date

    def __str__(self) -> str:
        return f"{self.dataset} {self.market} {self.day}"

    @property
    def partition(self) -> str:
        """Partition key: the ISO day."""
        return self.day.isoformat()

    @property
    def starts_at(self) -> datetime:
        """First instant of the day, UTC."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @property
    def ends_at(self) -> datetime:
        """First instant of the next day, UTC."""
        return self.starts_at + timedelta(days=1)

    def beside(self, days: int) -> MarketDay:
        """The same dataset and market, `days` later (earlier if negative)."""
        return MarketDay(self.dataset, self.market, self.day + timedelta(days=days))
