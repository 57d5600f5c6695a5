"""Suites over a chain's block ranges: every block, transaction and log of them is there.

Hashes, roots and blooms were proven before a range was committed; here its three files are held
against each other.
"""

from __future__ import annotations

from crypto_assets.catalog import Chain
from crypto_assets.checks.chain_light import chosen_logs, no_transactions
from crypto_assets.checks.suite import Suite, are_equal, is_zero


def chain_suites(chain: Chain) -> tuple[Suite, ...]:
    """One suite for each dataset of a chain."""
    if chain.mode == "light":
        return _blocks(chain), no_transactions(chain), chosen_logs(chain)
    return _blocks(chain), _transactions(chain), _logs(chain)


def _blocks(chain: Chain) -> Suite:
    # Only where the protocol has slots is the time of two blocks never the same.
    order, wrong = ("after", "<=") if chain.slot_seconds else ("not before", "<")
    is_unlinked = "parent_hash <> hash_before and number = number_before + 1"
    is_early = f"timestamp {wrong} time_before"
    blocks = f"""
        with block as (
            select
                "range" as partition,
                number,
                parent_hash,
                timestamp,
                lag(number) over blocks as number_before,
                lag(hash) over blocks as hash_before,
                lag(timestamp) over blocks as time_before,
            from raw.{chain.name}_blocks
            where "range" = $partition
            window blocks as (partition by "range" order by number)
        )
    """
    return Suite(
        name=f"{chain.name}_blocks_are_complete",
        asset=f"raw/{chain.name}_blocks",
        description=f"Every block of {chain.name} is there, once, and follows the one before it.",
        claims=(
            are_equal(
                "blocks_in_file",
                "blocks_of_range",
                "files_hold_every_block",
                "the file holds as many blocks as the range has",
            ),
            is_zero(
                "blocks_missing",
                "numbers_leave_no_hole",
                "each number from the first to the last of the range has its block",
            ),
            is_zero(
                "blocks_unlinked",
                "parents_are_the_blocks_before",
                "the parent hash of a block is the hash of the block before it in the range",
            ),
            is_zero(
                "blocks_early",
                "timestamps_increase",
                f"the timestamp of a block is {order} that of the block before it in the range",
            ),
        ),
        metrics=f"""
            {blocks}

            select
                venue,
                market,
                partition,
                count(number) as blocks_in_file,
                any_value(last_block - first_block + 1) as blocks_of_range,
                blocks_of_range - count(distinct number) filter (
                    where number between first_block and last_block
                ) as blocks_missing,
                count(*) filter (where {is_unlinked}) as blocks_unlinked,
                count(*) filter (where {is_early}) as blocks_early,
            from chain_ranges
            left join block using (partition)
            group by all
        """,
        offenders=f"""
            {blocks},

            listed as (
                select *, unnest(range(first_block, last_block + 1)) as number from chain_ranges
            )

            select
                'numbers_leave_no_hole' as claim,
                venue,
                market,
                partition,
                'block ' || number as place,
                'no block' as found,
                'a block' as expected,
            from listed
            anti join block using (partition, number)
            union all
            select
                'parents_are_the_blocks_before',
                venue,
                market,
                partition,
                'block ' || number,
                'parent 0x' || lower(hex(parent_hash)),
                '0x' || lower(hex(hash_before)),
            from block
            join chain_ranges using (partition)
            where {is_unlinked}
            union all
            select
                'timestamps_increase',
                venue,
                market,
                partition,
                'block ' || number,
                timestamp::varchar,
                '{order} ' || time_before,
            from block
            join chain_ranges using (partition)
            where {is_early}
        """,
    )


def _transactions(chain: Chain) -> Suite:
    return Suite(
        name=f"{chain.name}_transactions_are_complete",
        asset=f"raw/{chain.name}_transactions",
        also_reads=(f"raw/{chain.name}_blocks",),
        description=f"Every block of {chain.name} has all its transactions, in their places.",
        claims=(
            are_equal(
                "transactions_in_file",
                "transactions_of_blocks",
                "files_hold_every_transaction",
                "the file holds as many transactions as the blocks of the range say they have",
            ),
            is_zero(
                "blocks_off",
                "blocks_have_their_transactions",
                "each block of the range has as many transactions as it says, and no other block "
                "has any",
            ),
            is_zero(
                "blocks_unnumbered",
                "indexes_leave_no_hole",
                "the transactions of a block have the indexes from 0 on, without a hole",
            ),
        ),
        metrics=f"""
            {_compared(chain, "transactions", "transaction_index", "transaction_count")}

            select
                venue,
                market,
                partition,
                coalesce(sum(held), 0)::bigint as transactions_in_file,
                coalesce(sum(told), 0)::bigint as transactions_of_blocks,
                count(*) filter (where held is distinct from told) as blocks_off,
                count(*) filter (where not is_numbered) as blocks_unnumbered,
            from chain_ranges
            left join compared using (partition)
            group by all
        """,
        offenders=f"""
            {_compared(chain, "transactions", "transaction_index", "transaction_count")}

            {_OFF.format(kind="transactions")}
        """,
    )


def _logs(chain: Chain) -> Suite:
    compared = f"""
        {_compared(chain, "logs", "log_index", "log_count")},

        emitted as (
            select
                "range" as partition,
                block_number,
                transaction_index,
                transaction_hash as hash,
                count(*) as held,
            from raw.{chain.name}_logs
            where "range" = $partition
            group by all
        ),

        transaction_off as (
            select
                partition,
                block_number,
                transaction_index,
                coalesce(held, 0) as held,
                log_count as told,
            from (
                select "range" as partition, *
                from raw.{chain.name}_transactions
                where "range" = $partition
            )
            full join emitted using (partition, block_number, transaction_index, hash)
            where coalesce(held, 0) is distinct from log_count
        )
    """
    return Suite(
        name=f"{chain.name}_logs_are_complete",
        asset=f"raw/{chain.name}_logs",
        also_reads=(f"raw/{chain.name}_blocks", f"raw/{chain.name}_transactions"),
        description=f"Every block and every transaction of {chain.name} has all its logs.",
        claims=(
            are_equal(
                "logs_in_file",
                "logs_of_blocks",
                "files_hold_every_log",
                "the file holds as many logs as the blocks of the range say they have",
            ),
            is_zero(
                "blocks_off",
                "blocks_have_their_logs",
                "each block of the range has as many logs as it says, and no other block has any",
            ),
            is_zero(
                "blocks_unnumbered",
                "indexes_leave_no_hole",
                "the logs of a block have the indexes from 0 on, without a hole",
            ),
            is_zero(
                "transactions_off",
                "transactions_have_their_logs",
                "each transaction, by its index and hash, has as many logs as its receipt says, "
                "and no other has any",
            ),
        ),
        metrics=f"""
            {compared}

            select
                venue,
                market,
                partition,
                coalesce(sum(held), 0)::bigint as logs_in_file,
                coalesce(sum(told), 0)::bigint as logs_of_blocks,
                count(*) filter (where held is distinct from told) as blocks_off,
                count(*) filter (where not is_numbered) as blocks_unnumbered,
                coalesce(any_value(off.transactions), 0) as transactions_off,
            from chain_ranges
            left join compared using (partition)
            left join (
                select partition, count(*) as transactions from transaction_off group by all
            ) as off using (partition)
            group by all
        """,
        offenders=f"""
            {compared}

            {_OFF.format(kind="logs")}
            union all
            select
                'transactions_have_their_logs',
                venue,
                market,
                partition,
                'block ' || block_number || ' transaction ' || transaction_index,
                held || ' logs',
                coalesce(told || ' by its receipt', 'no such transaction'),
            from transaction_off
            join chain_ranges using (partition)
        """,
    )


def _compared(chain: Chain, kind: str, index: str, told: str) -> str:
    """Blocks of the ranges, and any other that has rows: how many, and how many it says it has."""
    return f"""
        with block as (
            select "range" as partition, number, {told} as told
            from raw.{chain.name}_blocks
            where "range" = $partition
        ),

        held as (
            select
                "range" as partition,
                block_number as number,
                count(*) as held,
                min({index}) as first_index,
                max({index}) as last_index,
                count(distinct {index}) = held and first_index = 0 and last_index = held - 1
                    as is_numbered,
            from raw.{chain.name}_{kind}
            where "range" = $partition
            group by all
        ),

        listed as (
            select partition, unnest(range(first_block, last_block + 1)) as number
            from chain_ranges
        ),

        compared as (
            select * replace (coalesce(held, 0) as held)
            from listed
            full join held using (partition, number)
            left join block using (partition, number)
        )
    """


# Offending rows of what `_compared` gives.
_OFF = """
    select
        unnest(
            if(held is distinct from told, ['blocks_have_their_{kind}'], [])
            || if(is_numbered, [], ['indexes_leave_no_hole'])
        ) as claim,
        venue,
        market,
        partition,
        'block ' || number as place,
        held || ' {kind}' || coalesce(', indexes ' || first_index || ' to ' || last_index, '')
            as found,
        coalesce(told || ' by the block', 'no such block') as expected,
    from compared
    join chain_ranges using (partition)
    where held is distinct from told or not is_numbered
"""
