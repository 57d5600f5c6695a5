{{ config(meta={'lookahead_days': 1}) }}

with

prices as (

    select * from {{ ref('venue_deviations_1m') }}
    where {{ in_window('opened_at') }}

),

final as (

    select
        asset,
        opened_at,
        -- Rows of an asset and minute have one index.
        any_value(index_price_usd) as price_usd,
        any_value(reference_price_usd) as reference_price_usd,
        any_value(is_contested) as is_contested,
        count(distinct venue) filter (where is_in_index) as venue_count,
        count(*) filter (where is_in_index) as market_count,
        count(*) filter (where not is_in_index and price_usd is not null) as excluded_market_count,
        count(*) filter (where price_usd is null) as unconverted_market_count,
        sum(volume) filter (where is_in_index) as volume,
        coalesce(sum(volume) filter (where is_in_index and quote != 'USD'), 0) as converted_volume,
        min(conversion_priced_at) filter (where is_in_index) as oldest_conversion_at,
    from prices
    group by asset, opened_at
    having any_value(index_price_usd) is not null

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by opened_at, asset
