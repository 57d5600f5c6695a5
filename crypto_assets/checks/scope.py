"""What a suite is judged for: some partitions, and what its queries see of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import pyarrow as pa

from crypto_assets.catalog import BlockRange, Catalog, Chain

Grid = Literal["day", "range"]

_MARKET_DAYS = pa.schema([("venue", pa.string()), ("market", pa.string()), ("day", pa.date32())])
_CHAIN_RANGES = pa.schema(
    [
        ("venue", pa.string()),
        ("market", pa.string()),
        ("partition", pa.string()),
        ("first_block", pa.int64()),
        ("last_block", pa.int64()),
    ]
)
_NODE_FACTS = pa.schema(
    [
        ("venue", pa.string()),
        ("node", pa.string()),
        ("partition", pa.string()),
        ("number", pa.int64()),
        ("hash", pa.binary()),
        ("log_count", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Partition keys in order, of one kind, and relations by name that a suite's queries read."""

    grid: Grid
    partitions: tuple[str, ...]
    relations: Mapping[str, pa.Table]

    @property
    def bounds(self) -> dict[str, date | str]:
        """What the queries take as parameters: the first and the last day, or the one range."""
        if self.grid == "range":
            return {"partition": self.partitions[0]}
        first, last = self.partitions[0], self.partitions[-1]
        return {"from_day": date.fromisoformat(first), "to_day": date.fromisoformat(last)}

    def parts(self) -> list[Scope]:
        """What one query reads at a time: all days, but ranges one by one, which are large."""
        if self.grid == "day":
            return [self]
        return [replace(self, partitions=(key,)) for key in self.partitions]


def days(some: Sequence[date]) -> Scope:
    """Some days, for suites that need no more than the data itself."""
    return Scope("day", tuple(sorted({day.isoformat() for day in some})), {})


def market_days(catalog: Catalog, some: Sequence[date]) -> Scope:
    """Some days, with `market_days`: what the catalogue lists on each of them."""
    listed = [
        {"venue": listing.venue, "market": listing.market, "day": day}
        for day in some
        for listing in catalog.listings
        if listing.is_listed_on(day)
    ]
    table = pa.Table.from_pylist(listed, schema=_MARKET_DAYS)
    return replace(days(some), relations={"market_days": table})


def chain_ranges(
    chain: Chain, ranges: Sequence[BlockRange], facts: Sequence[Mapping[str, Any]] = ()
) -> Scope:
    """Some block ranges of a chain, with `chain_ranges` and `node_facts`.

    `facts` are what each node says of some of their blocks: venue, node, partition, number, hash,
    log_count.
    """
    ordered = sorted(set(ranges))
    listed = [
        {
            "venue": chain.name,
            "market": "",
            "partition": blocks.key,
            "first_block": blocks.first,
            "last_block": blocks.last,
        }
        for blocks in ordered
    ]
    return Scope(
        "range",
        tuple(blocks.key for blocks in ordered),
        {
            "chain_ranges": pa.Table.from_pylist(listed, schema=_CHAIN_RANGES),
            "node_facts": pa.Table.from_pylist(list(facts), schema=_NODE_FACTS),
        },
    )
