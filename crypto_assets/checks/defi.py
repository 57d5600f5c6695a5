"""Suites over what is decoded of a chain's block ranges: swaps, lending, and stablecoins.

It is held against the logs of the range, by ids and by counts, before days are built on it. What a
market or an imitator may do warns; what would mislead whoever reads the marts blocks.
"""

from __future__ import annotations

from crypto_assets.catalog import Chain
from crypto_assets.checks.defi_events import SWAPS, swap_protocol
from crypto_assets.checks.defi_lending import lending_decodes
from crypto_assets.checks.defi_stablecoins import supplies_agree
from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_between, is_zero

# A share of fewer swaps says little.
_LEAST_SWAPS = 20
# In thousandths. A V4 pool is known in a range by its Initialize there, or by the position
# manager's key of it: one that a hook made for itself in another range has no tokens.
_UNKNOWN_PERMILLE = 100
_IMITATION_PERMILLE = 100


def range_suites(chain: Chain) -> tuple[Suite, ...]:
    """One suite for each kind of what is decoded of a chain."""
    return _swaps(chain), lending_decodes(chain), supplies_agree(chain)


def _swaps(chain: Chain) -> Suite:
    compared = f"""
        with emitted as (
            select
                {swap_protocol()} as protocol,
                block_number,
                log_index,
                true as is_logged,
            from raw.chain_logs
            where chain = '{chain.name}' and "range" = $partition
                and topic0 in ({", ".join(SWAPS.values())})
                and protocol is not null
        ),

        pool as (
            select *
            from intermediate.int_dex_pools
            where chain = '{chain.name}' and block_range = $partition
        ),

        swap as (
            select
                found.*,
                'block ' || found.block_number || ' log ' || found.log_index as place,
                is_genuine and (
                    token0_address is null
                    or token1_address is null
                    or amount_overflow is null and (
                        amount0_in_raw is null
                        or amount1_in_raw is null
                        or amount0_out_raw is null
                        or amount1_out_raw is null
                    )
                ) as is_undecoded,
                is_genuine and not is_empty as is_trade,
                is_trade and (
                    token_bought_address is null
                    or token_sold_address is null
                    or token_bought_amount_raw is distinct from case token_bought_address
                        when token0_address then amount0_out_raw
                        when token1_address then amount1_out_raw
                    end
                    or token_sold_amount_raw is distinct from case token_sold_address
                        when token0_address then amount0_in_raw
                        when token1_address then amount1_in_raw
                    end
                ) as is_side_off,
                least(amount0_in_raw, amount1_in_raw, amount0_out_raw, amount1_out_raw) < 0
                    as is_negative,
                listed.pool is null or is_genuine is distinct from (same.pool is not null)
                    as is_pool_off,
                coalesce(listed.is_unknown, false) as is_unknown,
                coalesce(listed.is_imitation, false) as is_imitation,
            from intermediate.int_dex_swaps as found
            left join (
                select
                    contract_address,
                    pool,
                    bool_or(origin = 'unknown') as is_unknown,
                    bool_or(origin = 'imitation') as is_imitation,
                from pool
                group by all
            ) as listed using (contract_address, pool)
            left join (
                select distinct contract_address, pool, protocol, token0_address, token1_address
                from pool
                where is_genuine
            ) as same using (contract_address, pool, protocol, token0_address, token1_address)
            where found.chain = '{chain.name}' and found.block_range = $partition
        ),

        held as (
            select protocol, block_number, log_index, count(*) as row_count
            from swap
            group by all
        ),

        compared as (
            select
                protocol as market,
                block_number,
                log_index,
                coalesce(is_logged, false) as is_emitted,
                coalesce(row_count, 0) as row_count,
                row_count is distinct from 1 or not is_emitted as is_off,
            from emitted
            full join held using (protocol, block_number, log_index)
        )
    """
    return Suite(
        name=f"{chain.name}_swaps_decode",
        asset=f"intermediate/int_dex_swaps/{chain.name}",
        also_reads=(f"intermediate/int_dex_pools/{chain.name}",),
        description=(
            f"Every Swap log of {chain.name} is one row, whose tokens, amounts and sides are known "
            "if its pool is one of a listed protocol."
        ),
        claims=(
            are_equal(
                "swap_rows",
                "swap_logs",
                "rows_count_the_swap_logs",
                "the range has as many swaps in the protocol's manner as such Swap logs, of any "
                "contract",
            ),
            is_zero(
                "logs_off",
                "each_swap_log_has_one_row",
                "each of those logs, by block and index, has one row, and no other log has any",
            ),
            is_zero(
                "swaps_undecoded",
                "genuine_swaps_decode",
                "a swap of a genuine pool has both tokens, and all four amounts unless one is too "
                "large and kept as its word",
            ),
            is_zero(
                "sides_off",
                "sides_are_those_of_the_amounts",
                "a trade of a genuine pool has a token bought and one sold, with the raw amounts "
                "that left and entered the pool",
            ),
            is_zero(
                "amounts_negative",
                "amounts_are_not_negative",
                "amounts into and out of a pool are counted apart, so none is below zero",
            ),
            is_zero(
                "pools_off",
                "swaps_agree_with_their_pools",
                "the pool of each swap is in int_dex_pools, as genuine as the swap says, and a "
                "genuine one with the same tokens",
            ),
            as_warning(
                is_between(
                    "unknown_permille",
                    0,
                    _UNKNOWN_PERMILLE,
                    "pools_are_known",
                    "at most a tenth of the swaps (of 20 or more) is of V4 pools that neither were "
                    "made in the range nor have a key that the position manager knows, of which no "
                    "trade is made",
                )
            ),
            as_warning(
                is_between(
                    "imitation_permille",
                    0,
                    _IMITATION_PERMILLE,
                    "imitations_are_few",
                    "at most a tenth of the swaps (of 20 or more) is of contracts that claim a "
                    "listed factory which did not make them",
                )
            ),
        ),
        metrics=f"""
            {compared},

            counted as (
                select
                    market,
                    count(*) filter (where is_emitted) as swap_logs,
                    sum(row_count)::bigint as swap_rows,
                    count(*) filter (where is_off) as logs_off,
                from compared
                group by all
            ),

            judged as (
                select
                    protocol as market,
                    count(*) as swaps,
                    count(*) filter (where is_undecoded) as undecoded,
                    count(*) filter (where is_side_off) as sides_off,
                    count(*) filter (where is_negative) as negative,
                    count(*) filter (where is_pool_off) as pools_off,
                    1000 * count(*) filter (where is_unknown) // swaps as unknown_permille,
                    1000 * count(*) filter (where is_imitation) // swaps as imitation_permille,
                from swap
                group by all
            )

            select
                venue,
                protocol.market,
                partition,
                coalesce(swap_rows, 0) as swap_rows,
                coalesce(swap_logs, 0) as swap_logs,
                coalesce(logs_off, 0) as logs_off,
                coalesce(undecoded, 0) as swaps_undecoded,
                coalesce(sides_off, 0) as sides_off,
                coalesce(negative, 0) as amounts_negative,
                coalesce(pools_off, 0) as pools_off,
                if(swaps >= {_LEAST_SWAPS}, unknown_permille, 0) as unknown_permille,
                if(swaps >= {_LEAST_SWAPS}, imitation_permille, 0) as imitation_permille,
            from chain_ranges
            cross join unnest({list(SWAPS)}) as protocol(market)
            left join counted on counted.market = protocol.market
            left join judged on judged.market = protocol.market
            where partition = $partition
        """,
        offenders=f"""
            {compared}

            select
                'each_swap_log_has_one_row' as claim,
                '{chain.name}' as venue,
                market,
                $partition as partition,
                'block ' || block_number || ' log ' || log_index as place,
                row_count || ' rows' as found,
                if(is_emitted, '1 row', 'no such Swap log') as expected,
            from compared
            where is_off
            union all
            select
                claim,
                '{chain.name}',
                protocol,
                $partition,
                place,
                'pool ' || pool || ' tokens ' || coalesce(token0_address, 'unknown') || ' '
                    || coalesce(token1_address, 'unknown') || ' in '
                    || coalesce(amount0_in_raw::varchar, 'NULL') || ' '
                    || coalesce(amount1_in_raw::varchar, 'NULL') || ' out '
                    || coalesce(amount0_out_raw::varchar, 'NULL') || ' '
                    || coalesce(amount1_out_raw::varchar, 'NULL') || ' bought '
                    || coalesce(token_bought_amount_raw::varchar, 'NULL') || ' sold '
                    || coalesce(token_sold_amount_raw::varchar, 'NULL'),
                expected,
            from (
                select
                    swap.*,
                    unnest([
                        {{'claim': 'genuine_swaps_decode', 'is_off': is_undecoded,
                            'expected': 'two tokens and four amounts'}},
                        {{'claim': 'sides_are_those_of_the_amounts', 'is_off': is_side_off,
                            'expected': 'bought what left the pool, sold what entered it'}},
                        {{'claim': 'amounts_are_not_negative', 'is_off': is_negative,
                            'expected': 'no amount below zero'}},
                        {{'claim': 'swaps_agree_with_their_pools', 'is_off': is_pool_off,
                            'expected': 'a pool of the same tokens, as genuine as the swap'}},
                        {{'claim': 'pools_are_known', 'is_off': is_unknown,
                            'expected': 'a pool whose tokens are known'}},
                        {{'claim': 'imitations_are_few', 'is_off': is_imitation,
                            'expected': 'a pool of the factory that it names'}}
                    ], recursive := true)
                from swap
            )
            where is_off
        """,
    )
