with

source as (

    {{ aave_v3_logs('aave_v3_deficit_created') }}

),

renamed as (

    select
        {{ lending_event_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as user_address,
        {{ word_to_address(topic_word('topic2')) }} as debt_address,
        {{ word_to_amount(word('data', 0)) }} as amount_raw,
        {{ word_overflow(word('data', 0)) }} as amount_overflow,
    from source

)

select * from renamed
