with

source as (

    {{ aave_v3_logs('aave_v3_borrow') }}

),

renamed as (

    select
        {{ lending_event_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as reserve_address,
        {{ word_to_address(word('data', 0)) }} as user_address,
        {{ word_to_address(topic_word('topic2')) }} as on_behalf_of,
        {{ word_to_amount(word('data', 1)) }} as amount_raw,
        {{ word_overflow(word('data', 1)) }} as amount_overflow,
        try_cast({{ word_to_amount(word('data', 2)) }} as integer) as interest_rate_mode,
        {{ word_to_amount(word('data', 3)) }} as borrow_rate_ray,
        try_cast({{ word_to_amount(topic_word('topic3')) }} as integer) as referral_code,
    from source

)

select * from renamed
