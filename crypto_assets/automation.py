"""Jobs and schedules of venues: what runs together, and when. Those of chains are beside it."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from crypto_assets.catalog import Dataset

# Binance publishes a day's archives during the following morning, UTC; what is still missing at
# this hour is taken from REST.
_DAILY_HOUR_UTC = 6


# The job over what no venue owns.
MARTS = "marts"


def build_jobs(
    venues: Sequence[str], datasets: Sequence[Dataset], marts: dg.AssetSelection
) -> Sequence[dg.UnresolvedAssetJobDefinition]:
    """One job per venue, end to end: raw days, checks, marts, publishing; and one of the marts.

    `marts` is all that is made of the venues' raw days.
    """
    of_venues = [
        dg.define_asset_job(
            venue,
            selection=marts
            | dg.AssetSelection.assets(
                *(["raw", dataset.name] for dataset in datasets if dataset.venue == venue)
            ),
            description=(
                f"Brings days of {venue} up to date from the source to crypto.duckdb. "
                "Days that are proven already are not fetched again."
            ),
            tags={"venue": venue},
        )
        for venue in venues
    ]
    of_marts = dg.define_asset_job(
        MARTS,
        selection=marts,
        description="Builds the marts of days anew from what the lake holds, and publishes them.",
    )
    return [*of_venues, of_marts]


def build_schedules(
    jobs: Sequence[dg.UnresolvedAssetJobDefinition],
) -> list[dg.UnresolvedPartitionedAssetScheduleDefinition | dg.ScheduleDefinition]:
    """Yesterday of every venue, every morning."""
    return [
        dg.build_schedule_from_partitioned_job(
            job,
            name=f"{job.name}_daily",
            hour_of_day=_DAILY_HOUR_UTC,
            description=(
                f"Yesterday's UTC day of {job.name}, every day at {_DAILY_HOUR_UTC:02d}:00 UTC."
            ),
        )
        for job in jobs
        if job.name != MARTS
    ]
