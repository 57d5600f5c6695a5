{{ config(materialized='view', tags=['range']) }}

with

swaps as (

    select
        chain,
        block_range,
        block_time,
        block_number,
        log_index,
        transaction_hash,
        pool,
        contract_address,
        project,
        version,
        taker,
        maker,
        transaction_from,
        transaction_to,
        token0_symbol,
        token1_symbol,
        token_bought_address,
        token_sold_address,
        token_bought_amount,
        token_sold_amount,
        token_bought_amount_raw,
        token_sold_amount_raw,
        amount0_in_raw,
        amount1_in_raw,
        amount0_out_raw,
        amount1_out_raw,
        amount_overflow,
        is_amount_overflow,
        fee_pips,
        token_bought_address = token0_address as is_token0_bought,
        token_sold_address = token0_address as is_token0_sold,
    from {{ ref('int_dex_swaps') }}
    where is_genuine and not is_empty

),

valued as (

    {{ swaps_in_usd(
        'swaps',
        [
            'chain', 'block_range', 'block_time', 'block_number', 'log_index', 'transaction_hash',
            'pool', 'contract_address', 'project', 'version',
            'taker', 'maker', 'transaction_from', 'transaction_to',
            'token0_symbol', 'token1_symbol', 'is_token0_bought', 'is_token0_sold',
            'token_bought_address', 'token_sold_address',
            'token_bought_amount', 'token_sold_amount',
            'token_bought_amount_raw', 'token_sold_amount_raw',
            'amount0_in_raw', 'amount1_in_raw', 'amount0_out_raw', 'amount1_out_raw',
            'amount_overflow', 'is_amount_overflow', 'fee_pips',
        ],
        legs=[
            ('bought', 'token_bought_address', 'swaps.token_bought_amount'),
            ('sold', 'token_sold_address', 'swaps.token_sold_amount'),
        ],
    ) }}

),

final as (

    select
        chain as blockchain,
        project,
        version,
        date_trunc('month', block_time)::date as block_month,
        block_time::date as block_date,
        block_time,
        block_number,
        case when is_token0_bought then token0_symbol else token1_symbol end as token_bought_symbol,
        case when is_token0_sold then token0_symbol else token1_symbol end as token_sold_symbol,
        case
            when token_bought_symbol <= token_sold_symbol
                then token_bought_symbol || '-' || token_sold_symbol
            else token_sold_symbol || '-' || token_bought_symbol
        end as token_pair,
        token_bought_amount,
        token_sold_amount,
        token_bought_amount_raw,
        token_sold_amount_raw,
        amount_usd,
        token_bought_address,
        token_sold_address,
        taker,
        maker,
        contract_address as project_contract_address,
        transaction_hash as tx_hash,
        transaction_from as tx_from,
        transaction_to as tx_to,
        log_index as evt_index,
        pool,
        amount0_in_raw,
        amount1_in_raw,
        amount0_out_raw,
        amount1_out_raw,
        amount_overflow,
        is_amount_overflow,
        fee_pips,
        amount_usd_source,
        amount_usd_leg,
        block_range,
    from valued

)

select * from final
