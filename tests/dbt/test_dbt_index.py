"""Index, deviations and gaps over candles and trades that were recorded at real venues."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Gap, Warehouse
from real_candles import add_real_candles

from crypto_assets.catalog import Catalog
from crypto_assets.checks.index import SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import SuiteResult, evaluate

INDEX = ("--select", "venue_deviations_1m", "index_prices_1m")
CALM_DAY = date(2023, 3, 2)


@pytest.fixture(scope="module")
def march(
    realdata: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Warehouse:
    """Twelve days of three venues with their index."""
    warehouse = Warehouse(tmp_path_factory.mktemp("march") / "warehouse.duckdb", manifest)
    add_real_candles(warehouse, realdata)
    warehouse.must_build(None, None, *INDEX)
    # No other exchange was recorded.
    warehouse.query(
        """
        create schema if not exists staging;
        create table staging.stg_ccxt__candles as
        select venue, market, opened_at, open, high, low, close, volume from markets.ohlcv_1m
        limit 0
        """
    )
    return warehouse


def judge(warehouse: Warehouse, *days: date) -> dict[str, SuiteResult]:
    """The suites over the index, for some days."""
    with duckdb.connect(warehouse.path) as connection:
        return {
            suite.name: evaluate(suite, connection, market_days(Catalog(()), days))
            for suite in SUITES
        }


# The farthest of 99 in 100 minutes, in bps: measured, and a little room.
AGREEMENT = {
    ("binance", "BTC-USD"): 4,
    ("binance", "BTC-USDC"): 13,
    ("binance", "BTC-USDT"): 4,
    ("coinbase", "BTC-USD"): 3,
    ("coinbase", "BTC-USDT"): 6,
    ("kraken", "BTC-USD"): 6,
    ("kraken", "BTC-USDC"): 15,
    ("kraken", "BTC-USDT"): 9,
}


def test_converted_prices_of_the_venues_agree(march: Warehouse) -> None:
    """Until 9 March, whatever BTC is quoted in."""
    spread = march.query(
        """
        select venue, market, quantile_cont(abs(deviation_bps), 0.99)
        from markets.venue_deviations_1m
        where asset = 'BTC' and opened_at < timestamp '2023-03-10'
        group by venue, market
        """
    )
    assert {(venue, market) for venue, market, _ in spread} == AGREEMENT.keys()
    assert [row for row in spread if row[2] > AGREEMENT[row[:2]]] == []


def test_every_candle_has_a_deviation_or_no_conversion(march: Warehouse) -> None:
    [(candles, rows, priced)] = march.query(
        """
        select (select count(*) from markets.ohlcv_1m), count(*), count(deviation_bps)
        from markets.venue_deviations_1m
        """
    )
    assert rows == candles
    # USDC had not been traded for a quarter of an hour (2), or the only market that was traded was
    # outvoted (78, all of them of USDC in its crisis).
    assert rows - priced == 80
    assert march.query(
        """
        select asset, price_usd is null, count(*) from markets.venue_deviations_1m
        where deviation_bps is null group by all order by all
        """
    ) == [("BTC", True, 2), ("USDC", False, 78)]


def test_an_index_lies_between_the_prices_that_made_it(march: Warehouse) -> None:
    assert march.query(
        """
        select count(*)
        from markets.index_prices_1m as index
        join (
            select asset, opened_at, min(price_usd) as low, max(price_usd) as high
            from markets.venue_deviations_1m where is_in_index group by all
        ) as used using (asset, opened_at)
        where index.price_usd not between low and high
        """
    ) == [(0,)]


def test_the_depeg_shows_and_is_explained_by_usdc_itself(march: Warehouse) -> None:
    """On 11 March BTC cost up to 17 % more USDC than USD; at USDC's own price it did not."""
    [(lowest,)] = march.query(
        """
        select min(price_usd) from markets.index_prices_1m
        where asset = 'USDC' and opened_at::date = date '2023-03-11'
        """
    )
    assert Decimal("0.88") < lowest < Decimal("0.89")
    [(minutes, farthest, taken_for_usd, converted)] = march.query(
        """
        select count(*), max((price - index_price_usd) * 10000 / index_price_usd),
            quantile_cont((price - index_price_usd) * 10000 / index_price_usd, 0.5),
            quantile_cont(abs(deviation_bps), 0.5)
        from markets.venue_deviations_1m
        where venue = 'kraken' and market = 'BTC-USDC' and opened_at::date = date '2023-03-11'
        """
    )
    assert minutes == 1319
    assert farthest > 1700
    assert taken_for_usd > 650
    assert converted < 16
    # The index of BTC never loses its footing.
    assert march.query(
        """
        select bool_or(is_contested), min(venue_count) from markets.index_prices_1m
        where asset = 'BTC' and opened_at >= timestamp '2023-03-10'
        """
    ) == [(False, 2)]


def test_the_depeg_warns_and_does_not_block(march: Warehouse) -> None:
    first = date(2023, 3, 1)
    found = judge(march, *(first + timedelta(days=number) for number in range(12)))

    venues, index = found["venues_agree"], found["index_is_plausible"]
    assert venues.failed == index.failed == ()
    assert venues.warned == ("2023-03-10", "2023-03-11", "2023-03-12")
    assert index.warned == ("2023-03-11", "2023-03-12")
    # It is told of stablecoins and of what is quoted in USDC, and of nothing else.
    assert {key[1] for result in venues.results for key in result.unexpected} == {
        "BTC-USDC", "USDC-USD", "USDC-USDT",
    }  # fmt: skip
    assert {row["claim"] for row in index.offenders} == {"currencies_are_at_their_peg"}
    assert any(row["found"].startswith("median 0.8") for row in index.offenders)


@pytest.mark.parametrize("minutes", [1, -1, 15])
@pytest.mark.parametrize("venue", ["coinbase", "kraken"])
def test_a_clock_that_is_off_blocks_its_venue_alone(
    march: Warehouse, venue: str, minutes: int
) -> None:
    """Binance.US trades too little to outvote a third of the others' moves."""
    march.query("create or replace table kept as from markets.venue_deviations_1m")
    march.query(
        f"update markets.venue_deviations_1m set opened_at = opened_at + to_minutes({minutes}) "
        f"where venue = '{venue}'"
    )
    try:
        result = judge(march, CALM_DAY)["venues_agree"]
    finally:
        march.query("create or replace table markets.venue_deviations_1m as from kept")
    broken = {(claim.claim.name, key[0]) for claim in result.results for key in claim.unexpected}
    assert broken == {("clocks_agree", venue)}
    assert result.failed == (CALM_DAY.isoformat(),)
    expected = f"{minutes} min before" if minutes > 0 else f"{-minutes} min after"
    assert all(row["expected"].endswith(expected) for row in result.offenders)


@pytest.mark.parametrize("venue", ["binance", "coinbase", "kraken"])
def test_a_venue_shifted_by_one_percent_stands_out_alone(march: Warehouse, venue: str) -> None:
    """All of its markets, its stablecoins too."""
    others = f"""
        from markets.venue_deviations_1m
        where opened_at::date = date '{CALM_DAY}' and asset = 'BTC' and venue != '{venue}'
            and quote in ('USD', 'USDT')
    """
    index = f"""
        select opened_at, price_usd from markets.index_prices_1m
        where asset = 'BTC' and opened_at::date = date '{CALM_DAY}' order by opened_at
    """
    shift = f"""
        update markets.ohlcv_1m set vwap = vwap * {{}}
        where venue = '{venue}' and opened_at::date = date '{CALM_DAY}'
    """
    before = march.query(index)
    march.query(f"create or replace table kept as from markets.ohlcv_1m where venue = '{venue}'")
    march.query(shift.format("1.01"))
    try:
        march.must_build(CALM_DAY, CALM_DAY, *INDEX)
        after = march.query(index)
        [(lowest, in_index)] = march.query(
            f"""
            select min(deviation_bps), count(*) filter (where is_in_index)
            from markets.venue_deviations_1m
            where opened_at::date = date '{CALM_DAY}' and asset = 'BTC' and quote = 'USD'
                and venue = '{venue}'
            """
        )
        [(furthest,)] = march.query(f"select max(abs(deviation_bps)) {others}")
        result = judge(march, CALM_DAY)["venues_agree"]
    finally:
        march.query(f"delete from markets.ohlcv_1m where venue = '{venue}'")
        march.query("insert into markets.ohlcv_1m from kept")
        march.must_build(CALM_DAY, CALM_DAY, *INDEX)
    [prices] = [r for r in result.results if r.claim.name == "prices_are_near_the_index"]
    assert result.failed == (CALM_DAY.isoformat(),)
    assert (venue, "BTC-USD", CALM_DAY.isoformat()) in prices.unexpected
    assert {key[0] for key in prices.unexpected} == {venue}
    assert lowest > 80
    assert in_index == 0
    assert furthest < 20
    moved = [
        abs(now / then - 1) * 10_000 for (_, then), (_, now) in zip(before, after, strict=True)
    ]
    assert max(moved) < 10
    assert march.query(index) == before


def test_outages_are_found_to_the_minute(march: Warehouse) -> None:
    """Coinbase on 4 March 2023, four minutes of the 10th, and 47 scattered minutes at Kraken.

    Its candles are no witness of a halt: the venue publishes none for a quiet minute either.
    """
    first, days = date(2023, 3, 1), 12
    for number in range(days):
        day = first + timedelta(days=number)
        midnight = datetime.combine(day, datetime.min.time())
        march.add_proof("coinbase_trades", day, "BTC-USD")
        if day.day == 4:
            missing = Gap(
                midnight.replace(hour=17), midnight.replace(hour=21, minute=37), "no_trades"
            )
            march.add_proof("coinbase_candles", day, "BTC-USD", gaps=[missing])
        march.add_proof("kraken_trades", day, "BTC-USD")
        witness = Gap(midnight, midnight + timedelta(days=1), "source_missing")
        march.add_proof("kraken_ohlc", day, "BTC-USD", gaps=[witness])
    march.must_build(None, None, "--select", "stg_lake__proofs", "gaps")
    found = """
        select {} from quality.gaps
        where dataset = '{}_trades' and market = 'BTC-USD' and reason = 'no_trades'
    """
    assert march.query(
        found.format("started_at, ended_at, minutes", "coinbase") + "and minutes > 5"
    ) == [(datetime(2023, 3, 4, 17, 0), datetime(2023, 3, 4, 21, 37), 277)]
    assert march.query(
        found.format("sum(minutes)", "coinbase") + "and day = date '2023-03-10'"
    ) == [(4,)]
    assert march.query(
        found.format("day, sum(minutes)::int", "kraken")
        + "and day between date '2023-03-05' and date '2023-03-07' group by day order by day"
    ) == [(date(2023, 3, 5), 30), (date(2023, 3, 6), 14), (date(2023, 3, 7), 3)]
    assert march.query("select distinct reason from quality.gaps") == [("no_trades",)]


def test_kraken_candles_from_trades_equal_its_own(realdata: Path, warehouse: Warehouse) -> None:
    """As recorded on 2025-11-10: every minute that the trades cover from end to end."""
    market = "BTC-USDT"
    trades = _kraken(realdata / "kraken/rest/Trades_XBTUSDT_2025-11-10.json")
    warehouse.add_rows(
        "kraken_trades",
        (
            {
                "market": market,
                "date": at.date(),
                "trade_id": trade_id,
                "price": price,
                "volume": volume,
                "time": at,
                "side": side,
            }
            for price, volume, time, side, _, _, trade_id in trades
            for at in [_utc(time)]
        ),
    )
    *candles, _forming = _kraken(realdata / "kraken/rest/OHLC_XBTUSDT_1m_2025-11-10.json")
    names = ("open", "high", "low", "close", "vwap", "volume", "count")
    warehouse.add_rows(
        "kraken_ohlc",
        (
            {
                "market": market,
                "date": at.date(),
                "open_time": at,
                **dict(zip(names, rest, strict=True)),
            }
            for time, *rest in candles
            for at in [_utc(time)]
        ),
    )
    warehouse.must_build(None, None, "--select", "+ohlcv_1m", "stg_kraken__ohlc")
    first, last = _utc(trades[0][2]), _utc(trades[-1][2])
    compared = warehouse.query(
        f"""
        select count(*), count(*) filter (
            where (built.open, built.high, built.low, built.close, built.volume, built.trade_count)
                = (own.open, own.high, own.low, own.close, own.volume, own.trade_count)
            -- The venue prints a tenth of a dollar of its vwap.
            and abs(built.vwap - own.vwap) <= 0.1
        )
        from staging.stg_kraken__ohlc as own
        left join markets.ohlcv_1m as built using (venue, market, opened_at)
        where own.trade_count > 0 and own.opened_at > timestamp '{first}'
            and own.opened_at + interval '1 minute' <= timestamp '{last}'
        """
    )
    assert compared == [(272, 272)]


def _kraken(path: Path) -> list[Any]:
    """The rows of a reply, whatever the pair's name in it."""
    result = json.loads(path.read_text(), parse_float=Decimal)["result"]
    [rows] = [rows for name, rows in result.items() if name != "last"]
    return rows


def _utc(seconds: Decimal | int) -> datetime:
    whole, rest = divmod(Decimal(seconds), 1)
    at = datetime.fromtimestamp(int(whole), UTC).replace(tzinfo=None)
    return at + timedelta(microseconds=int(rest * 1_000_000))
