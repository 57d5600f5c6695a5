"""A suite over a chain's block ranges: every configured node tells the same of them.

Hashes are proven to be those of their headers, but not that the chain still goes by them; and of
logs that a node leaves out only another node, or the receipts root, can tell.
"""

from __future__ import annotations

from crypto_assets.catalog import Chain
from crypto_assets.checks.suite import Suite, are_equal


def nodes_agree(chain: Chain) -> Suite:
    """Whether what is committed of some blocks is what each node says of them (`node_facts`)."""
    told = f"""
        with logs as (
            select block_number as number, count(*) as logs
            from raw.{chain.name}_logs
            where "range" = $partition
                and block_number in (select number from node_facts)
            group by all
        ),

        block as (
            select "range" as partition, number, hash, coalesce(logs, 0) as log_count
            from raw.{chain.name}_blocks
            left join logs using (number)
            where "range" = $partition
        ),

        told as (
            select
                fact.*,
                fact.hash is distinct from block.hash as is_hash_off,
                fact.log_count is distinct from block.log_count as is_log_count_off,
                block.hash as committed_hash,
                block.log_count as committed_log_count,
            from node_facts as fact
            left join block using (partition, number)
        )
    """
    return Suite(
        name=f"{chain.name}_nodes_agree",
        asset=f"raw/{chain.name}_logs",
        also_reads=(f"raw/{chain.name}_blocks",),
        description=(
            f"Every configured node of {chain.name} has the committed hash and number of logs of "
            "the first and the last block of a range, and of some between. With only one node "
            "nothing is compared."
        ),
        claims=(
            are_equal(
                "blocks_that_all_told_of",
                "blocks_compared",
                "all_nodes_told_of_all_blocks",
                "each node that was asked told of each of the blocks",
            ),
            are_equal(
                "nodes_with_the_hashes",
                "nodes_compared",
                "nodes_agree_on_hashes",
                "each node has the committed hash of each of the blocks",
            ),
            are_equal(
                "nodes_with_the_logs",
                "nodes_compared",
                "nodes_agree_on_log_counts",
                "each node has as many logs of each of the blocks as are committed",
            ),
        ),
        metrics=f"""
            {told},

            per_block as (
                select partition, number, count(distinct node) as nodes from told group by all
            ),

            per_range as (
                select
                    partition,
                    count(distinct node) as nodes,
                    count(distinct node) filter (where is_hash_off) as hash_off,
                    count(distinct node) filter (where is_log_count_off) as log_count_off,
                from told
                group by all
            )

            select
                venue,
                market,
                partition,
                count(number) as blocks_compared,
                count(number) filter (where per_block.nodes = per_range.nodes)
                    as blocks_that_all_told_of,
                coalesce(any_value(per_range.nodes), 0) as nodes_compared,
                coalesce(any_value(per_range.nodes - hash_off), 0) as nodes_with_the_hashes,
                coalesce(any_value(per_range.nodes - log_count_off), 0) as nodes_with_the_logs,
            from chain_ranges
            left join per_range using (partition)
            left join per_block using (partition)
            group by all
        """,
        offenders=" union all ".join(
            f"""(
                {told}

                select
                    '{claim}' as claim,
                    venue,
                    market,
                    partition,
                    'block ' || number || ' at ' || node as place,
                    {found} as found,
                    coalesce({expected}, 'no such block') as expected,
                from told
                join chain_ranges using (venue, partition)
                where {is_off}
            )"""
            for claim, is_off, found, expected in (
                (
                    "nodes_agree_on_hashes",
                    "is_hash_off",
                    "'0x' || lower(hex(hash))",
                    "'0x' || lower(hex(committed_hash))",
                ),
                (
                    "nodes_agree_on_log_counts",
                    "is_log_count_off",
                    "log_count || ' logs'",
                    "committed_log_count || ' logs'",
                ),
            )
        ),
    )
