"""DuckDB: the warehouse that dbt builds in, and the database people open.

    warehouse.duckdb   opened by the pipeline only, one writer at a time (Dagster pool `warehouse`)
    crypto.duckdb      views over the lake and the published marts; replaced, never written to, so
                       any reader may keep it open for as long as it likes

The published database is never opened here: a reader may hold it with a lock. Whether it must be
replaced is decided by the text of its views, kept beside it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow.parquet as pq
from filelock import FileLock

from crypto_assets.catalog import BlockRange, Chain, Dataset
from crypto_assets.checks.results import CHECK_RESULTS
from crypto_assets.lake import Lake, Proof, ranges_between
from crypto_assets.lake.durable import replacing, storage_errors, write_text
from crypto_assets.partitions import days_covered, ranges_of, ranges_of_day
from crypto_assets.raw_views import (
    PROOF_COLUMNS,
    check_results,
    keys_of,
    literal,
    proofs,
    range_views,
    raw_views,
    union_views,
    venue_views,
)
from crypto_assets.sources.evm_rows import datasets


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
    of_chains = [dataset for chain in chains for dataset in datasets(chain)]
    _create_proofs(connection, lake, of_chains)
    covered: list[CoveredDay] = []
    for chain in chains:
        of_blocks = proofs_around(lake, chain, days)
        ranges = ranges_of(proof.partition for proof in of_blocks)
        _create_views(connection, range_views(lake, datasets(chain), ranges))
        _refresh_proofs(connection, lake, chain, ranges)
        covered += _covered(chain, days, of_blocks)
    _create_views(connection, union_views(of_chains))
    connection.execute(
        "create or replace table raw.covered_days (chain varchar, day date, first_block bigint, "
        "last_block bigint, slot_seconds bigint)"
    )
    if covered:
        connection.executemany("insert into raw.covered_days values (?, ?, ?, ?, ?)", covered)
    return covered


def proofs_around(lake: Lake, chain: Chain, days: Sequence[date]) -> list[Proof]:
    """Those of the blocks of ranges that hold some days, and on either side of them, in order."""
    starts_at, ends_at = (
        datetime.combine(day, time(), UTC) for day in (days[0], days[-1] + timedelta(days=1))
    )
    return [found["blocks"] for found in ranges_between(lake, chain.name, starts_at, ends_at)]


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
    *,
    chains: Sequence[Dataset] = (),
    models: Collection[str] | None = None,
) -> Published:
    """Bring the published marts of these days, and crypto.duckdb, in line with the warehouse.

    `connection` is to warehouse.duckdb, `manifest` is dbt's, `chains` are the datasets of chains. A
    mart with a day column (dbt's `event_time`) becomes one file a day, replaced atomically; a view
    stays the view it is. A mart whose rows depend on the days before (`lookahead_days`) is
    published that many days further. With `models`, names as `markets.ohlcv_1m`, only those are
    published and all others stay as they are: the warehouse may hold days of them that a check
    refused.
    """
    ours = {
        _name(model): model
        for model in _models(manifest)
        if models is None or _name(model) in models
    }
    written = [rows for model in ours.values() for rows in _export(connection, lake, model, days)]
    with _publishing(lake):
        record = _Record.find(lake)
        views = raw_views(lake, chains=chains)
        for model in _models(manifest):
            name = _name(model)
            if record is None or name in ours:
                view = _view_of(connection, lake, model)
            else:
                view = record.views.get(name)
            if view is not None:
                views[name] = view
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
        views = raw_views(lake, chains=[dataset for chain in chains for dataset in datasets(chain)])
        views |= {name: view for name, view in record.views.items() if not name.startswith("raw.")}
        return _replace_database(lake, record, views)


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
    connection.execute(f"insert into raw.proofs {proofs(lake, (), datasets(chain), ranges)}")
    connection.commit()


def _covered(
    chain: Chain, days: Sequence[date], of_blocks: Sequence[Proof]
) -> Iterator[CoveredDay]:
    for day in sorted(set(days).intersection(days_covered(of_blocks))):
        ranges = ranges_of_day(day, of_blocks)
        first, last = (ranges[0].first, ranges[-1].last) if ranges else (None, None)
        yield CoveredDay(chain.name, day, first, last, chain.slot_seconds)


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


def _view_of(
    connection: duckdb.DuckDBPyConnection, lake: Lake, model: Mapping[str, Any]
) -> str | None:
    """What crypto.duckdb shows of a model; None if it was not built or not published yet."""
    if model["config"]["materialized"] == "view":
        # As the warehouse holds it; it names schemas but no database.
        found = connection.execute(
            "select sql from duckdb_views() where schema_name = ? and view_name = ?",
            [model["schema"], model["name"]],
        ).fetchall()
        return found[0][0].partition(" AS ")[2].rstrip("; \n") if found else None
    files = f"{_folder(lake, model)}/date=*.parquet"
    if next(_folder(lake, model).glob("date=*.parquet"), None) is None:
        return None
    columns = ", ".join(f'"{column}"' for column in model["columns"])
    return f"select {columns} from read_parquet({literal(files)})"


def _export(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    model: Mapping[str, Any],
    days: Sequence[date],
) -> Iterator[int]:
    """Write the files of a mart's days, and of those after that depend on them; yields rows."""
    exists = connection.execute(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
        [model["schema"], model["name"]],
    ).fetchall()
    if model["config"]["materialized"] == "view" or not exists:
        return
    ahead = model["config"]["meta"].get("lookahead_days", 0)
    following = [days[-1] + timedelta(days=step + 1) for step in range(ahead)]
    for day in (*days, *following):
        target = _folder(lake, model) / f"date={day.isoformat()}.parquet"
        if day not in following or target.exists():
            yield _export_day(connection, _name(model), model["config"]["event_time"], day, target)


def published_at(lake: Lake, schema: str, table: str, day: date) -> datetime:
    """When a mart's day was published last; the beginning of time if it never was."""
    path = lake.marts / schema / table / f"date={day.isoformat()}.parquet"
    seconds = path.stat().st_mtime if path.exists() else 0
    return datetime.fromtimestamp(seconds, UTC)


def _export_day(
    connection: duckdb.DuckDBPyConnection, name: str, column: str, day: date, target: Path
) -> int:
    with replacing(target) as temporary:
        try:
            written = connection.execute(
                f"copy (select * from {name} where {column} >= date '{day}' "
                f"and {column} < date '{day + timedelta(days=1)}' order by all) "
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
