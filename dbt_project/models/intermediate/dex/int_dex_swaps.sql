with

-- Amounts of all protocols as the pool sees them: in is what it received.
v2_swaps as (

    select
        * exclude (sender, recipient),
        'uniswap_v2' as protocol,
        contract_address as pool,
        sender,
        recipient,
        recipient as taker,
        contract_address as maker,
        null::bigint as fee_pips,
        null::varchar as sqrt_price_x96,
        null::decimal(38, 0) as liquidity,
        null::varchar as liquidity_overflow,
        null::bigint as tick,
        {{ is_some('amount0_out_raw') }} as is_token0_bought,
        {{ is_some('amount0_in_raw') }} and {{ is_some('amount1_out_raw') }} as is_token0_sold,
    from {{ ref('stg_uniswap__v2_swaps') }}
    where {{ in_range() }}

),

-- The event of V3 has the pool's deltas, that of V4 the swapper's, whatever its interface says.
{%- for version, to_pool, from_pool in [(3, '+', '-'), (4, '-', '+')] %}
v{{ version }}_swaps as (

    select
        * exclude (amount0_raw, amount1_raw, amount0_overflow, amount1_overflow),
        'uniswap_v{{ version }}' as protocol,
        {%- if version == 3 %}
        contract_address as pool,
        recipient as taker,
        contract_address as maker,
        null::bigint as fee_pips,
        {%- else %}
        null::varchar as recipient,
        sender as taker,
        pool as maker,
        {%- endif %}
        {{ overflows(['amount0_overflow', 'amount1_overflow']) }} as amount_overflow,
        {%- for number in range(2) %}
        {%- for direction, sign in [('in', to_pool), ('out', from_pool)] %}
        {{ one_way('amount%d_raw' % number, 'amount%d_overflow' % number, sign) }}
            as amount{{ number }}_{{ direction }}_raw,
        {%- endfor %}
        {%- endfor %}
        {{ is_some('amount0_out_raw') }}
        or {{ is_some('amount1_in_raw') }} and not {{ is_some('amount1_out_raw') }}
            as is_token0_bought,
        not is_token0_bought as is_token0_sold,
    from {{ ref('stg_uniswap__v%d_swaps' % version) }}
    where {{ in_range() }}

),
{% endfor %}
swaps as (

    select * from v2_swaps
    union all by name
    select * from v3_swaps
    union all by name
    select * from v4_swaps

),

pools as (

    select * from {{ ref('int_dex_pools') }}
    where {{ in_range() }}

),

tokens as (

    select * from {{ ref('int_tokens') }}
    where {{ in_range() }}

),

transactions as (

    select
        chain,
        block_number,
        transaction_index,
        from_address,
        to_address,
    from {{ source('raw', 'chain_transactions') }}
    where {{ in_range() }}

),

joined as (

    select
        swaps.* exclude (fee_pips),
        pools.project,
        pools.version,
        pools.is_genuine and pools.protocol = swaps.protocol as is_genuine,
        pools.token0_address,
        pools.token1_address,
        coalesce(swaps.fee_pips, pools.fee_pips) as fee_pips,
        token0.symbol as token0_symbol,
        token1.symbol as token1_symbol,
        token0.decimals as token0_decimals,
        token1.decimals as token1_decimals,
        {{ to_hex('transactions.from_address') }} as transaction_from,
        {{ to_hex('transactions.to_address') }} as transaction_to,
    from swaps
    left join pools
        on swaps.chain = pools.chain
        and swaps.block_range = pools.block_range
        and swaps.contract_address = pools.contract_address
        and swaps.pool = pools.pool
    left join tokens as token0
        on pools.chain = token0.chain
        and pools.block_range = token0.block_range
        and pools.token0_address = token0.token_address
    left join tokens as token1
        on pools.chain = token1.chain
        and pools.block_range = token1.block_range
        and pools.token1_address = token1.token_address
    left join transactions
        on swaps.chain = transactions.chain
        and swaps.block_number = transactions.block_number
        and swaps.transaction_index = transactions.transaction_index

),

final as (

    select
        chain,
        block_range,
        block_number,
        block_time,
        transaction_index,
        log_index,
        transaction_hash,
        pool,
        contract_address,
        protocol,
        project,
        version,
        is_genuine,
        sender,
        recipient,
        taker,
        maker,
        transaction_from,
        transaction_to,
        token0_address,
        token1_address,
        token0_symbol,
        token1_symbol,
        token0_decimals,
        token1_decimals,
        amount0_in_raw,
        amount1_in_raw,
        amount0_out_raw,
        amount1_out_raw,
        amount_overflow,
        amount_overflow is not null as is_amount_overflow,
        case when is_token0_bought then token0_address else token1_address end
            as token_bought_address,
        case when is_token0_sold then token0_address else token1_address end
            as token_sold_address,
        case when is_token0_bought then amount0_out_raw else amount1_out_raw end
            as token_bought_amount_raw,
        case when is_token0_sold then amount0_in_raw else amount1_in_raw end
            as token_sold_amount_raw,
        {{ to_units(
            'token_bought_amount_raw',
            'case when is_token0_bought then token0_decimals else token1_decimals end'
        ) }} as token_bought_amount,
        {{ to_units(
            'token_sold_amount_raw',
            'case when is_token0_sold then token0_decimals else token1_decimals end'
        ) }} as token_sold_amount,
        fee_pips,
        sqrt_price_x96,
        {{ sqrt_price_to_price('sqrt_price_x96[3:]', 'token0_decimals', 'token1_decimals') }}
            as price_after,
        liquidity,
        liquidity_overflow,
        tick,
        not (
            {{ is_some('amount0_in_raw') }}
            or {{ is_some('amount1_in_raw') }}
            or {{ is_some('amount0_out_raw') }}
            or {{ is_some('amount1_out_raw') }}
        ) as is_empty,
    from joined

)

select * from final
order by block_number, log_index
