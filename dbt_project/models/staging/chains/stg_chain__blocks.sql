with

source as (

    select * from {{ source('raw', 'chain_blocks') }}

),

renamed as (

    select
        chain,
        "range" as block_range,
        number as block_number,
        {{ to_hex('hash') }} as block_hash,
        {{ to_hex('parent_hash') }} as parent_hash,
        timestamp as block_time,
        {{ to_hex('miner') }} as miner,
        gas_limit,
        gas_used,
        base_fee_per_gas,
        difficulty,
        {{ to_hex('difficulty_overflow') }} as difficulty_overflow,
        difficulty_overflow is not null as is_difficulty_overflow,
        size,
        transaction_count,
        log_count,
        uncle_count,
        {{ to_hex('nonce') }} as nonce,
        {{ to_hex('mix_hash') }} as mix_hash,
        {{ to_hex('extra_data') }} as extra_data,
        {{ to_hex('sha3_uncles') }} as sha3_uncles,
        {{ to_hex('state_root') }} as state_root,
        {{ to_hex('transactions_root') }} as transactions_root,
        {{ to_hex('receipts_root') }} as receipts_root,
        {{ to_hex('logs_bloom') }} as logs_bloom,
        {{ to_hex('withdrawals_root') }} as withdrawals_root,
        withdrawal_count,
        blob_gas_used,
        excess_blob_gas,
        {{ to_hex('parent_beacon_block_root') }} as parent_beacon_block_root,
        {{ to_hex('requests_hash') }} as requests_hash,
        extra,
    from source

)

select * from renamed
