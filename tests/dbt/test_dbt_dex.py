"""Swaps, pools and tokens of made-up logs against eth-abi and Python's integers, and their days."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chain_logs import Log
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse
from dex_events import (
    NATIVE,
    SWAP_COLUMNS,
    V2_CREATED,
    V2_SYNC,
    V3_CREATED,
    V3_SWAP,
    V4_CREATED,
    Pool,
    expected_swap,
    padded,
)
from dex_tables import (
    KEY,
    PAIR,
    POOL,
    POOL_MANAGER,
    POSITION_MANAGER,
    ROOT,
    SENDER,
    TAKER,
    USDC,
    V2_FACTORY,
    V3_FACTORY,
    WETH,
    DexTables,
    v2,
    v3,
    v4,
)
from eth_abi.abi import encode

ODD, FAKE = "0x" + "dd" * 20, "0x" + "fa" * 20
LOST_KEY = bytes([5]) * 32
AMOUNTS = [0, 1, 10**6, 10**18, 10**38 - 1, 10**38, 2**127 - 1, 2**128, 2**255 - 1]
SWAPS = f"select {', '.join(SWAP_COLUMNS)} from intermediate.int_dex_swaps order by 1, 2"


@pytest.fixture
def new_tables(manifest: Manifest, tmp_path: Path) -> Callable[[str], DexTables]:
    """Empty tables of a chain with Uniswap's deployments, as often as wanted."""

    def made(name: str) -> DexTables:
        tables = DexTables(Warehouse(tmp_path / name / "warehouse.duckdb", manifest), manifest)
        tables.add_uniswap()
        return tables

    return made


@pytest.fixture
def tables(new_tables: Callable[[str], DexTables]) -> DexTables:
    return new_tables("only")


def add_three_pools(tables: DexTables, number: int) -> dict[str, Pool]:
    """USDC and WETH on V2 and V3, and the native token and USDC on V4, all of them genuine."""
    tables.add_pool(number, PAIR, (USDC, WETH), V2_FACTORY, deployment="uniswap_v2")
    tables.add_pool(number, POOL, (USDC, WETH), V3_FACTORY, fee=500, deployment="uniswap_v3")
    key = padded([0, int(USDC, 16), 500, 10, 0])
    tables.add_call(number, POSITION_MANAGER, "poolKeys(bytes25)", key, KEY[:25] + bytes(7))
    tables.add_derived(number, f"0x{KEY.hex()}", "uniswap_v4")
    pair = Pool(USDC, WETH, 6, 18)
    return {PAIR: pair, POOL: pair, f"0x{KEY.hex()}": Pool(NATIVE, USDC, 18, 6)}


def test_any_swap_is_what_eth_abi_makes_of_it(tables: DexTables) -> None:
    """All amounts at the edges, in both directions, and at random."""
    dice = random.Random(1)
    pools = add_three_pools(tables, 0)
    signed = [sign * amount for amount in AMOUNTS for sign in (1, -1)] + [-(2**255)]
    small = [amount for amount in signed if -(2**127) <= amount < 2**127] + [-(2**127)]
    logs = [
        *(v2(0, i, *dice.choices([*AMOUNTS, 2**256 - 1], k=4)) for i in range(300)),
        *(v3(1, i, *dice.choices(signed, k=2), root=dice.getrandbits(160)) for i in range(300)),
        *(v4(2, i, *dice.choices(small, k=2)) for i in range(300)),
        *(v3(3, i, *(dice.randrange(-(10**24), 10**24) for _ in range(2))) for i in range(300)),
    ]
    logs.append(V3_SWAP.log(POOL, 4, 0, (SENDER, TAKER, 1, -1, 2**160 - 1, 2**128 - 1, -887272)))
    tables.add_logs(logs)
    tables.decode()
    assert tables.warehouse.query(SWAPS) == [expected_swap(log, pools) for log in logs]


def test_a_log_with_other_fields_indexed_is_no_swap(tables: DexTables) -> None:
    swap = v2(0, 0, 1, 0, 0, 1)
    tables.add_logs(
        [
            swap,
            Log(PAIR, 0, 1, swap.topics[:2], swap.data + bytes(32)),
            Log(PAIR, 0, 2, (*swap.topics, swap.topics[1]), swap.data),
            Log(PAIR, 0, 3, swap.topics, swap.data[:-1]),
            Log(PAIR, 0, 4, (), swap.data),
        ]
    )
    tables.decode()
    assert tables.rows("log_index") == [(0,)]


def test_a_fork_is_known_by_the_catalogue_alone(tables: DexTables) -> None:
    factory = "0x" + "f0" * 20
    tables.add_deployment("sushiswap_v2", "uniswap_v2", factory)
    tables.warehouse.query("update raw.deployments set fee_pips = 2500 where name = 'sushiswap_v2'")
    tables.add_pool(0, PAIR, (USDC, WETH), factory, deployment="sushiswap_v2")
    tables.add_logs([v2(0, 0, 2 * 10**6, 0, 0, 10**15)])
    tables.decode()
    assert tables.rows("project, version, token_pair, fee_pips, amount_usd", "defi.dex_trades") == [
        ("sushiswap", "2", "USDC-WETH", 2500, None)
    ]


def test_how_pools_are_known(tables: DexTables) -> None:
    """By creation, CREATE2 or key; an imitation, one of nobody and a lost key are kept apart."""
    c2, c3 = "0x" + "c2" * 20, "0x" + "c3" * 20
    key, lost, other = f"0x{KEY.hex()}", f"0x{LOST_KEY.hex()}", "0x" + "06" * 32
    known = (None, None, None, None)
    foreign = "0x" + "99" * 20
    tables.add_logs(
        [
            V2_CREATED.log(V2_FACTORY, 0, 0, (USDC, WETH, c2, 1)),
            V3_CREATED.log(V3_FACTORY, 0, 1, (USDC, WETH, 500, 10, c3)),
            V4_CREATED.log(POOL_MANAGER, 0, 2, (b"\6" * 32, NATIVE, USDC, 2**23, 1, FAKE, ROOT, 0)),
            # A factory that nobody listed says that it made an imitation.
            V2_CREATED.log(foreign, 0, 3, (USDC, WETH, FAKE, 1)),
            v2(1, 0, 1, 0, 0, 1, pair=c2),
            v3(1, 1, 1, -1, pool=c3),
            v2(1, 2, 1, 0, 0, 1),
            v3(1, 3, 1, -1),
            v4(1, 4, 1, -1),
            v4(1, 5, 1, -1, key=LOST_KEY),
            v4(1, 6, 1, -1, manager=foreign),
            v2(1, 7, 1, 0, 0, 1, pair=FAKE),
            v2(1, 8, 1, 0, 0, 1, pair=ODD),
            # What is proven to be a pair of V2 emits no events of V3.
            v3(1, 9, 1, -1, pool=PAIR),
        ]
    )
    add_three_pools(tables, 0)
    tables.add_pool(0, FAKE, (USDC, WETH), V2_FACTORY)
    tables.decode()
    found = tables.rows(
        "pool, contract_address, protocol, origin, is_genuine, fee_pips, tick_spacing, "
        "hooks_address, created_block_number, first_seen_block_number, last_seen_block_number",
        "defi.dex_pools",
    )
    assert found == sorted(
        [
            (c2, c2, "uniswap_v2", "factory_event", True, 3000, None, None, 0, 0, 1),
            (c3, c3, "uniswap_v3", "factory_event", True, 500, 10, None, 0, 0, 1),
            (other, POOL_MANAGER, "uniswap_v4", "factory_event", True, None, 1, FAKE, 0, 0, 0),
            (PAIR, PAIR, "uniswap_v2", "create2", True, 3000, None, None, None, 1, 1),
            (POOL, POOL, "uniswap_v3", "create2", True, 500, None, None, None, 1, 1),
            (key, POOL_MANAGER, "uniswap_v4", "pool_key", True, 500, 10, NATIVE, None, 1, 1),
            (key, foreign, "uniswap_v4", "unlisted", False, *known, 1, 1),
            (lost, POOL_MANAGER, "uniswap_v4", "unknown", False, *known, 1, 1),
            (FAKE, FAKE, "uniswap_v2", "imitation", False, *known, 1, 1),
            (ODD, ODD, "uniswap_v2", "unlisted", False, *known, 1, 1),
        ]
    )  # fmt: skip
    assert tables.rows("evt_index", "defi.dex_trades") == [(0,), (1,), (2,), (3,), (4,)]
    assert len(tables.rows("log_index")) == 10
    assert [
        row[0] for row in tables.rows("token0_symbol", "defi.dex_pools where pool like '0x0404%'")
    ] == ["ETH", None]


SYMBOLS: list[tuple[bytes | None, str | None, str]] = [
    (encode(["string"], ["LINK"]), "LINK", "string"),
    (encode(["string"], ["₿itcoin ✓"]), "₿itcoin ✓", "string"),
    (b"MKR".ljust(32, b"\0"), "MKR", "bytes32"),
    (b"A" * 32, "A" * 32, "bytes32"),
    (bytes(32), None, "empty"),
    (encode(["string"], [""]), None, "empty"),
    (encode(["string"], ["  "]), None, "empty"),
    (encode(["string"], ["S" * 64]), "S" * 64, "string"),
    (encode(["string"], ["S" * 65]), None, "too_long"),
    (encode(["string"], ["S" * 5000]), None, "too_long"),
    (encode(["bytes"], [b"\xff\xfe"]), None, "not_utf8"),
    (b"\xff".ljust(32, b"\0"), None, "not_utf8"),
    (encode(["string"], ["U\u200bSDC"]), None, "not_printable"),
    (b"A\0B".ljust(32, b"\0"), None, "not_printable"),
    (padded([32, 2**255, 0]), None, "malformed"),
    (padded([32, 33, 0]), None, "malformed"),
    (padded([64, 1, 0]), None, "malformed"),
    (b"short", None, "malformed"),
    (b"", None, "missing"),
    (None, None, "reverted"),
]
DECIMALS: list[tuple[bytes | None, int | None]] = [
    (padded([0]), 0),
    (padded([18]), 18),
    (padded([77]), 77),
    (padded([78]), None),
    (padded([2**128]), None),
    (padded([-1]), None),
    (padded([18, 0]), None),
    (bytes(31), None),
    (b"", None),
    (None, None),
]


def test_tokens_say_what_they_are_or_nothing(tables: DexTables) -> None:
    for number, (answer, _, _) in enumerate(SYMBOLS):
        tables.add_call(0, f"0x{number + 1:040x}", "symbol()", answer)
    for number, (answer, _) in enumerate(DECIMALS):
        tables.add_call(0, f"0x{number + 1:040x}", "decimals()", answer)
    # Whatever a listed token says, the catalogue knows better.
    tables.add_token_answers(0, USDC, encode(["string"], ["FAKE"]), padded([1]))
    tables.decode()
    found = tables.rows("token_address, symbol, symbol_source, decimals", "intermediate.int_tokens")
    assert [row for row in found if row[0][:30] == "0x" + "0" * 28 and row[0] != NATIVE] == [
        (
            f"0x{number + 1:040x}",
            symbol,
            source,
            DECIMALS[number][1] if number < len(DECIMALS) else None,
        )
        for number, (_, symbol, source) in enumerate(SYMBOLS)
    ]
    assert (USDC, "USDC", "catalogue", 6) in found
    assert (WETH, "WETH", "catalogue", 18) in found
    assert (NATIVE, "ETH", "catalogue", 18) in found


def test_unknown_decimals_leave_amounts_null_and_raw_ones_exact(tables: DexTables) -> None:
    tables.add_pool(0, PAIR, (ODD, WETH), V2_FACTORY, deployment="uniswap_v2")
    tables.add_token_answers(0, ODD, None, None)
    tables.add_logs([v2(0, 0, 12345, 0, 0, 10**18)])
    tables.decode()
    assert tables.rows(
        "token_bought_amount, token_sold_amount, token_sold_amount_raw, token_pair",
        "defi.dex_trades",
    ) == [(Decimal(1), None, 12345, None)]


def test_transactions_have_senders_where_they_are_known(tables: DexTables) -> None:
    """Three swaps of one transaction, one of another, and one whose transaction is not there."""
    add_three_pools(tables, 0)
    logs = [v2(0, i, 1, 0, 0, 1) for i in range(3)] + [v3(0, 3, 1, -1), v3(1, 0, 1, -1)]
    tables.add_logs(logs)
    tables.add_transaction(logs[0], SENDER, TAKER)
    tables.add_transaction(logs[3], TAKER, None)
    tables.decode()
    assert tables.rows("block_number, evt_index, tx_from, tx_to", "defi.dex_trades") == [
        (0, 0, SENDER, TAKER),
        (0, 1, SENDER, TAKER),
        (0, 2, SENDER, TAKER),
        (0, 3, TAKER, None),
        (1, 0, None, None),
    ]


def test_any_range_built_again_gives_the_same(new_tables: Callable[[str], DexTables]) -> None:
    """Each range has its own answers; their order does not matter, and none touches another."""
    dice = random.Random(2)
    numbers = (10, 1010, 2010)
    makers: list[Callable[..., Log]] = [v3, v4]
    logs = [
        made(number, index, *(dice.choice((-1, 1)) * 10**9 for _ in range(2)))
        for number in numbers
        for index, made in enumerate(makers * 5)
    ]
    logs += [V2_SYNC.log(PAIR, number, 90, (5, number)) for number in numbers]

    def filled(name: str) -> DexTables:
        tables = new_tables(name)
        tables.add_logs(logs)
        for number in numbers[1:]:
            add_three_pools(tables, number)
        return tables

    def content(tables: DexTables) -> list[Any]:
        return [
            tables.warehouse.query(f"select * from intermediate.{name} order by all")
            for name in ("int_tokens", "int_dex_pools", "int_dex_swaps", "int_dex_reserves")
        ]

    whole, parts = filled("whole"), filled("parts")
    whole.decode()
    for number in (2010, 10, 1010, 10):
        parts.decode(number)
    assert content(parts) == content(whole)
    # The first range knows no pool; what the others know of it, dex_pools says.
    assert whole.rows("distinct is_genuine", "intermediate.int_dex_swaps") == [(False,), (True,)]
    assert whole.rows("distinct origin", "defi.dex_pools") == [("create2",), ("pool_key",)]
