"""Candles, gaps and filled minutes against values worked out by hand or in plain Python."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Trade, Warehouse, messages

DAY = date(2024, 1, 1)
MIDNIGHT = datetime.fromisoformat("2024-01-01")
INTERVALS = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
UNIT = Decimal("1e-12")


def some_trades(seed: int, count: int, days: int) -> list[Trade]:
    """Trades in random order, many of them at the same instant."""
    rng = random.Random(seed)
    trades = [
        Trade(
            id=1000 + number,
            market=rng.choice(["BTC-USDT", "ETH-USDT"]),
            at=MIDNIGHT + timedelta(seconds=rng.randrange(0, days * 86_400, 7)),
            price=Decimal(rng.randrange(1, 10**15)).scaleb(-8),
            qty=Decimal(rng.randrange(1, 10**12)).scaleb(-8),
            quote=Decimal(rng.randrange(1, 10**15)).scaleb(-8),
            is_buyer_maker=rng.random() < 0.5,
        )
        for number in range(count)
    ]
    rng.shuffle(trades)
    return trades


def candles(trades: Iterable[Trade], minutes: int) -> list[tuple[Any, ...]]:
    """The candles of `trades`, straight from the definition."""

    def bucket(trade: Trade) -> tuple[str, datetime]:
        return trade.market, trade.at - (trade.at - MIDNIGHT) % timedelta(minutes=minutes)

    rows = []
    ordered = sorted(trades, key=lambda trade: (bucket(trade), trade.at, trade.id))
    for (market, opened_at), group in groupby(ordered, bucket):
        inside = list(group)
        bought = [trade for trade in inside if not trade.is_buyer_maker]
        volume = sum((trade.qty for trade in inside), Decimal(0))
        quote_volume = sum((trade.quote_qty for trade in inside), Decimal(0))
        with localcontext(prec=80):
            vwap = (quote_volume / volume).quantize(UNIT, ROUND_HALF_UP)
        rows.append(
            (
                "binance",
                market,
                opened_at,
                inside[0].price,
                max(trade.price for trade in inside),
                min(trade.price for trade in inside),
                inside[-1].price,
                volume,
                quote_volume,
                vwap,
                len(inside),
                sum(trade.qty for trade in bought),
                sum(trade.quote_qty for trade in bought),
                inside[0].id,
                inside[-1].id,
            )
        )
    return rows


def test_every_interval_equals_a_build_from_trades(warehouse: Warehouse) -> None:
    trades = some_trades(seed=7, count=3000, days=2)
    warehouse.add_trades(trades)
    warehouse.must_build()
    for interval, minutes in INTERVALS.items():
        built = warehouse.query(
            f"select * from markets.ohlcv_{interval} order by market, opened_at"
        )
        assert built == candles(trades, minutes), interval


def test_trades_keep_every_digit(warehouse: Warehouse) -> None:
    trade = Trade(
        id=2**63 - 1,
        at=datetime.fromisoformat("2024-01-01 23:59:59.999999"),
        price=Decimal("9999999999.99999999"),
        qty=Decimal("9999999999999999.99999999"),
        quote=Decimal("999999999999999999.99999999"),
        is_buyer_maker=True,
    )
    warehouse.add_trades([trade])
    warehouse.must_build(None, None, "--select", "+trades")
    assert warehouse.query("select * exclude (venue, market) from markets.trades") == [
        (trade.at, trade.id, trade.price, trade.qty, trade.quote, "sell", DAY)
    ]


def test_a_value_that_does_not_fit_is_an_error(warehouse: Warehouse) -> None:
    too_large = Trade(id=1, at=MIDNIGHT, price=Decimal(1), qty=Decimal(10**16), quote=Decimal(1))
    warehouse.add_trades([too_large])
    warehouse.must_build(None, None, "--select", "+trades")
    with pytest.raises(duckdb.ConversionException, match=r"DECIMAL\(28,12\)"):
        warehouse.query("select * from markets.trades")


def test_a_candle_that_does_not_fit_stops_the_build(warehouse: Warehouse) -> None:
    warehouse.add_trades(
        [Trade(id=1, at=MIDNIGHT, price=Decimal(1), qty=Decimal("1e-8"), quote=Decimal(10**9))]
    )
    result = warehouse.build(None, None, "--select", "+ohlcv_1m")
    assert not result.success
    assert "out of range" in messages(result)
    assert warehouse.query("from duckdb_tables() where table_name = 'ohlcv_1m'") == []


def test_a_float_cannot_enter(warehouse: Warehouse) -> None:
    warehouse.query("alter table raw.binance_trades alter price type double")
    result = warehouse.build(None, None, "--select", "stg_binance__trades")
    assert not result.success
    assert "contract" in messages(result)


# Decimals of the numerator and of the result: vwap, index price, distance in bps.
DIVISIONS = [(20, 12), (24, 12), (12, 4)]


def test_division_is_exact_for_any_sign_and_size(warehouse: Warehouse) -> None:
    calls = [
        f"{{{{ decimal_divide('n', 'd', {scale}, {digits}) }}}}" for scale, digits in DIVISIONS
    ]
    compiled = warehouse.dbt("compile", "--inline", "\n;\n".join(calls))
    expressions = compiled.result[0].node.compiled_code.split(";")  # type: ignore[union-attr, index]
    for (scale, digits), expression in zip(DIVISIONS, expressions, strict=True):
        _check_division(scale, digits, expression)


def _check_division(scale: int, digits: int, expression: str) -> None:
    rng = random.Random(11)
    unit = Decimal(1).scaleb(-digits)
    # With Decimal's usual 28 digits the arguments themselves would be rounded.
    with localcontext(prec=80):
        pairs = [
            (
                Decimal(rng.randrange(10 ** rng.randrange(1, 39))).scaleb(-scale) * sign,
                Decimal(rng.randrange(1, 10 ** rng.randrange(2, 34))).scaleb(-12) * other_sign,
            )
            for sign, other_sign in rng.choices([(1, 1), (1, -1), (-1, 1), (-1, -1)], k=1000)
        ]
        # Exactly half a unit, both ways, and the largest arguments.
        most = Decimal(10**38 - 1).scaleb(-scale)
        pairs += [(unit, Decimal(2)), (-unit, Decimal(2)), (most, Decimal(8 * 10**21))]
        fitting = [
            (n, d, quotient)
            for n, d in pairs
            if abs(quotient := (n / d).quantize(unit, ROUND_HALF_UP)) < 10 ** (28 - digits)
        ]
    assert len(fitting) > 400
    with duckdb.connect() as connection:
        connection.execute(f"create table pair (n decimal(38,{scale}), d decimal(38,12))")
        connection.executemany("insert into pair values (?, ?)", [pair[:2] for pair in fitting])
        assert connection.execute(f"select {expression} from pair").fetchall() == [
            (quotient,) for _, _, quotient in fitting
        ]
        assert connection.execute(
            f"select {expression} from (select 1 as n, 0 as d)"
        ).fetchall() == [(None,)]
        nines = "9" * 26 + "." + "9" * 12
        with pytest.raises(duckdb.OutOfRangeException):
            connection.execute(
                f"select {expression} from (select 1 as n, '{nines}'::decimal(38,12) as d)"
            )


def test_views_work_in_another_file(
    warehouse: Warehouse, manifest: Manifest, tmp_path: Path
) -> None:
    """crypto.duckdb is made of the text of these views: it must not name the warehouse."""
    warehouse.add_trades(some_trades(seed=3, count=20, days=1))
    warehouse.must_build(None, None, "--select", "+trades", "check_results", "stg_binance__klines")
    views = dict(
        warehouse.query(
            "select schema_name || '.' || view_name, sql from duckdb_views() "
            "where not internal and schema_name <> 'raw'"
        )
    )
    assert views.keys() == {
        "markets.trades",
        "quality.check_results",
        "staging.stg_coinbase__trades",
        "staging.stg_kraken__trades",
        "staging.stg_binance__klines",
        "staging.stg_binance__trades",
    }
    built = warehouse.query("from markets.trades order by trade_id")
    with duckdb.connect(tmp_path / "published.duckdb") as published:
        published.execute(f"attach '{warehouse.path}' as w (read_only)")
        for schema in ("raw", "staging", "markets", "quality"):
            published.execute(f"create schema {schema}")
        for table in (
            "binance_trades",
            "binance_klines",
            "coinbase_trades",
            "kraken_trades",
            "check_results",
        ):
            published.execute(f"create table raw.{table} as from w.raw.{table}")
        published.execute("detach w")
        for name in sorted(views, key=lambda name: not name.startswith("staging")):
            published.execute(views[name])
        assert published.execute("from markets.trades order by trade_id").fetchall() == built


def test_a_filter_on_day_reads_one_file(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.add_trades(some_trades(seed=5, count=500, days=10))
    lake = tmp_path / "lake"
    warehouse.query(f"copy raw.binance_trades to '{lake}' (format parquet, partition_by (date))")
    warehouse.query("drop table raw.binance_trades")
    warehouse.query(
        f"""
        create view raw.binance_trades as
        select market, date, * exclude (market, date)
        from read_parquet(
            '{lake}/*/*.parquet', hive_partitioning = true, hive_types = {{'date': date}}
        )
        """
    )
    warehouse.must_build(DAY, DAY, "--select", "+ohlcv_1m", "trades")
    candle_sql = warehouse.dbt(
        "compile", "--select", "ohlcv_1m", "--vars", f'{{"from_day": "{DAY}", "to_day": "{DAY}"}}'
    )
    for sql in (
        f"from markets.trades where day = date '{DAY}'",
        candle_sql.result[0].node.compiled_code,  # type: ignore[union-attr, index]
    ):
        [(_, plan)] = warehouse.query(f"explain analyze {sql}")
        assert "Total Files Read: 1 " in plan
    assert warehouse.query("select distinct opened_at::date from markets.ohlcv_1m") == [(DAY,)]
