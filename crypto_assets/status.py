"""What the lake holds of the catalogue, read from its files: the state of every market-day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date

import pyarrow.parquet as pq

from crypto_assets.catalog import Listing, MarketDay
from crypto_assets.lake import Lake, find_proof
from crypto_assets.lake.quarantine import quarantined
from crypto_assets.partitions import days_between
from crypto_assets.sources import VENUES, require_sources

_STATES = ("complete", "empty", "not_listed", "quarantined", "missing")


def coverage(
    lake: Lake, listings: Sequence[Listing], days: Sequence[date] | None
) -> list[dict[str, str | int]]:
    """One row per dataset and market: how many of the days are in which state, and their rows.

    Without `days`: from the first to the last one that the lake holds. Raises CatalogError for a
    listing of a venue that has no source.
    """
    if days is None:
        held = [part.day for part, _ in lake.committed()]
        days = list(days_between(min(held), max(held))) if held else []
    require_sources([listing.venue for listing in listings])
    rows: list[dict[str, str | int]] = []
    for venue in dict.fromkeys(listing.venue for listing in listings):
        for dataset in VENUES[venue].datasets:
            for market in (listing.market for listing in listings if listing.venue == venue):
                states: Counter[str] = Counter()
                stored = 0
                for day in days:
                    part = MarketDay(dataset.name, market, day)
                    if (proof := find_proof(lake, part)) is not None:
                        states[proof.status] += 1
                        stored += proof.row_count
                    else:
                        states["quarantined" if quarantined(lake, part) else "missing"] += 1
                rows.append(
                    {
                        "dataset": dataset.name,
                        "market": market,
                        "days": len(days),
                        **{state: states[state] for state in _STATES},
                        "rows": stored,
                    }
                )
    return rows


def failed_checks(lake: Lake, days: Sequence[date] | None) -> list[str]:
    """Kept results of severity ERROR that did not pass, of some days or of all."""
    keys = ["*"] if days is None else [day.isoformat() for day in days]
    return [
        f"{row['asset']} {row['suite']} {row['partition']}: {row['expectation']}"
        for key in keys
        for path in sorted(lake.check_results.glob(f"*/date={key}.parquet"))
        for row in pq.read_table(path, partitioning=None).to_pylist()
        if not row["passed"] and row["severity"] == "ERROR"
    ]
