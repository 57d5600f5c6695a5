"""What runs for chains, and when: jobs over ranges and over days, sensors, and the re-check.

New ranges and stale ones come from sensors, and from what they bring follow the days; so a range
that is found to be off the chain is fetched again, and all that was made of it is made anew.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
from more_itertools import batched, split_when
from pydantic import Field

from crypto_assets.assets.chain import stale_observation
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.catalog import BlockRange, Chain, ChainRange, Dataset
from crypto_assets.checks.asset_checks import guards_of
from crypto_assets.checks.results import NOT_CHECKED, refusals
from crypto_assets.lake import Lake, Proof, find_range, stale_ranges
from crypto_assets.partitions import (
    check_grid,
    days_covered,
    range_partitions,
    ranges_of,
    ranges_of_day,
    register_ranges,
)
from crypto_assets.warehouse import proofs_around, published_at

# The job over what no chain owns: days of all chains.
NETWORK = "network"

_RECHECK_MINUTE = 17
# A tick asks for so many runs at most; the next one for more.
_REQUESTS_PER_TICK = 20
_RECORDS_PER_TICK = 1000
_DAYS_PER_RUN = 31
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_A_DAY = timedelta(days=1)


def build_chain_jobs(
    chain: Chain, datasets: Sequence[Dataset]
) -> "tuple[dg.UnresolvedAssetJobDefinition, dg.JobDefinition, dg.JobDefinition]":
    """The job that fetches ranges, the one that registers history, and the re-check."""
    collect = dg.define_asset_job(
        chain.name,
        selection=dg.AssetSelection.assets(*(["raw", dataset.name] for dataset in datasets)),
        description=(
            f"Brings block ranges of {chain.name} up to date and checks them. "
            "Ranges that are proven already are not fetched again."
        ),
        tags={"chain": chain.name},
    )
    return collect, _registration(chain), _recheck(chain)


def build_network_job(marts: dg.AssetSelection) -> "dg.UnresolvedAssetJobDefinition":
    """The job over days of all chains; `marts` is all that is made of their raw ranges by day."""
    return dg.define_asset_job(
        NETWORK,
        selection=marts,
        description=(
            "Builds what is made of chains by UTC day, for days whose blocks are all there, and "
            "publishes it."
        ),
    )


def build_chain_sensors(
    chain: Chain, job: "dg.UnresolvedAssetJobDefinition"
) -> list[dg.SensorDefinition]:
    """One that adds ranges once they are final, and one that fetches stale ones again."""
    return [_new_ranges(chain, job), _stale_ranges(chain, job)]


def build_recheck_schedule(job: dg.JobDefinition, chain: Chain) -> dg.ScheduleDefinition:
    """The re-check, every hour."""
    return dg.ScheduleDefinition(
        name=f"{chain.name}_recheck_hourly",
        job=job,
        cron_schedule=f"{_RECHECK_MINUTE} * * * *",
        execution_timezone="UTC",
        description=(
            f"Whether the newest ranges of {chain.name} are still part of the chain, every hour "
            f"at minute {_RECHECK_MINUTE}."
        ),
    )


def build_days_sensor(
    chains: Sequence[Chain], job: "dg.UnresolvedAssetJobDefinition"
) -> dg.SensorDefinition:
    """Asks for the days that ranges, new or fetched again, cover."""

    @dg.sensor(
        name=f"{NETWORK}_days",
        job=job,
        minimum_interval_seconds=60,
        description=(
            "Builds a day of the chains once ranges cover it from end to end, and again whenever "
            "one of them was replaced."
        ),
    )
    def days(
        context: dg.SensorEvaluationContext, ranges: dg.ResourceParam[RangeCollector]
    ) -> dg.SensorResult:
        state: dict[str, Any] = json.loads(context.cursor or "{}")
        requests: list[dg.RunRequest] = []
        for chain in chains:
            seen = _Seen(**state.get(chain.name, {}))
            changed = _changed_ranges(context.instance, ranges.lake, chain, seen)
            state[chain.name] = asdict(seen)
            requests += _days_of(ranges.lake, chain, changed)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "no range has made a further day whole",
            cursor=json.dumps(state),
        )

    return days


@dataclass
class _Seen:
    """How far the materializations of a chain were read, and ranges whose checks are not done."""

    storage_id: int = 0
    unchecked: list[str] = field(default_factory=list)


def _changed_ranges(
    instance: dg.DagsterInstance, lake: Lake, chain: Chain, seen: _Seen
) -> list[Proof]:
    """Ranges that were committed, or checked, since the last tick, and that passed their checks."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(["raw", chain.dataset("blocks")]),
            after_storage_id=seen.storage_id,
        ),
        limit=_RECORDS_PER_TICK,
        ascending=True,
    ).records
    keys = dict.fromkeys([*seen.unchecked, *(str(record.partition_key) for record in records)])
    seen.storage_id = max([seen.storage_id, *(record.storage_id for record in records)])
    seen.unchecked = []
    passed = []
    for key in keys:
        proofs = find_range(lake, ChainRange(chain.name, BlockRange.parse(key)))
        if proofs is None:
            continue
        refused = refusals(lake, guards_of(chain), [proofs["blocks"]])
        if any(line.endswith(NOT_CHECKED) for line in refused):
            seen.unchecked.append(key)
        elif not refused:
            passed.append(proofs["blocks"])
    return passed


def _days_of(lake: Lake, chain: Chain, changed: Sequence[Proof]) -> list[dg.RunRequest]:
    """A run for each stretch of days that rest on some ranges and were not built since."""
    days: dict[date, str] = {}
    for day, of_day in days_around(lake, chain, changed).items():
        newest = max((proof.fetched_at for proof in of_day), default=_LONG_AGO)
        is_built = published_at(lake, NETWORK, "blocks_daily", day) >= newest
        if not is_built and not refusals(lake, guards_of(chain), of_day):
            days[day] = " ".join(digest for p in of_day for digest in p.group.values())
    requests = []
    for stretch in split_when(sorted(days), lambda one, other: one + _A_DAY != other):
        for some in batched(stretch, _DAYS_PER_RUN):
            # Asked for once in the state that these days are in, and again in any other.
            state = hashlib.sha256("; ".join(days[day] for day in some).encode()).hexdigest()
            requests.append(
                dg.RunRequest(
                    run_key=f"{chain.name} {some[0]} {some[-1]} {state[:12]}",
                    tags={
                        "dagster/asset_partition_range_start": some[0].isoformat(),
                        "dagster/asset_partition_range_end": some[-1].isoformat(),
                    },
                )
            )
    return requests


def covered_days(lake: Lake, chain: Chain, first: date, last: date) -> dict[date, list[Proof]]:
    """Days from `first` to `last`, both inclusive, that a chain's committed ranges cover.

    Each with the proofs of the blocks that it holds.
    """
    held = proofs_around(lake, chain, [first, last])
    by_key = {proof.partition: proof for proof in held}
    return {
        day: [by_key[blocks.key] for blocks in ranges_of_day(day, held)]
        for day in days_covered(held)
        if first <= day <= last
    }


def days_around(lake: Lake, chain: Chain, of_blocks: Iterable[Proof]) -> dict[date, list[Proof]]:
    """Covered days that may be so only because some ranges are there, as `covered_days`.

    A range without a block of a day may still be the one that shows that nothing is missing at its
    edge, so the days beside its own count too.
    """
    windows = sorted(
        (proof.first_at.date() - _A_DAY, proof.last_at.date() + _A_DAY)
        for proof in of_blocks
        if proof.first_at is not None and proof.last_at is not None
    )
    return {
        day: of_day
        for some in split_when(windows, lambda one, other: one[1] + _A_DAY < other[0])
        for day, of_day in covered_days(
            lake, chain, some[0][0], max(last for _, last in some)
        ).items()
    }


def _new_ranges(chain: Chain, job: "dg.UnresolvedAssetJobDefinition") -> dg.SensorDefinition:
    grid = range_partitions(chain.name)

    @dg.sensor(
        name=f"{chain.name}_ranges",
        job=job,
        minimum_interval_seconds=60,
        description=(
            f"Adds block ranges of {chain.name} after the newest one once their last block is "
            f"finalized, and fetches them. Older ones are registered by `register_{chain.name}`."
        ),
    )
    def new_ranges(
        context: dg.SensorEvaluationContext, ranges: dg.ResourceParam[RangeCollector]
    ) -> dg.SensorResult:
        check_grid(context.instance, ranges.lake, chain)
        listed = ranges_of(grid.get_partition_keys(dynamic_partitions_store=context.instance))
        finalized = ranges.source(chain).finalized()
        # The newest whole one is where it begins: history is for a person to ask for.
        newest = listed[-1] if listed else chain.range_of(finalized + 1).beside(-2)
        new = [
            blocks
            for blocks in chain.ranges(max(newest.last + 1, chain.first_block), finalized)
            if blocks.last <= finalized
        ][:_REQUESTS_PER_TICK]
        # From the oldest range on that this sensor added and no run has brought yet.
        since = context.cursor or (new[0].key if new else None)
        waiting = [
            blocks
            for blocks in listed[bisect_left(listed, since, key=str) if since else len(listed) :]
            if find_range(ranges.lake, ChainRange(chain.name, blocks)) is None
        ]
        requests = _requests(context.instance, chain, [*waiting, *new])
        oldest = next(iter([*waiting, *new]), None)
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[grid.build_add_request([b.key for b in new])]
            if new
            else [],
            cursor=oldest.key if oldest else since and newest.beside(1).key,
            skip_reason=None
            if requests
            else f"finalized is block {finalized}; the range after {newest} is not yet",
        )

    return new_ranges


def _requests(
    instance: dg.DagsterInstance, chain: Chain, ranges: Iterable[BlockRange]
) -> list[dg.RunRequest]:
    """A run for each range that has none under way; one more for each that has failed."""
    requests: list[dg.RunRequest] = []
    for blocks in ranges:
        runs = instance.get_runs(
            dg.RunsFilter(job_name=chain.name, tags={"dagster/partition": blocks.key})
        )
        if all(run.is_finished for run in runs):
            key = f"{blocks.key} {len(runs)}"
            requests.append(dg.RunRequest(run_key=key, partition_key=blocks.key))
        if len(requests) == _REQUESTS_PER_TICK:
            break
    return requests


def _stale_ranges(chain: Chain, job: "dg.UnresolvedAssetJobDefinition") -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{chain.name}_stale",
        job=job,
        minimum_interval_seconds=60,
        description=f"Fetches ranges of {chain.name} again that were found to be off the chain.",
    )
    def stale(
        context: dg.SensorEvaluationContext, ranges: dg.ResourceParam[RangeCollector]
    ) -> dg.SensorResult | dg.SkipReason:
        found = stale_ranges(ranges.lake, chain.name)
        requests = _requests(context.instance, chain, (each.part.blocks for each in found))
        if not requests:
            return dg.SkipReason(f"{len(found)} ranges of {chain.name} are stale and not requested")
        return dg.SensorResult(run_requests=requests)

    return stale


class HistoryConfig(dg.Config):
    """Which blocks to register ranges for."""

    first_block: int | None = Field(
        None, description="First block; by default the chain's first_block in chains.yaml."
    )
    last_block: int | None = Field(
        None, description="Last block; by default the newest finalized one."
    )


def _registration(chain: Chain) -> dg.JobDefinition:
    @dg.op(name=f"register_{chain.name}_ranges")
    def register(
        context: dg.OpExecutionContext,
        config: HistoryConfig,
        ranges: dg.ResourceParam[RangeCollector],
    ) -> None:
        first = chain.first_block if config.first_block is None else config.first_block
        found = ranges.finalized_ranges(chain, first, config.last_block)
        check_grid(context.instance, ranges.lake, chain)
        new = register_ranges(context.instance, chain.name, found)
        context.log.info(f"{len(new)} of {len(found)} ranges of {chain.name} are new")

    @dg.job(
        name=f"register_{chain.name}",
        description=(
            f"Registers the block ranges of {chain.name}'s history as partitions, those whose last "
            "block is finalized; nothing is fetched. Then backfill them."
        ),
    )
    def registration() -> None:
        register()

    return registration


class RecheckConfig(dg.Config):
    """How far back to look."""

    newest: int = Field(10, ge=1, description="So many of the newest ranges are looked at.")


def _recheck(chain: Chain) -> dg.JobDefinition:
    @dg.op(name=f"recheck_{chain.name}_ranges")
    def recheck(
        context: dg.OpExecutionContext,
        config: RecheckConfig,
        ranges: dg.ResourceParam[RangeCollector],
    ) -> None:
        for stale in ranges.recheck(chain, config.newest):
            context.log.warning(stale.message)
            context.log_event(stale_observation(chain, stale))

    @dg.job(
        name=f"recheck_{chain.name}",
        description=(
            f"Reads headers of the newest ranges of {chain.name} again, and marks those stale that "
            "are no longer part of the chain; their sensor then fetches them again."
        ),
    )
    def rechecking() -> None:
        recheck()

    return rechecking
