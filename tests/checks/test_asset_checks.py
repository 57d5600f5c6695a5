"""Suites as asset checks, run by Dagster over a real lake: every day recorded, failures block."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from chain_days import ETHEREUM, OTHER
from dagster._core.storage.asset_check_state import AssetCheckState, bulk_update_asset_check_state
from dagster_duckdb import DuckDBResource

from crypto_assets.catalog import Catalog, Dataset, Listing, MarketDay
from crypto_assets.checks.asset_checks import (
    SUITES,
    build_checks,
    build_mart_checks,
    guards_of,
    mart_guards_of,
)
from crypto_assets.lake import Lake, PartitionWriter
from crypto_assets.sources.binance import KLINES, REST_KLINES, TRADES
from crypto_assets.warehouse import attach_raw_views

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(3)]
PARTITIONS = dg.DailyPartitionsDefinition("2024-03-01", timezone="UTC")
CHECK = dg.AssetCheckKey(dg.AssetKey(["raw", "binance_trades"]), "trades_are_complete")


@pytest.fixture
def catalog() -> Catalog:
    return Catalog((Listing("binance", "BTC-USDT", "BTCUSDT", date(2020, 1, 1)),))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three days of one trade a minute from 00:00 to 00:04, and klines that agree."""
    lake = Lake(tmp_path)
    for number, day in enumerate(DAYS):
        _commit_trades(lake, day, first_id=1000 + 5 * number)
        _commit_klines(lake, KLINES, day, minutes=5)
        _commit_klines(lake, REST_KLINES, day, minutes=5)
    return lake


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _run(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance, *, first: date, last: date
) -> dg.ExecuteInProcessResult:
    """Runs raw assets, their check, and an asset that is built on them, for a range of days."""

    def raw(name: str) -> dg.AssetsDefinition:
        @dg.asset(key=["raw", name], partitions_def=PARTITIONS)
        def committed() -> None: ...

        return committed

    @dg.asset(deps=[["raw", "binance_trades"]], partitions_def=PARTITIONS)
    def built_on_trades() -> None: ...

    definitions = dg.Definitions(
        assets=[raw("binance_trades"), raw("binance_klines"), built_on_trades],
        asset_checks=[
            check for check in build_checks(lake, catalog, PARTITIONS) if CHECK in check.check_keys
        ],
    )
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": first.isoformat(),
            "dagster/asset_partition_range_end": last.isoformat(),
        },
    )


def test_a_range_is_recorded_for_every_day(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    result = _run(lake, catalog, instance, first=DAYS[0], last=DAYS[-1])

    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert [(e.partition, e.passed) for e in evaluations] == [(d.isoformat(), True) for d in DAYS]
    assert _statuses(instance) == {"SUCCEEDED": {day.isoformat() for day in DAYS}}
    assert _kept(lake) == {day.isoformat() for day in DAYS}


def test_an_evaluation_is_of_the_latest_materialization_of_its_day(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    _run(lake, catalog, instance, first=DAYS[0], last=DAYS[-1])
    result = _run(lake, catalog, instance, first=DAYS[0], last=DAYS[1])

    for evaluation in result.get_asset_check_evaluations():
        day = str(evaluation.partition)
        latest, _ = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=CHECK.asset_key, asset_partitions=[day]), limit=10
        ).records
        target = evaluation.target_materialization_data
        assert target is not None
        assert (target.storage_id, target.run_id) == (latest.storage_id, result.run_id)
        assert target.timestamp == pytest.approx(latest.timestamp, abs=1e-5)


def test_a_failing_day_is_the_one_that_fails_and_blocks_what_is_built_on_it(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    _commit_klines(lake, KLINES, DAYS[1], minutes=6)

    result = _run(lake, catalog, instance, first=DAYS[0], last=DAYS[-1])

    assert not result.success
    assert not result.asset_materializations_for_node("built_on_trades")
    assert _statuses(instance) == {
        "SUCCEEDED": {"2024-03-01", "2024-03-03"},
        "FAILED": {"2024-03-02"},
    }
    metadata = result.get_asset_check_evaluations()[1].metadata
    rows = [record.data for record in metadata["offending_rows"].value.records]  # type: ignore[union-attr]
    assert {row["claim"] for row in rows} == {
        "counting_klines_have_trades",
        "klines_count_the_same_trades",
    }
    assert rows[0]["place"] == "2024-03-02 00:05:00"
    assert (rows[0]["found"], rows[0]["expected"]) == ("0 trades", "1 trades in the kline")
    assert Path(str(metadata["data_docs"].value)).exists()


def test_a_single_day_is_recorded_as_that_day(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    result = _run(lake, catalog, instance, first=DAYS[1], last=DAYS[1])

    assert [e.partition for e in result.get_asset_check_evaluations()] == ["2024-03-02"]
    assert _statuses(instance) == {"SUCCEEDED": {"2024-03-02"}}


def test_checks_of_marts_read_the_warehouse_and_leave_it_free(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    path = _warehouse(lake)

    result = _run_all(lake, catalog, instance, path, "2024-03-02")

    assert result.success
    assert {e.check_name: e.passed for e in result.get_asset_check_evaluations()} == {
        suite.name: True for suite in SUITES
    }
    duckdb.connect(path, config={"threads": 1}).close()


@pytest.mark.parametrize(
    ("usdt", "bps", "blocks"),
    [("0.98", "0", False), ("1", "100", True), ("0.98", "100", True)],
)
def test_a_market_event_is_told_and_only_a_wrong_number_blocks(
    usdt: str,
    bps: str,
    blocks: bool,
    lake: Lake,
    *,
    catalog: Catalog,
    instance: dg.DagsterInstance,
) -> None:
    path = _warehouse(lake)
    with duckdb.connect(path) as connection:
        connection.execute(f"update markets.index_prices_1m set price_usd = {usdt}")
        connection.execute(
            f"update markets.venue_deviations_1m set deviation_bps = {bps} where venue = 'kraken'"
        )

    result = _run_all(lake, catalog, instance, path, "2024-03-02")

    assert result.success != blocks
    assert bool(result.asset_materializations_for_node("built_on_deviations")) != blocks
    assert {
        e.check_name: e.severity.value for e in result.get_asset_check_evaluations() if not e.passed
    } == ({"venues_agree": "ERROR"} if blocks else {}) | (
        {"index_is_plausible": "WARN"} if usdt != "1" else {}
    )
    for evaluation in result.get_asset_check_evaluations():
        if evaluation.check_name == "index_is_plausible" and usdt != "1":
            claims = [r.data for r in evaluation.metadata["claims"].value.records]  # type: ignore[union-attr]
            assert [claim["holds"] for claim in claims] == ["NO (WARN)", "yes"]


def test_every_suite_is_a_partitioned_check_of_its_asset(lake: Lake, catalog: Catalog) -> None:
    specs = {
        spec.name: (spec.asset_key.to_user_string(), spec.blocking, spec.partitions_def)
        for check in build_checks(lake, catalog, PARTITIONS)
        for spec in check.check_specs
    }

    # Whether a day blocks what is built on it depends on the claims that it breaks.
    assert specs == {s.name: (s.asset, True, PARTITIONS) for s in SUITES}
    assert len(specs) == len(SUITES)


def test_suites_of_decoded_ranges_are_checks_of_their_chain_and_guard_its_days(
    lake: Lake,
) -> None:
    ranges = dg.DynamicPartitionsDefinition(name="ethereum_ranges")
    specs = {
        spec.name: spec
        for check in build_mart_checks(lake, ETHEREUM, [ETHEREUM, OTHER], ranges)
        for spec in check.check_specs
    }

    assert tuple(specs) == mart_guards_of(ETHEREUM)
    for name, spec in specs.items():
        assert name.startswith("ethereum_"), name
        assert spec.asset_key.path[-1] == "ethereum", name
        assert (spec.blocking, spec.partitions_def) == (True, ranges), name
    # Of two chains none stands for the other.
    assert not set(mart_guards_of(ETHEREUM)) & set(mart_guards_of(OTHER))
    assert not set(mart_guards_of(ETHEREUM)) & set(guards_of(ETHEREUM))


def test_kept_results_are_what_raw_check_results_shows(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    with duckdb.connect() as connection:
        attach_raw_views(connection, lake)
        assert connection.execute("from raw.check_results").fetchall() == []
        run = _run(lake, catalog, instance, first=DAYS[0], last=DAYS[0])
        attach_raw_views(connection, lake)
        found = connection.execute(
            "select distinct suite, asset, partition, passed, run_id from raw.check_results"
        )
        assert found.fetchall() == [
            ("trades_are_complete", "raw/binance_trades", "2024-03-01", True, run.run_id)
        ]


def _warehouse(lake: Lake) -> Path:
    """warehouse.duckdb with every relation that a suite reads, over the days of the lake."""
    path = lake.home / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        attach_raw_views(connection, lake)
        connection.execute("""
            create schema markets;
            create schema staging;

            create table markets.ohlcv_1m as
            select
                'binance' as venue, market, open_time as opened_at, open, high, low, close, volume,
                quote_volume::decimal(38, 20) as quote_volume, open as vwap, count as trade_count,
                taker_buy_volume,
                taker_buy_quote_volume::decimal(38, 20) as taker_buy_quote_volume,
                1 as first_trade_id, 1 as last_trade_id,
            from raw.binance_klines;

            create table markets.ohlcv_1d as
            select venue, market, opened_at::date::timestamp as opened_at, sum(volume) as volume,
                sum(trade_count)::bigint as trade_count,
            from markets.ohlcv_1m
            group by all;

            create table markets.venue_deviations_1m as
            select
                unnest(['binance', 'coinbase', 'kraken']) as venue, 'USDT-USD' as market,
                'USDT' as asset, timestamp '2024-03-02' + to_minutes(n) as opened_at,
                1::decimal(28, 12) as price_usd, 0::decimal(18, 4) as deviation_bps,
            from range(60) as r(n);

            create table markets.index_prices_1m as
            select distinct asset, opened_at, price_usd from markets.venue_deviations_1m;

            create table staging.stg_ccxt__candles (
                venue varchar, market varchar, opened_at timestamp, open decimal(38, 18),
                high decimal(38, 18), low decimal(38, 18), close decimal(38, 18),
                volume decimal(38, 24)
            )
        """)
    return path


def _run_all(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance, path: Path, day: str
) -> dg.ExecuteInProcessResult:
    """Runs all checks but that of Binance's trades, and an asset that is built on deviations."""

    def mart(name: str) -> dg.AssetsDefinition:
        @dg.asset(key=["markets", name], partitions_def=PARTITIONS)
        def built() -> None: ...

        return built

    @dg.asset(deps=[["markets", "venue_deviations_1m"]], partitions_def=PARTITIONS)
    def built_on_deviations() -> None: ...

    definitions = dg.Definitions(
        assets=[
            *map(mart, ("ohlcv_1m", "ohlcv_1d", "venue_deviations_1m", "index_prices_1m")),
            built_on_deviations,
        ],
        asset_checks=build_checks(lake, catalog, PARTITIONS),
        resources={"warehouse": DuckDBResource(database=str(path))},
    )
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key=day, raise_on_error=False
    )


def _statuses(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """Days by what the UI shows of them."""
    state = bulk_update_asset_check_state(
        instance, [(CHECK, PARTITIONS)], {CHECK: AssetCheckState.empty()}
    )[CHECK]
    days = {
        status.value: set(subset.subset_value.get_partition_keys())
        for status, subset in state.subsets.items()
    }
    return {status: keys for status, keys in days.items() if keys}


def _kept(lake: Lake) -> set[str]:
    files = (lake.check_results / "trades_are_complete").iterdir()
    return {path.stem.removeprefix("date=") for path in files}


def _commit_trades(lake: Lake, day: date, *, first_id: int) -> None:
    start = datetime(day.year, day.month, day.day)
    rows = [
        {
            "id": first_id + minute,
            "price": Decimal("42000.12345678"),
            "qty": Decimal("0.00100000"),
            "quote_qty": Decimal("42.00012345"),
            "time": start + timedelta(minutes=minute, seconds=30),
            "is_buyer_maker": False,
            "is_best_match": True,
        }
        for minute in range(5)
    ]
    _commit(lake, TRADES, day, rows)


def _commit_klines(lake: Lake, dataset: Dataset, day: date, *, minutes: int) -> None:
    start = datetime(day.year, day.month, day.day)
    rows = [
        {
            "open_time": start + timedelta(minutes=minute),
            **dict.fromkeys(("open", "high", "low", "close"), Decimal("42000.12345678")),
            "volume": Decimal("0.00100000"),
            "close_time": start + timedelta(minutes=minute, seconds=59, microseconds=999000),
            "quote_volume": Decimal("42.00012345"),
            "count": 1,
            "taker_buy_volume": Decimal("0.00100000"),
            "taker_buy_quote_volume": Decimal("42.00012345"),
        }
        for minute in range(minutes)
    ]
    _commit(lake, dataset, day, rows)


def _commit(lake: Lake, dataset: Dataset, day: date, rows: list[dict[str, Any]]) -> None:
    part = MarketDay(dataset.name, "BTC-USDT", day)
    lake.inflight(part).mkdir(parents=True)
    with PartitionWriter(lake, dataset, part) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, schema=dataset.schema))
        writer.commit(status="complete", source_row_count=len(rows), source=(), checks={})
