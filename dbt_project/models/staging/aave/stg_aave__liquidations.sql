with

source as (

    {{ aave_v3_logs('aave_v3_liquidation_call') }}

),

renamed as (

    select
        {{ lending_event_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as collateral_address,
        {{ word_to_address(topic_word('topic2')) }} as debt_address,
        {{ word_to_address(topic_word('topic3')) }} as user_address,
        {{ word_to_amount(word('data', 0)) }} as debt_to_cover_raw,
        {{ word_overflow(word('data', 0)) }} as debt_to_cover_overflow,
        {{ word_to_amount(word('data', 1)) }} as liquidated_collateral_raw,
        {{ word_overflow(word('data', 1)) }} as liquidated_collateral_overflow,
        {{ word_to_address(word('data', 2)) }} as liquidator,
        {{ word_to_amount(word('data', 3)) }} != 0 as receives_atokens,
    from source

)

select * from renamed
