"""Three days of a venue's trades, as the suites over Coinbase and over Kraken read them."""

from __future__ import annotations

BROKEN_DAY = "2024-03-02"


def traded_world(venue: str) -> str:
    """Two markets of a venue: `trades` (of which raw ones are made), raw.proofs, markets.ohlcv_1m.

    Prices have one decimal in the first market and five in the second. A minute has one trade or
    two, or none: from 13:45 to 15:45, and now and then. Each market-day starts with the id after
    the one before it.
    """
    return f"""
    create schema raw;
    create schema markets;

    create table trades as
    select
        market,
        date '2024-03-01' + day::int as date,
        1000 + day * 1440 + nth as id,
        (
            if(market = 'BTC-USD', 62_000 + dice % 1000 * 0.1, 1 + dice % 1000 * 0.00001)
        )::decimal(18, 10) as price,
        (0.00010000 + (dice // 1000 % 90000) * 0.00001)::decimal(28, 8) as size,
        -- Two hours without a trade.
        date + to_microseconds(nth * 55_000_017 + if(nth >= 900, 7_200_000_000, 0)) as time,
        if(dice % 2 = 0, 'buy', 'sell') as side,
    from (
        select *, (hash(market, day, nth) % 1_000_000_000)::bigint as dice
        from unnest(['BTC-USD', 'USDT-USD']) as m(market), range(3) as d(day), range(1440) as n(nth)
    );

    create table raw.proofs as
    select
        '{venue}_trades' as dataset, date::varchar as partition, market, '{venue}' as venue,
        'complete' as status, count(*) as row_count, count(*) as source_row_count,
        min(id) as first_id, max(id) as last_id, 'expected' as id_rule,
    from trades
    group by all;

    create table markets.ohlcv_1m as
    with candle as (
        select
            market, time_bucket(interval '1 minute', time) as opened_at,
            arg_min(price, id)::decimal(28, 12) as open, max(price)::decimal(28, 12) as high,
            min(price)::decimal(28, 12) as low, arg_max(price, id)::decimal(28, 12) as close,
            sum(size)::decimal(38, 12) as volume,
            sum(price * size)::decimal(38, 20) as quote_volume,
            (sum(price * size)::double / sum(size)::double)::decimal(28, 12) as vwap,
            count(*) as trade_count,
        from trades
        group by all
    )
    select '{venue}' as venue, * from candle
    union all
    -- What is not compared.
    select 'elsewhere', * replace (close * 2 as close, volume * 2 as volume) from candle;
    """
