"""The partition grids: UTC days for exchanges, block ranges for chains, and how the two meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import dagster as dg
from dagster._core.storage.event_log.schema import DynamicPartitionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from crypto_assets.catalog import BlockRange, Catalog, Chain
from crypto_assets.errors import CatalogError
from crypto_assets.lake import Lake, Proof

# Of Ethereum's first block after the genesis; no EVM chain has an older one.
_FIRST_EVM_DAY = date(2015, 7, 30)


def day_partitions(catalog: Catalog) -> dg.DailyPartitionsDefinition:
    """UTC days from the first listing of the catalogue on; a day appears once it is over."""
    first = min(listing.since for listing in catalog.listings)
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC")


def network_days() -> dg.DailyPartitionsDefinition:
    """UTC days of chains; a day appears once it is over."""
    return dg.DailyPartitionsDefinition(start_date=_FIRST_EVM_DAY.isoformat(), timezone="UTC")


def days_of(keys: list[str]) -> list[date]:
    """Partition keys as days, in the order given."""
    return [date.fromisoformat(key) for key in keys]


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both inclusive."""
    for step in range((last - first).days + 1):
        yield first + timedelta(days=step)


def range_partitions(chain: str) -> dg.DynamicPartitionsDefinition:
    """The registered block ranges of a chain, keys as of `BlockRange`."""
    return dg.DynamicPartitionsDefinition(name=_grid(chain))


def ranges_of(keys: Iterable[str]) -> list[BlockRange]:
    """Partition keys as block ranges, in the order given."""
    return [BlockRange.parse(key) for key in keys]


def check_grid(instance: dg.DagsterInstance, lake: Lake, chain: Chain) -> None:
    """Raise CatalogError if the lake or Dagster holds a chain in ranges of another size.

    To be called before ranges of a chain are registered: a run over several takes all those that
    Dagster lists between the first and the last one, of whatever size.
    """
    lake.check_grid(chain.name, chain.range_size)
    _check_listed(chain.name, instance.get_dynamic_partitions(_grid(chain.name)), chain.range_size)


def register_ranges(
    instance: dg.DagsterInstance, chain: str, ranges: Iterable[BlockRange]
) -> list[BlockRange]:
    """Add block ranges to a chain's partitions, and return those that were not there before.

    Dagster lists dynamic partitions as they were inserted, and what a run over several of them
    takes follows that order. So those that come after the first new one are taken out and put in
    again, in one transaction: a process that dies on the way has changed nothing, and of two at the
    same time one waits. Materializations go by key and stay. Raises CatalogError, and registers
    nothing, if ranges of another size are listed.
    """
    ranges = list(ranges)
    listed = instance.get_dynamic_partitions(_grid(chain))
    for size in {blocks.size for blocks in ranges}:
        _check_listed(chain, listed, size)
    new = sorted({blocks.key for blocks in ranges}.difference(listed))
    is_in_order = all(one < other for one, other in pairwise(listed))
    if not new and is_in_order:
        return []
    first = new[0] if is_in_order else min(*new, *listed)
    storage = instance.event_log_storage
    # One by one, as Dagster offers it, 25,000 take minutes and leave the list torn if killed.
    assert isinstance(storage, SqlEventLogStorage)  # noqa: S101 - as every storage of Dagster's is
    table = DynamicPartitionsTable
    of_chain = table.c.partitions_def_name == _grid(chain)
    with storage.index_connection() as connection:
        later = connection.execute(
            table.delete().where(of_chain, table.c.partition >= first).returning(table.c.partition)
        )
        keys = sorted({*new, *later.scalars()})
        rows = [{"partitions_def_name": _grid(chain), "partition": key} for key in keys]
        connection.execute(table.insert(), rows)
    return ranges_of(new)


def days_covered(proofs: Iterable[Proof]) -> list[date]:
    """The UTC days of which every block is in a committed range, in order.

    `proofs` are those of the ranges' blocks, in any order. A day is covered when ranges that follow
    each other, joined by their hashes, start with a block before the day, or with the genesis, and
    end with one after it. A day on which the chain stood still may be, too; on mainnet so are those
    from 1970 on, which is when its genesis claims to be from.
    """
    return [
        day
        for first, last in _runs(proofs)
        for day in days_between(
            # Before the genesis there is nothing that could be missing.
            first.first_at.date() + timedelta(days=first.blocks.first > 0),
            last.last_at.date() - timedelta(days=1),
        )
    ]


def ranges_of_day(day: date, proofs: Iterable[Proof]) -> list[BlockRange]:
    """Those of the committed ranges that may hold a block of a UTC day, in block order.

    `proofs` are those of the ranges' blocks, in any order.
    """
    starts_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    ends_at = starts_at + timedelta(days=1)
    return [
        span.blocks
        for span in _spans(proofs)
        if span.first_at < ends_at and span.last_at >= starts_at
    ]


class _Span(NamedTuple):
    """What a committed range says of its place in the chain and in time."""

    blocks: BlockRange
    first_at: datetime
    last_at: datetime
    parent_hash: str | None
    last_hash: str | None


def _spans(proofs: Iterable[Proof]) -> list[_Span]:
    """In block order."""
    return sorted(
        _Span(
            BlockRange.parse(proof.partition),
            proof.first_at,
            proof.last_at,
            proof.parent_hash,
            proof.last_hash,
        )
        for proof in proofs
        if proof.first_at is not None and proof.last_at is not None
    )


def _runs(proofs: Iterable[Proof]) -> Iterator[tuple[_Span, _Span]]:
    """First and last of the ranges that follow each other without a hole, by number and hash."""
    spans = _spans(proofs)
    start = 0
    for at, span in enumerate(spans, start=1):
        following = spans[at] if at < len(spans) else None
        if following is None or (following.blocks.first, following.parent_hash) != (
            span.blocks.last + 1,
            span.last_hash,
        ):
            yield spans[start], span
            start = at


def _check_listed(chain: str, listed: Iterable[str], size: int) -> None:
    if others := [key for key in listed if not _is_range(key, size)]:
        raise CatalogError(
            f"{chain}: {len(others)} of the partitions that Dagster lists are no ranges of {size} "
            f"blocks, such as {others[0]}; nothing was registered. Set its range_size in "
            "chains.yaml back to theirs; or, if the lake has none of them, delete them in "
            f"Dagster's UI (in the menu of raw/{chain}_blocks: Delete partitions), or begin with "
            "an empty CRYPTO_ASSETS_DATA_DIR"
        )


def _is_range(key: str, size: int) -> bool:
    with suppress(ValueError):  # a person may have added anything in the UI
        return BlockRange.parse(key).size == size
    return False


def _grid(chain: str) -> str:
    return f"{chain}_ranges"
