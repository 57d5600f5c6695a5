"""Rebuilding days: any order, any number of times, after any change of the raw data."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Gap, Trade, Warehouse, messages

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
MARTS = [
    *(f"markets.ohlcv_{interval}" for interval in ("1m", "5m", "15m", "1h", "4h", "1d")),
    "markets.ohlcv_1m_filled",
    "markets.venue_deviations_1m",
    "markets.index_prices_1m",
    "quality.gaps",
]


def at(day: date, time: str) -> datetime:
    return datetime.fromisoformat(f"{day} {time}")


def add_day(warehouse: Warehouse, day: date) -> None:
    """Two thin markets that halt at noon; ETH's trades of the second day are missing.

    What BTC is quoted in has its price before midnight, and BTC a trade right after.
    """
    rng = random.Random(day.toordinal())
    warehouse.add_rows(
        "coinbase_trades",
        [
            {
                "market": "USDT-USD",
                "date": day,
                "trade_id": day.toordinal(),
                "side": "buy",
                "size": 1,
                "price": Decimal(rng.randrange(9990, 10_010)).scaleb(-4),
                "time": at(day, "23:55:00"),
            }
        ],
    )
    warehouse.add_proof("coinbase_trades", day, "USDT-USD")
    for market, count in (("BTC-USDT", 40), ("ETH-USDT", 8)):
        halt = Gap(at(day, "12:00"), at(day, "13:00"), "venue_halt")
        warehouse.add_proof("binance_klines", day, market, gaps=[halt])
        if (market, day) == ("ETH-USDT", DAYS[1]):
            continue
        warehouse.add_proof("binance_trades", day, market)
        times = [at(day, "00:00") + timedelta(seconds=rng.randrange(86_400)) for _ in range(count)]
        times.append(at(day, "00:05"))
        warehouse.add_trades(
            Trade(
                id=day.toordinal() * 1000 + number,
                at=time,
                price=Decimal(rng.randrange(1, 10**9)).scaleb(-2),
                qty=Decimal(rng.randrange(1, 10**9)).scaleb(-8),
                market=market,
                quote=Decimal(rng.randrange(1, 10**9)).scaleb(-8),
            )
            for number, time in enumerate(time for time in times if time.hour != 12)
        )


def marts(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in one order."""
    return {mart: warehouse.query(f"select * from {mart} order by all") for mart in MARTS}


@pytest.fixture
def new_warehouse(manifest: Manifest, tmp_path: Path) -> Callable[[str], Warehouse]:
    return lambda name: Warehouse(tmp_path / name / "warehouse.duckdb", manifest)


def test_days_give_the_same_marts_in_any_order(new_warehouse: Callable[[str], Warehouse]) -> None:
    whole = new_warehouse("whole")
    for day in DAYS:
        add_day(whole, day)
    whole.must_build()
    expected = marts(whole)
    carried_over_midnight = whole.query(
        f"""
        select count(*) from markets.ohlcv_1m_filled
        where is_filled and venue = 'binance'
            and opened_at in (timestamp '{DAYS[1]}', timestamp '{DAYS[2]}')
        """
    )
    assert carried_over_midnight == [(2,)]
    converted_over_midnight = whole.query(
        f"""
        select count(*) from markets.venue_deviations_1m
        where conversion_priced_at::date < opened_at::date and market = 'BTC-USDT'
            and opened_at in (timestamp '{DAYS[1]} 00:05:00', timestamp '{DAYS[2]} 00:05:00')
        """
    )
    assert converted_over_midnight == [(2,)]

    for order in ([2, 1, 0], [1, 2, 0]):
        warehouse = new_warehouse(str(order))
        for number in order:
            add_day(warehouse, DAYS[number])
            warehouse.must_build(DAYS[number])
        assert marts(warehouse) == expected, order


def test_building_again_changes_nothing(warehouse: Warehouse) -> None:
    for day in DAYS[:2]:
        add_day(warehouse, day)
    warehouse.must_build()
    before = marts(warehouse)
    warehouse.must_build(DAYS[0])
    assert marts(warehouse) == before


def test_a_day_that_lost_its_rows_is_emptied(warehouse: Warehouse) -> None:
    for day in DAYS[:2]:
        add_day(warehouse, day)
    warehouse.must_build()
    warehouse.query(f"delete from raw.binance_trades where date = date '{DAYS[0]}'")
    warehouse.query(f"delete from raw.coinbase_trades where date = date '{DAYS[0]}'")
    warehouse.query(f"delete from raw.proofs where partition = '{DAYS[0]}'")
    warehouse.must_build(DAYS[0])
    after = marts(warehouse)
    for mart in MARTS:
        column = "started_at" if mart == "quality.gaps" else "opened_at"
        assert warehouse.query(f"select distinct {column}::date from {mart}") == [(DAYS[1],)]
    # The first minutes of the next day have no price to carry any more, as if built from nothing;
    # a full refresh ignores the window, or it would drop every other day.
    warehouse.must_build(DAYS[0], DAYS[0], "--full-refresh")
    assert marts(warehouse) == after


def test_a_failed_day_keeps_its_rows(warehouse: Warehouse) -> None:
    """The new rows break a constraint when they are inserted: the delete is undone with them."""
    add_day(warehouse, FIRST)
    warehouse.must_build()
    before = marts(warehouse)
    warehouse.query("update raw.binance_trades set quote_qty = null")
    result = warehouse.build(FIRST)
    assert not result.success
    assert "NOT NULL constraint failed: ohlcv_1m.quote_volume" in messages(result)
    assert marts(warehouse) == before


def test_a_locked_file_is_waited_for_and_freed(warehouse: Warehouse) -> None:
    hold = (
        "import duckdb, sys, time; held = duckdb.connect(sys.argv[1]);"
        " print('held', flush=True); time.sleep(1.5)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(warehouse.path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        warehouse.must_build(None, None, "--select", "check_results")
    write = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table t (i int)')"
    subprocess.run([sys.executable, "-c", write, str(warehouse.path)], check=True, timeout=30)


def test_each_dbt_test_fails_for_its_reason(warehouse: Warehouse) -> None:
    add_day(warehouse, FIRST)
    result = warehouse.build(FIRST, FIRST, command="build")
    assert result.success, messages(result)

    def failing() -> set[str]:
        outcome = warehouse.build(
            FIRST, FIRST, "--exclude-resource-type", "unit_test", command="test"
        )
        return {run.node.name for run in outcome.result if run.status == "fail"}  # type: ignore[union-attr]

    assert failing() == set()
    warehouse.query("insert into markets.ohlcv_1d from markets.ohlcv_1d limit 1")
    warehouse.query("update quality.gaps set reason = 'lunch' where reason = 'venue_halt'")
    warehouse.query("delete from markets.ohlcv_1m where market = 'ETH-USDT'")
    names = failing()
    assert {name.partition("__")[0] for name in names} == {
        "unique_combination_ohlcv_1d_venue",
        "accepted_values_gaps_reason",
        "every_minute_is_a_candle_or_a_gap",
    }

    other_day = FIRST + timedelta(days=1)
    assert warehouse.build(
        other_day, other_day, "--exclude-resource-type", "unit_test", command="test"
    ).success
