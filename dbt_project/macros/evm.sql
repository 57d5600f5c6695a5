{#- What the EVM writes, exactly: 32-byte words of logs and calls as integers, addresses, amounts and
    prices. A word is a VARCHAR of 64 lower-case hex digits without 0x, taken with `word` or
    `topic_word`. Nothing passes through a DOUBLE, and no input is an error: what does not fit is NULL. -#}

{#- The n-th word of a BLOB, counted from 0; NULL if the data ends before it does. -#}
{% macro word(data, n) -%}
    case when octet_length({{ data }}) >= {{ 32 * n + 32 }}
        then lower(hex(({{ data }})[{{ 32 * n + 1 }}:{{ 32 * n + 32 }}]))
    end
{%- endmacro %}

{#- A topic as a word; NULL if the log has none there. -#}
{% macro topic_word(topic) -%}
    {{ word(topic, 0) }}
{%- endmacro %}

{#- Whether an unsigned word is below 2^128. -#}
{% macro word_fits_uint128(w) -%}
    (({{ w }})[1:32] = '{{ '0' * 32 }}')
{%- endmacro %}

{#- An unsigned word as UHUGEINT; NULL from 2^128 on. It is composed of two halves, because DuckDB
    1.5 refuses to cast hex of more than 127 bits. -#}
{% macro word_to_uint128(w) -%}
    case when {{ word_fits_uint128(w) }}
        then {{ _half(w, 1) }}::uhugeint * 18446744073709551616::uhugeint + {{ _half(w, 0) }}::uhugeint
    end
{%- endmacro %}

{#- Whether a signed word (two's complement) is within -2^127 and 2^127 - 1. -#}
{% macro word_fits_int128(w) -%}
    (
        ({{ w }})[1:32] = '{{ '0' * 32 }}' and ({{ w }})[33] < '8'
        or ({{ w }})[1:32] = '{{ 'f' * 32 }}' and ({{ w }})[33] >= '8'
    )
{%- endmacro %}

{#- A signed word (two's complement, as intN of any N writes it) as HUGEINT; NULL if it does not fit.
    A negative one is -1 - what its inverted bits say, since -2^127 cannot be reached by multiplying. -#}
{% macro word_to_int128(w) -%}
    case
        when not {{ word_fits_int128(w) }} then null
        when ({{ w }})[1] = '0'
            then {{ _half(w, 1) }}::hugeint * 18446744073709551616 + {{ _half(w, 0) }}::hugeint
        else
            -1::hugeint
            - (18446744073709551615 - {{ _half(w, 1) }}::hugeint) * 18446744073709551616
            - (18446744073709551615 - {{ _half(w, 0) }}::hugeint)
    end
{%- endmacro %}

{#- 64 bits of a word as UBIGINT: half 0 are the lowest, 1 the ones above. -#}
{% macro _half(w, half) -%}
    ('0x' || ({{ w }})[{{ 49 - 16 * half }}:{{ 64 - 16 * half }}])::ubigint
{%- endmacro %}

{#- An unsigned word as it is stored: DECIMAL(38,0), NULL from 10^38 on. (A HUGEINT would be written
    to Parquet as a DOUBLE.) -#}
{% macro word_to_amount(w) -%}
    try_cast({{ word_to_uint128(w) }} as decimal(38, 0))
{%- endmacro %}

{#- A signed word as it is stored: DECIMAL(38,0), NULL from 10^38 on in either direction. -#}
{% macro word_to_signed_amount(w) -%}
    try_cast({{ word_to_int128(w) }} as decimal(38, 0))
{%- endmacro %}

{#- The unsigned word as 0x hex if it is too large for `word_to_amount`; else NULL. -#}
{% macro word_overflow(w) -%}
    case when {{ word_to_amount(w) }} is null then '0x' || ({{ w }}) end
{%- endmacro %}

{#- The signed word as 0x hex if it is too large for `word_to_signed_amount`; else NULL. -#}
{% macro word_signed_overflow(w) -%}
    case when {{ word_to_signed_amount(w) }} is null then '0x' || ({{ w }}) end
{%- endmacro %}

{#- The address in a word as lower-case 0x hex; NULL if the 12 bytes before it are not zero: then the
    word is no address, whatever the event's name promises. -#}
{% macro word_to_address(w) -%}
    case when ({{ w }})[1:24] = '{{ '0' * 24 }}' then '0x' || ({{ w }})[25:64] end
{%- endmacro %}

{#- raw / 10^decimals as DECIMAL(38,18), never rounded: NULL if the decimals are not known, or if the
    value has more than 20 digits before the point or more than 18 behind it. raw: an integer type of at
    most 38 digits. (In HUGEINTs, because casting text to a DECIMAL of 38 digits takes 50 us.) -#}
{% macro to_units(raw, decimals) -%}
    {%- set raw = '(%s)::hugeint' % raw -%}
    {%- set fewer = _power_of_ten('18 - (%s)' % decimals) -%}
    {%- set more = _power_of_ten('(%s) - 18' % decimals) -%}
    (
        case
            when ({{ decimals }}) between 0 and 18
                then case when abs({{ raw }}) <= {{ 10 ** 38 - 1 }} // {{ fewer }}
                    then {{ raw }} * {{ fewer }}
                end
            when {{ raw }} = 0 and ({{ decimals }}) > 18
                then 0
            when ({{ decimals }}) between 19 and 55 and {{ raw }} % {{ more }} = 0
                then {{ raw }} // {{ more }}
        end::decimal(38, 0)
        * 0.000000000000000001
    )::decimal(38, 18)
{%- endmacro %}

{#- 10^exponent as HUGEINT; the exponent may vary by row, from 0 to 38. -#}
{% macro _power_of_ten(exponent) -%}
    ('1' || repeat('0', ({{ exponent }})::integer))::hugeint
{%- endmacro %}

{#- The price of token0 in token1 that a sqrtPriceX96 says, in units of both:
    (w / 2^96)^2 * 10^(decimals0 - decimals1) as DECIMAL(38,18), rounded once at the last digit, half
    away from zero. NULL if decimals are not known or above 77, if w is not a uint160, and if the price
    is 10^20 or more.

    w^2 * 10^e with e = 18 + decimals0 - decimals1 has up to 636 bits. It is computed in limbs of 48
    bits, so that 2^192, by which it is divided, is four of them:
      1. w is cut into four limbs and squared, which makes seven;
      2. they are multiplied by 10^e in five steps of at most 10^23, so that no product leaves a
         HUGEINT; what leaves the seventh limb makes the price too large (`is_large`);
      3. the quotient is what is above the fourth limb, and the bit below it rounds. Where e is
         negative the quotient is divided by 10^-e, and its remainder rounds.
    A list of one struct per row carries the limbs from step to step: SQL has no other name for what
    an expression has computed. -#}
{% macro sqrt_price_to_price(w, decimals0, decimals1) -%}
    {%- set root -%}
        [case when ({{ w }})[1:24] = '{{ '0' * 24 }}'
            and ({{ decimals0 }}) between 0 and 77
            and ({{ decimals1 }}) between 0 and 77
            then {
                {%- for limb in range(4) %}
                'l{{ limb }}': ('0x' || ({{ w }})[{{ 53 - 12 * limb }}:{{ 64 - 12 * limb }}])::bigint::hugeint,
                {%- endfor %}
                'e': (18 + ({{ decimals0 }}) - ({{ decimals1 }}))::integer
            }
        end]
    {%- endset -%}
    {%- set squares = [] -%}
    {%- for sum in range(7) -%}
        {%- set products = [] -%}
        {%- for limb in range(4) if 0 <= sum - limb < 4 -%}
            {%- do products.append('n.l%d * n.l%d' % (limb, sum - limb)) -%}
        {%- endfor -%}
        {%- do squares.append(products | join(' + ')) -%}
    {%- endfor -%}
    {%- set steps = namespace(
        sql='list_transform(%s, lambda n: {%s, \'is_large\': false, \'e\': n.e})'
        % (root, _carried(squares))
    ) -%}
    {%- for step in range(5) -%}
        {%- set power = _power_of_ten('greatest(least(n.e - %d, 23), 0)' % (23 * step)) -%}
        {%- set steps.sql = 'list_transform(%s, lambda n: {\'n\': n, \'power\': %s})'
            % (steps.sql, power) -%}
        {%- set products = [] -%}
        {%- for limb in range(7) -%}
            {%- do products.append('n.n.l%d * n.power' % limb) -%}
        {%- endfor -%}
        {%- set steps.sql = 'list_transform(%s, lambda n: {%s, \'is_large\': n.n.is_large or %s, \'e\': n.n.e})'
            % (steps.sql, _carried(products), _carry(products) ~ ' > 0') -%}
    {%- endfor -%}
    (
        try_cast(
            list_transform(
                list_transform(
                    {{ steps.sql }},
                    lambda n: {
                        'quotient': case when not n.is_large and n.l6 < {{ 2 ** 32 }}
                            then n.l4::uhugeint + n.l5::uhugeint * {{ 2 ** 48 }}::uhugeint
                                + n.l6::uhugeint * {{ 2 ** 96 }}::uhugeint
                        end,
                        'next_bit': (n.l3 >> 47)::uhugeint,
                        'e': n.e
                    }
                ),
                lambda n: case
                    when n.e >= 0 and n.quotient < {{ 10 ** 38 }}::uhugeint
                        then n.quotient + n.next_bit
                    when n.e between -38 and -1
                        then (n.quotient // ('5' || repeat('0', -1 - n.e))::uhugeint + 1) // 2
                    when n.e < -38
                        then n.quotient - n.quotient
                end
            )[1]
            as decimal(38, 0)
        )
        * 0.000000000000000001
    )::decimal(38, 18)
{%- endmacro %}

{#- Fields l0 to l6 of a struct: limbs of 48 bits from numbers that are larger, lowest first. -#}
{% macro _carried(numbers) -%}
    {%- for number in numbers -%}
        {{ ', ' if not loop.first }}'l{{ loop.index0 }}': ({{ _with_carry(numbers[:loop.index]) }}) & {{ 2 ** 48 - 1 }}
    {%- endfor -%}
{%- endmacro %}

{#- What all these numbers leave above the last limb. -#}
{% macro _carry(numbers) -%}
    (({{ _with_carry(numbers) }}) >> 48)
{%- endmacro %}

{#- The last of the numbers and what those below it leave above their limbs. -#}
{% macro _with_carry(numbers) -%}
    {{ numbers[-1] }}{% if numbers | length > 1 %} + {{ _carry(numbers[:-1]) }}{% endif %}
{%- endmacro %}

{#- The first topic of an event as a BLOB, to compare raw topics with: the keccak-256 of its signature,
    from one list. A name that is not in it is an error. -#}
{% macro topic0(event) -%}
    {%- set topics = {
        'erc20_transfer': 'ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef',
        'uniswap_v2_pair_created': '0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9',
        'uniswap_v2_swap': 'd78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822',
        'uniswap_v2_sync': '1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1',
        'uniswap_v3_pool_created': '783cca1c0412dd0d695e784568c96da2e9c22ff989357a2e8b1d9b2b4e6b7118',
        'uniswap_v3_swap': 'c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67',
        'uniswap_v4_initialize': 'dd466e674ea557f56295e2d0218a125ea4b4f0f6f3307b95f85e6110838d6438',
        'uniswap_v4_swap': '40e9cecb9f5f1f1c5b9c97dec2917b7ee92e57ba5563708daca94dd84ad7112f',
        'aave_v3_supply': '2b627736bca15cd5381dcf80b0bf11fd197d01a037c52b927a881a10fb73ba61',
        'aave_v3_withdraw': '3115d1449a7b732c986cba18244e897a450f61e1bb8d589cd2e69e6c8924f9f7',
        'aave_v3_borrow': 'b3d084820fb1a9decffb176436bd02558d15fac9b0ddfed8c465bc7359d7dce0',
        'aave_v3_repay': 'a534c8dbe71f871f9f3530e97a74601fea17b426cae02e1c5aee42c96c784051',
        'aave_v3_liquidation_call': 'e413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286',
        'aave_v3_reserve_data_updated': '804c9b842b2748a22bb64b345453a3de7ca54a6ca45ce00d415894979e22897a',
        'aave_v3_deficit_created': '2bccfb3fad376d59d7accf970515eb77b2f27b082c90ed0fb15583dd5a942699',
        'usdt_issue': 'cb8241adb0c3fdb35b70c24ce35c5eb0c17af7431c99f827d44a445ca624176a',
        'usdt_redeem': '702d5967f45f6513a38ffc42d6ba9bf230bd40e8f53b16363c7eb4fd2deb9a44',
        'usdt_destroyed_black_funds': '61e6e66b0d6339b2980aecc6ccc0039736791f0ccde9ed512e789a7fbdd698c6',
    } -%}
    {%- if event not in topics -%}
        {%- do exceptions.raise_compiler_error('No event is named ' ~ event ~ ' in macro topic0') -%}
    {%- endif -%}
    from_hex('{{ topics[event] }}')
{%- endmacro %}
