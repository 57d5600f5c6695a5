with

source as (

    {{ aave_v3_logs('aave_v3_withdraw') }}

),

renamed as (

    select
        {{ lending_event_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as reserve_address,
        {{ word_to_address(topic_word('topic2')) }} as user_address,
        {{ word_to_address(topic_word('topic3')) }} as recipient,
        {{ word_to_amount(word('data', 0)) }} as amount_raw,
        {{ word_overflow(word('data', 0)) }} as amount_overflow,
    from source

)

select * from renamed
