"""The raw tables of a chain with pools, filled as calls to their contracts would fill them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa
from chain_logs import ChainTables, Log, range_key
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse
from dex_events import V2_SWAP, V3_SWAP, V4_SWAP, padded

MODELS = (
    "path:models/staging/uniswap",
    "path:models/staging/calls",
    "path:models/intermediate/dex",
    "dex_trades",
    "dex_pools",
)

V2_FACTORY = "0x5c69bee701ef814a2b6a3edd4b1652cb9cc5aa6f"
V3_FACTORY = "0x1f98431c8ad98523631ae4a59f267346ea31f984"
POOL_MANAGER = "0x000000000004444c5dc75cb358380d2e3de08a90"
POSITION_MANAGER = "0xbd216513d74c8cf14cf4747e6aaa6420ff64ee9e"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"

SENDER, TAKER = "0x" + "11" * 20, "0x" + "22" * 20
PAIR, POOL = "0x" + "a2" * 20, "0x" + "a3" * 20
KEY = bytes([4]) * 32
ROOT = 1771595571142957166518320255467520


def v2(number: int, index: int, *amounts: int, pair: str = PAIR) -> Log:
    """A swap of V2: what went in of both tokens, and what went out."""
    return V2_SWAP.log(pair, number, index, (SENDER, *amounts, TAKER))


def v3(number: int, index: int, *amounts: int, pool: str = POOL, root: int = ROOT) -> Log:
    """A swap of V3, by the changes of both tokens in the pool."""
    return V3_SWAP.log(pool, number, index, (SENDER, TAKER, *amounts, root, 7, -3))


def v4(
    number: int, index: int, *amounts: int, key: bytes = KEY, manager: str = POOL_MANAGER
) -> Log:
    """A swap of V4, by the changes of both tokens at the swapper's."""
    return V4_SWAP.log(manager, number, index, (key, SENDER, *amounts, ROOT, 7, -3, 500))


class DexTables(ChainTables):
    """Tables of chains in which pools and tokens answer, and transactions have senders."""

    def __init__(self, warehouse: Warehouse, manifest: Manifest) -> None:
        super().__init__(warehouse, manifest)
        source = next(s for s in manifest.sources.values() if s.name == "chain_transactions")
        columns = ", ".join(f'"{name}" {each.data_type}' for name, each in source.columns.items())
        with duckdb.connect(warehouse.path) as connection:
            connection.execute("drop view raw.chain_transactions")
            connection.execute(f"create table raw.chain_transactions ({columns})")

    def add_logs(self, logs: Iterable[Log]) -> None:
        """Many logs at once: row by row, those of 25 blocks take half a minute."""
        rows = [log.row() for log in logs]
        with duckdb.connect(self.warehouse.path) as connection:
            names = [name for name, *_ in connection.execute("describe raw.chain_logs").fetchall()]
            columns = (pa.array(column) for column in zip(*rows, strict=True))
            connection.register("logs", pa.table(dict(zip(names, columns, strict=True))))
            connection.execute("insert into raw.chain_logs by name select * from logs")

    def add_uniswap(self) -> None:
        """The deployments of Uniswap, and three tokens that the catalogue lists."""
        self.add_deployment("uniswap_v2", "uniswap_v2", V2_FACTORY)
        self.add_deployment("uniswap_v3", "uniswap_v3", V3_FACTORY)
        self.add_deployment("uniswap_v4", "uniswap_v4", POOL_MANAGER)
        self.warehouse.query(
            "update raw.deployments set fee_pips = 3000 where protocol = 'uniswap_v2'"
        )
        self.add_token("0x" + "00" * 20, "ETH", 18, "native", "ETH")
        self.add_token(WETH, "WETH", 18, "wrapped_native", "ETH")
        self.add_token(USDC, "USDC", 6, "stablecoin", "USDC")

    def add_call(
        self, number: int, address: str, call: str, result: bytes | None, argument: bytes = b""
    ) -> None:
        """What a contract answered, asked for the range of that block; None if it reverted."""
        row = {
            "chain": "ethereum",
            "range": range_key(number),
            "address": bytes.fromhex(address[2:]),
            "call": call,
            "argument": argument,
            "as_of": "finalized",
            "status": "reverted" if result is None else "returned",
            "result": result,
        }
        self.add_named("raw.chain_calls", [row])

    def add_pool(
        self,
        number: int,
        address: str,
        tokens: Sequence[str],
        factory: str,
        *,
        fee: int | None = None,
        deployment: str | None = None,
    ) -> None:
        """A pool that answers; `deployment` if its address follows from that one."""
        answers: dict[str, Any] = {"token0()": tokens[0], "token1()": tokens[1]}
        for call, said in {**answers, "factory()": factory}.items():
            self.add_call(number, address, call, padded([int(said, 16)]))
        self.add_call(number, address, "fee()", None if fee is None else padded([fee]))
        if deployment is not None:
            self.add_derived(number, address, deployment)

    def add_derived(self, number: int, pool: str, deployment: str) -> None:
        self.add("raw.derived_pools", [("ethereum", range_key(number), pool, deployment)])

    def add_token_answers(
        self, number: int, address: str, symbol: bytes | None, decimals: bytes | None
    ) -> None:
        self.add_call(number, address, "symbol()", symbol)
        self.add_call(number, address, "decimals()", decimals)

    def add_transaction(self, log: Log, sender: str, receiver: str | None) -> None:
        row = {
            "chain": log.chain,
            "range": log.range_key,
            "block_number": log.number,
            "transaction_index": log.transaction_index,
            "hash": log.hash,
            "from_address": bytes.fromhex(sender[2:]),
            "to_address": receiver and bytes.fromhex(receiver[2:]),
        }
        self.add_named("raw.chain_transactions", [row])

    def decode(self, number: int | None = None) -> None:
        """Build all models of swaps for the range of a block, or for everything."""
        self.run_range(None if number is None else range_key(number), *MODELS)

    def rows(
        self, columns: str, table: str = "intermediate.int_dex_swaps"
    ) -> list[tuple[Any, ...]]:
        """Columns of a table, in their own order."""
        return self.warehouse.query(f"select {columns} from {table} order by all")
