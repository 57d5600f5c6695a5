{{ config(materialized='view', tags=['range']) }}

with

borrow as (

    select * from {{ ref('int_lending_borrow') }}

),

prices as (

    select chain, token_address, opened_at, price_usd, source
    from {{ ref('token_prices_1m') }}
    where price_usd is not null

),

final as (

    select
        borrow.chain as blockchain,
        borrow.project,
        borrow.version,
        borrow.transaction_type,
        borrow.loan_type,
        borrow.symbol,
        borrow.token_address,
        borrow.borrower,
        borrow.on_behalf_of,
        borrow.repayer,
        borrow.liquidator,
        borrow.amount,
        borrow.amount_raw,
        {{ usd_value('borrow.amount', 'prices.price_usd') }} as amount_usd,
        date_trunc('month', borrow.block_time)::date as block_month,
        borrow.block_time,
        borrow.block_number,
        borrow.contract_address as project_contract_address,
        borrow.transaction_hash as tx_hash,
        borrow.log_index as evt_index,
        borrow.amount_overflow,
        case when amount_usd is not null then prices.source end as amount_usd_source,
        borrow.block_range,
    from borrow
    left join prices
        on borrow.chain = prices.chain
        and borrow.token_address = prices.token_address
        and date_trunc('minute', borrow.block_time) = prices.opened_at

)

select * from final
