with

source as (

    {{ logs_of('uniswap_v4_initialize', topics=4, words=5) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ to_hex('topic1') }} as pool,
        {{ word_to_address(topic_word('topic2')) }} as token0_address,
        {{ word_to_address(topic_word('topic3')) }} as token1_address,
        try_cast({{ word_to_uint128(word('data', 0)) }} as bigint) as fee_pips,
        try_cast({{ word_to_int128(word('data', 1)) }} as bigint) as tick_spacing,
        {{ word_to_address(word('data', 2)) }} as hooks_address,
        '0x' || {{ word('data', 3) }} as sqrt_price_x96,
        try_cast({{ word_to_int128(word('data', 4)) }} as bigint) as tick,
    from source

)

select * from renamed
