{{ config(meta={'lookahead_days': 1}) }}

with

candles as (

    select * from {{ ref('ohlcv_1m') }}
    where {{ in_window('opened_at', days_before=1) }}

),

gaps as (

    select * from {{ ref('gaps') }}
    where {{ in_window('started_at', days_before=1) }}

),

quiet_minutes as (

    select
        venue,
        market,
        unnest(generate_series(started_at, ended_at - interval '1 minute', interval '1 minute'))
            as opened_at,
    from gaps
    where reason = 'no_trades' and {{ in_window('started_at') }}

),

-- Stretches after which the last price is no longer known: everything but quiet and halted ones.
breaks as (

    select venue, market, started_at
    from gaps
    where reason not in ('no_trades', 'venue_halt')

),

carried as (

    select
        quiet_minutes.venue,
        quiet_minutes.market,
        quiet_minutes.opened_at,
        candles.opened_at as carried_from,
        candles.close,
    from quiet_minutes
    asof join candles
        on quiet_minutes.venue = candles.venue
        and quiet_minutes.market = candles.market
        and quiet_minutes.opened_at > candles.opened_at
    where quiet_minutes.opened_at <= candles.opened_at + interval '24 hours'

),

filled as (

    select carried.*
    from carried
    asof left join breaks
        on carried.venue = breaks.venue
        and carried.market = breaks.market
        and carried.opened_at >= breaks.started_at
    where breaks.started_at is null or breaks.started_at < carried.carried_from

),

final as (

    select
        venue,
        market,
        opened_at,
        open,
        high,
        low,
        close,
        volume,
        quote_volume,
        vwap,
        trade_count,
        taker_buy_volume,
        taker_buy_quote_volume,
        first_trade_id,
        last_trade_id,
        false as is_filled,
    from candles
    where {{ in_window('opened_at') }}

    union all

    select
        venue,
        market,
        opened_at,
        close as open,
        close as high,
        close as low,
        close,
        0 as volume,
        0 as quote_volume,
        null as vwap,
        0 as trade_count,
        0 as taker_buy_volume,
        0 as taker_buy_quote_volume,
        null as first_trade_id,
        null as last_trade_id,
        true as is_filled,
    from filled

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by opened_at, venue, market
