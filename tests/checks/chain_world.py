"""Three ranges of ten blocks, fetched by the source from a node, proven and committed to a lake.

The worlds of the tests are copies of its raw views, which they may break.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
from sources.chain_node import CHAIN, ChainNode, Network, light, made_blocks, source

from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange
from crypto_assets.lake import Lake, RangeWriter
from crypto_assets.sources.evm import Evm
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.warehouse import attach_raw_views

BLOCKS = made_blocks(30)
FIRST = min(BLOCKS)
RANGES = CHAIN.ranges(FIRST, max(BLOCKS))
BROKEN = RANGES[1]
NODES = ("node-a.test", "node-b.test")

_LOGS = [
    log for _, receipts in BLOCKS.values() for each in json.loads(receipts) for log in each["logs"]
]
_EVENT = Counter(log["topics"][0] for log in _LOGS if log["topics"]).most_common(1)[0][0]
# In its light mode the chain collects one event, of all contracts that emit it but one.
LIGHT = light(
    addresses=tuple(sorted({log["address"] for log in _LOGS if _EVENT in log["topics"]}))[1:],
    topics=(_EVENT,),
)


def fill(lake: Lake, chain: Chain = CHAIN) -> None:
    """Commit the ranges, as a node of the chain delivers them."""
    with source(Network(node_a=ChainNode(BLOCKS)), chain=chain) as evm:
        for blocks in RANGES:
            commit(lake, evm, blocks)


def commit(lake: Lake, evm: Evm, blocks: BlockRange, *, logs_dropped: int = 0) -> None:
    """Commit one range; `logs_dropped` of its last logs get lost, which the lake cannot know."""
    part = ChainRange(evm.chain.name, blocks)
    extract = evm.fetch(blocks, lake.inflight(part))
    lake.inflight(part).mkdir(parents=True)
    with RangeWriter(lake, evm.datasets, part) as writer:
        counts = dict.fromkeys(KINDS, 0)
        for rows in extract:
            kept = rows._replace(logs=rows.logs.slice(0, rows.logs.num_rows - logs_dropped))
            writer.write(kept)
            for kind, batch in zip(KINDS, kept, strict=True):
                counts[kind] += batch.num_rows
        writer.commit(source_row_counts=counts, source=(), checks=extract.checks)


def copied(lake: Lake, connection: duckdb.DuckDBPyConnection, chain: Chain) -> None:
    """Make tables of the raw views that a chain's suites read."""
    attach_raw_views(connection, lake, [], chains=datasets(chain), ranges=RANGES)
    for name in (*(chain.dataset(kind) for kind in KINDS), "proofs"):
        connection.execute(f"create table {name} as from raw.{name}")
        connection.execute(f"drop view raw.{name}")
        connection.execute(f"create table raw.{name} as from {name}")
        connection.execute(f"drop table {name}")


def told_by(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """What nodes say that have what is committed: of the first, a middle and the last block."""
    found = connection.execute(f"""
        select
            'ethereum' as venue, node, block."range" as partition, number, hash,
            count(log_index) as log_count,
        from raw.ethereum_blocks as block
        left join raw.ethereum_logs on block_number = number,
            unnest({list(NODES)}) as n(node)
        where number % 10 in (0, 4, 9)
        group by all
        order by all
    """)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def lake_of(home: Path, chain: Chain) -> Lake:
    """A lake with the ranges."""
    lake = Lake(home)
    fill(lake, chain)
    return lake
