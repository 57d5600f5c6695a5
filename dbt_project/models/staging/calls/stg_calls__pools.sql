with

source as (

    select * from {{ source('raw', 'chain_calls') }}
    where call in ('token0()', 'token1()', 'factory()', 'fee()')

),

-- An answer of another length than one word is none: the contract is not what its events claim.
words as (

    select
        chain,
        "range" as block_range,
        {{ to_hex('address') }} as contract_address,
        call,
        case when octet_length(result) = 32 then {{ word('result', 0) }} end as answer,
    from source

),

renamed as (

    select
        chain,
        block_range,
        contract_address,
        max({{ word_to_address('answer') }}) filter (where call = 'token0()') as token0_address,
        max({{ word_to_address('answer') }}) filter (where call = 'token1()') as token1_address,
        max({{ word_to_address('answer') }}) filter (where call = 'factory()') as factory_address,
        max(try_cast({{ word_to_uint128('answer') }} as bigint)) filter (where call = 'fee()')
            as fee_pips,
    from words
    group by all

)

select * from renamed
