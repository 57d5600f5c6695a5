{{ config(event_time='day', meta={'lookahead_days': 1}) }}

with

{{ priced_swaps() }},

-- Reserves after the last swap, deposit or withdrawal of the day.
reserves as (

    {{ reserves_at_close('block_time::date') }}

),

days as (

    select
        chain,
        pool,
        contract_address,
        protocol,
        project,
        version,
        block_time::date as day,
        base_token_address,
        quote_token_address,
        {{ sums_of_swaps() }}
    from priced_swaps
    group by all

),

final as (

    select
        days.chain,
        days.pool,
        days.contract_address,
        days.project,
        days.version,
        days.day,
        days.base_token_address,
        days.quote_token_address,
        days.base_symbol,
        days.quote_symbol,
        days.open,
        days.high,
        days.low,
        days.close,
        {{ totals_of_swaps() }}
        days.at_close.liquidity as liquidity_at_close,
        days.at_close.liquidity_overflow as liquidity_at_close_overflow,
        days.at_close.tick as tick_at_close,
        days.at_close.sqrt_price_x96 as sqrt_price_x96_at_close,
        days.at_close.price as pool_price_at_close,
        {{- columns_of_reserves('days', 'reserves') }}
    from days
    left join reserves
        on days.protocol = 'uniswap_v2'
        and days.chain = reserves.chain
        and days.pool = reserves.pool
        and days.day = reserves.period

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by day, chain, pool, contract_address
