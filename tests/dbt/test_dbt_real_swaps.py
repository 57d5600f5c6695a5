"""Swaps of real mainnet blocks, as dbt decodes them, against eth-abi and the prices of Binance.

The pools that have tokens here are those of Uniswap's biggest pairs, whose addresses follow by
CREATE2 from the factories of the catalogue; what the others would answer is not recorded.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import statistics
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import duckdb
import pytest
from chain_logs import Log
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse
from dex_events import PROTOCOLS, SWAP_COLUMNS, V3_SWAP, Pool, expected_swap
from dex_tables import POOL_MANAGER, V2_FACTORY, V3_FACTORY, DexTables

from crypto_assets.catalog.protocols import UniswapV2, UniswapV3
from crypto_assets.sources.evm_pools import create2_pool

# https://github.com/bgd-labs/aave-address-book
TOKENS = {
    "WETH": ("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", 18, "wrapped_native"),
    "USDC": ("0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", 6, "stablecoin"),
    "USDT": ("0xdac17f958d2ee523a2206206994597c13d831ec7", 6, "stablecoin"),
    "DAI": ("0x6b175474e89094c44da98b954eedeac495271d0f", 18, "stablecoin"),
    "WBTC": ("0x2260fac5e5542a773aa44fbcfedf7c193bc2c599", 8, "major"),
}
# https://docs.uniswap.org/contracts/v2/reference/smart-contracts/v2-deployments (v3 likewise)
V2 = UniswapV2(
    like="uniswap_v2",
    factory=V2_FACTORY,
    init_code_hash="0x96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f",
)
V3 = UniswapV3(
    like="uniswap_v3",
    factory=V3_FACTORY,
    init_code_hash="0xe34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54",
)
PAIRS = [("USDC", "WETH"), ("WETH", "USDT"), ("DAI", "WETH"), ("WBTC", "WETH"), ("USDC", "USDT")]
POOLS = [
    *((pair, None) for pair in PAIRS),
    *((pair, fee) for pair in [*PAIRS, ("DAI", "USDC")] for fee in (100, 500, 3000, 10000)),
]
USDC_WETH = "0x88e6a0c2ddd26feeb64f039a2c41296fcb3f5640"
# cryo's files have no timestamps; Binance's day tells which day it was.
CRYO_DAY = datetime(2023, 10, 25)


def address_of(pair: tuple[str, str], fee: int | None) -> str:
    token0, token1 = (bytes.fromhex(TOKENS[symbol][0][2:]) for symbol in pair)
    return f"0x{create2_pool(V2 if fee is None else V3, token0, token1, fee).hex()}"


KNOWN = {address_of(*pool): pool for pool in POOLS}


def known_pools() -> dict[str, Pool]:
    return {
        address: Pool(TOKENS[a][0], TOKENS[b][0], TOKENS[a][1], TOKENS[b][1])
        for address, ((a, b), _) in KNOWN.items()
    }


def recorded_logs(ethereum: Path) -> Iterator[Log]:
    """All logs of the blocks and receipts that are recorded."""
    with duckdb.connect() as connection:
        cryo = connection.execute(
            "select address, block_number, log_index, transaction_hash, "
            "[topic0, topic1, topic2, topic3], data "
            f"from '{ethereum}/cryo_logs/*.parquet'"
        ).fetchall()
    for address, number, index, transaction, topics, data in cryo:
        present = tuple(bytes(topic) for topic in topics if topic is not None)
        yield Log(
            f"0x{address.hex()}", number, index, present, data,
            at=CRYO_DAY, transaction_hash=transaction,
        )  # fmt: skip
    receipts: list[dict[str, Any]] = []
    for path in sorted(ethereum.glob("full_blocks_mev_inspect/*.json.gz")):
        receipts += json.loads(gzip.decompress(path.read_bytes()))["receipts"]["result"]
    receipts += [
        json.loads(path.read_text())["result"]
        for path in sorted(ethereum.glob("rpc_receipts/*.json"))
    ]
    for receipt in receipts:
        for log in receipt["logs"]:
            yield Log(
                log["address"].lower(),
                int(log["blockNumber"], 16),
                int(log["logIndex"], 16),
                tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]),
                bytes.fromhex(log["data"][2:]),
                at=datetime(2020, 1, 1),
                transaction_hash=bytes.fromhex(log["transactionHash"][2:]),
            )


@pytest.fixture(scope="module")
def logs(realdata: Path) -> dict[tuple[int, int], Log]:
    return {(log.number, log.log_index): log for log in recorded_logs(realdata / "ethereum")}


@pytest.fixture(scope="module")
def decoded(
    logs: dict[tuple[int, int], Log], manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Warehouse:
    """A warehouse in which dbt has decoded all of them."""
    warehouse = Warehouse(tmp_path_factory.mktemp("real") / "warehouse.duckdb", manifest)
    tables = DexTables(warehouse, manifest)
    tables.add_deployment("uniswap_v2", "uniswap_v2", V2_FACTORY)
    tables.add_deployment("uniswap_v3", "uniswap_v3", V3_FACTORY)
    tables.add_deployment("uniswap_v4", "uniswap_v4", POOL_MANAGER)
    for symbol, (address, decimals, role) in TOKENS.items():
        tables.add_token(address, symbol, decimals, role)
    tables.add_logs(logs.values())
    seen = {(log.address, log.range_key): log.number for log in logs.values()}
    for (address, _), number in seen.items():
        if address in KNOWN:
            (a, b), fee = KNOWN[address]
            factory, version = (V2_FACTORY, 2) if fee is None else (V3_FACTORY, 3)
            pair = (TOKENS[a][0], TOKENS[b][0])
            tables.add_pool(
                number, address, pair, factory, fee=fee, deployment=f"uniswap_v{version}"
            )
    tables.decode()
    return warehouse


def test_pools_have_the_addresses_that_are_known_of_them() -> None:
    """Three of them by their addresses on mainnet: the derivation is the one that holds there."""
    assert address_of(("USDC", "WETH"), 500) == USDC_WETH
    assert address_of(("USDC", "WETH"), None) == "0xb4e16d0168e52d35cacd2c6185b44281ec28c9dc"
    assert address_of(("WETH", "USDT"), 3000) == "0x4e68ccd3e89f51c3074ca5072bbac773960dfa36"


def test_every_swap_is_what_eth_abi_makes_of_it(
    decoded: Warehouse, logs: dict[tuple[int, int], Log]
) -> None:
    pools = known_pools()
    swaps = [log for _, log in sorted(logs.items()) if log.topics and log.topics[0] in PROTOCOLS]
    expected = [expected_swap(log, pools) for log in swaps]
    found = decoded.query(
        f"select {', '.join(SWAP_COLUMNS)} from intermediate.int_dex_swaps "
        "order by block_number, log_index"
    )
    assert found == expected
    counts = {name: sum(row[3] == name for row in found) for name, _ in PROTOCOLS.values()}
    assert counts["uniswap_v2"] > 700
    assert counts["uniswap_v3"] > 200
    assert counts["uniswap_v4"] == 4


def test_price_of_the_biggest_pool_is_that_of_binance(decoded: Warehouse, realdata: Path) -> None:
    """25 blocks are five minutes: the pool's prices lie within what Binance traded on that day."""
    prices = [
        1 / price
        for (price,) in decoded.query(
            "select price_after from intermediate.int_dex_swaps "
            f"where pool = '{USDC_WETH}' and block_number >= 18426253 and block_number <= 18426277"
        )
    ]
    candles = minutes_of_binance(realdata, CRYO_DAY.date())
    assert len(prices) > 10
    assert min(prices) >= 1773
    assert max(prices) <= 1777
    # In some minute of the day Binance closed within 5 bps of each of them.
    for price in prices:
        nearest = min(candles.values(), key=lambda close: abs(close - price))
        assert abs(price / nearest - 1) < Decimal("0.0005")


def minutes_of_binance(realdata: Path, day: date) -> dict[datetime, Decimal]:
    """Closing prices of ETHUSDT by minute."""
    folder = realdata / "binance_vision" / "spot" / "daily" / "klines" / "ETHUSDT" / "1m"
    with zipfile.ZipFile(folder / f"ETHUSDT-1m-{day}.zip") as archive:
        content = archive.read(archive.namelist()[0]).decode()
    return {
        datetime(1970, 1, 1) + timedelta(milliseconds=int(row[0])): Decimal(row[4])
        for row in csv.reader(io.StringIO(content))
    }


# Polygon's pool of USDC and WETH at 0.05 %; the two tokens have the decimals of mainnet's.
POLYGON_POOL = "0x45dda9cb7c25131df268515131f647d726f50608"


@pytest.mark.parametrize("day", [date(2023, 8, 14), date(2023, 8, 15), date(2024, 2, 15)])
def test_price_by_minute_follows_that_of_binance(
    warehouse: Warehouse, manifest: Manifest, realdata: Path, day: date
) -> None:
    """Minutes of a pool, as one swap each with the tick, amounts and liquidity of the minute."""
    tables = DexTables(warehouse, manifest)
    tables.add_deployment("uniswap_v3", "uniswap_v3", V3_FACTORY)
    for symbol in ("USDC", "WETH"):
        address, decimals, role = TOKENS[symbol]
        tables.add_token(address, symbol, decimals, role)
    folder = realdata / "defi" / "uniswap_v3_minute"
    with (folder / f"polygon-{POLYGON_POOL}-{day}.minute.csv").open() as file:
        minutes = [row for row in csv.DictReader(file) if row["closeTick"]]
    logs = []
    for number, row in enumerate(minutes):
        tick = int(float(row["closeTick"]))
        with localcontext(prec=80):
            root = int(Decimal("1.0001") ** (Decimal(tick) / 2) * 2**96)
        change0, change1 = int(float(row["netAmount0"])), int(float(row["netAmount1"]))
        liquidity = int(float(row["currentLiquidity"]))
        log = V3_SWAP.log(
            POLYGON_POOL, 0, number, ("0x" + "11" * 20, "0x" + "22" * 20, change0, change1, root,
                                      liquidity, tick),
        )  # fmt: skip
        logs.append(
            Log(POLYGON_POOL, 0, number, log.topics, log.data,
                at=datetime.fromisoformat(row["timestamp"]))
        )  # fmt: skip
    tables.add_logs(logs)
    pair = (TOKENS["USDC"][0], TOKENS["WETH"][0])
    tables.add_pool(0, POLYGON_POOL, pair, V3_FACTORY, fee=500, deployment="uniswap_v3")
    tables.decode()
    candles = minutes_of_binance(realdata, day)
    distances = [
        abs(1 / price / candles[at] - 1) * 10_000
        for at, price in warehouse.query(
            "select block_time, price_after from intermediate.int_dex_swaps where is_genuine"
        )
    ]
    assert len(distances) >= 1400
    assert statistics.median(distances) < 12
    assert max(distances) < 25


# One router's trade through two pools, a swap in each direction of V3 and V2, stablecoins, Bitcoin:
# transaction, log, version, bought, sold, taker.
PINNED = [
    "0x116b3a9c0b2a4857605e336438c8e4c91897a9ef2af23178f9dbceba85264bd9 234 3 "
    "49.523026278486536412 WETH 75000 USDC 0x68b3465833fb72a70ecdf485e0e4c7bd8665fc45",
    "0x38a244f3b7432a02341985d993e9801d7bbbb0561a232c4e1d890c3c20f7ccc8 152 2 "
    "233.366506 USDC 234.258203 USDT 0x2f0c06601791539620e6cfa3e358fcb505e51e6c",
    "0x5df7af8c1b5ef1f3e7ab5014ee9c7d1cd279bf00e9ddb5ec8d7df66fab2e19e9 195 3 "
    "1452.175 USDC 0.81927707399436776 WETH 0x3fc91a3afd70395cd496c647d5a6cc9d4b2b7fad",
    "0x8e72d934ae6cddbb081b8542b0798002e70339039e6f0ab75cb560845c3b3ce6 254 2 "
    "2.816688366191175652 WETH 5000 USDC 0x9ff68f61ca5eb0c6606dc517a9d44001e564bb66",
    "0xba08cfc50c0b5fdde6ab0266daab3b692cef869cbb970663fd20c4ada0374e0d 251 3 "
    "216.975859 USDC 217 USDT 0xe592427a0aece92de3edee1f18e0157c05861564",
    "0xba08cfc50c0b5fdde6ab0266daab3b692cef869cbb970663fd20c4ada0374e0d 254 3 "
    "0.12218702025643841 WETH 216.975859 USDC 0x4a14347083b80e5216ca31350a2d21702ac3650d",
    "0xea6f636c9c077241ec7f999c7e7a17053eda3d78405acaecc12d7b68ed652d55 47 3 "
    "2.45298254 WBTC 46.988425320696542818 WETH 0x5f515f6c524b18ca30f7783fb58dd4be2e9904ec",
]


def test_pinned_trades(decoded: Warehouse) -> None:
    """As they were when every swap agreed with eth-abi: no later one may differ."""
    listed = ", ".join(f"('{trade.split()[0]}', {trade.split()[1]})" for trade in PINNED)
    trades = decoded.query(
        "select tx_hash, evt_index, version, token_bought_amount, token_bought_symbol, "
        "token_sold_amount, token_sold_symbol, taker from defi.dex_trades "
        f"where (tx_hash, evt_index) in ({listed}) order by tx_hash, evt_index"
    )
    expected = [trade.split() for trade in PINNED]
    assert [
        (tx, str(log), version, bought, symbol, sold, other, taker)
        for tx, log, version, bought, symbol, sold, other, taker in trades
    ] == [
        (tx, log, version, Decimal(bought), symbol, Decimal(sold), other, taker)
        for tx, log, version, bought, symbol, sold, other, taker in expected
    ]
