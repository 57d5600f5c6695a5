"""DuckDB: views over the lake, the warehouse that dbt builds in, and the database people open.

    warehouse.duckdb   opened by the pipeline only, one writer at a time (Dagster pool `warehouse`)
    crypto.duckdb      views over the lake and the published marts; replaced, never written to, so
                       any reader may keep it open for as long as it likes

The published database is never opened here: a reader may hold it with a lock. Whether it must be
replaced is decided by the text of its views, kept beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from crypto_assets.checks.results import CHECK_RESULTS
from crypto_assets.lake import Lake
from crypto_assets.lake.durable import replacing, write_text
from crypto_assets.lake.proof import METADATA_KEY
from crypto_assets.sources import DATASETS

_PROOF_COLUMNS = {
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
}


def raw_views(lake: Lake, days: Sequence[date] | None = None) -> dict[str, str]:
    """SELECT statements of the schema `raw`: one per dataset, `proofs` and `check_results`.

    Over all files, or those of some days.
    A dataset without a committed file is an empty view of the same columns, so that what is built
    on it never fails for want of a file.
    """
    keys = _keys(days)
    views = {
        f"raw.{dataset.name}": _scan(
            lake.raw / dataset.name,
            [f"market=*/date={key}/{dataset.name}.parquet" for key in keys],
            {
                "market": "VARCHAR",
                "date": "DATE",
                **{field.name: _duckdb_type(field.type) for field in dataset.schema},
            },
            hive=True,
        )
        for dataset in DATASETS
    }
    views["raw.proofs"] = _proofs(lake, days)
    views["raw.check_results"] = _scan(
        lake.check_results,
        [f"*/date={key}.parquet" for key in keys],
        {field.name: _duckdb_type(field.type) for field in CHECK_RESULTS},
    )
    return views


def attach_raw_views(
    connection: duckdb.DuckDBPyConnection, lake: Lake, days: Sequence[date] | None = None
) -> None:
    """Create or refresh the schema `raw` in a database of its own.

    With `days`, only files of those days are looked at: what is wrong with another day does not
    matter, and the cost does not grow with history.
    """
    connection.execute("create schema if not exists raw")
    for name, query in raw_views(lake, days).items():
        connection.execute(f"create or replace view {name} as {query}")


def load_raw(connection: duckdb.DuckDBPyConnection, lake: Lake, days: Sequence[date]) -> None:
    """Bring the schema `raw` of warehouse.duckdb up to date before dbt builds these days.

    Datasets are views, read in place. `raw.proofs` is a table here, of which only the rows of
    these days are read again, so that one more day costs the same however long the history is.
    """
    connection.execute("create schema if not exists raw")
    for name, query in raw_views(lake).items():
        if name != "raw.proofs":
            connection.execute(f"create or replace view {name} as {query}")
    has_table = connection.execute(
        "select 1 from information_schema.tables "
        "where table_schema = 'raw' and table_name = 'proofs'"
    ).fetchall()
    if not has_table:
        connection.execute(f"create table raw.proofs as {_proofs(lake)}")
        return
    keys = ", ".join(f"'{day.isoformat()}'" for day in days)
    connection.begin()
    connection.execute(f"delete from raw.proofs where partition in ({keys})")
    connection.execute(f"insert into raw.proofs {_proofs(lake, days)}")
    connection.commit()


@dataclass(frozen=True, slots=True)
class Published:
    """What one publishing did: files written, and whether crypto.duckdb was replaced."""

    files: int
    rows: int
    is_replaced: bool


def publish(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    manifest: Mapping[str, Any],
    days: Sequence[date],
) -> Published:
    """Bring the published marts of these days, and crypto.duckdb, in line with the warehouse.

    `connection` is to warehouse.duckdb, `manifest` is dbt's. A mart with a day column (dbt's
    `event_time`) becomes one file a day, replaced atomically; a view stays the view it is. A mart
    whose rows depend on the days before (`lookahead_days`) is published that many days further.
    """
    files = rows = 0
    views = raw_views(lake)
    for model in _models(manifest):
        name = f"{model['schema']}.{model['name']}"
        if not _exists(connection, model):
            continue
        if model["config"]["materialized"] == "view":
            views[name] = _view_query(connection, model)
            continue
        folder = lake.marts / model["schema"] / model["name"]
        ahead = model["config"]["meta"].get("lookahead_days", 0)
        following = [days[-1] + timedelta(days=step + 1) for step in range(ahead)]
        for day in (*days, *following):
            target = folder / f"date={day.isoformat()}.parquet"
            if day in following and not target.exists():
                continue
            rows += _export(connection, name, model["config"]["event_time"], day, target)
            files += 1
        columns = ", ".join(f'"{column}"' for column in model["columns"])
        views[name] = f"select {columns} from read_parquet({_literal(f'{folder}/date=*.parquet')})"
    return Published(files, rows, _replace_database(lake, views))


def _models(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """dbt models, each after those that it reads."""
    models = {
        key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"
    }
    order = TopologicalSorter(
        {key: set(node["depends_on"]["nodes"]) & set(models) for key, node in models.items()}
    )
    return [models[key] for key in order.static_order()]


def _exists(connection: duckdb.DuckDBPyConnection, model: Mapping[str, Any]) -> bool:
    return bool(
        connection.execute(
            "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
            [model["schema"], model["name"]],
        ).fetchall()
    )


def _view_query(connection: duckdb.DuckDBPyConnection, model: Mapping[str, Any]) -> str:
    """The SELECT of a view as the warehouse holds it; it names schemas but no database."""
    rows = connection.execute(
        "select sql from duckdb_views() where schema_name = ? and view_name = ?",
        [model["schema"], model["name"]],
    ).fetchall()
    _, _, query = rows[0][0].partition(" AS ")
    return str(query).rstrip("; \n")


def _export(
    connection: duckdb.DuckDBPyConnection, name: str, column: str, day: date, target: Path
) -> int:
    with replacing(target) as temporary:
        try:
            written = connection.execute(
                f"copy (select * from {name} where {column} >= date '{day}' "
                f"and {column} < date '{day + timedelta(days=1)}' order by all) "
                f"to {_literal(str(temporary))} (format parquet, compression zstd)"
            ).fetchall()
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
    return int(written[0][0])


def _replace_database(lake: Lake, views: Mapping[str, str]) -> bool:
    """Build crypto.duckdb anew if its views changed; returns whether they did."""
    statements = [
        *(f"create schema {schema}" for schema in dict.fromkeys(n.split(".")[0] for n in views)),
        *(f"create view {name} as {query}" for name, query in views.items()),
    ]
    text = ";\n".join(statements) + ";\n"
    target, record = lake.home / "crypto.duckdb", lake.marts / "views.sql"
    if target.exists() and record.exists() and record.read_text(encoding="utf-8") == text:
        return False
    # Forgotten first: if the process dies in between, the next publishing replaces again.
    record.unlink(missing_ok=True)
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)
        with duckdb.connect(temporary) as database:
            database.execute(text)
    write_text(record, text)
    return True


def _scan(
    folder: Path, patterns: Sequence[str], columns: Mapping[str, str], *, hive: bool = False
) -> str:
    files = _files(folder, patterns)
    if files is None:
        return _nothing(columns)
    names = ", ".join(f'"{name}"' for name in columns)
    options = ", hive_types={'market': VARCHAR, 'date': DATE}" if hive else ""
    return (
        f"select {names} from read_parquet({files}, hive_partitioning={str(hive).lower()}{options})"
    )


def _proofs(lake: Lake, days: Sequence[date] | None = None) -> str:
    """Proofs of all committed files, or of those of some days."""
    # A name that starts with a dot is not finished.
    files = _files(lake.raw, [f"*/market=*/date={key}/[!.]*.parquet" for key in _keys(days)])
    if files is None:
        return _nothing({**_PROOF_COLUMNS, "file": "VARCHAR"})
    structure = _literal(json.dumps(_PROOF_COLUMNS))
    # The Parquet metadata has other keys too, whose values are not JSON; DuckDB may look at a value
    # before it filters by key.
    proof = f"case when decode(key) = '{METADATA_KEY}' then decode(value) end"
    return (
        f"select unnest(from_json({proof}, {structure})), file_name as file "
        f"from parquet_kv_metadata({files}) where decode(key) = '{METADATA_KEY}'"
    )


def _keys(days: Sequence[date] | None) -> list[str]:
    return ["*"] if days is None else [day.isoformat() for day in days]


def _files(folder: Path, patterns: Sequence[str]) -> str | None:
    """A list of glob patterns for DuckDB, of those that match a file; None if none does."""
    found = [pattern for pattern in patterns if next(folder.glob(pattern), None)]
    literals = ", ".join(_literal(f"{folder}/{pattern}") for pattern in found)
    return f"[{literals}]" if found else None


def _nothing(columns: Mapping[str, str]) -> str:
    nulls = ", ".join(f'null::{kind} as "{name}"' for name, kind in columns.items())
    return f"select {nulls} where false"


def _duckdb_type(data_type: pa.DataType) -> str:
    empty = pa.table({"column": pa.array([], data_type)})
    return str(duckdb.from_arrow(empty).types[0])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
