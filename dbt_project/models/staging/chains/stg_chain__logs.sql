with

source as (

    select * from {{ source('raw', 'chain_logs') }}

),

renamed as (

    select
        chain,
        "range" as block_range,
        block_number,
        log_index,
        block_timestamp as block_time,
        transaction_index,
        {{ to_hex('transaction_hash') }} as transaction_hash,
        {{ to_hex('address') }} as address,
        {{ to_hex('topic0') }} as topic0,
        {{ to_hex('topic1') }} as topic1,
        {{ to_hex('topic2') }} as topic2,
        {{ to_hex('topic3') }} as topic3,
        {{ to_hex('data') }} as data,
    from source

)

select * from renamed
