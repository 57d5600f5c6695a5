{{ config(event_time='started_at') }}

with

proofs as (

    select * from {{ ref('stg_lake__proofs') }}
    where venue in ('{{ var("venues") | join("', '") }}') and {{ in_window('day') }}

),

market_days as (

    select distinct venue, market, day from proofs

),

trades_proofs as (

    select * from proofs where dataset = venue || '_trades'

),

-- What the venue's own candles say about the market. What they say about themselves (a candle that
-- Coinbase publishes for no quiet minute, minutes that Kraken no longer has) explains no trades, and
-- what Binance's REST says of a day its archive has said already.
declared_gaps as (

    select *
    from (
        select venue, market, day, unnest(gaps, recursive := true)
        from proofs
        where dataset not in (venue || '_trades', 'binance_rest_klines')
    )
    where reason in ('venue_halt', 'not_listed')

),

candles as (

    select venue, market, opened_at, opened_at::date as day
    from {{ ref('ohlcv_1m') }}
    where {{ in_window('opened_at') }}

),

candle_counts as (

    select venue, market, day, count(*) as candle_count from candles group by all

),

incomplete_days as (

    select market_days.*
    from market_days
    left join candle_counts using (venue, market, day)
    where coalesce(candle_count, 0) < 1440

),

minutes as (

    select venue, market, day, day + to_minutes(minute_of_day) as opened_at
    from incomplete_days, range(1440) as grid (minute_of_day)

),

missing_minutes as (

    select minutes.* from minutes anti join candles using (venue, market, opened_at)

),

explained as (

    select
        missing.venue,
        missing.market,
        missing.day,
        missing.opened_at,
        case
            when declared.reason is not null then declared.reason
            when proof.status in ('complete', 'empty') then 'no_trades'
            when proof.status = 'not_listed' then 'not_listed'
            when proof.status is null then 'source_missing'
            else error('gaps: unknown status of a proof: ' || proof.status)
        end as reason,
        case
            when declared.reason is not null then declared.evidence
            when proof.status is null then 'no proof of ' || missing.venue || '_trades for this day'
            else
                proof.dataset || ' is ' || proof.status || ' with ' || proof.row_count
                || ' rows, digest ' || proof.content_digest
        end as evidence,
    from missing_minutes as missing
    left join declared_gaps as declared
        on missing.venue = declared.venue
        and missing.market = declared.market
        and missing.day = declared.day
        and missing.opened_at >= declared.started_at
        and missing.opened_at < declared.ended_at
    left join trades_proofs as proof
        on missing.venue = proof.venue
        and missing.market = proof.market
        and missing.day = proof.day

),

-- Minutes in a row with one reason share the same difference to their running number.
stretches as (

    select
        *,
        opened_at - to_minutes(
            row_number() over (
                partition by venue, market, day, reason, evidence order by opened_at
            )
        ) as stretch,
    from explained

),

final as (

    select
        venue,
        market,
        venue || '_trades' as dataset,
        day,
        min(opened_at) as started_at,
        max(opened_at) + interval '1 minute' as ended_at,
        count(*) as minutes,
        reason,
        evidence,
    from stretches
    group by venue, market, day, reason, evidence, stretch

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by started_at, venue, market
