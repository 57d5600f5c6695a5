with

source as (

    {{ logs_of('uniswap_v4_swap', topics=3, words=6) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ to_hex('topic1') }} as pool,
        {{ word_to_address(topic_word('topic2')) }} as sender,
        {{ word_to_signed_amount(word('data', 0)) }} as amount0_raw,
        {{ word_signed_overflow(word('data', 0)) }} as amount0_overflow,
        {{ word_to_signed_amount(word('data', 1)) }} as amount1_raw,
        {{ word_signed_overflow(word('data', 1)) }} as amount1_overflow,
        '0x' || {{ word('data', 2) }} as sqrt_price_x96,
        {{ word_to_amount(word('data', 3)) }} as liquidity,
        {{ word_overflow(word('data', 3)) }} as liquidity_overflow,
        try_cast({{ word_to_int128(word('data', 4)) }} as bigint) as tick,
        try_cast({{ word_to_uint128(word('data', 5)) }} as bigint) as fee_pips,
    from source

)

select * from renamed
