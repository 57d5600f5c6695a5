"""The partition grids: UTC days for exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg

from crypto_assets.catalog import Catalog


def day_partitions(catalog: Catalog) -> dg.DailyPartitionsDefinition:
    """UTC days from the first listing of the catalogue on; a day appears once it is over."""
    first = min(listing.since for listing in catalog.listings)
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), timezone="UTC")


def days_of(keys: list[str]) -> list[date]:
    """Partition keys as days, in the order given."""
    return [date.fromisoformat(key) for key in keys]


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both inclusive."""
    for step in range((last - first).days + 1):
        yield first + timedelta(days=step)
