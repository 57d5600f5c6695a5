"""Automation in a test: real definitions over a sandbox chain, and ticks of their sensors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from chain_days import decode
from collecting_ranges import FIRST, ChainHouse

from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.assets.dbt import prepare_manifest
from crypto_assets.catalog import BlockRange, Chain
from crypto_assets.definitions import build_definitions
from crypto_assets.partitions import register_ranges
from crypto_assets.runs import run_range
from crypto_assets.settings import Settings

# A day of the sandbox chain is 1,440 blocks.
BIG = Chain(name="ethereum", chain_id=1, range_size=500, slot_seconds=12)
START = BIG.range_of(FIRST)


class World:
    """Definitions over a sandbox chain, and an instance to run them on."""

    def __init__(self, house: ChainHouse, instance: dg.DagsterInstance, faults: str = "") -> None:
        self.house, self.instance = house, instance
        self.connect(faults)

    def connect(self, faults: str = "") -> None:
        self.ranges: RangeCollector = self.house.collector(faults, chain=BIG)
        self.settings = Settings(data_dir=self.house.lake.home.parent)
        self.definitions = build_definitions(self.settings, ranges=self.ranges)

    def collect(self, first: BlockRange, last: BlockRange) -> None:
        ranges = BIG.ranges(first.first, last.last)
        register_ranges(self.instance, BIG.name, ranges)
        job = self.definitions.resolve_job_def("ethereum")
        assert run_range(self.instance, job, ranges).is_proven

    def tick(self, sensor: str, cursor: str | None = None) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, resources={"ranges": self.ranges}
        )
        return self.definitions.resolve_sensor_def(sensor)(context)

    def end_run(self, run_key: str, *, seconds_ago: int) -> None:
        """A run of that request that came to nothing, and ended then."""
        for run in self.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": run_key})):
            self.instance.delete_run(run.run_id)
        run = self.instance.create_run_for_job(
            self.definitions.resolve_job_def("ethereum_marts"), tags={"dagster/run_key": run_key}
        )
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, "ethereum_marts")
        ended_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        self.instance.run_storage.handle_run_event(run.run_id, event, ended_at)

    def run(self, job: str, **config: Any) -> dg.ExecuteInProcessResult:
        ops = {f"{job}_ranges": {"config": config}}
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, run_config={"ops": ops}
        )

    def collect_now(self, faults: str) -> None:
        """The first range, from a chain with other faults that is as high."""
        height = self.house.app.state.nodes["ethereum"].head
        self.connect(faults)
        self.house.app.state.nodes["ethereum"].head = height
        self.collect(START, START)

    @property
    def listed(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("ethereum_ranges"))

    @property
    def manifest(self) -> Path:
        return prepare_manifest(self.settings)

    def decode(self, ranges: Sequence[BlockRange]) -> None:
        """What the job over decoded ranges leaves of some of them, but for rows."""
        decode(self.ranges.lake, self.manifest, BIG, ranges)
        for blocks in ranges:
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(["crypto_duckdb", BIG.name], partition=blocks.key)
            )


def span(ticked: Any) -> list[tuple[str, str]]:
    """First and last partition of each run asked for."""
    return [
        (
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        for request in ticked.run_requests
    ]
