with

source as (

    select * from {{ source('raw', 'chain_calls') }}
    where call = 'poolKeys(bytes25)' and octet_length(argument) >= 25 and octet_length(result) = 160

),

renamed as (

    select
        chain,
        "range" as block_range,
        {{ to_hex('address') }} as contract_address,
        {{ to_hex('argument[1:25]') }} as pool_prefix,
        {{ word_to_address(word('result', 0)) }} as token0_address,
        {{ word_to_address(word('result', 1)) }} as token1_address,
        try_cast({{ word_to_uint128(word('result', 2)) }} as bigint) as fee_pips,
        try_cast({{ word_to_int128(word('result', 3)) }} as bigint) as tick_spacing,
        {{ word_to_address(word('result', 4)) }} as hooks_address,
    from source

)

-- A key of zeros is the answer about a pool that the contract has never heard of.
select * from renamed
where tick_spacing <> 0
