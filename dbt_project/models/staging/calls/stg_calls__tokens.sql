with

source as (

    select * from {{ source('raw', 'chain_calls') }}
    where call in ('symbol()', 'decimals()')

),

answers as (

    select
        chain,
        "range" as block_range,
        {{ to_hex('address') }} as token_address,
        max(status) filter (where call = 'symbol()') as symbol_status,
        max(result) filter (where call = 'symbol()') as symbol_result,
        max(result) filter (where call = 'decimals()') as decimals_result,
    from source
    group by all

),

-- A symbol is an ABI string (the place of its length, its length, its bytes) or, in the earliest
-- tokens, 32 bytes that zeros fill up.
symbol_bytes as (

    select
        *,
        octet_length(symbol_result) as result_length,
        try_cast({{ word_to_uint128(word('symbol_result', 1)) }} as bigint) as string_length,
        case
            when symbol_status is null or result_length = 0 then 'missing'
            when symbol_status = 'disputed' then 'disputed'
            when symbol_status <> 'returned' then 'reverted'
            when result_length = 32 then 'bytes32'
            when
                {{ word_to_uint128(word('symbol_result', 0)) }} = 32
                and string_length <= result_length - 64
                then 'string'
            else 'malformed'
        end as encoding,
        case encoding
            when 'bytes32' then from_hex(regexp_replace(hex(symbol_result), '(00)+$', ''))
            when 'string' then symbol_result[65:64 + least(string_length, 1000)]
        end as bytes,
    from answers

),

symbols as (

    select
        *,
        try(decode(bytes)) as text,
        case
            when bytes is null then encoding
            when octet_length(bytes) = 0 or trim(text) = '' then 'empty'
            when octet_length(bytes) > 64 then 'too_long'
            when text is null then 'not_utf8'
            when regexp_matches(text, '\p{C}') then 'not_printable'
            else encoding
        end as symbol_source,
    from symbol_bytes

),

renamed as (

    select
        chain,
        block_range,
        token_address,
        case when symbol_source in ('string', 'bytes32') then text end as symbol,
        symbol_source,
        case
            when octet_length(decimals_result) = 32
                and {{ word_to_uint128(word('decimals_result', 0)) }} <= 77
                then {{ word_to_uint128(word('decimals_result', 0)) }}::integer
        end as decimals,
    from symbols

)

select * from renamed
