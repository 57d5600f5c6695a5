"""Logs of a chain in the warehouse's raw tables, encoded by eth-abi, and runs over ranges and days.

What stands between raw tables and marts is dbt's alone here: there is no lake and no pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.graph.nodes import ModelNode
from dbt_warehouse import Warehouse, messages
from eth_abi.abi import decode, encode

from crypto_assets.sources.trie import keccak256

MIDNIGHT = datetime(2024, 1, 1)
SLOT = timedelta(seconds=12)
RANGE_SIZE = 1000

RAW_OF_CHAINS = ("chain_logs", "chain_calls", "deployments", "trusted_tokens", "covered_days")


@dataclass(frozen=True)
class Event:
    """An event of a contract: its arguments in order, which of them are topics."""

    name: str
    types: tuple[str, ...]
    indexed: tuple[int, ...] = ()

    @property
    def topic0(self) -> bytes:
        return keccak256(f"{self.name}({','.join(self.types)})".encode())

    @property
    def in_data(self) -> tuple[int, ...]:
        return tuple(place for place in range(len(self.types)) if place not in self.indexed)

    def log(self, address: str, number: int, log_index: int, arguments: Sequence[Any]) -> Log:
        """The log of it that a contract emits."""
        topics = [encode([self.types[place]], [arguments[place]]) for place in self.indexed]
        data = encode(
            [self.types[place] for place in self.in_data],
            [arguments[place] for place in self.in_data],
        )
        return Log(address, number, log_index, (self.topic0, *topics), data)

    def arguments(self, topics: Sequence[bytes], data: bytes) -> tuple[Any, ...]:
        """The arguments in a log of it, decoded by eth-abi."""
        found: dict[int, Any] = {
            place: decode([self.types[place]], topic)[0]
            for place, topic in zip(self.indexed, topics[1:], strict=True)
        }
        found |= zip(
            self.in_data, decode([self.types[place] for place in self.in_data], data), strict=True
        )
        return tuple(found[place] for place in range(len(self.types)))


@dataclass(frozen=True)
class Log:
    """One row of raw.chain_logs; three logs make a transaction."""

    address: str
    number: int
    log_index: int
    topics: tuple[bytes, ...]
    data: bytes
    chain: str = "ethereum"
    at: datetime | None = None
    transaction_hash: bytes | None = None

    @property
    def block_time(self) -> datetime:
        return self.at or time_of(self.number)

    @property
    def transaction_index(self) -> int:
        return self.log_index // 3

    @property
    def hash(self) -> bytes:
        return self.transaction_hash or keccak256(
            f"{self.number} {self.transaction_index}".encode()
        )

    @property
    def range_key(self) -> str:
        return range_key(self.number)

    def row(self) -> tuple[Any, ...]:
        topics = (*self.topics, *(None,) * (4 - len(self.topics)))
        return (
            self.chain,
            self.range_key,
            self.number,
            self.log_index,
            self.block_time,
            self.transaction_index,
            self.hash,
            bytes.fromhex(self.address[2:]),
            *topics,
            self.data,
        )


def time_of(number: int) -> datetime:
    """Block 0 is at midnight, and every slot has a block."""
    return MIDNIGHT + number * SLOT


def first_block_of(day: date) -> int:
    return (datetime.combine(day, datetime.min.time()) - MIDNIGHT) // SLOT


def range_key(number: int) -> str:
    first = number // RANGE_SIZE * RANGE_SIZE
    return f"{first:09}-{first + RANGE_SIZE - 1:09}"


class ChainTables:
    """The raw tables of chains, and every table of dbt's that the run at hand does not build."""

    def __init__(self, warehouse: Warehouse, manifest: Manifest) -> None:
        self.warehouse = warehouse
        with duckdb.connect(warehouse.path) as connection:
            for source in manifest.sources.values():
                if source.name in RAW_OF_CHAINS:
                    _create(connection, f"raw.{source.name}", source.columns)
            for node in manifest.nodes.values():
                if isinstance(node, ModelNode) and node.config.materialized == "incremental":
                    _create(connection, f"{node.schema}.{node.name}", node.columns)

    def add(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows to any table, in the order of its columns."""
        with duckdb.connect(self.warehouse.path) as connection:
            columns = [column for column, *_ in connection.execute(f"describe {name}").fetchall()]
        self.add_named(name, (dict(zip(columns, row, strict=True)) for row in rows))

    def add_named(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to any table by the names of columns; the others are NULL."""
        content = pa.Table.from_pylist([dict(row) for row in rows])
        with duckdb.connect(self.warehouse.path) as connection:
            if content.num_rows:
                connection.register("content", content)
                connection.execute(f"insert into {name} by name select * from content")

    def add_logs(self, logs: Iterable[Log]) -> None:
        self.add("raw.chain_logs", (log.row() for log in logs))

    def add_deployment(self, name: str, protocol: str, address: str) -> None:
        project, version = name.split("_v")
        row = ("ethereum", name, protocol, project, version, bytes.fromhex(address[2:]), None)
        self.add("raw.deployments", [row])

    def add_token(
        self, address: str, symbol: str, decimals: int, role: str, asset: str | None = None
    ) -> None:
        row = ("ethereum", bytes.fromhex(address[2:]), symbol, decimals, role, asset)
        self.add("raw.trusted_tokens", [row])

    def cover(self, *days: date) -> None:
        """Say which days of the run are covered: those of whole ranges around them."""
        size = RANGE_SIZE
        rows = [
            (
                "ethereum",
                day,
                first_block_of(day) // size * size,
                (first_block_of(day + timedelta(days=1)) - 1) // size * size + size - 1,
                12,
            )
            for day in days
        ]
        self.warehouse.query("delete from raw.covered_days")
        self.add("raw.covered_days", rows)

    def run_range(self, key: str | None, *models: str, command: str = "run") -> None:
        """Rebuild the blocks of a range's key, or of several in a row; without one, everything."""
        variables: dict[str, Any] = {}
        if key is not None:
            blocks = [int(number) for number in key.split("-")]
            variables = {"chain": "ethereum", "blocks": [blocks]}
        self._run(command, variables, models)

    def run_days(self, days: Sequence[date], *models: str) -> None:
        """Rebuild days from the first to the last."""
        variables = {"from_day": str(days[0]), "to_day": str(days[-1])}
        self._run("run", variables, models)

    def _run(self, command: str, variables: Mapping[str, Any], models: Sequence[str]) -> None:
        result = self.warehouse.dbt(command, "--vars", json.dumps(variables), "--select", *models)
        assert result.success, messages(result)


def _create(connection: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, Any]) -> None:
    schema, _, table = name.partition(".")
    found = connection.execute(
        "select table_type from information_schema.tables "
        "where table_schema = ? and table_name = ?",
        [schema, table],
    ).fetchall()
    for (kind,) in found:
        connection.execute(f"drop {'view' if kind == 'VIEW' else 'table'} {name}")
    described = ", ".join(f'"{column}" {value.data_type}' for column, value in columns.items())
    connection.execute(f"create schema if not exists {schema}")
    connection.execute(f"create table {name} ({described})")
