"""What a raw dataset is: its columns, its key, and the claims its rows must satisfy.

The datasets themselves are declared by the source that fetches them; `lake` stores and proves any
dataset by this description alone. Beside it stand the partitions that rows are committed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa

from crypto_assets.catalog.chains import AnyKind, BlockRange, dataset_name

IdRule = Literal["contiguous", "expected"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One raw dataset, stored as one Parquet file per market and UTC day, or per block range.

    `venue` is the venue or the chain. `key` orders the rows of a file and is unique in it. Of a
    market's dataset `time_column` must lie inside the day; a chain's has a `position_column`, the
    block number, which must lie inside the range; what contracts answer has neither.
    `price_column` draws the day for a person. `id_column` with `id_rule` "contiguous" names ids
    that the venue numbers without holes, over midnight too; with "expected" it seems to, but
    promises nothing, so that holes are counted in the proof and not refused.
    """

    name: str
    venue: str
    description: str
    schema: pa.Schema
    key: tuple[str, ...]
    time_column: str | None
    price_column: str | None = None
    id_column: str | None = None
    id_rule: IdRule | None = None
    position_column: str | None = None


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
    def folder(self) -> PurePosixPath:
        """Where its files lie below any root: `<dataset>/market=BTC-USDT/date=2024-01-01`."""
        return PurePosixPath(self.dataset, f"market={self.market}", f"date={self.partition}")

    @property
    def names(self) -> dict[str, str]:
        """What it is called, for a record of it."""
        return {"dataset": self.dataset, "market": self.market, "partition": self.partition}

    @property
    def family(self) -> str:
        """What it is one partition of: its dataset and market."""
        return f"{self.dataset}.{self.market}"

    @property
    def number(self) -> int:
        """Its place in its family; the day after has the next number."""
        return self.day.toordinal()

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


@dataclass(frozen=True, slots=True, order=True)
class ChainRange:
    """The unit of commit of a chain: one block range, one file for each of its datasets."""

    chain: str
    blocks: BlockRange

    def __str__(self) -> str:
        return f"{self.chain} {self.blocks}"

    @property
    def partition(self) -> str:
        """Partition key: `018426000-018426999`."""
        return self.blocks.key

    @property
    def folder(self) -> PurePosixPath:
        """Where what belongs to the whole lies: `<chain>/range=018426000-018426999`."""
        return PurePosixPath(self.chain, f"range={self.partition}")

    @property
    def names(self) -> dict[str, str]:
        """What it is called, for a record of it."""
        return {"chain": self.chain, "partition": self.partition}

    @property
    def family(self) -> str:
        """What it is one partition of: its chain."""
        return self.chain

    @property
    def number(self) -> int:
        """Its place in its family; the range after has the next number."""
        return self.blocks.first // self.blocks.size

    def of(self, kind: AnyKind) -> RangePart:
        """The share of one dataset."""
        return RangePart(dataset_name(self.chain, kind), self.blocks)

    def beside(self, step: int) -> ChainRange:
        """The range `step` ranges later (earlier if negative)."""
        return ChainRange(self.chain, self.blocks.beside(step))


@dataclass(frozen=True, slots=True, order=True)
class RangePart:
    """One dataset's share of a `ChainRange`: one file."""

    dataset: str
    blocks: BlockRange

    def __str__(self) -> str:
        return f"{self.dataset} {self.blocks}"

    @property
    def market(self) -> str:
        """A chain has no markets."""
        return ""

    @property
    def partition(self) -> str:
        """Partition key: `018426000-018426999`."""
        return self.blocks.key

    @property
    def folder(self) -> PurePosixPath:
        """Where its file lies: `<dataset>/range=018426000-018426999`."""
        return PurePosixPath(self.dataset, f"range={self.partition}")

    @property
    def names(self) -> dict[str, str]:
        """What it is called, for a record of it."""
        return {"dataset": self.dataset, "partition": self.partition}

    @property
    def family(self) -> str:
        """What it is one partition of: its dataset."""
        return self.dataset

    @property
    def number(self) -> int:
        """Its place in its family; the range after has the next number."""
        return self.blocks.first // self.blocks.size


# What lies in one file, and what is fetched, refused or committed as one. Of a chain that is a
# range; only the part of its calls is a unit by itself.
Part = MarketDay | RangePart
Unit = MarketDay | ChainRange | RangePart
