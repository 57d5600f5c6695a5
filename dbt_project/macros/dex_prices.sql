{#- CTEs of token_prices_1m that say what genuine pools paid for tokens, against trusted tokens that
    have an index price. They read its CTEs `covered_days`, `trusted_tokens` and `index_minutes`, and
    leave `dex_prices` (one row per chain, token and minute that a pool priced) and `refusals` (minutes
    in which a token was traded against one and no price came of it). The method is in
    docs/token_prices.md.

    What a day's pools say depends on that day's swaps, reserves and index prices alone. -#}
{% macro dex_price_ctes() -%}
-- What swaps are valued in. Not carried over midnight: then a day would depend on two before it.
reference_prices as (

    select chain, token_address, opened_at, price_usd
    from index_minutes
    where priced_at >= day

),

-- Hooks of a V4 pool may pay back what a swap cost, or take it: its event is no price.
hooked_pools as (

    select chain, block_range, contract_address, pool
    from {{ ref('int_dex_pools') }}
    where hooks_address != '0x{{ '0' * 40 }}'

),

swaps as (

    select
        swaps.chain,
        swaps.contract_address,
        swaps.pool,
        swaps.protocol,
        swaps.block_time::date as day,
        date_trunc('minute', swaps.block_time) as minute,
        [
            {%- for number in range(2) %}
            {
                'token_address': swaps.token{{ number }}_address,
                'symbol': swaps.token{{ number }}_symbol,
                'decimals': swaps.token{{ number }}_decimals,
                'amount': {{ to_units(
                    'swaps.amount%d_in_raw - swaps.amount%d_out_raw' % (number, number),
                    'swaps.token%d_decimals' % number
                ) }}
            }{{ ',' if not loop.last }}
            {%- endfor %}
        ] as sides,
    from {{ ref('int_dex_swaps') }} as swaps
    join covered_days
        on swaps.chain = covered_days.chain and swaps.block_time::date = covered_days.day
    anti join hooked_pools
        on swaps.chain = hooked_pools.chain
        and swaps.block_range = hooked_pools.block_range
        and swaps.contract_address = hooked_pools.contract_address
        and swaps.pool = hooked_pools.pool
    where
        {{ in_window('swaps.block_time', days_before=1) }}
        and swaps.is_genuine
        and not swaps.is_empty
        and not swaps.is_amount_overflow

),

-- Each swap from both sides: how much of a token went one way for how much of the other. One in which
-- both went the same way, as when a flash swap is paid back in kind, has no price. Amounts of 10^14
-- or more do not count: of less, a sum has room for a million in a minute, which no chain has gas for.
legs as (

    select
        swaps.* exclude (sides),
        sides[side].token_address as token_address,
        sides[side].symbol as symbol,
        abs(sides[side].amount) as amount,
        3 - side as reference_side,
        sides[reference_side].token_address as reference_token_address,
        sides[reference_side].decimals as reference_decimals,
        abs(sides[reference_side].amount) as reference_amount,
    from swaps
    cross join (values (1), (2)) as each_side (side)
    where
        sign(sides[1].amount) * sign(sides[2].amount) = -1
        and abs(sides[1].amount) < 100000000000000
        and abs(sides[2].amount) < 100000000000000

),

pool_minutes as (

    select
        legs.chain,
        legs.contract_address,
        legs.pool,
        legs.day,
        legs.minute,
        legs.token_address,
        legs.reference_token_address,
        max(legs.protocol) as protocol,
        max(legs.symbol) as symbol,
        max(legs.reference_side) as reference_side,
        max(legs.reference_decimals) as reference_decimals,
        max(reference_prices.price_usd) as reference_price_usd,
        sum(legs.amount) as amount,
        sum(legs.reference_amount) as reference_amount,
    from legs
    join reference_prices
        on legs.chain = reference_prices.chain
        and legs.reference_token_address = reference_prices.token_address
        and legs.minute = reference_prices.opened_at
    group by all

),

-- The reserves of V2 pools after the last swap of a minute.
reserves as (

    select
        reserves.chain,
        reserves.pool,
        date_trunc('minute', reserves.block_time) as minute,
        arg_max(
            [reserves.reserve0_raw, reserves.reserve1_raw],
            (reserves.block_number, reserves.log_index)
        ) as reserves_raw,
    from {{ ref('int_dex_reserves') }} as reserves
    where {{ in_window('reserves.block_time', days_before=1) }}
    group by all

),

valued as (

    select
        pool_minutes.*,
        {{ usd_value('pool_minutes.reference_amount', 'pool_minutes.reference_price_usd') }}
            as turnover_usd,
        {{ to_units(
            'reserves.reserves_raw[pool_minutes.reference_side]',
            'pool_minutes.reference_decimals'
        ) }} as reference_reserve,
    from pool_minutes
    left join reserves
        on pool_minutes.chain = reserves.chain
        and pool_minutes.pool = reserves.pool
        and pool_minutes.minute = reserves.minute

),

worth as (

    select
        *,
        {{ usd_value('reference_reserve', 'reference_price_usd') }} as reserve_usd,
    from valued

),

-- What the division has room for: 10^14 USD, 8 * 10^13 units, and a price below 10^16. A CASE says so
-- and not a TRY, out of which DuckDB takes what is in it twice, and not a TRY_CAST of a sum, which is
-- too late for what overflows within the sum. A minute of more is not counted in its day's turnover.
priced as (

    select
        *,
        case
            when turnover_usd < 100000000000000
                and amount < 80000000000000
                and (turnover_usd * 0.0000000000000001)::decimal(38, 18) < amount
                then {{ decimal_divide('turnover_usd', 'amount', scale=24, denominator_scale=18) }}
        end as price_usd,
        case
            when protocol = 'uniswap_v2'
                then case when reserve_usd < 100000000000000 then 2 * reserve_usd end
            else sum(case when turnover_usd < 100000000000000 then turnover_usd end) over (
                partition by chain, contract_address, pool, token_address, day
            )
        end::decimal(38, 12) as liquidity_usd,
    from worth

),

candidates as (

    select
        *,
        coalesce(
            price_usd > 0
            and liquidity_usd >= {{ var('dex_price_min_liquidity_usd') }}
            and turnover_usd >= {{ var('dex_price_min_turnover_usd') }},
            false
        ) as is_candidate,
    from priced

),

-- Each minute has one vote, that of its deepest pool: many shallow ones cannot outvote it.
votes as (

    select
        chain,
        token_address,
        day,
        arg_max(price_usd, {{ _depth() }}) as price_usd,
    from candidates
    where is_candidate
    group by chain, token_address, day, minute

),

usual_prices as (

    select
        votes.chain,
        votes.token_address,
        votes.day,
        -- In half of the day's minutes it was not dearer.
        quantile_disc(votes.price_usd, 0.5) as usual_price_usd,
        case max(trusted_tokens.role)
            when 'stablecoin' then {{ var('dex_price_max_stable_factor') }}
            else {{ var('dex_price_max_factor') }}
        end::decimal(9, 4) as max_factor,
    from votes
    left join trusted_tokens
        on votes.chain = trusted_tokens.chain
        and votes.token_address = trusted_tokens.token_address
    group by all

),

judged as (

    select
        candidates.*,
        coalesce(
            is_candidate
            and price_usd <= max_factor * usual_price_usd
            and price_usd * max_factor >= usual_price_usd,
            false
        ) as is_used,
    from candidates
    left join usual_prices using (chain, token_address, day)

),

-- The deepest pool of the minute.
dex_prices as (

    select
        chain,
        token_address,
        minute as priced_at,
        unnest(
            arg_max(
                {
                    'symbol': symbol,
                    'pool': pool,
                    'reference_token_address': reference_token_address,
                    'price_usd': price_usd,
                    'liquidity_usd': liquidity_usd,
                    'turnover_usd': turnover_usd
                },
                {{ _depth() }}
            )
        ),
    from judged
    where is_used
    group by chain, token_address, minute

),

refusals as (

    select chain, token_address, minute as refused_at
    from judged
    group by all
    having not bool_or(is_used)

)
{%- endmacro %}

{#- What the deepest pool has most of. Reserves of V2 are there and come first; turnover of V3 and V4
    can be had for gas, and decides between those alone. Between two of one depth the address does. -#}
{% macro _depth() -%}
    (protocol = 'uniswap_v2', liquidity_usd, pool, contract_address)
{%- endmacro %}
