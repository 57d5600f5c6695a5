with

source as (

    {{ logs_of('uniswap_v2_swap', topics=3, words=4) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as sender,
        {{ word_to_address(topic_word('topic2')) }} as recipient,
        {{ word_to_amount(word('data', 0)) }} as amount0_in_raw,
        {{ word_to_amount(word('data', 1)) }} as amount1_in_raw,
        {{ word_to_amount(word('data', 2)) }} as amount0_out_raw,
        {{ word_to_amount(word('data', 3)) }} as amount1_out_raw,
        {{ overflows([
            word_overflow(word('data', 0)),
            word_overflow(word('data', 1)),
            word_overflow(word('data', 2)),
            word_overflow(word('data', 3)),
        ]) }} as amount_overflow,
    from source

)

select * from renamed
