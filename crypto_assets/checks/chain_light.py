"""Suites over block ranges of a chain in the light mode: headers, and the logs that were asked for.

How many logs a block has is not known then, so these claim less than those of `chain`.
"""

from __future__ import annotations

from collections.abc import Sequence

from crypto_assets.catalog import Chain
from crypto_assets.checks.suite import Suite, are_equal, is_zero


def no_transactions(chain: Chain) -> Suite:
    """Transactions are not collected."""
    return Suite(
        name=f"{chain.name}_transactions_are_complete",
        asset=f"raw/{chain.name}_transactions",
        description=f"Of {chain.name} no transactions are collected (mode light): none is here.",
        claims=(
            is_zero("transactions_in_file", "no_transaction_is_here", "the file holds no rows"),
        ),
        metrics=f"""
            select venue, market, partition, count(block_number) as transactions_in_file
            from chain_ranges
            left join (
                select "range" as partition, block_number
                from raw.{chain.name}_transactions
                where "range" = $partition
            ) using (partition)
            group by all
        """,
        offenders=f"""
            select
                'no_transaction_is_here' as claim,
                venue,
                market,
                partition,
                'block ' || block_number || ' transaction ' || transaction_index as place,
                '0x' || lower(hex(hash)) as found,
                'no transaction' as expected,
            from chain_ranges
            join raw.{chain.name}_transactions on partition = "range"
            where "range" = $partition
        """,
    )


def chosen_logs(chain: Chain) -> Suite:
    """The logs are those that were asked for and delivered; whether that is all, nobody tells."""
    asked = chain.logs_of
    # Name of the claim, what it says, and when a log breaks it.
    claims = (
        (
            "logs_are_of_blocks_here",
            "each log is of a block of the range, and has its timestamp",
            "block_time is distinct from block_timestamp",
        ),
        (
            "logs_are_those_asked_for",
            "each log is of a contract and an event that logs_of asks for",
            f"not ({_is_among('address', asked.addresses)} "
            f"and {_is_among('topic0', asked.topics)})",
        ),
        (
            "logs_follow_their_transactions",
            "a log is not of an earlier transaction than the log before it in the block",
            "transaction_index < transaction_before",
        ),
    )
    logs = f"""
        with log as (
            select
                *,
                lag(transaction_index) over (partition by block_number order by log_index)
                    as transaction_before,
            from raw.{chain.name}_logs
            left join (
                select number as block_number, timestamp as block_time
                from raw.{chain.name}_blocks
                where "range" = $partition
            ) using (block_number)
            where "range" = $partition
        )
    """
    counts = ", ".join(
        f"count(log_index) filter (where {breaks}) as breaks_{name}" for name, _, breaks in claims
    )
    return Suite(
        name=f"{chain.name}_logs_are_complete",
        asset=f"raw/{chain.name}_logs",
        also_reads=(f"raw/{chain.name}_blocks",),
        description=(
            f"Logs of {chain.name} are ones that were asked for, all that a node delivered (mode "
            "light). That it left none out rests on the node, but for blocks whose bloom rules out "
            "that there is any."
        ),
        claims=(
            are_equal(
                "logs_in_file",
                "logs_delivered",
                "files_hold_what_was_delivered",
                "the file holds as many logs as the node delivered, by the proof",
            ),
            *(is_zero(f"breaks_{name}", name, meaning) for name, meaning, _ in claims),
        ),
        metrics=f"""
            {logs},

            proof as (
                select partition, source_row_count
                from raw.proofs
                where dataset = '{chain.name}_logs'
            )

            select
                venue,
                market,
                partition,
                count(log_index) as logs_in_file,
                coalesce(any_value(source_row_count), 0) as logs_delivered,
                {counts},
            from chain_ranges
            left join log on partition = "range"
            left join proof using (partition)
            group by all
        """,
        offenders=" union all ".join(
            f"""(
                {logs}

                select
                    '{name}' as claim,
                    venue,
                    market,
                    partition,
                    'block ' || block_number || ' log ' || log_index as place,
                    'contract 0x' || lower(hex(address)) || ', transaction ' || transaction_index
                        || ', ' || block_timestamp as found,
                    '{meaning}' as expected,
                from log
                join chain_ranges on partition = "range"
                where {breaks}
            )"""
            for name, meaning, breaks in claims
        ),
    )


def _is_among(column: str, values: Sequence[str]) -> str:
    """Whether a column holds one of some 0x-hex values; of none, anything."""
    if not values:
        return "true"
    literals = ", ".join(f"unhex('{value.removeprefix('0x')}')" for value in values)
    return f"coalesce({column} in ({literals}), false)"
