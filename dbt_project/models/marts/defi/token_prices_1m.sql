{{ config(event_time='opened_at', meta={'lookahead_days': 1}) }}

with

-- Covered days, of this run and of those before it: the day before may carry its prices over, and
-- the day after is built again with them.
covered_days as (

    select chain, day
    from {{ ref('blocks_daily') }}
    where {{ in_window('day', days_before=1) }}

),

trusted_tokens as (

    {{ listed_tokens() }}

),

-- Where two venues contradict each other there is a price, but nobody knows which.
index_prices as (

    select asset, opened_at, price_usd, venue_count
    from {{ source('raw', 'published_index_prices_1m') }}
    where {{ in_window('opened_at', days_before=1) }} and not is_contested and price_usd > 0

),

trusted_minutes as (

    select
        trusted_tokens.*,
        covered_days.day,
        unnest(
            generate_series(
                covered_days.day::timestamp,
                covered_days.day::timestamp + interval '1439 minutes',
                interval '1 minute'
            )
        ) as opened_at,
    from trusted_tokens
    join covered_days on trusted_tokens.chain = covered_days.chain

),

index_minutes as (

    select
        trusted_minutes.chain,
        trusted_minutes.token_address,
        trusted_minutes.symbol,
        trusted_minutes.asset,
        trusted_minutes.day,
        trusted_minutes.opened_at,
        index_prices.opened_at as priced_at,
        index_prices.price_usd,
        index_prices.venue_count,
    from trusted_minutes
    asof join index_prices
        on trusted_minutes.asset = index_prices.asset
        and trusted_minutes.opened_at >= index_prices.opened_at
    where
        trusted_minutes.opened_at
        <= index_prices.opened_at + interval '{{ var("index_price_max_minutes") }} minutes'

),

{{ dex_price_ctes() }},

-- A price of a pool stands until the next one, at most for so long, and over covered days only.
dex_bounded as (

    select
        *,
        least(
            lead(priced_at) over (partition by chain, token_address order by priced_at)
                - interval '1 minute',
            priced_at + interval '{{ var("dex_price_max_minutes") }} minutes'
        ) as carried_to,
    from dex_prices

),

dex_minutes as (

    select
        dex_bounded.* exclude (carried_to),
        unnest(generate_series(priced_at, carried_to, interval '1 minute')) as opened_at,
    from dex_bounded

),

trusted_prices as (

    select
        trusted_minutes.chain,
        trusted_minutes.token_address,
        trusted_minutes.symbol,
        trusted_minutes.opened_at,
        coalesce(index_minutes.price_usd, dex_minutes.price_usd) as price_usd,
        case
            when index_minutes.price_usd is not null then 'venue_index'
            when dex_minutes.price_usd is not null then 'dex_pool'
        end as source,
        case source
            when 'venue_index' then index_minutes.asset
            when 'dex_pool' then dex_minutes.pool
        end as source_detail,
        case when source = 'dex_pool' then dex_minutes.reference_token_address end
            as reference_token_address,
        coalesce(index_minutes.priced_at, dex_minutes.priced_at) as priced_at,
        index_minutes.venue_count,
        case when source = 'dex_pool' then dex_minutes.liquidity_usd end as liquidity_usd,
        case when source = 'dex_pool' then dex_minutes.turnover_usd end as turnover_usd,
        case
            when source is not null then null
            when trusted_minutes.asset is not null then 'no_index_price'
            when
                refusals.refused_at
                >= trusted_minutes.opened_at
                - interval '{{ var("dex_price_max_minutes") }} minutes'
                then 'pool_refused'
            else 'no_pool_price'
        end as unpriced_reason,
    from trusted_minutes
    left join index_minutes using (chain, token_address, opened_at)
    left join dex_minutes using (chain, token_address, opened_at)
    asof left join refusals
        on trusted_minutes.chain = refusals.chain
        and trusted_minutes.token_address = refusals.token_address
        and trusted_minutes.opened_at >= refusals.refused_at

),

other_prices as (

    select
        dex_minutes.chain,
        dex_minutes.token_address,
        dex_minutes.symbol,
        dex_minutes.opened_at,
        dex_minutes.price_usd,
        'dex_pool' as source,
        dex_minutes.pool as source_detail,
        dex_minutes.reference_token_address,
        dex_minutes.priced_at,
        null::bigint as venue_count,
        dex_minutes.liquidity_usd,
        dex_minutes.turnover_usd,
        null::varchar as unpriced_reason,
    from dex_minutes
    join covered_days
        on dex_minutes.chain = covered_days.chain
        and dex_minutes.opened_at::date = covered_days.day
    anti join trusted_tokens
        on dex_minutes.chain = trusted_tokens.chain
        and dex_minutes.token_address = trusted_tokens.token_address

),

prices as (

    select * from trusted_prices
    union all
    select * from other_prices

),

final as (

    select
        chain,
        token_address,
        symbol,
        opened_at,
        price_usd,
        source,
        source_detail,
        reference_token_address,
        priced_at,
        date_diff('minute', priced_at, opened_at) as age_minutes,
        venue_count,
        liquidity_usd,
        turnover_usd,
        unpriced_reason,
    from prices
    where {{ in_window('opened_at') }}

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by opened_at, chain, token_address
