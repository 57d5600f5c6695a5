{{ config(materialized='view', tags=['range']) }}

with

supply as (

    select * from {{ ref('int_lending_supply') }}

),

prices as (

    select chain, token_address, opened_at, price_usd, source
    from {{ ref('token_prices_1m') }}
    where price_usd is not null

),

final as (

    select
        supply.chain as blockchain,
        supply.project,
        supply.version,
        supply.transaction_type,
        supply.symbol,
        supply.token_address,
        supply.depositor,
        supply.on_behalf_of,
        supply.withdrawn_to,
        supply.liquidator,
        supply.amount,
        supply.amount_raw,
        {{ usd_value('supply.amount', 'prices.price_usd') }} as amount_usd,
        date_trunc('month', supply.block_time)::date as block_month,
        supply.block_time,
        supply.block_number,
        supply.contract_address as project_contract_address,
        supply.transaction_hash as tx_hash,
        supply.log_index as evt_index,
        supply.amount_overflow,
        case when amount_usd is not null then prices.source end as amount_usd_source,
        supply.block_range,
    from supply
    left join prices
        on supply.chain = prices.chain
        and supply.token_address = prices.token_address
        and date_trunc('minute', supply.block_time) = prices.opened_at

)

select * from final
