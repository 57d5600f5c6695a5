{{ config(meta={'dagster': {'ref': {'name': 'gaps'}}}) }}

-- For each market-day with a proof, candles and gaps add up to 1,440 minutes; fails when one of the
-- two tables was rebuilt without the other.
with

market_days as (

    select distinct venue, market, day
    from {{ ref('stg_lake__proofs') }}
    where venue in ('{{ var("venues") | join("', '") }}') and {{ in_window('day') }}

),

candles as (

    select venue, market, opened_at::date as day, count(*) as minutes
    from {{ ref('ohlcv_1m') }}
    where {{ in_window('opened_at') }}
    group by all

),

gaps as (

    select venue, market, day, sum(minutes) as minutes
    from {{ ref('gaps') }}
    where {{ in_window('started_at') }}
    group by all

)

select
    venue,
    market,
    day,
    coalesce(candles.minutes, 0) as candle_minutes,
    coalesce(gaps.minutes, 0) as gap_minutes,
from market_days
left join candles using (venue, market, day)
left join gaps using (venue, market, day)
where candle_minutes + gap_minutes != 1440
