"""What the lake holds of the catalogue, read from its files: the state of every day and range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date

from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange, Kind, Listing, MarketDay
from crypto_assets.lake import Lake, find_proof, find_range, find_stale
from crypto_assets.lake.quarantine import quarantined
from crypto_assets.partitions import days_between
from crypto_assets.sources import VENUES, require_sources

_STATES = ("complete", "empty", "not_listed", "quarantined", "missing")
_RANGE_STATES = ("complete", "empty", "stale", "quarantined", "missing")


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


def chain_coverage(
    lake: Lake, chain: Chain, ranges: Sequence[BlockRange] | None
) -> list[dict[str, str | int]]:
    """One row per dataset of a chain: how many of the ranges are in which state, and their rows.

    Without `ranges`: from the first to the last one that the lake or the quarantine holds; 25,000
    take 20 s.
    """
    if ranges is None:
        refused = [part for part in lake.quarantined_ranges(chain.name) if quarantined(lake, part)]
        held = sorted([*lake.ranges(chain.name), *refused])
        ranges = chain.ranges(held[0].blocks.first, held[-1].blocks.last) if held else []
    states: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}
    rows: Counter[Kind] = Counter()
    for blocks in ranges:
        part = ChainRange(chain.name, blocks)
        proofs = find_range(lake, part)
        state = _state_without(lake, part) if proofs is None else ""
        for kind in KINDS:
            states[kind][proofs[kind].status if proofs else state] += 1
            rows[kind] += proofs[kind].row_count if proofs else 0
    return [
        {
            "dataset": chain.dataset(kind),
            "ranges": len(ranges),
            **{state: states[kind][state] for state in _RANGE_STATES},
            "rows": rows[kind],
        }
        for kind in KINDS
    ]


def _state_without(lake: Lake, part: ChainRange) -> str:
    if find_stale(lake, part) is not None:
        return "stale"
    return "quarantined" if quarantined(lake, part) else "missing"
