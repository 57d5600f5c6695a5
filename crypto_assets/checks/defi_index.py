"""A suite that holds pools of two tokens of the venues' index against that index.

It reads swaps and the index alone, and candles: USD prices of the marts may be those of the pools
that it judges.
"""

from __future__ import annotations

from crypto_assets.checks.defi_prices import TRUSTED
from crypto_assets.checks.suite import Claim, Suite, as_warning, is_zero

# A trade below it says more of rounding than of prices.
_LEAST_USD = 10
# Of fewer trades a median says little.
_LEAST_TRADES = 5
# What makes a pool liquid: others trade there all day. A V4 pool with hooks may have any price.
_LIQUID_HOURS = 20
_LIQUID_USD = 100_000
# Whoever pays gas can trade with himself in a pool of his own at any price, all day: no pool alone
# stops a day. If most are away, of so many at least, it is the decoding or the index. V4 has no
# vote: there any number of pools is made and traded in without owning anything.
_LEAST_VOTERS = 3
_VOTING = "('uniswap_v2', 'uniswap_v3')"
# Beyond the fee, which a trader pays in either direction. No honest liquid market stays 200 bps
# away for a day: wrong decimals, a wrong token or a price the wrong way round do, by thousands, and
# so does a wrapped coin that lost its worth, whose amounts in dollars then mislead.
_DAY_BPS = 200
_HOUR_BPS = 50
# Of one trade, the last of the hour, beyond what the index was at any minute of it.
_CANDLE_BPS = 100

_COMPARED = f"""
    with {TRUSTED},

    valued as (
        select chain, token_address, opened_at as minute, price_usd::double as price
        from trusted
        join raw.published_index_prices_1m using (asset)
        where opened_at >= $from_day and opened_at < $to_day + 1
            and not is_contested and price_usd > 0
    ),

    -- Distances are estimates to be compared with limits, so doubles will do.
    swap as (
        select
            chain,
            project || '_v' || version || ' ' || token0_symbol || '-' || token1_symbol || ' '
                || pool as market,
            pool,
            contract_address,
            protocol in {_VOTING} as is_voting,
            block_time::date as day,
            date_trunc('minute', block_time) as minute,
            coalesce(fee_pips, 0) as fee_pips,
            token0_address,
            token1_address,
            replace(coalesce(hooks_address, ''), '0', '') not in ('', 'x') as has_hooks,
            (amount0_in_raw - amount0_out_raw)::double / pow(10, token0_decimals) as amount0,
            (amount1_in_raw - amount1_out_raw)::double / pow(10, token1_decimals) as amount1,
        from intermediate.int_dex_swaps
        left join (
            select chain, block_range, contract_address, pool, hooks_address
            from intermediate.int_dex_pools
        ) using (chain, block_range, contract_address, pool)
        where block_time >= $from_day and block_time < $to_day + 1 and is_genuine and not is_empty
    ),

    compared as (
        select
            swap.*,
            date_trunc('hour', swap.minute) as hour,
            abs(amount0) * index0.price as usd0,
            abs(amount1) * index1.price as usd1,
            -- What one of token0 cost in token1, against what it costs by the index.
            greatest(least((usd1 / usd0 - 1) * 10000, 1e9), -1e9) as bps,
        from swap
        join valued as index0
            on (index0.chain, index0.token_address, index0.minute)
                = (swap.chain, token0_address, swap.minute)
        join valued as index1
            on (index1.chain, index1.token_address, index1.minute)
                = (swap.chain, token1_address, swap.minute)
        -- A flash swap that is paid back in kind has no price.
        where sign(amount0) * sign(amount1) = -1 and greatest(usd0, usd1) >= {_LEAST_USD}
    ),

    hourly as (
        select
            chain,
            market,
            pool,
            contract_address,
            is_voting,
            day,
            hour,
            count(*) as trades,
            sum(greatest(usd0, usd1)) as usd,
            max(fee_pips) as fee_pips,
            bool_or(has_hooks) as has_hooks,
            quantile_disc(bps, 0.5) as hour_bps,
        from compared
        group by all
    ),

    -- Each hour has one vote, however many trades are in it.
    pool_day as (
        select
            chain,
            market,
            pool,
            contract_address,
            is_voting,
            day,
            count(*) >= {_LIQUID_HOURS} and sum(usd) >= {_LIQUID_USD} and not bool_or(has_hooks)
                as is_liquid,
            quantile_disc(hour_bps, 0.5) as median_bps,
            ceil(max(fee_pips) / 100)::bigint as fee_bps,
            abs(round(median_bps))::bigint as distance_bps,
            {_DAY_BPS} + fee_bps as limit_bps,
            distance_bps > limit_bps as is_away,
        from hourly
        group by all
        having sum(trades) >= {_LEAST_TRADES}
    ),

    pool_hour as (
        select chain, market, day, hour, fee_bps, hour_bps
        from hourly
        join pool_day using (chain, market, day)
        where is_liquid and trades >= {_LEAST_TRADES} and abs(hour_bps) > {_HOUR_BPS} + fee_bps
    ),

    vote as (
        select
            chain,
            day,
            count(*) as voters,
            count(*) filter (where is_away) as pools_away,
            if(voters < {_LEAST_VOTERS}, voters, voters // 2) as pools_allowed,
        from pool_day
        where is_liquid and is_voting
        group by all
    ),

    -- What one of the base cost in the quote by the index, in each minute of the hour of a candle,
    -- which does not say in which of them it closed.
    candle as (
        select
            pool_day.chain,
            market,
            pool_day.day,
            fee_bps,
            opened_at as hour,
            found.close::double as close,
            min(base.price / quote.price) as least,
            max(base.price / quote.price) as most,
        from pool_day
        join defi.dex_ohlcv_1h as found
            on found.chain = pool_day.chain
            and found.pool = pool_day.pool
            and found.contract_address = pool_day.contract_address
            and found.opened_at::date = pool_day.day
        join valued as base
            on base.chain = found.chain
            and base.token_address = base_token_address
            and date_trunc('hour', base.minute) = found.opened_at
        join valued as quote
            on quote.chain = found.chain
            and quote.token_address = quote_token_address
            and quote.minute = base.minute
        where is_liquid and found.close > 0
            and found.opened_at >= $from_day and found.opened_at < $to_day + 1
        group by all
    ),

    candle_away as (
        from candle
        where (greatest(close / most, least / close) - 1) * 10000 > {_CANDLE_BPS} + fee_bps
    )
"""
_LIQUID = f"trades in {_LIQUID_HOURS} hours, {_LIQUID_USD:,} USD a day and no hooks"


def _within_limit(distance: str, name: str, meaning: str) -> Claim:
    """The claim that a distance is at most its pool's limit, which is shown beside it."""
    kwargs = {"column_A": "limit_bps", "column_B": distance, "or_equal": True}
    return Claim(name, meaning, "expect_column_pair_values_a_to_be_greater_than_b", kwargs)


DEX_AGREES = Suite(
    name="dex_agrees_with_the_index",
    asset="defi/dex_pools_daily",
    also_reads=("defi/dex_ohlcv_1h",),
    description=(
        "What pools of two tokens of the index paid for each other is what the index says of the "
        "same minutes, whatever prices the marts rest on."
    ),
    claims=(
        Claim(
            "most_pools_are_near_the_index",
            f"of a chain's V2 and V3 pools with {_LIQUID} ({_LEAST_VOTERS} or more) at most half "
            f"are more than their fee and {_DAY_BPS} bps away: if most are, it is the decoding or "
            "the index and no pool",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "pools_allowed", "column_B": "pools_away", "or_equal": True},
        ),
        as_warning(
            _within_limit(
                "liquid_bps",
                "liquid_pools_are_near_the_index",
                f"the median of the hours of a pool with {_LIQUID} is at most its fee and "
                f"{_DAY_BPS} bps away, an hour being its median trade",
            )
        ),
        as_warning(
            _within_limit(
                "thin_bps",
                "thin_pools_are_near_the_index",
                f"so is that of any other pool with at least {_LEAST_TRADES} trades",
            )
        ),
        as_warning(
            is_zero(
                "hours_away",
                "hours_of_pools_are_near_the_index",
                "no hour of a liquid pool has a median trade more than its fee and "
                f"{_HOUR_BPS} bps away",
            )
        ),
        as_warning(
            is_zero(
                "candles_away",
                "candles_close_near_the_index",
                "no candle of a liquid pool in defi.dex_ohlcv_1h closes more than its fee and "
                f"{_CANDLE_BPS} bps beyond what the index was in that hour",
            )
        ),
    ),
    metrics=f"""
        {_COMPARED},

        away as (
            select chain, market, day, count(*) as hours from pool_hour group by all
        ),

        candles_of_day as (
            select chain, market, day, count(*) as candles from candle_away group by all
        )

        select
            chain as venue,
            market,
            day,
            0 as pools_away,
            0 as pools_allowed,
            if(is_liquid, distance_bps, 0) as liquid_bps,
            if(is_liquid, 0, distance_bps) as thin_bps,
            limit_bps,
            coalesce(hours, 0) as hours_away,
            coalesce(candles, 0) as candles_away,
        from pool_day
        left join away using (chain, market, day)
        left join candles_of_day using (chain, market, day)
        union all
        -- The chain as a whole.
        select chain, '', day, pools_away, pools_allowed, 0, 0, 0, 0, 0,
        from vote
    """,
    offenders=f"""
        {_COMPARED}

        select
            if(is_liquid, 'liquid_pools_are_near_the_index', 'thin_pools_are_near_the_index')
                as claim,
            chain as venue,
            market,
            day,
            'whole day' as place,
            'median ' || round(median_bps, 1) || ' bps' as found,
            'at most ' || limit_bps || ' bps' as expected,
        from pool_day
        where is_away
        union all
        select
            'most_pools_are_near_the_index',
            chain,
            '',
            day,
            market,
            'median ' || round(median_bps, 1) || ' bps',
            'at most ' || pools_allowed || ' of ' || voters || ' pools away',
        from pool_day
        join vote using (chain, day)
        where is_liquid and is_voting and is_away
        union all
        select
            'hours_of_pools_are_near_the_index',
            chain,
            market,
            day,
            strftime(hour, '%H:00'),
            'median ' || round(hour_bps, 1) || ' bps',
            'at most ' || ({_HOUR_BPS} + fee_bps) || ' bps',
        from pool_hour
        union all
        select
            'candles_close_near_the_index',
            chain,
            market,
            day,
            strftime(hour, '%H:00'),
            'close ' || round(close, 8),
            round(least, 8) || ' to ' || round(most, 8) || ' and '
                || ({_CANDLE_BPS} + fee_bps) || ' bps',
        from candle_away
    """,
)
