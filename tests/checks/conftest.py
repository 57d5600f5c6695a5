"""Three days of two markets, small but whole: trades, Binance's candles, proofs and our candles.

Prices and sizes have all their digits, minutes are quiet now and then, trading halts for a while
(no kline at all) and each market-day starts with the id after the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import duckdb
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

DAYS = (date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3))

_WORLD = """
    create schema raw;
    create schema markets;

    create table raw.binance_trades as
    with spread as (
        select
            market,
            date '2024-03-01' + day::int as date,
            day * 400 + nth as id,
            hash(market, day, nth) as dice,
            nth,
        from unnest(['BTC-USDT', 'ETH-BTC']) as m(market), range(3) as d(day), range(400) as n(nth)
    )
    select
        market,
        date,
        1000 + id as id,
        (0.05123457 + (dice % 1000)::int * 0.00000001)::decimal(18, 8) as price,
        (0.00010000 + (dice // 1000 % 90000)::int * 0.00001)::decimal(28, 8) as qty,
        (price * qty::decimal(38, 8))::decimal(28, 8) as quote_qty,
        -- 130 s from trade to trade, so that minutes are skipped; none from 10:50 to 12:00.
        date::timestamp + to_microseconds(nth * 130_000_017 + if(nth >= 300, 4_200_000_000, 0))
            as time,
        dice % 2 = 0 as is_buyer_maker,
        true as is_best_match,
    from spread;

    create table raw.binance_klines as
    with candle as (
        select
            market, date, time_bucket(interval '1 minute', time) as open_time,
            arg_min(price, id) as open, max(price) as high, min(price) as low,
            arg_max(price, id) as close, sum(qty) as volume, sum(quote_qty) as quote_volume,
            count(*) as count, coalesce(sum(qty) filter (not is_buyer_maker), 0) as taker,
            coalesce(sum(quote_qty) filter (not is_buyer_maker), 0) as taker_quote,
        from raw.binance_trades
        group by all
    ),
    minute as (
        select market, date, date + to_minutes(n) as open_time
        from (select distinct market, date from raw.binance_trades), range(1440) as r(n)
        where n not between 655 and 715
    )
    select
        market, date, open_time,
        coalesce(open, 0.05)::decimal(18, 8) as open, coalesce(high, 0.05)::decimal(18, 8) as high,
        coalesce(low, 0.05)::decimal(18, 8) as low, coalesce(close, 0.05)::decimal(18, 8) as close,
        coalesce(volume, 0)::decimal(28, 8) as volume,
        open_time + interval '59.999 seconds' as close_time,
        coalesce(quote_volume, 0)::decimal(28, 8) as quote_volume, coalesce(count, 0) as count,
        coalesce(taker, 0)::decimal(28, 8) as taker_buy_volume,
        coalesce(taker_quote, 0)::decimal(28, 8) as taker_buy_quote_volume,
    from minute
    left join candle using (market, date, open_time);

    create table raw.binance_rest_klines as from raw.binance_klines;

    create table raw.proofs as
    select
        'binance_trades' as dataset, date::varchar as partition, market, 'binance' as venue,
        'complete' as status, count(*) as row_count, count(*) as source_row_count,
        min(id) as first_id, max(id) as last_id, 'contiguous' as id_rule,
        0::bigint as gap_count, 0::bigint as duplicate_count,
        []::struct(started_at timestamp, ended_at timestamp, reason varchar, evidence varchar)[]
            as gaps,
    from raw.binance_trades
    group by all
    union all
    select
        unnest(['binance_klines', 'binance_rest_klines']), date::varchar, market, 'binance',
        'complete', count(*), count(*),
        null, null, 'none', 1, 0,
        [{
            'started_at': date + interval '655 minutes', 'ended_at': date + interval '716 minutes',
            'reason': 'venue_halt', 'evidence': 'no kline was emitted',
        }],
    from raw.binance_klines
    group by all;

    create table markets.ohlcv_1m as
    select
        'binance' as venue, market, open_time as opened_at,
        open::decimal(28, 12) as open, high::decimal(28, 12) as high, low::decimal(28, 12) as low,
        close::decimal(28, 12) as close, volume::decimal(38, 12) as volume,
        quote_volume::decimal(38, 20) as quote_volume,
        -- One trade a minute, so the average price is that trade's.
        open::decimal(28, 12) as vwap, count as trade_count,
        taker_buy_volume::decimal(38, 12) as taker_buy_volume,
        taker_buy_quote_volume::decimal(38, 20) as taker_buy_quote_volume,
        first_id as first_trade_id, last_id as last_trade_id,
    from raw.binance_klines
    join (
        select market, time_bucket(interval '1 minute', time) as open_time,
            min(id) as first_id, max(id) as last_id,
        from raw.binance_trades
        group by all
    ) using (market, open_time)
"""


@pytest.fixture
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(_WORLD)
        yield connection


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(
        (
            Listing("binance", "BTC-USDT", "BTCUSDT", date(2020, 1, 1)),
            Listing("binance", "ETH-BTC", "ETHBTC", date(2020, 1, 1)),
        )
    )


@pytest.fixture
def judge(world: duckdb.DuckDBPyConnection, catalog: Catalog) -> Callable[[Suite], SuiteResult]:
    """Evaluates a suite for all days of the world."""
    return lambda suite: evaluate(suite, world, market_days(catalog, DAYS))
