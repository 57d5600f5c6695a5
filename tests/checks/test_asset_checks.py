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
from dagster._core.storage.asset_check_state import AssetCheckState, bulk_update_asset_check_state
from dagster_duckdb import DuckDBResource

from crypto_assets.catalog import Catalog, Listing, MarketDay
from crypto_assets.checks.asset_checks import SUITES, build_checks
from crypto_assets.lake import Lake, PartitionWriter
from crypto_assets.sources.binance import KLINES, TRADES
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
        _commit_klines(lake, day, minutes=5)
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


def test_a_failing_day_is_the_one_that_fails_and_blocks_what_is_built_on_it(
    lake: Lake, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    _commit_klines(lake, DAYS[1], minutes=6)

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
    path = lake.home / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        attach_raw_views(connection, lake)
        connection.execute("create schema markets")
        connection.execute("""
            create table markets.ohlcv_1m as
            select
                'binance' as venue, market, open_time as opened_at, open, high, low, close, volume,
                quote_volume, open as vwap, count as trade_count, taker_buy_volume,
                taker_buy_quote_volume, 1 as first_trade_id, 1 as last_trade_id,
            from raw.binance_klines
        """)

    @dg.asset(key=["markets", "ohlcv_1m"], partitions_def=PARTITIONS)
    def candles() -> None: ...

    @dg.asset(key=["raw", "binance_klines"], partitions_def=PARTITIONS)
    def klines() -> None: ...

    definitions = dg.Definitions(
        assets=[candles, klines],
        asset_checks=[
            check
            for check in build_checks(lake, catalog, PARTITIONS)
            if {key.asset_key for key in check.check_keys} == {candles.key}
        ],
        resources={"warehouse": DuckDBResource(database=str(path))},
    )
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key="2024-03-02", raise_on_error=False
    )

    assert {e.check_name: e.passed for e in result.get_asset_check_evaluations()} == {
        "candles_agree_with_coinbase": True,
        "candles_are_valid": True,
        "candles_equal_klines": True,
        "candles_equal_kraken": True,
        # Nobody asked REST in this lake.
        "candles_equal_rest": False,
    }
    duckdb.connect(path, config={"threads": 1}).close()


def test_every_suite_is_a_partitioned_check_of_its_asset(lake: Lake, catalog: Catalog) -> None:
    specs = {
        spec.name: (spec.asset_key.to_user_string(), spec.blocking, spec.partitions_def)
        for check in build_checks(lake, catalog, PARTITIONS)
        for spec in check.check_specs
    }

    assert specs == {s.name: (s.asset, True, PARTITIONS) for s in SUITES}


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


def _commit_klines(lake: Lake, day: date, *, minutes: int) -> None:
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
    _commit(lake, KLINES, day, rows)


def _commit(lake: Lake, dataset: Any, day: date, rows: list[dict[str, Any]]) -> None:
    part = MarketDay(dataset.name, "BTC-USDT", day)
    lake.inflight(part).mkdir(parents=True)
    with PartitionWriter(lake, dataset, part) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, schema=dataset.schema))
        writer.commit(status="complete", source_row_count=len(rows), source=(), checks={})
