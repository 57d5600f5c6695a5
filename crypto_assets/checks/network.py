"""A suite over the marts of all chains: a day has a row once, and only once, it is covered."""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_zero

# Which days a chain covers was decided by hashes (`partitions.days_covered`); what the rows say is
# held against the blocks before and after them.
_DAYS = """
    with daily as (
        from network.blocks_daily where day between $from_day and $to_day
    ),

    covered as (
        select distinct chain, day
        from raw.covered_days
        where day between $from_day and $to_day
    ),

    collected as (
        select chain, timestamp::date as day, count(*) as blocks
        from raw.chain_blocks
        where timestamp >= $from_day and timestamp < $to_day + 1
        group by all
    ),

    compared as (
        select
            chain,
            day,
            covered.day is not null as is_covered,
            daily.day is not null as has_row,
            coalesce(block_count, 0) as block_count,
            coalesce(last_block - first_block + 1, 0) as blocks_spanned,
            coalesce(collected.blocks, 0) as blocks_collected,
            first_block,
            last_block,
            before.timestamp as before_at,
            after.timestamp as after_at,
            -- The genesis has no block before it.
            coalesce(first_block > 0 and coalesce(before_at >= day, true), false) as starts_late,
            last_block is not null and coalesce(after_at < day + 1, true) as ends_early,
        from daily
        full join covered using (chain, day)
        full join collected using (chain, day)
        left join (select chain, number + 1 as first_block, timestamp from raw.chain_blocks)
            as before using (chain, first_block)
        left join (select chain, number - 1 as last_block, timestamp from raw.chain_blocks)
            as after using (chain, last_block)
    )
"""

_COVERED = Suite(
    name="days_are_covered",
    asset="network/blocks_daily",
    description=(
        "A day of a chain has a row if every block of it is collected, and that row is of all its "
        "blocks and of no other."
    ),
    claims=(
        is_zero(
            "missing_rows",
            "covered_days_have_a_row",
            "a chain that covers the day has its row",
        ),
        is_zero(
            "uncovered_rows",
            "rows_are_of_covered_days",
            "a chain that does not cover the day has no row",
        ),
        are_equal(
            "blocks_counted",
            "blocks_spanned",
            "blocks_are_contiguous",
            "last block - first block + 1 is the number of blocks",
        ),
        are_equal(
            "blocks_counted",
            "blocks_collected",
            "rows_count_the_collected_blocks",
            "the number of blocks is that of the day's blocks in the lake",
        ),
        is_zero(
            "open_ends",
            "days_end_between_blocks",
            "the block before the first one is of an earlier day (the genesis has none), and the "
            "one after the last one of a later day",
        ),
        as_warning(
            is_zero(
                "blocks_left_out",
                "days_with_blocks_are_covered",
                "a chain of which blocks of the day are in the lake covers the day",
            )
        ),
    ),
    metrics=f"""
        {_DAYS}

        select
            chain as venue,
            '' as market,
            day,
            (is_covered and not has_row)::bigint as missing_rows,
            (has_row and not is_covered)::bigint as uncovered_rows,
            block_count as blocks_counted,
            blocks_spanned,
            if(has_row, blocks_collected, 0) as blocks_collected,
            starts_late::bigint + ends_early::bigint as open_ends,
            if(is_covered, 0, blocks_collected) as blocks_left_out,
        from compared
    """,
    offenders=f"""
        {_DAYS}

        select
            'days_end_between_blocks' as claim,
            chain as venue,
            '' as market,
            day,
            'block before ' || first_block as place,
            coalesce(before_at::varchar, 'not in the lake') as found,
            'before ' || day as expected,
        from compared
        where starts_late
        union all
        select
            'days_end_between_blocks',
            chain,
            '',
            day,
            'block after ' || last_block,
            coalesce(after_at::varchar, 'not in the lake'),
            'after ' || day,
        from compared
        where ends_early
    """,
)

SUITES = (_COVERED,)
