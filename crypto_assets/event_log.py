"""Dagster's event log in SQLite, with connections kept open for what is stored.

Dagster's own storage opens a database anew several times for every event, and whoever closes one
last copies its log into it and waits for the disk. With some 35 events a partition that was most of
what a small day cost. Here an event, or a batch of them, is one transaction in each of its two
files: that of its run, and the index over all runs. The rows are those of Dagster's own storage, in
the same order (held against it by tests/test_event_log.py, should a release change them). Every
read, and whatever is not an event, is left to Dagster's code.

What a kill or a power cut does:

* A killed process loses no event that it stored: SQLite has handed each to the operating system.
* An event waits for the disk only if it tells a new status of its run, or is of no run; then all
  events before it are on the disk too. So a power cut may take what a run stored since its status
  last changed, and damages nothing (SQLite's write-ahead log with `synchronous=NORMAL`).
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
)
from dagster._core.storage.asset_check_state import AssetCheckState
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import NullPool

from crypto_assets.check_states import check_states
from crypto_assets.settings import export_to_dagster

_INDEXED = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}

# The index and the file of one run: each run has its own, and a daemon meets thousands.
_MOST_OPEN = 2


class _Open(NamedTuple):
    """A connection, and the device and inode of its file."""

    connection: Connection
    file: tuple[int, int] | None


# Kept for ever, as SQLite forbids a process to use or close what was opened before its fork.
_inherited: list[dict[str, _Open]] = []


class EventLog(SqliteEventLogStorage):
    """The storage that dagster.yaml names; `base_dir` is relative to the Dagster home."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # The part that is Dagster's follows in `register_instance`, when the home is known.
        self._folder = base_dir
        self._inst_data = inst_data

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> EventLog:
        """Called by Dagster to make what its yaml file names."""
        return cls(inst_data=inst_data, **config_value)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Called by an instance before it uses its storage."""
        self._open: dict[str, _Open] = {}  # by shard, the one used last at the end
        self._process = os.getpid()
        self._storing_thread: int | None = None
        self._transactions: dict[str, Connection] = {}
        self._synchronous = "NORMAL"
        self._known_tables: set[str] = set()
        super().__init__(str(Path(instance.root_directory, self._folder)), self._inst_data)
        super().register_instance(instance)
        export_to_dagster()

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store one event."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events in their order: those of a run all, or none if an error is raised."""
        for run_id, of_run in groupby(events, lambda event: event.run_id):
            self._store(run_id, list(of_run))
            # Who follows a run waits for a change of its file, and SQLite changes only the log
            # beside it.
            with suppress(FileNotFoundError):
                os.utime(self.path_for_shard(run_id))

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Asked for several times in a run; objects for rows would take five times as long."""
        self._check_partitions_table()
        query = "SELECT partition FROM dynamic_partitions WHERE partitions_def_name = ? ORDER BY id"
        with self.index_connection() as connection:
            rows = connection.connection.cursor().execute(query, (partitions_def_name,))
            return [partition for (partition,) in rows]

    def get_asset_check_state(
        self, keys: Sequence[tuple[dg.AssetCheckKey, dg.PartitionsDefinition | None]]
    ) -> Mapping[dg.AssetCheckKey, AssetCheckState]:
        """States of checks by partition, which the UI asks for time and again."""
        return check_states(self._instance, keys)

    def has_table(self, table_name: str) -> bool:
        """Asked for nearly every event; a table that is there stays."""
        if table_name not in self._known_tables and super().has_table(table_name):
            self._known_tables.add(table_name)
        return table_name in self._known_tables

    def wipe(self) -> None:
        """Delete all events."""
        with self._db_lock:
            self._close()
        super().wipe()

    def dispose(self) -> None:
        """Close everything; what is used afterwards is opened again."""
        super().dispose()
        with self._db_lock:
            self._close()

    def _store(self, run_id: str, events: Sequence[dg.EventLogEntry]) -> None:
        """Write the rows that Dagster's `store_event` writes, of several events at once."""
        rows = [self._event_to_row(event) for event in events]
        indexed = [at for at, event in enumerate(events) if event.dagster_event_type in _INDEXED]
        with self._storing(events):
            with self.run_connection(run_id) as connection:
                connection.execute(SqlEventLogStorageTable.insert(), rows)
            if not indexed:
                return
            with self.index_connection() as connection:
                ids = connection.scalars(
                    SqlEventLogStorageTable.insert().returning(
                        SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
                    ),
                    [rows[at] for at in indexed],
                )
                by_id = dict(zip(ids, (events[at] for at in indexed), strict=True))
                of_assets = {
                    event_id: event
                    for event_id, event in by_id.items()
                    if event.dagster_event_type in ASSET_EVENTS
                }
                self._store_asset_event_tags(connection, [*of_assets.values()], [*of_assets])
                self._store_assets(connection, of_assets)
                for event_id, event in by_id.items():
                    if event.dagster_event_type in ASSET_CHECK_EVENTS:
                        self.store_asset_check_event(event, event_id)

    def _store_assets(self, connection: Connection, events: Mapping[int, dg.EventLogEntry]) -> None:
        """Bring the rows of the assets themselves up to date with events about them."""
        latest: dict[tuple[dg.AssetKey, str], tuple[int, dg.EventLogEntry]] = {}
        for event_id, event in events.items():
            about = event.get_dagster_event()
            if about.asset_key is not None:
                # The later of two events of a kind replaces all that the earlier one told.
                kind = (about.asset_key, about.event_type_value)
                latest.pop(kind, None)
                latest[kind] = event_id, event
        told: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for (asset_key, _), (event_id, event) in latest.items():
            told[asset_key.to_string()] |= self._get_asset_entry_values(
                event, event_id, has_asset_key_index_cols=True
            )
        for name, values in told.items():
            if values:
                connection.execute(
                    insert(AssetKeyTable)
                    .values(asset_key=name, **values)
                    .on_conflict_do_update(index_elements=["asset_key"], set_=values)
                )

    @contextmanager
    def _storing(self, events: Sequence[dg.EventLogEntry]) -> Iterator[None]:
        """One transaction in each file for all that this thread does in the block."""
        with self._db_lock:
            try:
                self._synchronous = "FULL" if any(map(_is_awaited, events)) else "NORMAL"
                self._storing_thread = threading.get_ident()
                yield
                for connection in self._transactions.values():
                    connection.commit()
            except BaseException:
                # Rolls back, and whatever was wrong with a connection is not met again.
                self._close()
                raise
            finally:
                self._storing_thread = None
                self._transactions.clear()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """Where all of Dagster's code gets its connections."""
        if self._storing_thread == threading.get_ident():
            if shard not in self._transactions:
                connection = self._connection(shard)
                connection.exec_driver_sql(f"PRAGMA synchronous={self._synchronous}")
                self._transactions[shard] = connection
            yield self._transactions[shard]
        else:
            with super()._connect(shard) as connection:
                yield connection

    def _connection(self, shard: str) -> Connection:
        """The open connection to a file, or a new one if there is none to the file of today."""
        opened = self._opened()
        path = self.path_for_shard(shard)
        file = _identity(path)
        found = opened.pop(shard, None)
        if file is None or (found is not None and found.file != file):
            # New, or wiped by another process, or removed by a person.
            self._initialized_dbs.discard(shard)
            if found is not None:
                found.connection.close()
                found = None
        if found is None:
            while len(opened) >= _MOST_OPEN:
                opened.pop(next(iter(opened))).connection.close()
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=NullPool,
                # Threads take turns with it, under a lock.
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            found = _Open(engine.connect(), _identity(path))
        opened[shard] = found
        return found.connection

    def _opened(self) -> dict[str, _Open]:
        """What this process has open."""
        if self._process != os.getpid():
            _inherited.append(self._open)
            self._open, self._process = {}, os.getpid()
        return self._open

    def _close(self) -> None:
        opened = self._opened()
        while opened:
            opened.popitem()[1].connection.close()


def _is_awaited(event: dg.EventLogEntry) -> bool:
    """Whether Dagster goes on in other files as if this event could not be lost any more."""
    return not event.run_id or event.dagster_event_type in EVENT_TYPE_TO_PIPELINE_RUN_STATUS


def _identity(path: str) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        found = Path(path).stat()
        return found.st_dev, found.st_ino
    return None
