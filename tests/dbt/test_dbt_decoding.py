"""100,000 logs of the sandbox chain as dbt decodes them, against eth-abi: none missing, none extra.

Swaps, pools and reserves, lending and stablecoins. Where the logs and what is known of their
contracts come from, `dex_sandbox` says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from aave_events import (
    BY_TOPIC,
    COLUMNS_OF_BORROW,
    COLUMNS_OF_SUPPLY,
    POOL,
    RESERVE,
    rows_of,
    stored,
)
from chain_logs import RANGE_SIZE, Event, Log, range_key
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse
from dex_events import (
    PROTOCOLS,
    SWAP_COLUMNS,
    V2_CREATED,
    V2_SYNC,
    V3_CREATED,
    V4_CREATED,
    expected_swap,
)
from dex_sandbox import BLOCKS, SPEC, TRUSTED, Contracts, SandboxLog, sandbox_logs
from dex_tables import DexTables
from sandbox.chain_events import SUSHI

from crypto_assets.sandbox.chain_world import branch

pytestmark = pytest.mark.timeout(500)

STABLECOINS = {one.address.lower(): one for one in TRUSTED if one.role == "stablecoin"}
NOBODY = "0x" + "00" * 20

TRANSFER = Event("Transfer", ("address", "address", "uint256"), (0, 1))
ISSUE, REDEEM = Event("Issue", ("uint256",)), Event("Redeem", ("uint256",))
DESTROYED = Event("DestroyedBlackFunds", ("address", "uint256"))
OF_TETHER = {
    ISSUE.topic0: ("issue", ISSUE),
    REDEEM.topic0: ("redeem", REDEEM),
    DESTROYED.topic0: ("destroyed_black_funds", DESTROYED),
}
KINDS = {"issue": "mint", "redeem": "burn", "destroyed_black_funds": "burn"}


@pytest.fixture(scope="module")
def logs() -> list[SandboxLog]:
    return [*sandbox_logs()]


@pytest.fixture(scope="module")
def contracts(logs: list[SandboxLog]) -> Contracts:
    return Contracts(logs)


@pytest.fixture(scope="module")
def decoded(
    logs: list[SandboxLog],
    contracts: Contracts,
    manifest: Manifest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Warehouse:
    """A warehouse in which dbt has decoded all of them."""
    warehouse = Warehouse(tmp_path_factory.mktemp("sandbox") / "warehouse.duckdb", manifest)
    tables = DexTables(warehouse, manifest)
    tables.add_uniswap()
    warehouse.query("delete from raw.trusted_tokens")
    tables.add_deployment("sushiswap_v2", "uniswap_v2", SUSHI)
    tables.add_deployment("aave_v3", "aave_v3", POOL)
    for one in TRUSTED:
        tables.add_token(one.address, one.symbol, one.decimals, one.role, one.asset)
    tables.add_logs(logs)
    ranges = [range_key(number) for number in BLOCKS[::RANGE_SIZE]]
    tables.add_named(
        "raw.chain_calls",
        (
            {
                "chain": "ethereum",
                "range": key,
                "address": bytes.fromhex(address[2:]),
                "call": call,
                "argument": argument,
                "as_of": "finalized",
                "status": "reverted" if result is None else "returned",
                "result": result,
            }
            for key in ranges
            for address, call, argument, result in contracts.answers()
        ),
    )
    tables.add(
        "raw.derived_pools", [("ethereum", k, *d) for k in ranges for d in contracts.derived()]
    )
    tables.run_range(None, "tag:range")
    return warehouse


def of_event(logs: Iterable[Log], event: Event) -> Iterator[tuple[Log, tuple[Any, ...]]]:
    for log in logs:
        if log.topics[:1] == (event.topic0,) and len(log.topics) == 1 + len(event.indexed):
            yield log, event.arguments(log.topics, log.data)


def where(log: Log) -> tuple[int, int, str]:
    return log.number, log.log_index, f"0x{log.hash.hex()}"


def assert_equal(found: Sequence[tuple[Any, ...]], expected: Sequence[tuple[Any, ...]]) -> None:
    """As `==`, but a difference among thousands of rows is told by its first ones."""
    assert (len(found), len(expected)) == (len(expected), len(expected))
    assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]][:3] == []


def test_the_logs_are_those_of_the_chain(logs: list[SandboxLog]) -> None:
    assert len(logs) >= 100_000
    of_blocks: Mapping[int, list[SandboxLog]] = defaultdict(list)
    for log in logs:
        of_blocks[log.number].append(log)
    for number in BLOCKS[:100]:
        sealed = branch(SPEC)._sealed(number)
        assert [
            (f"0x{log.address.hex()}", log.topics, log.data)
            for receipt in sealed.receipts
            for log in receipt["logs"]
        ] == [(log.address, log.topics, log.data) for log in of_blocks[number]]


def test_every_swap(decoded: Warehouse, logs: list[SandboxLog], contracts: Contracts) -> None:
    pools = contracts.known()
    expected = [
        expected_swap(log, pools) for log in logs if log.topics and log.topics[0] in PROTOCOLS
    ]
    found = decoded.query(
        f"select {', '.join(SWAP_COLUMNS)} from intermediate.int_dex_swaps "
        "order by block_number, log_index"
    )
    assert_equal(found, expected)
    counts = Counter(row[3] for row in found)
    assert min(counts[name] for name in ("uniswap_v2", "uniswap_v3", "uniswap_v4")) > 1500
    of_row = [dict(zip(SWAP_COLUMNS, row, strict=True)) for row in found]
    assert any(row["amount_overflow"] for row in of_row)
    assert any(row["is_empty"] for row in of_row)
    assert any(row["token_bought_address"] is None for row in of_row)


def test_every_pool_that_swapped_and_whether_it_is_genuine(
    decoded: Warehouse, contracts: Contracts
) -> None:
    expected = {pool: contracts.deployment(pool) for pool in contracts.pools}
    expected |= {
        f"0x{pool.hex()}": "uniswap_v4" if pool in contracts.keys else None for pool in contracts.v4
    }
    found = decoded.query(
        "select distinct pool, deployment, is_genuine from intermediate.int_dex_pools"
    )
    assert_equal(
        sorted(found, key=lambda row: row[0]),
        [(pool, name, name is not None) for pool, name in sorted(expected.items())],
    )
    assert None in expected.values(), "the chain has imitations"
    assert decoded.query(
        "select count(*) from intermediate.int_dex_swaps as swap "
        "where is_genuine is distinct from (pool in (select pool from intermediate.int_dex_pools "
        "where is_genuine))"
    ) == [(0,)]


def test_every_sync(decoded: Warehouse, logs: list[SandboxLog]) -> None:
    expected = [
        (*where(log), log.address, *(Decimal(reserve) for reserve in reserves), None, None)
        for log, reserves in of_event(logs, V2_SYNC)
    ]
    found = decoded.query(
        "select block_number, log_index, transaction_hash, pool, reserve0_raw, reserve1_raw, "
        "reserve0_overflow, reserve1_overflow "
        "from intermediate.int_dex_reserves order by block_number, log_index"
    )
    assert_equal(found, expected)
    assert len(found) > 5000


def test_every_creation_of_a_pool(decoded: Warehouse, logs: list[SandboxLog]) -> None:
    head = (
        "block_number, log_index, transaction_hash, contract_address, token0_address, "
        "token1_address"
    )
    for model, columns, event, fields in (
        ("v2_pairs", "pair", V2_CREATED, (2,)),
        ("v3_pools", "fee_pips, tick_spacing, pool", V3_CREATED, (2, 3, 4)),
        (
            "v4_pools",
            "pool, fee_pips, tick_spacing, hooks_address, sqrt_price_x96, tick",
            V4_CREATED,
            (0, 3, 4, 5, 6, 7),
        ),
    ):
        tokens = (1, 2) if event is V4_CREATED else (0, 1)
        expected = [
            (*where(log), log.address, *(values[at] for at in (*tokens, *fields)))
            for log, said in of_event(logs, event)
            for values in [_as_stored(said, root=6 if event is V4_CREATED else None)]
        ]
        found = decoded.query(
            f"select {head}, {columns} from staging.stg_uniswap__{model} "
            "order by block_number, log_index"
        )
        assert_equal(found, expected)
        assert found


def _as_stored(values: tuple[Any, ...], root: int | None) -> list[Any]:
    """Ids and the square root of a price are kept as hex."""
    return [
        f"0x{value.hex()}"
        if isinstance(value, bytes)
        else f"0x{value:064x}"
        if place == root
        else value
        for place, value in enumerate(values)
    ]


def test_every_event_of_aave(
    decoded: Warehouse, logs: list[SandboxLog], contracts: Contracts
) -> None:
    events = [
        (log, arguments)
        for event in BY_TOPIC.values()
        for log, arguments in of_event(logs, event)
        if log.address == POOL
    ]
    tokens = {*contracts.tokens, *(one.address.lower() for one in TRUSTED)}
    known = {token: contracts.decimals(token) for token in tokens}
    decimals = {token: places for token, places in known.items() if places is not None}
    for table, columns, is_borrow in (
        ("int_lending_supply", COLUMNS_OF_SUPPLY, False),
        ("int_lending_borrow", COLUMNS_OF_BORROW, True),
    ):
        rows = [
            row
            for log, arguments in events
            for row in rows_of(log, arguments, decimals, is_borrow=is_borrow)
        ]
        found = decoded.query(
            f"select {columns} from intermediate.{table} "
            "order by block_number, log_index, transaction_type"
        )
        assert_equal(found, sorted(rows, key=lambda row: (row[0], row[2], row[4])))
        assert len({row[4] for row in found}) >= 3
    updates = decoded.query(
        "select block_number, log_index, transaction_hash, token_address, liquidity_rate_ray, "
        "stable_borrow_rate_ray, variable_borrow_rate_ray, liquidity_index_ray, "
        "variable_borrow_index_ray from intermediate.int_lending_reserve_updates "
        "order by block_number, log_index"
    )
    expected = [
        (*where(log), token, *(stored(ray)[0] for ray in rays))
        for log, (token, *rays) in events
        if log.topics[0] == RESERVE.topic0
    ]
    assert_equal(updates, expected)
    assert len(updates) > 1000


def test_every_event_of_a_stablecoin(decoded: Warehouse, logs: list[SandboxLog]) -> None:
    moved = [
        (log, *arguments)
        for log, arguments in of_event(logs, TRANSFER)
        if log.address in STABLECOINS
    ]
    found = decoded.query(
        "select block_number, log_index, transaction_hash, token_address, sender, recipient, "
        "amount_raw, amount_overflow from staging.stg_tokens__transfers "
        "order by block_number, log_index"
    )
    assert_equal(
        found,
        [(*where(log), log.address, *parties, *stored(n)) for log, *parties, n in moved],
    )
    tether = next(token for token, one in STABLECOINS.items() if one.symbol == "USDT")
    changed = [
        (log, name, *(said if event is DESTROYED else (None, *said)))
        for log in logs
        if log.address == tether and log.topics[:1] and log.topics[0] in OF_TETHER
        for name, event in [OF_TETHER[log.topics[0]]]
        for said in [event.arguments(log.topics, log.data)]
    ]
    found = decoded.query(
        "select block_number, log_index, transaction_hash, token_address, event, account, "
        "amount_raw, amount_overflow from staging.stg_tether__supply_changes "
        "order by block_number, log_index"
    )
    assert_equal(
        found,
        [(*where(log), tether, name, who, *stored(n)) for log, name, who, n in changed],
    )
    assert {row[4] for row in found} == set(KINDS)
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for log, sender, recipient, amount in moved:
        kind = "mint" if sender == NOBODY else "burn" if recipient == NOBODY else "transfer"
        sums[log.number, log.address, kind, "transfer"].append(amount)
    for log, name, _, amount in changed:
        sums[log.number, tether, KINDS[name], name].append(amount)
    assert_equal(
        decoded.query(
            "select block_number, token_address, kind, event, event_count, amount_raw "
            "from intermediate.int_stablecoin_changes order by all"
        ),
        [(*key, len(amounts), Decimal(sum(amounts))) for key, amounts in sorted(sums.items())],
    )


def test_rows_are_of_the_ranges_of_their_blocks(decoded: Warehouse) -> None:
    for name in ("int_dex_swaps", "int_dex_reserves", "int_lending_supply", "int_lending_borrow"):
        assert decoded.query(
            f"select count(*) from intermediate.{name} "
            "where block_number not between split_part(block_range, '-', 1)::bigint "
            "and split_part(block_range, '-', 2)::bigint"
        ) == [(0,)]
