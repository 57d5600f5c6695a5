"""The schema `raw` as SQL: views over the files of the lake, and over those of some partitions.

    raw.<dataset>                            market, date, and the dataset's columns
    raw.<chain>_blocks, _transactions, _logs range, and the dataset's columns
    raw.<chain>_calls                        range, and the columns of what contracts answered
    raw.chain_blocks, …, raw.chain_calls     those of every chain; chain before their columns
    raw.proofs, raw.check_results            of all files

No file of data is opened here; which exist, names alone tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from crypto_assets.catalog import CALLS, KINDS, AnyKind, BlockRange, Dataset
from crypto_assets.catalog.chains import dataset_name
from crypto_assets.checks.results import CHECK_RESULTS
from crypto_assets.lake import Lake
from crypto_assets.lake.proof import METADATA_KEY
from crypto_assets.sources import DATASETS
from crypto_assets.sources.evm_calls import CALLS_SCHEMA
from crypto_assets.sources.evm_rows import BLOCKS, LOGS, TRANSACTIONS

PROOF_COLUMNS: Mapping[str, str] = {
    "dataset": "VARCHAR",
    "partition": "VARCHAR",
    "market": "VARCHAR",
    "venue": "VARCHAR",
    "status": "VARCHAR",
    "row_count": "BIGINT",
    "source_row_count": "BIGINT",
    "first_id": "BIGINT",
    "last_id": "BIGINT",
    "first_at": "TIMESTAMP",
    "last_at": "TIMESTAMP",
    "id_rule": "VARCHAR",
    "gap_count": "BIGINT",
    "duplicate_count": "BIGINT",
    "content_digest": "VARCHAR",
    "source": "STRUCT(url VARCHAR, etag VARCHAR, sha256 VARCHAR, bytes BIGINT)[]",
    "checks": "MAP(VARCHAR, VARCHAR)",
    "gaps": (
        "STRUCT(started_at TIMESTAMP, ended_at TIMESTAMP, reason VARCHAR, evidence VARCHAR)[]"
    ),
    "code_version": "VARCHAR",
    "fetched_at": "TIMESTAMP",
    "group": "MAP(VARCHAR, VARCHAR)",
    "parent_hash": "VARCHAR",
    "first_hash": "VARCHAR",
    "last_hash": "VARCHAR",
    "asked": "VARCHAR",
}
_SCHEMAS: Mapping[AnyKind, pa.Schema] = {
    **dict(zip(KINDS, (BLOCKS, TRANSACTIONS, LOGS), strict=True)),
    CALLS: CALLS_SCHEMA,
}


def raw_views(
    lake: Lake,
    days: Sequence[date] | None = None,
    *,
    chains: Sequence[Dataset] = (),
    ranges: Sequence[BlockRange] | None = None,
) -> dict[str, str]:
    """SELECT statements of all views, each after those that it reads.

    `chains` are the datasets of chains. Over all files, or those of some days and block ranges. A
    dataset without a committed file is an empty view of the same columns, so that what is built on
    it never fails for want of a file.
    """
    return {
        **venue_views(lake, days),
        **range_views(lake, chains, ranges),
        **union_views(chains),
        "raw.proofs": proofs(lake, days, chains, ranges),
        "raw.check_results": check_results(lake, days, ranges),
    }


def venue_views(lake: Lake, days: Sequence[date] | None = None) -> dict[str, str]:
    """Those of the datasets of venues."""
    return {
        f"raw.{dataset.name}": _scan(
            lake.raw / dataset.name,
            [f"market=*/date={key}/{dataset.name}.parquet" for key in keys_of(days)],
            {"market": "VARCHAR", "date": "DATE", **_columns(dataset.schema)},
            ("market", "date"),
        )
        for dataset in DATASETS
    }


def range_views(
    lake: Lake, chains: Iterable[Dataset], ranges: Sequence[BlockRange] | None = None
) -> dict[str, str]:
    """Those of the datasets of chains, each by itself."""
    return {f"raw.{dataset.name}": _range_scan(lake, dataset, ranges) for dataset in chains}


def union_views(chains: Sequence[Dataset]) -> dict[str, str]:
    """Those over the datasets of all chains, whose own views are there."""
    views = {}
    for kind, schema in _SCHEMAS.items():
        of_kind = [one for one in chains if one.name == dataset_name(one.venue, kind)]
        views[f"raw.chain_{kind}"] = " union all ".join(
            f"select {literal(dataset.venue)} as chain, * from raw.{dataset.name}"
            for dataset in of_kind
        ) or nothing({"chain": "VARCHAR", "range": "VARCHAR", **_columns(schema)})
    return views


def proofs(
    lake: Lake,
    days: Sequence[date] | None,
    chains: Iterable[Dataset] = (),
    ranges: Sequence[BlockRange] | None = None,
) -> str:
    """Proofs of all committed files, or of those of some days and ranges."""
    # A name that starts with a dot is not finished.
    queries = [
        _proofs_in(lake.raw, [f"*/market=*/date={key}/[!.]*.parquet" for key in keys_of(days)])
    ]
    for dataset in chains:
        patterns = _range_patterns(dataset.name, ranges)
        if query := _proofs_in(lake.raw / dataset.name, patterns):
            recorded = _records(lake, dataset, ranges)
            queries.append(f"select * from ({query}) where {_range_in('file')} in ({recorded})")
    none = nothing({**PROOF_COLUMNS, "file": "VARCHAR"})
    return " union all ".join(query for query in queries if query) or none


def check_results(
    lake: Lake, days: Sequence[date] | None = None, ranges: Sequence[BlockRange] | None = None
) -> str:
    """Kept results of all checks, or of those of some days and ranges."""
    if days is None and ranges is None:
        patterns = ["*/*.parquet"]
    else:
        patterns = [
            *(f"*/date={key}.parquet" for key in keys_of(days)),
            *(f"*/range={key}.parquet" for key in keys_of(ranges or ())),
        ]
    return _scan(lake.check_results, patterns, _columns(CHECK_RESULTS))


# Of the index, what days of chains take their prices from.
_INDEX = {
    "asset": "VARCHAR",
    "opened_at": "TIMESTAMP",
    "price_usd": "DECIMAL(28,12)",
    "is_contested": "BOOLEAN",
    "venue_count": "BIGINT",
}


def published_index(lake: Lake, days: Iterable[date]) -> str:
    """The venues' index prices of some days as they are published, and so passed their checks."""
    patterns = [f"date={key}.parquet" for key in keys_of(list(days))]
    return _scan(lake.marts / "markets" / "index_prices_1m", patterns, _INDEX)


def keys_of(partitions: Sequence[date] | Sequence[BlockRange] | None) -> list[str]:
    """Partition keys; for all there are, the pattern that finds them."""
    return ["*"] if partitions is None else [str(partition) for partition in partitions]


def literal(text: str) -> str:
    """Text as SQL quotes it."""
    return "'" + text.replace("'", "''") + "'"


def nothing(columns: Mapping[str, str]) -> str:
    """An empty relation of these columns, type by name."""
    nulls = ", ".join(f'null::{kind} as "{name}"' for name, kind in columns.items())
    return f"select {nulls} where false"


def _scan(
    folder: Path, patterns: Sequence[str], columns: Mapping[str, str], hive: Sequence[str] = ()
) -> str:
    """All rows of the files; the columns in `hive` are told by the names of their folders."""
    files = _files(folder, patterns)
    if files is None:
        return nothing(columns)
    names = ", ".join(f'"{name}"' for name in columns)
    types = ", ".join(f"{literal(name)}: {columns[name]}" for name in hive)
    options = f", hive_types={{{types}}}" if hive else ""
    return (
        f"select {names} from "
        f"read_parquet({files}, hive_partitioning={str(bool(hive)).lower()}{options})"
    )


def _range_scan(lake: Lake, dataset: Dataset, ranges: Sequence[BlockRange] | None) -> str:
    """The rows of a chain's dataset, of ranges whose commit record is there.

    Where that is the case is told by names of folders alone: of 25,000 ranges in 0.5 s.
    """
    query = _scan(
        lake.raw / dataset.name,
        _range_patterns(dataset.name, ranges),
        {"range": "VARCHAR", **_columns(dataset.schema)},
        ("range",),
    )
    if dataset.name == dataset_name(dataset.venue, "blocks"):
        return query
    return f'select * from ({query}) semi join ({_records(lake, dataset, ranges)}) using ("range")'


def _records(lake: Lake, dataset: Dataset, ranges: Sequence[BlockRange] | None) -> str:
    """The ranges of the same chain that are committed: those that have a file of blocks."""
    blocks = dataset_name(dataset.venue, "blocks")
    patterns = [f"{lake.raw}/{blocks}/{name}" for name in _range_patterns(blocks, ranges)]
    literals = ", ".join(map(literal, patterns))
    return f'select {_range_in("file")} as "range" from glob([{literals}]::varchar[])'


def _range_in(column: str) -> str:
    """The range that a file is of, by its folder `range=018426000-018426999`."""
    return f"string_split({column}, '/')[-2][7:]"


def _range_patterns(dataset: str, ranges: Sequence[BlockRange] | None) -> list[str]:
    return [f"range={key}/{dataset}.parquet" for key in keys_of(ranges)]


def _proofs_in(folder: Path, patterns: Sequence[str]) -> str | None:
    files = _files(folder, patterns)
    if files is None:
        return None
    structure = literal(json.dumps(PROOF_COLUMNS))
    # The Parquet metadata has other keys too, whose values are not JSON; DuckDB may look at a value
    # before it filters by key.
    proof = f"case when decode(key) = '{METADATA_KEY}' then decode(value) end"
    return (
        f"select unnest(from_json({proof}, {structure})), file_name as file "
        f"from parquet_kv_metadata({files}) where decode(key) = '{METADATA_KEY}'"
    )


def _files(folder: Path, patterns: Sequence[str]) -> str | None:
    """A list of glob patterns for DuckDB, of those that match a file; None if none does."""
    found = [pattern for pattern in patterns if next(folder.glob(pattern), None)]
    literals = ", ".join(literal(f"{folder}/{pattern}") for pattern in found)
    return f"[{literals}]" if found else None


def _columns(schema: pa.Schema) -> dict[str, str]:
    return {field.name: _duckdb_type(field.type) for field in schema}


def _duckdb_type(data_type: pa.DataType) -> str:
    empty = pa.table({"column": pa.array([], data_type)})
    return str(duckdb.from_arrow(empty).types[0])
