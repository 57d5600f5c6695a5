{{ config(event_time='opened_at', meta={'lookahead_days': 1}) }}

with

{{ priced_swaps() }},

-- Reserves after the last swap, deposit or withdrawal of the hour.
reserves as (

    {{ reserves_at_close("date_trunc('hour', block_time)") }}

),

hours as (

    select
        chain,
        pool,
        contract_address,
        protocol,
        project,
        version,
        date_trunc('hour', block_time) as opened_at,
        base_token_address,
        quote_token_address,
        {{ sums_of_swaps() }}
        min(block_number) as first_block_number,
        max(block_number) as last_block_number,
    from priced_swaps
    group by all

),

final as (

    select
        hours.chain,
        hours.pool,
        hours.contract_address,
        hours.project,
        hours.version,
        hours.opened_at,
        hours.base_token_address,
        hours.quote_token_address,
        hours.base_symbol,
        hours.quote_symbol,
        hours.open,
        hours.high,
        hours.low,
        hours.close,
        {{ totals_of_swaps() }}
        hours.at_close.liquidity as liquidity_at_close,
        hours.at_close.liquidity_overflow as liquidity_at_close_overflow,
        {{- columns_of_reserves('hours', 'reserves') }}
        hours.first_block_number,
        hours.last_block_number,
    from hours
    left join reserves
        on hours.protocol = 'uniswap_v2'
        and hours.chain = reserves.chain
        and hours.pool = reserves.pool
        and hours.opened_at = reserves.period

)

select * from final
-- In order of time, so that row groups can be skipped by it.
order by opened_at, chain, pool, contract_address
