"""Blocks, transactions and logs of chains, and their days, against numbers worked out in Python."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chain_days import (
    ETHEREUM,
    LIGHT,
    OTHER,
    SLOT,
    Block,
    Tx,
    at,
    commit,
    divided,
    every,
    expected_day,
)
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse, messages

from crypto_assets.catalog import Catalog, Chain, ChainRange
from crypto_assets.lake import Lake, RangeWriter
from crypto_assets.sandbox import create_app, transport
from crypto_assets.sandbox.chain_world import ChainSpec, branch
from crypto_assets.sources.evm import Evm
from crypto_assets.sources.evm_rows import datasets

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
ALL_ROWS = "select * from network.blocks_daily order by day, chain"
Json = dict[str, Any]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home")


def build(warehouse: Warehouse, lake: Lake, days: Sequence[date], *chains: Chain) -> None:
    """What a run over these days does."""
    warehouse.load_chains(lake, days, *chains)
    warehouse.must_build(days[0], days[-1], "--select", "+blocks_daily", "stg_chain__logs")


def rows(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.query(ALL_ROWS)


def some_blocks(seed: int, hours: range, *, start: date = FIRST, **given: Any) -> list[Block]:
    """Blocks at irregular slots, ten for each hour from the start of a day on, some empty."""
    dice = random.Random(seed)
    slots = sorted(dice.sample(range(hours.start * 300, hours.stop * 300), len(hours) * 10))
    offset = timedelta(seconds=11)
    return [
        Block(
            1000 + place,
            at(start) + offset + slot * SLOT,
            tuple(
                Tx(
                    gas_used=dice.randrange(21_000, 10**6),
                    price=dice.randrange(10**9, 10**12),
                    status=dice.randrange(2),
                    logs=dice.randrange(4),
                    says_effective_price=dice.random() < 0.5,
                )
                for _ in range(dice.randrange(4))
            ),
            base_fee=dice.randrange(1, 10**9),
            gas_limit=dice.randrange(10**7, 10**8),
            **given,
        )
        for place, slot in enumerate(slots)
    ]


# Three days from end to end, with an hour before and after; the second of them; the first two.
ETHEREUM_BLOCKS = some_blocks(1, range(-1, 73))
OTHER_BLOCKS = some_blocks(2, range(23, 49), difficulty=3)
LIGHT_BLOCKS = some_blocks(3, range(-1, 50))
EXPECTED = [
    expected_day(ETHEREUM, DAYS[0], ETHEREUM_BLOCKS),
    expected_day(LIGHT, DAYS[0], LIGHT_BLOCKS),
    expected_day(ETHEREUM, DAYS[1], ETHEREUM_BLOCKS),
    expected_day(LIGHT, DAYS[1], LIGHT_BLOCKS),
    expected_day(OTHER, DAYS[1], OTHER_BLOCKS),
    expected_day(ETHEREUM, DAYS[2], ETHEREUM_BLOCKS),
]
CHAINS = (ETHEREUM, LIGHT, OTHER)


@pytest.fixture(scope="module")
def three_chains(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("chains"))
    commit(lake, ETHEREUM, ETHEREUM_BLOCKS)
    commit(lake, OTHER, OTHER_BLOCKS)
    commit(lake, LIGHT, LIGHT_BLOCKS)
    return lake


def test_a_day_is_the_sum_of_its_blocks_in_whatever_order_days_are_built(
    warehouse: Warehouse, three_chains: Lake, manifest: Manifest, tmp_path: Path
) -> None:
    build(warehouse, three_chains, DAYS, *CHAINS)
    assert rows(warehouse) == EXPECTED
    build(warehouse, three_chains, DAYS[1:2], *CHAINS)
    assert rows(warehouse) == EXPECTED
    other = Warehouse(tmp_path / "other" / "warehouse.duckdb", manifest)
    for number in (2, 0, 1):
        build(other, three_chains, DAYS[number : number + 1], *CHAINS)
    assert rows(other) == EXPECTED


def test_a_day_that_is_not_covered_any_more_loses_its_row(
    warehouse: Warehouse, three_chains: Lake, lake: Lake
) -> None:
    build(warehouse, three_chains, DAYS, *CHAINS)
    shutil.copytree(three_chains.home, lake.home)
    missing = ETHEREUM.range_of(EXPECTED[2][3] + 100)
    lake.file(ChainRange("ethereum", missing).of("blocks")).unlink()
    build(warehouse, lake, DAYS[1:2], *CHAINS)
    assert rows(warehouse) == [*EXPECTED[:2], *EXPECTED[3:]]


def test_a_full_refresh_keeps_the_days_that_the_run_has_no_blocks_of(
    warehouse: Warehouse, three_chains: Lake
) -> None:
    build(warehouse, three_chains, DAYS, *CHAINS)
    warehouse.load_chains(three_chains, DAYS[:1], *CHAINS)
    warehouse.must_build(
        DAYS[0], DAYS[0], "--select", "+blocks_daily", "stg_chain__logs", "--full-refresh"
    )
    assert rows(warehouse) == EXPECTED


@pytest.mark.parametrize("base_fee", [None, 5])
def test_what_old_blocks_and_receipts_lack(
    warehouse: Warehouse, lake: Lake, base_fee: int | None
) -> None:
    """No base fee before London, no status before Byzantium, no price of some nodes; a genesis."""
    old = (Tx(status=None, price=20, says_effective_price=False), Tx(status=1, price=30))
    blocks = every(
        timedelta(hours=3),
        at(FIRST),
        range(10),
        transactions=old,
        difficulty=9,
        base_fee=base_fee,
    )
    commit(lake, ETHEREUM, blocks)
    build(warehouse, lake, [FIRST], ETHEREUM)
    assert rows(warehouse) == [expected_day(ETHEREUM, FIRST, blocks)]
    known = warehouse.query(
        "select empty_slot_count, failed_transaction_count, fees_wei, burnt_wei "
        "from network.blocks_daily"
    )
    assert known == [(None, None, 8 * 21_000 * 50, 8 * 42_000 * (base_fee or 0))]


def test_what_exceeds_38_digits_stops_the_build(warehouse: Warehouse, lake: Lake) -> None:
    dear = (Tx(gas_used=10**9, price=10**28),)
    times = [at(FIRST, f"{hour:02}:00:00") for hour in range(10)]
    blocks = [Block(number, time, dear) for number, time in enumerate(times)]
    commit(lake, ETHEREUM, blocks)
    commit(lake, ETHEREUM, every(timedelta(hours=12), at(FIRST, "23:00:00"), range(10, 20)))
    warehouse.load_chains(lake, [FIRST], ETHEREUM)
    result = warehouse.build(FIRST, FIRST, "--select", "+blocks_daily", "stg_chain__logs")
    assert not result.success
    assert "Could not cast value 100000000000000000000000000000000000000 to DECIMAL(38,0)" in (
        messages(result)
    )


def test_a_value_of_more_than_38_digits_keeps_them_as_hex(warehouse: Warehouse, lake: Lake) -> None:
    values = (10**38 - 1, 10**38, 2**256 - 1)
    sent = tuple(Tx(value=value) for value in values)
    commit(lake, ETHEREUM, every(timedelta(hours=4), at(FIRST), range(10), transactions=sent))
    build(warehouse, lake, [FIRST], ETHEREUM)
    found = warehouse.query(
        "select value, value_overflow, is_value_overflow from staging.stg_chain__transactions "
        "where block_number = 3 order by transaction_index"
    )
    assert found == [
        (Decimal(10**38 - 1), None, False),
        *((None, f"0x{value:064x}", True) for value in values[1:]),
    ]


def test_each_dbt_test_fails_for_its_reason(warehouse: Warehouse, lake: Lake) -> None:
    blocks = some_blocks(4, range(-1, 25))
    commit(lake, ETHEREUM, blocks)

    def failing() -> set[str]:
        outcome = warehouse.build(
            FIRST, FIRST, "--select", "+blocks_daily,resource_type:test", command="test"
        )
        assert outcome.exception is None, outcome.exception
        return {run.node.name for run in outcome.result if run.status == "fail"}  # type: ignore[union-attr]

    build(warehouse, lake, [FIRST], ETHEREUM)
    assert failing() == set()
    # 24 s does not divide the distances of blocks; 6 s does, and is not found out.
    build(warehouse, lake, [FIRST], ETHEREUM.model_copy(update={"slot_seconds": 24}))
    assert failing() == {"blocks_begin_slots"}
    warehouse.query("insert into network.blocks_daily from network.blocks_daily")
    assert failing() == {"blocks_begin_slots", "unique_combination_blocks_daily_chain__day"}


# --- the sandbox chain, through its source ----------------------------------------------------


SANDBOX = Chain(name="ethereum", chain_id=1, slot_seconds=12)
SPEC = ChainSpec()
SANDBOX_DAYS = [date(2024, 12, 31), date(2025, 1, 1)]


@pytest.fixture(scope="module")
def sandbox_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three ranges, fetched by the source: 2024-12-31 and the day after, and an hour around."""
    lake = Lake(tmp_path_factory.mktemp("sandbox"))
    evm = Evm(
        SANDBOX,
        urls=["http://sandbox.test/ethereum"],
        transport=transport(create_app(Catalog(()))),
        proofs=(),
    )
    try:
        for blocks in SANDBOX.ranges(SPEC.first, SPEC.first + 2999):
            part = ChainRange(SANDBOX.name, blocks)
            workdir = lake.inflight(part)
            workdir.mkdir(parents=True)
            with RangeWriter(lake, datasets(SANDBOX), part) as writer:
                extract = evm.fetch(blocks, workdir)
                for batches in extract:
                    writer.write(batches)
                writer.commit(source_row_counts=extract.counts, source=(), checks=extract.checks)
    finally:
        evm.close()
    return lake


def sandbox_blocks() -> list[tuple[Json, list[Json]]]:
    """Every block with its receipts, as the node has them."""
    trunk = branch(SPEC)
    made = [trunk.block(number) for number in range(SPEC.first, SPEC.first + 3000)]
    return [(json.loads(one.block), json.loads(one.receipts)) for one in made]


def number(text: str) -> int:
    return int(text, 16)


def test_days_of_the_sandbox_chain_equal_what_its_node_says(
    warehouse: Warehouse, sandbox_lake: Lake
) -> None:
    days = [SANDBOX_DAYS[0] - timedelta(days=1), *SANDBOX_DAYS, date(2025, 1, 2)]
    build(warehouse, sandbox_lake, days, SANDBOX)
    expected = []
    for day in SANDBOX_DAYS:
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        of_day = [
            (block, receipts)
            for block, receipts in sandbox_blocks()
            if start <= number(block["timestamp"]) < start + 86_400
        ]
        receipts = [receipt for _, of_block in of_day for receipt in of_block]
        fees = sum(number(r["gasUsed"]) * number(r["effectiveGasPrice"]) for r in receipts)
        gas = [number(block["gasUsed"]) for block, _ in of_day]
        base_fees = [number(block["baseFeePerGas"]) for block, _ in of_day]
        limit = sum(number(block["gasLimit"]) for block, _ in of_day)
        burnt = sum(fee * used for fee, used in zip(base_fees, gas, strict=True))
        expected.append(
            (
                "ethereum",
                day,
                1440,
                number(of_day[0][0]["number"]),
                number(of_day[-1][0]["number"]),
                datetime(day.year, day.month, day.day, 0, 0, 11),
                datetime(day.year, day.month, day.day, 23, 59, 11),
                7200 - 1440,
                sum(len(block["transactions"]) for block, _ in of_day),
                sum(receipt["status"] == "0x0" for receipt in receipts),
                sum(len(receipt["logs"]) for receipt in receipts),
                sum(gas),
                limit,
                divided(sum(gas), limit, 12),
                min(base_fees),
                max(base_fees),
                divided(sum(base_fees), 1440, 6),
                divided(burnt, sum(gas), 6),
                fees,
                burnt,
                fees - burnt,
                *(Decimal(wei).scaleb(-18) for wei in (fees, burnt, fees - burnt)),
            )
        )
    assert rows(warehouse) == expected
    assert all(row[9] > 0 and row[-1] > 0 for row in expected)


def test_staging_says_what_the_node_says_in_hex(warehouse: Warehouse, sandbox_lake: Lake) -> None:
    build(warehouse, sandbox_lake, SANDBOX_DAYS, SANDBOX)
    chosen = [each for each in sandbox_blocks() if number(each[0]["number"]) % 300 == 7]
    where = "where chain = 'ethereum' and block_number % 300 = 7"
    found = warehouse.query(
        "select block_hash, parent_hash, epoch(block_time)::bigint, miner, base_fee_per_gas, "
        "difficulty, difficulty_overflow, nonce, mix_hash, extra_data, sha3_uncles, state_root, "
        "transactions_root, receipts_root, logs_bloom, withdrawals_root, withdrawal_count, "
        "parent_beacon_block_root, requests_hash, block_range "
        f"from staging.stg_chain__blocks {where} order by block_number"
    )
    assert found == [
        (
            block["hash"],
            block["parentHash"],
            number(block["timestamp"]),
            block["miner"],
            number(block["baseFeePerGas"]),
            0,
            None,
            block["nonce"],
            block["mixHash"],
            block["extraData"],
            block["sha3Uncles"],
            block["stateRoot"],
            block["transactionsRoot"],
            block["receiptsRoot"],
            block["logsBloom"],
            block["withdrawalsRoot"],
            len(block["withdrawals"]),
            block["parentBeaconBlockRoot"],
            block["requestsHash"],
            SANDBOX.range_of(number(block["number"])).key,
        )
        for block, _ in chosen
    ]
    transactions = warehouse.query(
        "select transaction_hash, from_address, to_address, input, r, s, value, gas_limit, "
        "max_fee_per_gas, transaction_type, status, contract_address, effective_gas_price "
        f"from staging.stg_chain__transactions {where} order by block_number, transaction_index"
    )
    assert transactions == [
        (
            one["hash"],
            one["from"],
            one["to"],
            one["input"],
            f"0x{number(one['r']):064x}",
            f"0x{number(one['s']):064x}",
            number(one["value"]),
            number(one["gas"]),
            number(one["maxFeePerGas"]) if "maxFeePerGas" in one else None,
            number(one["type"]),
            number(receipt["status"]),
            receipt["contractAddress"],
            number(receipt["effectiveGasPrice"]),
        )
        for block, receipts in chosen
        for one, receipt in zip(block["transactions"], receipts, strict=True)
    ]
    logs = warehouse.query(
        "select transaction_hash, log_index, address, data, "
        "list_filter([topic0, topic1, topic2, topic3], lambda topic: topic is not null) "
        f"from staging.stg_chain__logs {where} order by block_number, log_index"
    )
    assert logs == [
        (
            log["transactionHash"],
            number(log["logIndex"]),
            log["address"],
            log["data"],
            log["topics"],
        )
        for _, receipts in chosen
        for receipt in receipts
        for log in receipt["logs"]
    ]
    assert len(transactions) > 10
    assert len(logs) > 5
