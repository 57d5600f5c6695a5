with

source as (

    select * from {{ source('raw', 'chain_transactions') }}

),

renamed as (

    select
        chain,
        "range" as block_range,
        block_number,
        transaction_index,
        {{ to_hex('hash') }} as transaction_hash,
        block_timestamp as block_time,
        type as transaction_type,
        {{ to_hex('from_address') }} as from_address,
        {{ to_hex('to_address') }} as to_address,
        nonce,
        value,
        {{ to_hex('value_overflow') }} as value_overflow,
        value_overflow is not null as is_value_overflow,
        gas as gas_limit,
        gas_price,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        {{ to_hex('input') }} as input,
        access_list,
        max_fee_per_blob_gas,
        blob_versioned_hashes,
        authorization_list,
        {{ to_hex('v') }} as v,
        {{ to_hex('r') }} as r,
        {{ to_hex('s') }} as s,
        status,
        {{ to_hex('root') }} as state_root,
        cumulative_gas_used,
        gas_used,
        -- Some nodes leave it out before London, when it was what the transaction offered.
        coalesce(effective_gas_price, gas_price) as effective_gas_price,
        {{ to_hex('contract_address') }} as contract_address,
        log_count,
        blob_gas_used,
        blob_gas_price,
        extra,
    from source

)

select * from renamed
