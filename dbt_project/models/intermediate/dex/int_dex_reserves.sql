with

syncs as (

    select * from {{ ref('stg_uniswap__v2_syncs') }}
    where {{ in_range() }}

),

sync_logs as (

    {{ logs_of('uniswap_v2_sync', topics=1, words=2) }}
        and {{ in_range() }}

),

-- The words that are too large for an amount. No pair of Uniswap's own has any: it holds less than 2^112.
overflowing as (

    select
        chain,
        block_number,
        log_index,
        {{ word_overflow(word('data', 0)) }} as reserve0_overflow,
        {{ word_overflow(word('data', 1)) }} as reserve1_overflow,
    from sync_logs
    where reserve0_overflow is not null or reserve1_overflow is not null

),

final as (

    select
        syncs.chain,
        syncs.block_range,
        syncs.block_number,
        syncs.block_time,
        syncs.transaction_index,
        syncs.log_index,
        syncs.transaction_hash,
        syncs.contract_address as pool,
        syncs.reserve0_raw,
        syncs.reserve1_raw,
        overflowing.reserve0_overflow,
        overflowing.reserve1_overflow,
    from syncs
    left join overflowing
        on syncs.chain = overflowing.chain
        and syncs.block_number = overflowing.block_number
        and syncs.log_index = overflowing.log_index

)

select * from final
order by block_number, log_index
