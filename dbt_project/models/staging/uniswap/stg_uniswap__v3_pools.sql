with

source as (

    {{ logs_of('uniswap_v3_pool_created', topics=4, words=2) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ word_to_address(word('data', 1)) }} as pool,
        {{ word_to_address(topic_word('topic1')) }} as token0_address,
        {{ word_to_address(topic_word('topic2')) }} as token1_address,
        try_cast({{ word_to_uint128(topic_word('topic3')) }} as bigint) as fee_pips,
        try_cast({{ word_to_int128(word('data', 0)) }} as bigint) as tick_spacing,
    from source

)

select * from renamed
