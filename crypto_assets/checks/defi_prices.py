"""A suite over prices of tokens: each says where it is from, and the venues' index comes first."""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_between, is_zero

# How long a price is carried, as in token_prices_1m.
INDEX_MINUTES = 15
POOL_MINUTES = 60
# What a pool must trade in a minute for a price, likewise.
TURNOVER_USD = 100
# Larger amounts than anybody has, or ones too fine to be exact, may rightly have given none.
_AMOUNT = "1e13"
_DECIMALS = 18
_OFF_PEG_BPS = 100

TRUSTED = """
    trusted as (
        select
            chain,
            '0x' || lower(hex(address)) as token_address,
            -- A bridged token may have the symbol of the one it stands for.
            symbol || if(
                count(*) over (partition by chain, symbol) = 1, '', ' 0x' || lower(hex(address))
            ) as market,
            role,
            asset,
        from raw.trusted_tokens
    )
"""
COVERED = """
    covered as (
        select distinct chain, day, true as is_covered
        from raw.covered_days
        where day between $from_day and $to_day
    )
"""

_JUDGED = f"""
    with {TRUSTED},

    {COVERED},

    index_price as (
        select asset, opened_at as index_at, price_usd as index_price_usd
        from raw.published_index_prices_1m
        where opened_at >= $from_day - 1 and opened_at < $to_day + 1
            -- Where venues contradict each other, nobody knows which is right.
            and not is_contested and price_usd > 0
    ),

    price as (
        select
            found.*,
            opened_at::date as day,
            role,
            asset,
            role is not null as is_trusted,
            coalesce(market, 'other tokens') as market,
            coalesce(covered.is_covered, false) as is_covered,
        from defi.token_prices_1m as found
        left join trusted using (chain, token_address)
        left join covered on covered.chain = found.chain and covered.day = opened_at::date
        where opened_at >= $from_day and opened_at < $to_day + 1
    ),

    exchange as (
        select
            *,
            (amount0_in_raw - amount0_out_raw)::double / pow(10, token0_decimals) as amount0,
            (amount1_in_raw - amount1_out_raw)::double / pow(10, token1_decimals) as amount1,
            greatest(abs(amount0), abs(amount1)) < {_AMOUNT}
                and greatest(token0_decimals, token1_decimals) <= {_DECIMALS} as is_usual,
        from intermediate.int_dex_swaps
        left join (
            select chain, block_range, contract_address, pool, hooks_address
            from intermediate.int_dex_pools
        ) using (chain, block_range, contract_address, pool)
        where block_time >= $from_day - 1 and block_time < $to_day + 1
            and is_genuine and not is_empty
            and replace(coalesce(hooks_address, ''), '0', '') in ('', 'x')
            and sign(amount0) * sign(amount1) = -1
    ),

    -- What pools without hooks paid for trusted tokens, in those that have an asset's price: why a
    -- price is missing must be seen without the prices.
    leg as (
        select
            exchange.chain,
            pool,
            contract_address,
            date_trunc('minute', block_time) as minute,
            token.token_address,
            reference.asset as reference_asset,
            abs(if(side = 0, amount1, amount0)) as reference_amount,
            is_usual,
        from exchange
        cross join (values (0), (1)) as sides(side)
        join trusted as token
            on token.chain = exchange.chain
            and token.token_address = if(side = 0, token0_address, token1_address)
        join trusted as reference
            on reference.chain = exchange.chain
            and reference.token_address = if(side = 0, token1_address, token0_address)
            and reference.asset is not null
    ),

    seen as (
        select distinct chain, token_address, minute as seen_at from leg
    ),

    -- Of each of these came a price, or it was refused.
    traded as (
        select distinct chain, token_address, minute as traded_at
        from (
            select chain, token_address, minute
            from leg
            join index_price on asset = reference_asset and index_at = minute
            where is_usual
            group by chain, contract_address, pool, token_address, reference_asset, minute
            having sum(reference_amount * index_price_usd::double) >= {TURNOVER_USD}
        )
    ),

    judged as (
        select
            price.*,
            row_number() over (
                partition by price.chain, price.token_address, price.opened_at
            ) > 1 as is_double,
            if(
                price_usd is null,
                unpriced_reason is null or source is not null,
                unpriced_reason is not null or source is null or source_detail is null
            ) as is_unexplained,
            coalesce(price_usd <= 0, false) as is_not_positive,
            price_usd is not null and coalesce(
                age_minutes <> date_diff('minute', priced_at, price.opened_at)
                or age_minutes < 0
                or age_minutes > if(source = 'venue_index', {INDEX_MINUTES}, {POOL_MINUTES}),
                true
            ) as is_old,
            if(
                index_at >= price.opened_at - interval '{INDEX_MINUTES} minutes',
                (source, source_detail, priced_at, price_usd) is distinct from (
                    'venue_index', price.asset, index_at, index_price_usd
                ),
                coalesce(source = 'venue_index', false)
            ) as is_index_off,
            index_at,
            index_price_usd,
            traded_at,
            seen_at,
            is_trusted and price_usd is null and unpriced_reason is not null and not coalesce(
                case unpriced_reason
                    when 'no_index_price' then price.asset is not null
                    when 'no_pool_price' then not coalesce(
                        traded_at >= greatest(
                            price.opened_at - interval '{POOL_MINUTES} minutes', price.day
                        ),
                        false
                    )
                    when 'pool_refused'
                        then seen_at >= price.opened_at - interval '{POOL_MINUTES} minutes'
                end
                and not coalesce(
                    index_at >= price.opened_at - interval '{INDEX_MINUTES} minutes', false
                ),
                false
            ) as is_unjustified,
        from price
        asof left join index_price
            on price.asset = index_price.asset and price.opened_at >= index_price.index_at
        asof left join traded
            on price.chain = traded.chain
            and price.token_address = traded.token_address
            and price.opened_at >= traded.traded_at
        asof left join seen
            on price.chain = seen.chain
            and price.token_address = seen.token_address
            and price.opened_at >= seen.seen_at
    ),

    hours_off_peg as (
        select
            chain, market, day, date_trunc('hour', opened_at) as hour,
            quantile_disc(price_usd, 0.5) as price,
        from price
        where role = 'stablecoin' and price_usd is not null
        group by all
        having abs(price - 1) * 10000 > {_OFF_PEG_BPS}
    )
"""

PRICES = Suite(
    name="token_prices_are_known",
    asset="defi/token_prices_1m",
    description=(
        "Trusted tokens have a row for every minute of a covered day, and every price says where "
        "and when it is from: the index wherever it has one."
    ),
    claims=(
        are_equal(
            "minutes",
            "minutes_of_day",
            "trusted_tokens_have_every_minute",
            "a trusted token has 1440 rows on a covered day, and no token has any on another",
        ),
        is_zero("doubles", "minutes_have_one_price", "a token has one row a minute"),
        is_zero(
            "unexplained",
            "prices_have_a_source_or_a_reason",
            "a row with a price says its source, and one without says why",
        ),
        is_zero(
            "unjustified",
            "missing_prices_have_true_reasons",
            "a trusted token has no price for want of one of the index only if the index has none "
            f"of {INDEX_MINUTES} minutes, for want of a pool's only if no pool without hooks "
            f"traded it for {TURNOVER_USD} USD of an indexed token in {POOL_MINUTES} minutes of "
            "the day, and for a refusal only if one did trade it",
        ),
        is_zero("not_positive", "prices_are_positive", "no price is zero or less"),
        is_zero(
            "off_index",
            "the_index_comes_first",
            "a token that has the price of an asset has exactly the last one of the index, if that "
            f"is at most {INDEX_MINUTES} minutes old, and no other token has one of the index",
        ),
        is_zero(
            "too_old",
            "prices_are_young",
            "a price says its age, and is carried at most "
            f"{INDEX_MINUTES} minutes if it is the index's, {POOL_MINUTES} if it is a pool's",
        ),
        as_warning(
            is_between(
                "unpriced_percent",
                0,
                50,
                "most_minutes_have_a_price",
                "a trusted token that has the price of an asset is priced in most minutes",
            )
        ),
        as_warning(
            is_zero(
                "hours_off_peg",
                "stablecoins_are_near_a_dollar",
                f"no hour has a median price more than {_OFF_PEG_BPS} bps away from a dollar",
            )
        ),
    ),
    metrics=f"""
        {_JUDGED},

        listed as (
            select chain, market, day, 1440 as minutes, asset is not null as has_index
            from covered
            join trusted using (chain)
        ),

        counted as (
            select
                chain,
                market,
                day,
                -- Of other tokens only minutes with a price have a row.
                count(distinct opened_at) filter (where is_trusted or not is_covered) as minutes,
                count(*) filter (where is_double) as doubles,
                count(*) filter (where is_unexplained) as unexplained,
                count(*) filter (where is_unjustified) as unjustified,
                count(*) filter (where is_not_positive) as not_positive,
                count(*) filter (where is_index_off) as off_index,
                count(*) filter (where is_old) as too_old,
                (100 * count(*) filter (where price_usd is null)) // count(*) as unpriced_percent,
            from judged
            group by all
        ),

        off_peg as (
            select chain, market, day, count(*) as hours from hours_off_peg group by all
        )

        select
            chain as venue,
            market,
            day,
            coalesce(counted.minutes, 0) as minutes,
            coalesce(listed.minutes, 0) as minutes_of_day,
            coalesce(doubles, 0) as doubles,
            coalesce(unexplained, 0) as unexplained,
            coalesce(unjustified, 0) as unjustified,
            coalesce(not_positive, 0) as not_positive,
            coalesce(off_index, 0) as off_index,
            coalesce(too_old, 0) as too_old,
            if(has_index, coalesce(unpriced_percent, 0), 0) as unpriced_percent,
            coalesce(off_peg.hours, 0) as hours_off_peg,
        from listed
        full join counted using (chain, market, day)
        left join off_peg using (chain, market, day)
    """,
    offenders=f"""
        {_JUDGED}

        select
            claim,
            chain as venue,
            market,
            day,
            strftime(opened_at, '%H:%M ') || token_address as place,
            concat_ws(
                ' ', coalesce(price_usd::varchar, 'NULL'), 'from', coalesce(source, 'nowhere'),
                source_detail, 'of ' || priced_at, unpriced_reason
            ) as found,
            case claim
                when 'the_index_comes_first' then coalesce(
                    index_price_usd || ' of ' || index_at, 'no price of the index'
                )
                when 'missing_prices_have_true_reasons' then concat_ws(
                    ', ',
                    'another reason',
                    'index of ' || index_at,
                    'pools of ' || seen_at,
                    'above the floor of ' || traded_at
                )
                when 'trusted_tokens_have_every_minute' then 'no row: the day is not covered'
                else expected
            end as expected,
        from (
            select
                judged.*,
                unnest([
                    {{'claim': 'minutes_have_one_price', 'is_wrong': is_double,
                        'expected': 'one row'}},
                    {{'claim': 'prices_have_a_source_or_a_reason', 'is_wrong': is_unexplained,
                        'expected': 'a price and its source, or a reason'}},
                    {{'claim': 'missing_prices_have_true_reasons', 'is_wrong': is_unjustified,
                        'expected': ''}},
                    {{'claim': 'prices_are_positive', 'is_wrong': is_not_positive,
                        'expected': 'more than 0'}},
                    {{'claim': 'the_index_comes_first', 'is_wrong': is_index_off, 'expected': ''}},
                    {{'claim': 'prices_are_young', 'is_wrong': is_old,
                        'expected': 'a price that is young enough, and its age'}},
                    {{'claim': 'trusted_tokens_have_every_minute', 'is_wrong': not is_covered,
                        'expected': ''}}
                ], recursive := true)
            from judged
        )
        where is_wrong
        union all
        select
            'stablecoins_are_near_a_dollar',
            chain,
            market,
            day,
            strftime(hour, '%H:00'),
            'median ' || price || ' USD',
            '1 USD',
        from hours_off_peg
    """,
)
