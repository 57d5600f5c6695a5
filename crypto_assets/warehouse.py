"""DuckDB before dbt: what the warehouse shows of the lake, and the tables that dbt builds in.

    warehouse.duckdb   opened by the pipeline only, one writer at a time (Dagster pool `warehouse`)

What is made of it, and what people open, is in `publishing`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from crypto_assets.catalog import BlockRange, Chain, Dataset
from crypto_assets.lake import Lake, Proof, ranges_between
from crypto_assets.partitions import days_covered, ranges_of, ranges_of_day
from crypto_assets.raw_catalogue import catalogue_tables
from crypto_assets.raw_views import (
    PROOF_COLUMNS,
    check_results,
    keys_of,
    proofs,
    published_index,
    range_views,
    raw_views,
    union_views,
    venue_views,
)
from crypto_assets.sources.evm_calls import all_datasets


def attach_raw_views(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    days: Sequence[date] | None = None,
    *,
    chains: Sequence[Dataset] = (),
    ranges: Sequence[BlockRange] | None = None,
) -> None:
    """Create or refresh the schema `raw` in a database of its own.

    With `days` or `ranges`, only files of those are looked at: what is wrong with another one does
    not matter, and the cost does not grow with history.
    """
    _create_views(connection, raw_views(lake, days, chains=chains, ranges=ranges))


def load_raw(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    days: Sequence[date],
    *,
    chains: Sequence[Dataset] = (),
) -> None:
    """Bring the schema `raw` of warehouse.duckdb up to date before dbt builds days of venues.

    Datasets are views, read in place. `raw.proofs` is a table here, of which only the rows of these
    days are read again, so that one more costs the same however long the history.
    """
    _create_views(connection, {**venue_views(lake), "raw.check_results": check_results(lake)})
    if _create_proofs(connection, lake, chains):
        return
    connection.begin()
    connection.execute(
        "delete from raw.proofs where partition in (from unnest(?))", [keys_of(days)]
    )
    connection.execute(f"insert into raw.proofs {proofs(lake, days)}")
    connection.commit()


class CoveredDay(NamedTuple):
    """A UTC day of which a chain's committed ranges hold every block.

    `first_block` and `last_block` are those of the ranges that hold the day's blocks; None if it
    has none. `slot_seconds` is the catalogue's.
    """

    chain: str
    day: date
    first_block: int | None
    last_block: int | None
    slot_seconds: int | None


def load_chains(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    days: Sequence[date],
    chains: Sequence[Chain],
) -> list[CoveredDay]:
    """Bring the schema `raw` of warehouse.duckdb up to date before dbt builds days of chains.

    Datasets of chains are views over the ranges of these days and those on either side of them;
    ranges that are stale are not there. `raw.covered_days` says which of the days each chain
    covers; so does what is returned. What it costs does not grow with history.
    """
    of_chains = [dataset for chain in chains for dataset in all_datasets(chain)]
    _create_proofs(connection, lake, of_chains)
    covered: list[CoveredDay] = []
    for chain in chains:
        of_blocks = proofs_around(lake, chain, days)
        ranges = ranges_of(proof.partition for proof in of_blocks)
        _create_views(connection, range_views(lake, all_datasets(chain), ranges))
        _refresh_proofs(connection, lake, chain, ranges)
        covered += _covered(chain, days, of_blocks)
    _create_views(connection, union_views(of_chains))
    catalogue_tables(connection, lake, chains, {})
    # Prices are carried over midnight, and the day after is built with the last one.
    around = (days[0] - timedelta(days=1), *days, days[-1] + timedelta(days=1))
    _create_views(connection, {"raw.published_index_prices_1m": published_index(lake, around)})
    connection.execute(
        "create or replace table raw.covered_days (chain varchar, day date, first_block bigint, "
        "last_block bigint, slot_seconds bigint)"
    )
    if covered:
        connection.executemany("insert into raw.covered_days values (?, ?, ?, ?, ?)", covered)
    return covered


def load_ranges(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    chain: Chain,
    ranges: Sequence[BlockRange],
    chains: Sequence[Chain],
) -> None:
    """Bring the schema `raw` of warehouse.duckdb up to date before dbt builds ranges of a chain.

    Datasets of that chain are views over these ranges, and those of the others are empty.
    """
    for one in chains:
        of_run = ranges if one == chain else ()
        _create_views(connection, range_views(lake, all_datasets(one), of_run))
    _create_views(
        connection, union_views([dataset for one in chains for dataset in all_datasets(one)])
    )
    catalogue_tables(connection, lake, chains, {chain.name: ranges})


def create_marts(connection: duckdb.DuckDBPyConnection, manifest: Path) -> None:
    """Create each table of dbt's that is not there, empty, with the columns of its contract.

    So a model may read one that is built in runs of another kind, before the first of them.
    """
    for model in json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values():
        if model["resource_type"] != "model" or model["config"]["materialized"] != "incremental":
            continue
        columns = ", ".join(
            f'"{name}" {column["data_type"]}' + " not null" * _is_required(column)
            for name, column in model["columns"].items()
        )
        connection.execute(
            f"create schema if not exists {model['schema']}; "
            f"create table if not exists {model['schema']}.{model['name']} ({columns})"
        )


def proofs_around(lake: Lake, chain: Chain, days: Sequence[date]) -> list[Proof]:
    """Those of the blocks of ranges that hold some days, and on either side of them, in order."""
    starts_at, ends_at = (
        datetime.combine(day, time(), UTC) for day in (days[0], days[-1] + timedelta(days=1))
    )
    return [found["blocks"] for found in ranges_between(lake, chain.name, starts_at, ends_at)]


def _create_views(connection: duckdb.DuckDBPyConnection, views: Mapping[str, str]) -> None:
    connection.execute("create schema if not exists raw")
    for name, query in views.items():
        connection.execute(f"create or replace view {name} as {query}")


def _create_proofs(
    connection: duckdb.DuckDBPyConnection, lake: Lake, chains: Iterable[Dataset]
) -> bool:
    """Make the table `raw.proofs` of all files, if there is none or one of an earlier version."""
    connection.execute("create schema if not exists raw")
    columns = connection.execute(
        "select column_name from information_schema.columns "
        "where table_schema = 'raw' and table_name = 'proofs' order by ordinal_position"
    ).fetchall()
    if [name for (name,) in columns] == [*PROOF_COLUMNS, "file"]:
        return False
    connection.execute(f"create or replace table raw.proofs as {proofs(lake, None, chains)}")
    return True


def _refresh_proofs(
    connection: duckdb.DuckDBPyConnection, lake: Lake, chain: Chain, ranges: Sequence[BlockRange]
) -> None:
    """Read the proofs of some ranges again; one between them that is not there has none."""
    if not ranges:
        return
    connection.begin()
    connection.execute(
        "delete from raw.proofs where venue = ? and partition between ? and ?",
        [chain.name, ranges[0].key, ranges[-1].key],
    )
    connection.execute(f"insert into raw.proofs {proofs(lake, (), all_datasets(chain), ranges)}")
    connection.commit()


def _covered(
    chain: Chain, days: Sequence[date], of_blocks: Sequence[Proof]
) -> Iterator[CoveredDay]:
    for day in sorted(set(days).intersection(days_covered(of_blocks))):
        ranges = ranges_of_day(day, of_blocks)
        first, last = (ranges[0].first, ranges[-1].last) if ranges else (None, None)
        yield CoveredDay(chain.name, day, first, last, chain.slot_seconds)


def _is_required(column: Mapping[str, Any]) -> bool:
    return any(constraint["type"] == "not_null" for constraint in column.get("constraints", ()))
