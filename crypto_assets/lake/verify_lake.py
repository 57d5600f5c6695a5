"""Proving all that is committed again, market days and block ranges alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain as one_after_the_other

from crypto_assets.catalog import BlockRange, Unit
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.ranges import parts_between
from crypto_assets.lake.verify import Finding, verify
from crypto_assets.lake.verify_ranges import EVERYTHING, every_part, verify_ranges


def verify_lake(
    lake: Lake,
    siblings: Mapping[str, frozenset[str]],
    *,
    days: tuple[date, date] | None = None,
    workers: int = 2,
) -> tuple[int, Iterator[tuple[Unit, list[Finding]]]]:
    """How many partitions there are to prove again, and each of them with what is wrong with it.

    Days of every market, then ranges of every chain that the lake holds; of an inclusive range of
    UTC `days` those, and the ranges that may hold a block of them. `siblings` as of `verify`. What
    only several files together tell comes in addition to the number, and may name a partition a
    second time or one that has no file.
    """
    first, last = days or (date.min, date.max)
    count = sum(first <= part.day <= last for part, _ in lake.committed())
    found: list[Iterator[tuple[Unit, list[Finding]]]] = [
        verify(lake, siblings, days=days, workers=workers)
    ]
    for chain in lake.chains():
        within = EVERYTHING if days is None else _blocks_of(lake, chain, days)
        count += sum(part.blocks.overlaps(within) for part in every_part(lake, chain))
        found.append(verify_ranges(lake, chain, within=within, workers=workers))
    return count, one_after_the_other.from_iterable(found)


def _blocks_of(lake: Lake, chain: str, days: tuple[date, date]) -> BlockRange:
    """The blocks between the nearest ranges that are known to lie before and after some days."""
    starts_at = datetime.combine(days[0], time.min, UTC)
    ends_at = datetime.combine(days[1] + timedelta(days=1), time.min, UTC)
    around = list(parts_between(lake, chain, starts_at, ends_at))
    # What lies before the first of these does so at any rate, if there is anything.
    is_first = not around or around[0][0].folder.name == lake.range_folders(chain)[0]
    first, last = 0 if is_first else around[0][0].blocks.first, EVERYTHING.last
    for part, proofs in around:
        if proofs is None:
            continue
        blocks = proofs["blocks"]
        if blocks.last_at is not None and blocks.last_at < starts_at:
            first = part.blocks.last + 1
        elif blocks.first_at is not None and blocks.first_at >= ends_at:
            last = part.blocks.first - 1
    return BlockRange(first, last)
