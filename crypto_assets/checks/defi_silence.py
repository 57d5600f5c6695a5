"""A suite over what is missing: pools and protocols that trade every day, and today do not.

A decoder that no longer understands a contract leaves no wrong row behind, only none.
"""

from __future__ import annotations

from crypto_assets.checks.defi_prices import COVERED
from crypto_assets.checks.suite import Suite, as_warning, is_zero

# Covered days before, of which most must have had so many swaps, and how far back they may lie.
_DAYS = 7
_LEAST_DAYS = 5
_WITHIN_DAYS = 14
_LEAST_SWAPS = 100

_SILENT = f"""
    with {COVERED},

    earlier as (
        select covered.chain, covered.day, daily.day as earlier_day
        from covered
        join network.blocks_daily as daily
            on daily.chain = covered.chain
            and daily.day < covered.day and daily.day >= covered.day - {_WITHIN_DAYS}
        qualify row_number() over (
            partition by covered.chain, covered.day order by daily.day desc
        ) <= {_DAYS}
    ),

    known as (
        select chain, day, count(*) as days
        from earlier
        group by all
        having days >= {_LEAST_DAYS}
    ),

    traded as (
        select
            chain,
            project || '_v' || version as market,
            day,
            pool,
            contract_address,
            sum(swap_count) as swaps,
        from defi.dex_pools_daily
        where day >= $from_day - {_WITHIN_DAYS} and day <= $to_day
        group by grouping sets (
            (chain, market, day, pool, contract_address), (chain, market, day)
        )
    ),

    -- A median over the days before: more than half of them had so many.
    usual as (
        select
            known.chain, market, pool, contract_address, known.day, known.days,
            count(*) filter (where swaps >= {_LEAST_SWAPS}) as busy_days,
            quantile_disc(swaps, 0.5) as usual_swaps,
        from known
        join earlier using (chain, day)
        join traded on traded.chain = known.chain and traded.day = earlier_day
        group by all
        having 2 * busy_days > known.days
    ),

    judged as (
        select usual.*, today.chain is null as is_silent
        from usual
        left join traded as today
            on today.chain = usual.chain
            and today.market = usual.market
            and today.day = usual.day
            and today.pool is not distinct from usual.pool
            and today.contract_address is not distinct from usual.contract_address
    )
"""
_USUAL = (
    f"had {_LEAST_SWAPS} swaps or more on most of the {_DAYS} covered days before (of at least "
    f"{_LEAST_DAYS} within {_WITHIN_DAYS})"
)

SILENCE = Suite(
    name="usual_trade_goes_on",
    asset="defi/dex_pools_daily",
    description="What is traded every day is traded today. It may have ended, so both only warn.",
    claims=(
        as_warning(
            is_zero(
                "pools_silent",
                "pools_have_not_gone_silent",
                f"a pool that {_USUAL} has one today",
            )
        ),
        as_warning(
            is_zero(
                "protocols_silent",
                "protocols_have_not_gone_silent",
                f"a protocol that {_USUAL} has one today",
            )
        ),
    ),
    metrics=f"""
        {_SILENT}

        select
            chain as venue,
            market,
            day,
            count(*) filter (where is_silent and pool is not null) as pools_silent,
            count(*) filter (where is_silent and pool is null) as protocols_silent,
        from judged
        group by all
    """,
    offenders=f"""
        {_SILENT}

        select
            if(pool is null, 'protocols_have_not_gone_silent', 'pools_have_not_gone_silent')
                as claim,
            chain as venue,
            market,
            day,
            coalesce('pool ' || pool, 'whole protocol') as place,
            'no swap' as found,
            'about ' || usual_swaps as expected,
        from judged
        where is_silent
    """,
)
