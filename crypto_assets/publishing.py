"""What people open: the published marts, and crypto.duckdb with views over them and the lake.

    crypto.duckdb      views only; replaced, never written to, so any reader may keep it open for as
                       long as it likes
    marts/             one file per table and UTC day, or block range, replaced atomically

The database is never opened here: a reader may hold it with a lock. Whether it must be replaced is
decided by the text of its views, kept beside it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from filelock import FileLock

from crypto_assets.catalog import Chain, ChainRange, Dataset
from crypto_assets.checks.results import CHECK_RESULTS
from crypto_assets.lake import Lake
from crypto_assets.lake.durable import replacing, storage_errors, write_text
from crypto_assets.raw_catalogue import CATALOGUE_VIEWS, catalogue_views
from crypto_assets.raw_views import literal, nothing, raw_views
from crypto_assets.sources.evm_calls import all_datasets


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
    partitions: Sequence[date] | Sequence[ChainRange],
    *,
    chains: Sequence[Dataset] = (),
    models: Collection[str] | None = None,
) -> Published:
    """Bring what is published of some days or block ranges, and crypto.duckdb, up to date.

    `connection` is to warehouse.duckdb, `manifest` is dbt's, `chains` are the datasets of chains. A
    mart with a day column (dbt's `event_time`) becomes one file a day, one with `grid: range` one
    file a range, replaced atomically; a view stays the view it is. A mart whose rows depend on the
    days before (`lookahead_days`) is published that many days further. With `models`, names as
    `markets.ohlcv_1m`, only those are published and all others stay as they are: the warehouse may
    hold partitions of them that a check refused. A table that was never published is an empty view.
    """
    ours = {
        _name(model): model
        for model in _models(manifest)
        if models is None or _name(model) in models
    }
    written = [
        rows for model in ours.values() for rows in _export(connection, lake, model, partitions)
    ]
    with _publishing(lake):
        record = _Record.find(lake)
        views = raw_views(lake, chains=chains)
        views |= _of_catalogue(record) | catalogue_views(connection)
        for model in _models(manifest):
            name = _name(model)
            if record is not None and name not in ours and name in record.views:
                views[name] = record.views[name]
            elif model["config"]["materialized"] != "view":
                views[name] = _table_view(lake, model)
            elif record is None or name in ours:
                views |= _view_of(connection, model)
        return Published(len(written), sum(written), _replace_database(lake, record, views))


def publish_views(lake: Lake, chains: Iterable[Chain]) -> bool:
    """Show in crypto.duckdb what of the lake there is now; returns whether it was replaced.

    Views of a dataset are empty ones until it has a file. Marts stay as they were last published,
    and warehouse.duckdb is not opened. Where what was published is not known, as an earlier version
    did it, everything is left to the next `publish`.
    """
    with _publishing(lake):
        record = _Record.find(lake)
        if record is None:
            return False
        views = raw_views(
            lake, chains=[dataset for chain in chains for dataset in all_datasets(chain)]
        )
        views |= _of_catalogue(record)
        views |= {name: view for name, view in record.views.items() if not name.startswith("raw.")}
        return _replace_database(lake, record, views)


def _of_catalogue(record: _Record | None) -> dict[str, str]:
    """What was last shown of the catalogue."""
    views = record.views if record else {}
    return {name: view for name, view in views.items() if name in CATALOGUE_VIEWS}


def _models(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """dbt models, each after those that it reads."""
    models = {
        key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"
    }
    order = TopologicalSorter(
        {key: set(node["depends_on"]["nodes"]) & set(models) for key, node in models.items()}
    )
    return [models[key] for key in order.static_order()]


def _name(model: Mapping[str, Any]) -> str:
    return f"{model['schema']}.{model['name']}"


def _folder(lake: Lake, model: Mapping[str, Any]) -> Path:
    return lake.marts / str(model["schema"]) / str(model["name"])


def _view_of(connection: duckdb.DuckDBPyConnection, model: Mapping[str, Any]) -> dict[str, str]:
    """By name, a view as the warehouse holds it, without a database's name; none if not built."""
    found = connection.execute(
        "select sql from duckdb_views() where schema_name = ? and view_name = ?",
        [model["schema"], model["name"]],
    ).fetchall()
    return {_name(model): sql.partition(" AS ")[2].rstrip("; \n") for (sql,) in found}


def _table_view(lake: Lake, model: Mapping[str, Any]) -> str:
    """A view over the published files of a table, or an empty one of the same columns."""
    pattern = "range=*.parquet" if _is_by_range(model) else "date=*.parquet"
    folder = _folder(lake, model)
    if next(folder.glob(pattern), None) is None:
        return nothing({name: column["data_type"] for name, column in model["columns"].items()})
    columns = ", ".join(f'"{column}"' for column in model["columns"])
    return f"select {columns} from read_parquet({literal(f'{folder}/{pattern}')})"


def _is_by_range(model: Mapping[str, Any]) -> bool:
    return bool(model["config"]["meta"].get("grid") == "range")


def _export(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    model: Mapping[str, Any],
    partitions: Sequence[date] | Sequence[ChainRange],
) -> Iterator[int]:
    """Write the files of a mart's partitions, and of later days that rest on them; yields rows."""
    exists = connection.execute(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
        [model["schema"], model["name"]],
    ).fetchall()
    if model["config"]["materialized"] == "view" or not exists:
        return
    ranges = [each for each in partitions if isinstance(each, ChainRange)]
    days = [each for each in partitions if isinstance(each, date)]
    if _is_by_range(model):
        for part in ranges:
            target = _folder(lake, model) / _file_name(part)
            where = (
                f"chain = {literal(part.chain)} "
                f"and block_number between {part.blocks.first} and {part.blocks.last}"
            )
            yield _export_rows(connection, _name(model), where, target)
    elif days:
        column = model["config"]["event_time"]
        ahead = model["config"]["meta"].get("lookahead_days", 0)
        following = [days[-1] + timedelta(days=step + 1) for step in range(ahead)]
        for day in (*days, *following):
            target = _folder(lake, model) / _file_name(day)
            if day not in following or target.exists():
                where = f"{column} >= date '{day}' and {column} < date '{day + timedelta(days=1)}'"
                yield _export_rows(connection, _name(model), where, target)


def published_at(lake: Lake, tables: Iterable[str], partition: date | ChainRange) -> datetime:
    """Since when a partition of all of these tables is published as it is now.

    Tables as `network.blocks_daily`. The beginning of time if one of them never was.
    """
    paths = [lake.marts.joinpath(*name.split("."), _file_name(partition)) for name in tables]
    try:
        seconds = min((path.stat().st_mtime for path in paths), default=0)
    except FileNotFoundError:
        seconds = 0
    return datetime.fromtimestamp(seconds, UTC)


def _file_name(partition: date | ChainRange) -> str:
    if isinstance(partition, ChainRange):
        return f"range={partition.chain}-{partition.partition}.parquet"
    return f"date={partition.isoformat()}.parquet"


def _export_rows(connection: duckdb.DuckDBPyConnection, name: str, where: str, target: Path) -> int:
    with replacing(target) as temporary:
        try:
            written = connection.execute(
                f"copy (select * from {name} where {where} order by all) "
                f"to {literal(str(temporary))} (format parquet, compression zstd)"
            ).fetchall()
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
    return int(written[0][0])


@dataclass(frozen=True, slots=True)
class _Record:
    """The views of crypto.duckdb, by name in the order they are made, and whether it is as told."""

    views: Mapping[str, str]
    is_in_place: bool

    @classmethod
    def find(cls, lake: Lake) -> _Record | None:
        """As it was last kept; None if a version that did not keep it has published."""
        path = _record_file(lake)
        if path.exists():
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        return None if _database(lake).exists() else cls({}, is_in_place=False)

    def keep(self, lake: Lake) -> None:
        """Remember it."""
        record = {"is_in_place": self.is_in_place, "views": dict(self.views)}
        write_text(_record_file(lake), json.dumps(record, indent=1))


def _database(lake: Lake) -> Path:
    return lake.home / "crypto.duckdb"


@contextmanager
def _publishing(lake: Lake) -> Iterator[None]:
    """Held while views are compared and replaced, so that no run undoes what another one did."""
    path = lake.home / "locks" / "crypto_duckdb.lock"
    nothing = lake.check_results / "none" / "nothing.parquet"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path).acquire()
    with held:
        if not nothing.exists():
            # Checks keep their results after the views are made, which must find a file by then.
            with replacing(nothing) as temporary:
                pq.write_table(CHECK_RESULTS.empty_table(), temporary)
        yield


def _record_file(lake: Lake) -> Path:
    return lake.marts / "views.json"


def _replace_database(lake: Lake, record: _Record | None, views: Mapping[str, str]) -> bool:
    """Build crypto.duckdb anew if its views changed; returns whether they did."""
    target = _database(lake)
    published = [*record.views.items()] if record and record.is_in_place else None
    if published == [*views.items()] and target.exists():
        return False
    # If the process dies in between, the next publishing replaces again; what it takes over from
    # here is what was there before.
    if record is not None:
        _Record(record.views, is_in_place=False).keep(lake)
    statements = [
        *(f"create schema {schema}" for schema in dict.fromkeys(n.split(".")[0] for n in views)),
        *(f"create view {name} as {query}" for name, query in views.items()),
    ]
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)
        with duckdb.connect(temporary) as database:
            database.execute(";\n".join(statements))
    _Record(views, is_in_place=True).keep(lake)
    return True
