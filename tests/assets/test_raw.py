"""Raw assets in real Dagster runs: what is recorded for each day, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from crypto_assets import sandbox
from crypto_assets.assets.collect import Collector
from crypto_assets.assets.raw import build_raw_asset
from crypto_assets.catalog import Catalog, Listing
from crypto_assets.lake import Lake
from crypto_assets.partitions import day_partitions
from crypto_assets.sources.binance import TRADES, Binance

CATALOG = Catalog((Listing("binance", "BTC-USDT", "BTCUSDT", date(2024, 1, 2)),))
KEY = dg.AssetKey(["raw", "binance_trades"])
DAYS = ["2024-01-02", "2024-01-03", "2024-01-04"]


class Bench:
    """A raw asset over the sandbox, run as a job over a range of days."""

    def __init__(self, home: Path, faults: str = "") -> None:
        app = sandbox.create_app(CATALOG, faults=faults, trades_per_day=200)
        self.venue = Binance(
            archive_url="https://data.binance.vision",
            rest_url="https://api.binance.com",
            transport=sandbox.transport(app),
        )
        self.collector = Collector(Lake(home), CATALOG, lambda _: self.venue, workers=2)
        days = day_partitions(CATALOG)
        asset = build_raw_asset(TRADES, days, dg.BackfillPolicy.multi_run(31))

        @dg.asset(deps=[asset], partitions_def=days, backfill_policy=asset.backfill_policy)
        def downstream() -> None: ...

        self.job = dg.Definitions(
            assets=[asset, downstream],
            jobs=[dg.define_asset_job("job")],
            resources={"collector": self.collector},
            executor=dg.in_process_executor,
        ).resolve_job_def("job")

    def run(self, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": DAYS[0],
                "dagster/asset_partition_range_end": DAYS[-1],
            },
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def materializations(instance: dg.DagsterInstance) -> list[dg.AssetMaterialization]:
    records = instance.fetch_materializations(KEY, limit=100).records
    return [record.asset_materialization for record in reversed(records)]  # type: ignore[misc]


def test_each_day_is_recorded_once_with_what_a_person_wants_to_see(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    bench = Bench(tmp_path)
    assert bench.run(instance).success
    recorded = materializations(instance)
    # Fails if Dagster starts to add its own materialization of each day to ours.
    assert sorted(m.partition or "" for m in recorded) == DAYS
    metadata = next(m for m in recorded if m.partition == DAYS[1]).metadata
    assert metadata["dagster/partition_row_count"].value > 0
    assert metadata["bytes"].value > 0
    market = metadata["markets"].records[0].data
    assert (market["market"], market["status"]) == ("BTC-USDT", "complete")
    assert len(market["digest"]) == 64
    assert market["source"].endswith("BTCUSDT-trades-2024-01-03.zip")
    assert {"▁", "█"} < set(metadata["price_by_hour"].value)


def test_a_second_run_records_the_same_digests_and_fetches_nothing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    bench = Bench(tmp_path)
    assert bench.run(instance).success
    assert bench.run(instance).success
    first, second = materializations(instance)[:3], materializations(instance)[3:]
    digests = [
        {m.partition: m.metadata["markets"].records[0].data["digest"] for m in some}
        for some in (first, second)
    ]
    assert digests[0] == digests[1]
    assert [m.metadata["fetched_now"].value for m in second] == [0, 0, 0]


def test_a_day_that_fails_is_named_and_the_others_are_recorded_all_the_same(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    bench = Bench(tmp_path, faults="gap@BTCUSDT@2024-01-03")
    result = bench.run(instance)
    assert not result.success
    assert sorted(m.partition or "" for m in materializations(instance)) == [DAYS[0], DAYS[2]]
    failure = result.failure_data_for_node("raw__binance_trades")
    assert failure is not None
    assert failure.user_failure_data is not None
    told = {key: value.value for key, value in failure.user_failure_data.metadata.items()}
    assert list(told) == ["binance_trades BTC-USDT 2024-01-03"]
    assert next(iter(told.values())).startswith("MissingIdError")
    skipped = {event.step_key for event in result.all_events if event.is_step_skipped}
    assert result.get_failed_step_keys() == {"raw__binance_trades"}
    assert "downstream" in skipped or not result.events_for_node("downstream")
