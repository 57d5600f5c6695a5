with

source as (

    {{ logs_of('uniswap_v3_swap', topics=3, words=5) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as sender,
        {{ word_to_address(topic_word('topic2')) }} as recipient,
        {{ word_to_signed_amount(word('data', 0)) }} as amount0_raw,
        {{ word_signed_overflow(word('data', 0)) }} as amount0_overflow,
        {{ word_to_signed_amount(word('data', 1)) }} as amount1_raw,
        {{ word_signed_overflow(word('data', 1)) }} as amount1_overflow,
        '0x' || {{ word('data', 2) }} as sqrt_price_x96,
        {{ word_to_amount(word('data', 3)) }} as liquidity,
        {{ word_overflow(word('data', 3)) }} as liquidity_overflow,
        try_cast({{ word_to_int128(word('data', 4)) }} as bigint) as tick,
    from source

)

select * from renamed
