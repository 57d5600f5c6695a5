{#- What models of decentralised exchanges have in common: which log it is, which way amounts went,
    what they were worth. -#}

{#- Which log it is: the columns that decoded events begin with, from raw.chain_logs. -#}
{% macro log_columns() -%}
    chain,
        "range" as block_range,
        block_number,
        block_timestamp as block_time,
        transaction_index,
        log_index,
        {{ to_hex('transaction_hash') }} as transaction_hash,
        {{ to_hex('address') }} as contract_address,
{%- endmacro %}

{#- Logs of one event whose fields are where its signature has them: as many topics, and data that is
    long enough. A log with the same first topic and other fields indexed is another event. -#}
{% macro logs_of(event, topics, words) -%}
    select * from {{ source('raw', 'chain_logs') }}
    where
        topic0 = {{ topic0(event) }}
        and topic{{ topics - 1 }} is not null
        {%- if topics < 4 %}
        and topic{{ topics }} is null
        {%- endif %}
        and octet_length(data) >= {{ 32 * words }}
{%- endmacro %}

{#- Columns (or words) that did not fit, comma separated; NULL if all did. -#}
{% macro overflows(columns) -%}
    nullif(concat_ws(',', {{ columns | join(', ') }}), '')
{%- endmacro %}

{#- The part of a signed amount that went one way, as a magnitude: 0 if it went the other way, NULL if
    it is too large. overflow: the word if the amount is. sign: `+` or `-`. -#}
{% macro one_way(amount, overflow, sign) -%}
    case
        when {{ overflow }} is null then greatest({{ sign }}{{ amount }}, 0)
        when {{ overflow }} {{ '>=' if sign == '+' else '<' }} '0x8' then 0
    end::decimal(38, 0)
{%- endmacro %}

{#- Whether an amount that may be too large to be known is not zero. -#}
{% macro is_some(amount) -%}
    coalesce({{ amount }} <> 0, true)
{%- endmacro %}

{#- Whether token0 is what prices are in, and not token1: one is a stablecoin and the other is not, or
    one is the chain's own token (wrapped or not) and the other is neither; else it is token1. -#}
{% macro is_token0_quote(role0, role1) -%}
    ({{ _quote_rank(role0) }} > {{ _quote_rank(role1) }})
{%- endmacro %}

{% macro _quote_rank(role) -%}
    case {{ role }} when 'stablecoin' then 2 when 'native' then 1 when 'wrapped_native' then 1 else 0 end
{%- endmacro %}

{#- numerator / denominator of two DECIMAL(38,18) that are not negative, as DECIMAL(38,18), rounded once,
    half away from zero. NULL if one of them is, if the denominator is 0 or 1.7 * 10^17 or more, and
    from 10^20 on. Long division by three digits at a time, because a remainder times 10^3 still fits a
    HUGEINT; `decimal_divide` has room for 8 digits before the point of the denominator, and an amount
    of a token may have more. -#}
{% macro divide_units(numerator, denominator) -%}
    {%- set digits = namespace(sql='') -%}
    {%- set pair -%}
        [case when {{ denominator }} > 0 and {{ denominator }} < 170000000000000000 then {
            'n': {{ _unscaled_units(numerator) }},
            'd': {{ _unscaled_units(denominator) }}
        } end]
    {%- endset -%}
    {%- set digits.sql -%}
        list_transform({{ pair }}, lambda x: {'q': x.n // x.d, 'r': x.n % x.d, 'd': x.d})
    {%- endset -%}
    {%- for _ in range(6) -%}
        {%- set digits.sql -%}
            list_transform(
                {{ digits.sql }},
                lambda x: case when x.q < {{ 10 ** 35 }}
                    then {'q': x.q * 1000 + x.r * 1000 // x.d, 'r': x.r * 1000 % x.d, 'd': x.d}
                end
            )
        {%- endset -%}
    {%- endfor -%}
    (
        try_cast(
            list_transform(
                {{ digits.sql }},
                lambda x: x.q + (2 * x.r >= x.d)::integer
            )[1]
            as decimal(38, 0)
        )
        * 0.000000000000000001
    )::decimal(38, 18)
{%- endmacro %}

{#- A DECIMAL(38,18) that is not negative, counted in units of its last digit. -#}
{% macro _unscaled_units(value) -%}
    replace(({{ value }})::decimal(38, 18)::varchar, '.', '')::hugeint
{%- endmacro %}

{#- Columns of swaps, and what the swaps were worth: amount_usd, amount_usd_source and amount_usd_leg.
    legs: (name, column of the token, amount) of the two sides of a swap, the one that counts first in
    front. A leg whose price is a venue's index counts before, since a pool's own price may be bent by
    the very swap. -#}
{% macro swaps_in_usd(swaps, columns, legs) -%}
    select
        {%- for column in columns %}
        swaps.{{ column }},
        {%- endfor %}
        {%- for name, _, amount in legs %}
        {{ usd_value(amount, name ~ '.price_usd') }} as {{ name }}_usd,
        {%- endfor %}
        case
            {%- for name, _, _ in legs %}
            when {{ name }}_usd is not null and {{ name }}.source = 'venue_index' then '{{ name }}'
            {%- endfor %}
            {%- for name, _, _ in legs %}
            when {{ name }}_usd is not null then '{{ name }}'
            {%- endfor %}
        end as amount_usd_leg,
        case amount_usd_leg
            {%- for name, _, _ in legs %}
            when '{{ name }}' then {{ name }}_usd
            {%- endfor %}
        end as amount_usd,
        case amount_usd_leg
            {%- for name, _, _ in legs %}
            when '{{ name }}' then {{ name }}.source
            {%- endfor %}
        end as amount_usd_source,
    from {{ swaps }} as swaps
    {%- for name, token, _ in legs %}
    left join {{ ref('token_prices_1m') }} as {{ name }}
        on swaps.chain = {{ name }}.chain
        and swaps.{{ token }} = {{ name }}.token_address
        and date_trunc('minute', swaps.block_time) = {{ name }}.opened_at
    {%- endfor %}
{%- endmacro %}

{#- From how many base units of both tokens on a swap has a price: of fewer, the rounding in the contract
    (up to one unit) would be a tenth of a percent of the price or more. -#}
{% macro least_priced_amount_raw() -%}
    1000
{%- endmacro %}

{#- Whether a swap has a price: exactly one token went in and the other out, neither of them as dust.
    NULL if an amount is not known. After fees, what is left of a token that went both ways is next to
    nothing, or what the fee left over: it says nothing of the price. -#}
{% macro is_plain_exchange() -%}
    (
        {%- for sold, bought in [(0, 1), (1, 0)] %}
        {{ 'or ' if not loop.first }}amount{{ sold }}_in_raw >= {{ least_priced_amount_raw() }}
        and amount{{ bought }}_out_raw >= {{ least_priced_amount_raw() }}
        and amount{{ sold }}_out_raw = 0
        and amount{{ bought }}_in_raw = 0
        {%- endfor %}
    )
{%- endmacro %}

{#- Genuine swaps of covered days, as candles and days of pools are made of: each with its amounts of
    the base and the quote token, what they were worth, its price (quote per base) and its place in
    time. Amounts and worth are net of what went back in the same swap: a flash swap that is paid back
    in kind traded its fee only. -#}
{% macro priced_swaps() -%}
    {%- set columns = [
        'chain', 'pool', 'contract_address', 'protocol', 'project', 'version',
        'block_number', 'block_time',
        'token0_decimals', 'token1_decimals',
        'fee_pips', 'sqrt_price_x96', 'price_after', 'liquidity', 'liquidity_overflow', 'tick',
    ] -%}
    covered_days as (

        select chain, day
        from {{ ref('blocks_daily') }}
        where {{ in_window('day') }}

    ),

    listed_tokens as (

        {{ listed_tokens() }}

    ),

    genuine_swaps as (

        select
            {%- for column in columns %}
            swaps.{{ column }},
            {%- endfor %}
            swaps.block_number * 16777216 + swaps.log_index as place,
            {{ is_token0_quote('token0.role', 'token1.role') }} as is_token0_quote,
            {%- for number in range(2) %}
            swaps.token{{ number }}_address,
            swaps.token{{ number }}_symbol,
            {{ to_units('swaps.amount%d_in_raw' % number, 'swaps.token%d_decimals' % number) }}
                as amount{{ number }}_in,
            abs({{ to_units(
                'swaps.amount%d_in_raw - swaps.amount%d_out_raw' % (number, number),
                'swaps.token%d_decimals' % number
            ) }}) as amount{{ number }},
            {%- endfor %}
            {{ is_plain_exchange() }} as is_plain_exchange,
        from {{ ref('int_dex_swaps') }} as swaps
        join covered_days
            on swaps.chain = covered_days.chain and swaps.block_time::date = covered_days.day
        left join listed_tokens as token0
            on swaps.chain = token0.chain and swaps.token0_address = token0.token_address
        left join listed_tokens as token1
            on swaps.chain = token1.chain and swaps.token1_address = token1.token_address
        where
            {{ in_window('swaps.block_time') }}
            and swaps.is_genuine
            and not swaps.is_empty

    ),

    sided_swaps as (

        select
            {%- for column in columns %}
            {{ column }},
            {%- endfor %}
            place,
            amount0_in,
            amount1_in,
            case when is_token0_quote then token1_address else token0_address end
                as base_token_address,
            case when is_token0_quote then token0_address else token1_address end
                as quote_token_address,
            case when is_token0_quote then token1_symbol else token0_symbol end as base_symbol,
            case when is_token0_quote then token0_symbol else token1_symbol end as quote_symbol,
            case when is_token0_quote then amount1 else amount0 end as base_amount,
            case when is_token0_quote then amount0 else amount1 end as quote_amount,
            case when is_plain_exchange then {{ divide_units('quote_amount', 'base_amount') }} end
                as price,
        from genuine_swaps

    ),

    priced_swaps as (

        {{ swaps_in_usd(
            'sided_swaps',
            columns + [
                'place', 'amount0_in', 'amount1_in',
                'base_token_address', 'quote_token_address', 'base_symbol', 'quote_symbol',
                'base_amount', 'quote_amount', 'price',
            ],
            legs=[
                ('quote', 'quote_token_address', 'nullif(swaps.quote_amount, 0)'),
                ('base', 'base_token_address', 'nullif(swaps.base_amount, 0)'),
            ],
        ) }}

    )
{%- endmacro %}

{#- What pairs of V2 held after their last change (a swap, deposit or withdrawal) of each period.
    period: what of block_time the rows are grouped by. -#}
{% macro reserves_at_close(period) -%}
    select
        chain,
        pool,
        {{ period }} as period,
        arg_max(
            {
                {%- for number in range(2) %}
                'reserve{{ number }}': reserve{{ number }}_raw,
                'overflow{{ number }}': reserve{{ number }}_overflow,
                {%- endfor %}
            },
            block_number * 16777216 + log_index
        ) as at_close,
    from {{ ref('int_dex_reserves') }}
    where {{ in_window('block_time') }}
    group by all
{%- endmacro %}

{#- What is told of the swaps of a pool over a period, from `priced_swaps`: prices in the order of
    `place`, sums that `totals_of_swaps` ends, counts, and the state after the last one. -#}
{% macro sums_of_swaps() -%}
    max(base_symbol) as base_symbol,
        max(quote_symbol) as quote_symbol,
        arg_min(price, place) filter (where price is not null) as open,
        max(price) as high,
        min(price) as low,
        arg_max(price, place) filter (where price is not null) as close,
        {{ exact_sum('base_amount', 'base') }}
        {{ exact_sum('quote_amount', 'quote') }}
        {{ exact_sum('amount_usd', 'usd') }}
        {{ exact_sum('amount0_in', 'fees0', 'fee_pips') }}
        {{ exact_sum('amount1_in', 'fees1', 'fee_pips') }}
        {{ exact_sum('amount_usd', 'fees_usd', 'fee_pips') }}
        count(*) as swap_count,
        count(*) filter (where price is null) as unpriced_swap_count,
        count(amount_usd) as usd_swap_count,
        max(token0_decimals) as token0_decimals,
        max(token1_decimals) as token1_decimals,
        arg_max(
            {
                'sqrt_price_x96': sqrt_price_x96,
                'price': price_after,
                'liquidity': liquidity,
                'liquidity_overflow': liquidity_overflow,
                'tick': tick
            },
            place
        ) as at_close,
{%- endmacro %}

{#- The columns that `sums_of_swaps` ends in, from volume to count. -#}
{% macro totals_of_swaps() -%}
    {{ exact_total('base') }} as volume_base,
        {{ exact_total('quote') }} as volume_quote,
        {{ exact_total('usd', digits=12, if_all_known=false) }} as volume_usd,
        {{ exact_total('fees0', shift=6) }} as fees_token0,
        {{ exact_total('fees1', shift=6) }} as fees_token1,
        {{ exact_total('fees_usd', digits=12, shift=6, if_all_known=false) }} as fees_usd,
        swap_count,
        unpriced_swap_count,
        usd_swap_count,
{%- endmacro %}

{#- Reserves at the end of a period in units, with the words of those that are too large to be known.
    swaps: the relation with the decimals, reserves: one of `reserves_at_close`. -#}
{% macro columns_of_reserves(swaps, reserves) -%}
    {%- for number in range(2) %}
        {{ to_units(
            '%s.at_close.reserve%d' % (reserves, number),
            '%s.token%d_decimals' % (swaps, number)
        ) }} as reserve{{ number }}_at_close,
        {{ reserves }}.at_close.overflow{{ number }} as reserve{{ number }}_at_close_overflow,
    {%- endfor %}
{%- endmacro %}

{#- Two sums from which `exact_total` makes one that cannot overflow on its way, and whether nothing is
    missing: <name>_whole, <name>_part and <name>_is_known. factor: a whole number below 10^8. -#}
{% macro exact_sum(value, name, factor='1') -%}
    sum(trunc({{ value }})::decimal(26, 0) * ({{ factor }})::decimal(8, 0)) as {{ name }}_whole,
        sum(({{ value }} - trunc({{ value }}))::decimal(18, 18) * ({{ factor }})::decimal(8, 0))
            as {{ name }}_part,
        bool_and({{ value }} is not null and {{ factor }} is not null) as {{ name }}_is_known,
{%- endmacro %}

{#- The sum as a decimal, times 10^-shift and rounded once there; NULL if a summand is not known or the
    sum does not fit. -#}
{% macro exact_total(name, digits=18, shift=0, if_all_known=true) -%}
    case {% if if_all_known %}when {{ name }}_is_known {% else %}when true {% endif %}then try(
        {%- if shift %}
        ({{ name }}_whole * {{ '0.%0*d' % (shift, 1) }})::decimal(38, {{ digits }})
        + ({{ name }}_part::decimal(32, 18) * {{ '0.%0*d' % (shift, 1) }})::decimal(38, {{ digits }})
        {%- else %}
        {{ name }}_whole::decimal(38, {{ digits }}) + {{ name }}_part::decimal(38, {{ digits }})
        {%- endif %}
    ) end::decimal(38, {{ digits }})
{%- endmacro %}

{#- First block of a block range by its name (018426000-018426999). -#}
{% macro first_block(block_range) -%}
    split_part({{ block_range }}, '-', 1)::bigint
{%- endmacro %}
