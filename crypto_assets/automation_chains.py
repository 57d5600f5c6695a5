"""What fetches block ranges, and when: jobs, sensors, and the re-check.

New ranges and stale ones come from sensors; what is made of them follows, see `automation_marts`.
So a range that is found to be off the chain is fetched again, and all that was made of it anew.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import dagster as dg
from pydantic import Field

from crypto_assets.assets.chain import stale_observation
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.catalog import BlockRange, Chain, ChainRange, Dataset
from crypto_assets.lake import find_range, stale_ranges
from crypto_assets.partitions import check_grid, range_partitions, ranges_of, register_ranges

_RECHECK_MINUTE = 17
# A tick asks for so many runs at most; the next one for more.
_REQUESTS_PER_TICK = 20


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
