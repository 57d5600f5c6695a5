"""What the warehouse knows of the catalogue of chains, as tables of the schema `raw`.

    raw.deployments       chain, name            protocols whose events are decoded
    raw.trusted_tokens    chain, address         tokens whose symbol and decimals are known
    raw.derived_pools     chain, range, address  pools that a deployment made, by proof

The third needs Keccak-256, which DuckDB does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from crypto_assets.catalog import (
    CALLS,
    BlockRange,
    Chain,
    ChainRange,
    UniswapV2,
    UniswapV3,
    UniswapV4,
    project_and_version,
)
from crypto_assets.lake import Lake
from crypto_assets.raw_views import literal
from crypto_assets.sources.evm_calls import Answer, ContractCall, key_of, read_answers
from crypto_assets.sources.evm_pools import address_in, create2_pool, number_in, pool_id

# Those that crypto.duckdb has too, where views of decoded events name them.
CATALOGUE_VIEWS = ("raw.deployments", "raw.trusted_tokens")

_DEPLOYMENTS = pa.schema(
    {
        "chain": pa.string(),
        "name": pa.string(),
        "protocol": pa.string(),
        "project": pa.string(),
        "version": pa.string(),
        "address": pa.binary(),
        "fee_pips": pa.int64(),
    }
)
_TOKENS = pa.schema(
    {
        "chain": pa.string(),
        "address": pa.binary(),
        "symbol": pa.string(),
        "decimals": pa.int32(),
        "role": pa.string(),
        "asset": pa.string(),
    }
)
_POOLS = pa.schema(
    {
        "chain": pa.string(),
        "range": pa.string(),
        "address": pa.string(),
        "deployment": pa.string(),
    }
)


def catalogue_tables(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    chains: Sequence[Chain],
    ranges: Mapping[str, Sequence[BlockRange]],
) -> None:
    """Create the three tables anew: of all `chains`, and pools of some `ranges` by chain's name."""
    derived = (row for chain in chains for row in _derived(lake, chain, ranges.get(chain.name, ())))
    for name, schema, rows in (
        ("deployments", _DEPLOYMENTS, (row for chain in chains for row in _deployments(chain))),
        ("trusted_tokens", _TOKENS, (row for chain in chains for row in _tokens(chain))),
        ("derived_pools", _POOLS, derived),
    ):
        content = pa.Table.from_pylist(
            [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
        )
        connection.execute("create schema if not exists raw")
        connection.register("catalogue_rows", content)
        connection.execute(f"create or replace table raw.{name} as from catalogue_rows")
        connection.unregister("catalogue_rows")


def derived_pools(
    chain: Chain, answers: Mapping[ContractCall, Answer]
) -> Iterator[tuple[bytes, str]]:
    """Pools of which answers tell, by address or id, each with the deployment that made it."""
    told: dict[bytes, dict[str, bytes | None]] = {}
    for call, answer in answers.items():
        told.setdefault(call.address, {})[call.call] = answer.result
    for name, deployment in chain.protocols.items():
        match deployment:
            case UniswapV2() | UniswapV3():
                for address, said in told.items():
                    token0, token1 = (address_in(said.get(f"token{place}()")) for place in (0, 1))
                    fee = number_in(said.get("fee()"), bits=24)
                    if token0 is None or token1 is None:
                        continue
                    if fee is None and isinstance(deployment, UniswapV3):
                        continue
                    if create2_pool(deployment, token0, token1, fee) == address:
                        yield address, name
            case UniswapV4(position_manager=str(manager)):
                for call, answer in answers.items():
                    if call.address == bytes.fromhex(manager[2:]) and (key := key_of(call, answer)):
                        yield pool_id(*key), name


def _deployments(chain: Chain) -> Iterable[tuple[Any, ...]]:
    for name, deployment in chain.protocols.items():
        fee_pips = deployment.fee_pips if isinstance(deployment, UniswapV2) else None
        address = bytes.fromhex(deployment.address[2:])
        project, version = project_and_version(name)
        yield chain.name, name, deployment.like, project, version, address, fee_pips


def _tokens(chain: Chain) -> Iterable[tuple[Any, ...]]:
    for token in chain.tokens:
        address = bytes.fromhex(token.address[2:])
        yield chain.name, address, token.symbol, token.decimals, token.role, token.asset


def _derived(lake: Lake, chain: Chain, ranges: Sequence[BlockRange]) -> Iterable[tuple[Any, ...]]:
    for blocks in ranges:
        part = ChainRange(chain.name, blocks)
        calls = lake.file(part.of(CALLS))
        # As the views do: no range without its commit record.
        if lake.file(part.of("blocks")).exists() and calls.exists():
            for pool, deployment in sorted(derived_pools(chain, read_answers(str(calls)))):
                yield chain.name, blocks.key, f"0x{pool.hex()}", deployment


def catalogue_views(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """SELECT statements that hold CATALOGUE_VIEWS as the warehouse has them, if it has."""
    views = {}
    for name, schema in (("deployments", _DEPLOYMENTS), ("trusted_tokens", _TOKENS)):
        found = connection.execute(
            "select 1 from information_schema.tables where table_schema = 'raw' and table_name = ?",
            [name],
        ).fetchall()
        if not found:
            continue
        rows: list[Any] = connection.execute(f"from raw.{name} order by chain, address").fetchall()
        types = [str(kind) for kind in connection.table(f"raw.{name}").types]
        values = ", ".join(
            "(" + ", ".join(map(_value, row, types)) + ")" for row in rows or [[None] * len(types)]
        )
        empty = "" if rows else " where false"
        views[f"raw.{name}"] = (
            f"select * from (values {values}) t({', '.join(schema.names)}){empty}"
        )
    return views


def _value(value: Any, kind: str) -> str:
    if isinstance(value, bytes):
        return f"from_hex('{value.hex()}')"
    text = "null" if value is None else literal(value) if isinstance(value, str) else str(value)
    return f"{text}::{kind}"
