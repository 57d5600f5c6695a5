with

source as (

    {{ aave_v3_logs('aave_v3_reserve_data_updated') }}

),

renamed as (

    select
        {{ lending_event_columns() }}
        {{ word_to_address(topic_word('topic1')) }} as reserve_address,
        {{ word_to_amount(word('data', 0)) }} as liquidity_rate_ray,
        {{ word_to_amount(word('data', 1)) }} as stable_borrow_rate_ray,
        {{ word_to_amount(word('data', 2)) }} as variable_borrow_rate_ray,
        {{ word_to_amount(word('data', 3)) }} as liquidity_index_ray,
        {{ word_to_amount(word('data', 4)) }} as variable_borrow_index_ray,
        nullif(
            concat_ws(
                ',',
                {%- for number in range(5) %}
                {{ word_overflow(word('data', number)) }}{{ ',' if not loop.last }}
                {%- endfor %}
            ),
            ''
        ) as overflow,
    from source

)

select * from renamed
