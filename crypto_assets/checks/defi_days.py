"""Suites over the DeFi marts of a day: trades and what they are worth, and all others by import."""

from __future__ import annotations

from crypto_assets.checks.defi_events import SWAPS, swap_protocol
from crypto_assets.checks.defi_index import DEX_AGREES
from crypto_assets.checks.defi_prices import COVERED, PRICES
from crypto_assets.checks.defi_reserves import RESERVES
from crypto_assets.checks.defi_silence import SILENCE
from crypto_assets.checks.defi_stablecoins import FLOWS
from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_between, is_zero

# Whoever trades with a V2 or V3 pool pays it, so at the index's prices more than all that lies in
# Uniswap is wrong decimals. A pool's own price may be bent, and in V4, which settles afterwards,
# nobody needs to own what he trades with himself.
_IMPOSSIBLE_USD = 10_000_000_000
_LARGE_USD = 250_000_000
# In thousandths. Fees, and what a trade moves the price, stay far below.
_LEGS_PERMILLE = 30
_LEAST_TRADES = 20
# A V2 pool that turned its reserves over so often, for so much, was drained or traded with itself.
_TURNOVERS = 100
_TURNOVER_USD = 1_000_000

_COUNTED = f"""
    with {COVERED},

    logged as (
        select chain, block_timestamp::date as day, count(*) as swap_logs
        from raw.chain_logs
        where block_timestamp >= $from_day and block_timestamp < $to_day + 1
            and topic0 in ({", ".join(SWAPS.values())})
            and {swap_protocol()} is not null
        group by all
    ),

    swapped as (
        select
            chain,
            block_time::date as day,
            count(*) as swaps,
            count(*) filter (where is_genuine and not is_empty) as trades,
        from intermediate.int_dex_swaps
        where block_time >= $from_day and block_time < $to_day + 1
        group by all
    ),

    viewed as (
        select blockchain as chain, block_time::date as day, count(*) as rows_of_trades
        from defi.dex_trades
        where block_time >= $from_day and block_time < $to_day + 1
        group by all
    ),

    pool_hours as (
        select
            chain,
            pool,
            contract_address,
            opened_at::date as day,
            sum(swap_count) as swap_count,
            arg_min(open, opened_at) filter (where open is not null) as open,
            max(high) as high,
            min(low) as low,
            arg_max(close, opened_at) filter (where close is not null) as close,
            bool_or(coalesce(
                low > least(open, close) or high < greatest(open, close)
                or (open is null) <> (unpriced_swap_count = swap_count),
                false
            )) as is_odd,
        from defi.dex_ohlcv_1h
        where opened_at >= $from_day and opened_at < $to_day + 1
        group by all
    ),

    pool_days as (
        select
            chain,
            pool,
            day,
            coalesce(of_day.swap_count, 0) as swaps_of_day,
            coalesce(of_hours.swap_count, 0) as swaps_of_hours,
            coalesce(is_odd, false)
                or (of_day.swap_count, of_day.open, of_day.high, of_day.low, of_day.close)
                    is distinct from (
                        of_hours.swap_count,
                        of_hours.open,
                        of_hours.high,
                        of_hours.low,
                        of_hours.close
                    )
                as is_off,
        from (from defi.dex_pools_daily where day between $from_day and $to_day) as of_day
        full join pool_hours as of_hours using (chain, pool, contract_address, day)
    )
"""

_TRADES = Suite(
    name="trades_count_the_swap_logs",
    asset="defi/dex_pools_daily",
    also_reads=("defi/dex_ohlcv_1h",),
    description=(
        "Every Swap log of a covered day is a swap, every genuine swap that moved something is a "
        "trade, and days and hours of pools are made of just those trades."
    ),
    claims=(
        are_equal(
            "swaps",
            "swap_logs",
            "swaps_count_the_logs",
            "the day has as many decoded swaps as Swap logs",
        ),
        are_equal(
            "rows_of_trades",
            "trades",
            "dex_trades_has_each_trade_once",
            "defi.dex_trades has as many rows as there are genuine swaps that moved something",
        ),
        are_equal(
            "trades_of_pools",
            "trades",
            "days_of_pools_count_the_trades",
            "the swaps of defi.dex_pools_daily are as many; a day that is not covered has none",
        ),
        are_equal(
            "trades_of_hours",
            "trades",
            "hours_of_pools_count_the_trades",
            "so are those of defi.dex_ohlcv_1h",
        ),
        is_zero(
            "candles_off",
            "days_are_made_of_hours",
            "the candle of a pool's day is that of its hours, in which low and high enclose open "
            "and close",
        ),
    ),
    metrics=f"""
        {_COUNTED},

        pools as (
            select
                chain,
                day,
                sum(swaps_of_day)::bigint as trades_of_pools,
                sum(swaps_of_hours)::bigint as trades_of_hours,
                count(*) filter (where is_off) as candles_off,
            from pool_days
            group by all
        )

        select
            chain as venue,
            '' as market,
            day,
            if(is_covered, coalesce(swaps, 0), 0) as swaps,
            if(is_covered, coalesce(swap_logs, 0), 0) as swap_logs,
            if(is_covered, coalesce(trades, 0), 0) as trades,
            if(is_covered, coalesce(rows_of_trades, 0), 0) as rows_of_trades,
            coalesce(trades_of_pools, 0) as trades_of_pools,
            coalesce(trades_of_hours, 0) as trades_of_hours,
            coalesce(candles_off, 0) as candles_off,
        from covered
        full join pools using (chain, day)
        left join logged using (chain, day)
        left join swapped using (chain, day)
        left join viewed using (chain, day)
    """,
    offenders=f"""
        {_COUNTED}

        select
            'days_are_made_of_hours' as claim,
            chain as venue,
            '' as market,
            day,
            'pool ' || pool as place,
            swaps_of_day || ' swaps of the day, ' || swaps_of_hours || ' of its hours' as found,
            'one candle of both' as expected,
        from pool_days
        where is_off
    """,
)

_VALUED = f"""
    with {COVERED},

    trade as (
        select
            blockchain as chain,
            block_time::date as day,
            'block ' || block_number || ' log ' || evt_index || ' pool ' || pool as place,
            amount_usd,
            amount_usd_source,
            -- The id of a V4 pool is longer than the address of a contract.
            amount_usd > {_IMPOSSIBLE_USD} and amount_usd_source = 'venue_index'
                and length(pool) = 42 as is_impossible,
            amount_usd > {_LARGE_USD} as is_large,
            token_bought_amount::double * bought.price_usd::double as usd_bought,
            token_sold_amount::double * sold.price_usd::double as usd_sold,
        from defi.dex_trades as found
        left join defi.token_prices_1m as bought
            on bought.chain = blockchain and bought.token_address = token_bought_address
            and bought.opened_at = date_trunc('minute', block_time)
        left join defi.token_prices_1m as sold
            on sold.chain = blockchain and sold.token_address = token_sold_address
            and sold.opened_at = date_trunc('minute', block_time)
        where block_time >= $from_day and block_time < $to_day + 1
            and token_bought_address <> token_sold_address
    ),

    turned as (
        select
            chain,
            day,
            pool,
            volume_usd,
            volume_quote,
            -- Pairs order their tokens by address.
            if(quote_token_address < base_token_address, reserve0_at_close, reserve1_at_close)
                as reserve_quote,
        from defi.dex_pools_daily
        where day between $from_day and $to_day and volume_usd >= {_TURNOVER_USD}
            and volume_quote::double > {_TURNOVERS} * reserve_quote::double
    )
"""

_USD = Suite(
    name="usd_amounts_are_plausible",
    asset="defi/dex_pools_daily",
    also_reads=("defi/token_prices_1m",),
    description=(
        "Trades are worth what trades can be worth, on both their sides. Prices of pools can be "
        "bent, so only what the venues' index says blocks."
    ),
    claims=(
        is_zero(
            "trades_impossible",
            "trades_are_possible",
            f"no trade of V2 or V3 is worth more than {_IMPOSSIBLE_USD:,} USD by a price of the "
            "index; V4, where nobody needs to own what he trades with himself, is exempt",
        ),
        as_warning(
            is_zero(
                "trades_large",
                "trades_are_of_usual_size",
                f"no trade, of V4 neither, is worth more than {_LARGE_USD:,} USD",
            )
        ),
        as_warning(
            is_between(
                "legs_permille",
                0,
                _LEGS_PERMILLE,
                "both_sides_are_worth_as_much",
                "what was bought and what was sold differ by at most "
                f"{_LEGS_PERMILLE / 10:g} % of all trades of which both are priced",
            )
        ),
        as_warning(
            is_between(
                "unvalued_percent",
                0,
                50,
                "most_trades_have_a_value",
                f"most trades (of {_LEAST_TRADES} or more) have an amount in USD",
            )
        ),
        as_warning(
            is_zero(
                "pools_overturned",
                "volume_is_of_the_order_of_reserves",
                f"no V2 pool traded {_TURNOVER_USD:,} USD and {_TURNOVERS} times its reserves",
            )
        ),
    ),
    metrics=f"""
        {_VALUED},

        valued as (
            select
                chain,
                day,
                count(*) filter (where is_impossible) as impossible,
                count(*) filter (where is_large) as large,
                coalesce(least(
                    1000 * sum(abs(usd_bought - usd_sold))
                        / sum(greatest(usd_bought, usd_sold))
                            filter (where usd_bought is not null and usd_sold is not null),
                    1e6
                ), 0)::bigint as legs_permille,
                100 * count(*) filter (where amount_usd is null) // count(*) as unvalued_percent,
                count(*) as trades,
            from trade
            group by all
        ),

        overturned as (
            select chain, day, count(*) as pools from turned group by all
        )

        select
            chain as venue,
            '' as market,
            day,
            coalesce(impossible, 0) as trades_impossible,
            coalesce(large, 0) as trades_large,
            coalesce(legs_permille, 0) as legs_permille,
            if(trades >= {_LEAST_TRADES}, unvalued_percent, 0) as unvalued_percent,
            coalesce(overturned.pools, 0) as pools_overturned,
        from covered
        left join valued using (chain, day)
        left join overturned using (chain, day)
    """,
    offenders=f"""
        {_VALUED}

        select
            claim,
            chain as venue,
            '' as market,
            day,
            place,
            'bought ' || coalesce(round(usd_bought, 2)::varchar, 'for nobody knows what')
                || ', sold ' || coalesce(round(usd_sold, 2)::varchar, 'nobody knows')
                || coalesce(', ' || amount_usd || ' USD by ' || amount_usd_source, '') as found,
            expected,
        from (
            select
                trade.*,
                unnest([
                    {{'claim': 'trades_are_possible', 'is_wrong': is_impossible,
                        'expected': 'at most {_IMPOSSIBLE_USD:,} USD'}},
                    {{'claim': 'trades_are_of_usual_size', 'is_wrong': is_large,
                        'expected': 'at most {_LARGE_USD:,} USD'}},
                    {{'claim': 'both_sides_are_worth_as_much',
                        'is_wrong': abs(usd_bought - usd_sold) * 1000
                            > {_LEGS_PERMILLE} * greatest(usd_bought, usd_sold),
                        'expected': 'as much on both sides'}},
                    {{'claim': 'most_trades_have_a_value', 'is_wrong': amount_usd is null,
                        'expected': 'an amount in USD'}}
                ], recursive := true)
            from trade
        )
        where is_wrong
        union all
        select
            'volume_is_of_the_order_of_reserves',
            chain,
            '',
            day,
            'pool ' || pool,
            volume_quote || ' for ' || round(volume_usd, 2) || ' USD',
            'at most {_TURNOVERS} times ' || reserve_quote,
        from turned
    """,
)

SUITES: tuple[Suite, ...] = (_TRADES, DEX_AGREES, _USD, SILENCE, RESERVES, FLOWS, PRICES)
