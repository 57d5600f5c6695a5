with

source as (

    {{ logs_of('uniswap_v2_pair_created', topics=3, words=2) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ word_to_address(word('data', 0)) }} as pair,
        {{ word_to_address(topic_word('topic1')) }} as token0_address,
        {{ word_to_address(topic_word('topic2')) }} as token1_address,
    from source

)

select * from renamed
