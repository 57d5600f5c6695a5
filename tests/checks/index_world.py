"""Three days of prices in dollars.

Three venues around one path of BTC, two that agree on a USDT that stands still, and one that is
alone with USDC.
"""

from __future__ import annotations

WORLD = """
    create schema markets;
    create schema staging;

    -- Moves of up to 5 bps a minute.
    create table path as
    select
        timestamp '2024-03-01' + to_minutes(n) as opened_at,
        60000 * exp(
            sum((hash(n) % 10001)::bigint * 0.001 - 5) over (order by n)::double / 10000
        ) as price,
    from range(4320) as r(n);

    create table markets.venue_deviations_1m as
    with price as (
        select
            venue, market, opened_at,
            -- Half a basis point to either side.
            (path.price * (1 + ((hash(venue, opened_at) % 10001)::bigint - 5000) * 0.00000001))
                ::decimal(28, 12) as price_usd,
        from path, (values ('binance', 'BTC-USDT'), ('coinbase', 'BTC-USD'), ('kraken', 'BTC-USD'))
            as m(venue, market)
        union all
        select venue, market, opened_at, 1,
        from path, (values ('coinbase', 'USDT-USD'), ('kraken', 'USDT-USD'), ('kraken', 'USDC-USD'))
            as m(venue, market)
    )
    select
        *,
        split_part(market, '-', 1) as asset,
        avg(price_usd) over (partition by asset, opened_at)::decimal(28, 12) as index_price_usd,
        ((price_usd / index_price_usd - 1) * 10000)::decimal(18, 4) as deviation_bps,
    from price;

    create table markets.index_prices_1m as
    select distinct asset, opened_at, index_price_usd as price_usd
    from markets.venue_deviations_1m;

    create table staging.stg_ccxt__candles as
    select
        unnest(['bitstamp', 'okx']) as venue, unnest(['BTC-USD', 'BTC-USDT']) as market, opened_at,
        (price * 0.9999)::decimal(38, 18) as open, (price * 1.0002)::decimal(38, 18) as high,
        (price * 0.9998)::decimal(38, 18) as low, (price * 1.0001)::decimal(38, 18) as close,
        0.5::decimal(38, 24) as volume,
    from path;
"""

BROKEN_DAY = "2024-03-02"
OF_DAY = "opened_at::date = date '2024-03-02'"
AN_HOUR = f"{OF_DAY} and hour(opened_at) = 9"
KRAKEN = "venue = 'kraken' and market = 'BTC-USD'"
SET = f"update markets.venue_deviations_1m set {{}} where {KRAKEN} and {OF_DAY}"
# Clocks are moved within the day, so that no other day is touched.
MOVE = (
    f"delete from markets.venue_deviations_1m where {KRAKEN} and {OF_DAY} and "
    "(opened_at + to_minutes({0}))::date <> date '2024-03-02'; "
    + SET.format("opened_at = opened_at + to_minutes({0})")
)
