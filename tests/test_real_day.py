"""A recorded day of Binance, all the way: archives, proofs, dbt, checks, crypto.duckdb."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import dagster as dg
import duckdb
import httpx
from collecting import BTC, House, Shelf, csv_of
from pyarrow import feather

from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog
from crypto_assets.definitions import build_definitions
from crypto_assets.runs import dagster_home, run_range
from crypto_assets.settings import Settings
from crypto_assets.sources.binance import KLINES, TRADES

DAY = date(2019, 10, 11)
MIDNIGHT = 1570752000000
XRP = replace(BTC, market="XRP-ETH", symbol="XRPETH")


def trades_of(recorded: list[dict[str, object]]) -> Iterator[list[str]]:
    """Each recorded aggregate as one trade of the archive, under its own id."""
    for raw in recorded:
        price, size = Decimal(str(raw["p"])), Decimal(str(raw["q"]))
        yield [
            str(raw["a"]),
            f"{price:.8f}",
            f"{size:.8f}",
            f"{price * size:.8f}",
            str(raw["T"]),
            str(raw["m"]),
            str(raw["M"]),
        ]


def klines_of(trades: list[list[str]]) -> Iterator[list[str]]:
    """The candles that a venue of these trades would publish, counted in plain Python."""
    by_minute = {
        minute: list(of_minute)
        for minute, of_minute in groupby(trades, lambda row: (int(row[4]) - MIDNIGHT) // 60_000)
    }
    close = Decimal(trades[0][1])
    for minute in range(1440):
        rows = by_minute.get(minute, [])
        prices = [Decimal(row[1]) for row in rows] or [close]
        bought = [row for row in rows if row[5] == "False"]
        sums = [
            sum((Decimal(row[column]) for row in some), Decimal(0))
            for some, column in ((rows, 2), (rows, 3), (bought, 2), (bought, 3))
        ]
        opened = MIDNIGHT + minute * 60_000
        candle = (prices[0], max(prices), min(prices), prices[-1], sums[0])
        yield [
            str(opened),
            *(f"{value:.8f}" for value in candle),
            str(opened + 59_999),
            f"{sums[1]:.8f}",
            str(len(rows)),
            f"{sums[2]:.8f}",
            f"{sums[3]:.8f}",
            "0",
        ]
        close = prices[-1]


def test_a_recorded_day_comes_through_to_the_candles_beside_it(
    realdata: Path, tmp_path: Path
) -> None:
    folder = realdata / "binance_trades"
    packed = (folder / "XRPETH/2019-10-11_ccxt_with_raw_info.json.gz").read_bytes()
    trades = list(trades_of([trade["info"] for trade in json.loads(gzip.decompress(packed))]))
    klines = list(klines_of(trades))

    def rest(path: str, sent: httpx.QueryParams) -> list[list[int | str]]:
        assert path == "klines"
        return [
            [int(cell) if at in {0, 6, 8} else cell for at, cell in enumerate(row)]
            for row in klines
            if int(row[0]) >= int(sent["startTime"])
        ][: int(sent["limit"])]

    shelf = Shelf(rest).put_csv(TRADES, DAY, csv_of(trades), XRP.symbol)
    shelf.put_csv(KLINES, DAY, csv_of(klines), XRP.symbol)
    settings = Settings(data_dir=tmp_path)
    with House(settings.home) as house:
        collector: Collector = house.collector(shelf, XRP)
        definitions = build_definitions(settings, collector=collector)
        with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
            outcome = run_range(instance, definitions.resolve_job_def("binance"), [DAY])
    assert outcome.is_proven, (outcome.problems, outcome.failed_checks)
    assert collector.catalog == Catalog((XRP,))
    beside = feather.read_table(folder / "XRPETH_1m/2019-10-11.feather").to_pylist()
    # Floats there: the shortest text that reads back as the same float is the number meant.
    expected = [
        tuple(Decimal(repr(candle[name])) for name in ("open", "high", "low", "close", "volume"))
        for candle in beside
    ]
    with duckdb.connect(settings.home / "crypto.duckdb", read_only=True) as connection:
        built = connection.execute(
            "select open, high, low, close, volume from markets.ohlcv_1m order by opened_at"
        ).fetchall()
        assert built == expected
        assert len(built) == 1022
        quiet = connection.execute(
            "select sum(minutes) from quality.gaps where reason = 'no_trades'"
        ).fetchall()
        assert quiet == [(1440 - 1022,)]
        day = connection.execute("select trade_count, volume from markets.ohlcv_1d").fetchall()
        assert day == [(5929, sum((row[4] for row in expected), Decimal(0)))]
