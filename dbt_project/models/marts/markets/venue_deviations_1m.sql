{{ config(meta={'lookahead_days': 1}) }}

{%- set currencies = var('quote_currencies') %}
{%- set names = currencies | map(attribute='asset') | list %}

with

-- The day before gives the prices that are carried over midnight.
candles as (

    select
        venue,
        market,
        split_part(market, '-', 1) as asset,
        split_part(market, '-', 2) as quote,
        opened_at,
        vwap as price,
        volume,
    from {{ ref('ohlcv_1m') }}
    where {{ in_window('opened_at', days_before=1) }} and volume > 0

),

currencies_0 as (

    select null::varchar as asset, null::timestamp as opened_at, null::decimal(28, 12) as price_usd
    where false

),

{% for currency in currencies %}
candles_{{ loop.index }} as (

    select * from candles where asset = '{{ currency.asset }}'

),

prices_{{ loop.index }} as (

    {{ usd_prices('candles_' ~ loop.index, 'currencies_' ~ loop.index0, currency.peg_usd) }}

),

-- The currencies priced so far.
currencies_{{ loop.index }} as (

    select * from currencies_{{ loop.index0 }}

    union all

    select distinct asset, opened_at, index_price_usd as price_usd
    from prices_{{ loop.index }}
    where index_price_usd is not null

),
{% endfor %}

other_candles as (

    select * from candles where asset not in ('{{ names | join("', '") }}')

),

other_prices as (

    {{ usd_prices('other_candles', 'currencies_' ~ currencies | length) }}

),

prices as (

    {% for _ in currencies %}
    select * from prices_{{ loop.index }}
    union all
    {% endfor %}
    select * from other_prices

),

final as (

    select
        venue,
        market,
        opened_at,
        asset,
        quote,
        price,
        volume,
        conversion_price_usd,
        conversion_priced_at,
        price_usd,
        reference_price_usd,
        index_price_usd,
        {{ decimal_divide('((price_usd - index_price_usd) * 10000)', 'index_price_usd', 12, 4) }}
            ::decimal(18, 4) as deviation_bps,
        is_contested,
        is_in_index,
    from prices
    where {{ in_window('opened_at') }}

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by opened_at, venue, market
