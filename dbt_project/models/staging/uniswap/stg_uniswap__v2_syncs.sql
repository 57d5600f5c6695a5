with

source as (

    {{ logs_of('uniswap_v2_sync', topics=1, words=2) }}

),

renamed as (

    select
        {{ log_columns() }}
        {{ word_to_amount(word('data', 0)) }} as reserve0_raw,
        {{ word_to_amount(word('data', 1)) }} as reserve1_raw,
    from source

)

select * from renamed
