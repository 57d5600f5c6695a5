"""Made-up chains with blocks at chosen times, committed in the columns of real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from crypto_assets.assets.dbt import range_marts
from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange, Kind, LogFilter
from crypto_assets.checks.asset_checks import guards_of, mart_guards_of
from crypto_assets.checks.results import write_results
from crypto_assets.lake import Lake, Proof, RangeWriter
from crypto_assets.publishing import publish
from crypto_assets.sources.evm_rows import BLOCKS, LOGS, TRANSACTIONS, datasets
from crypto_assets.warehouse import create_marts

SLOT = timedelta(seconds=12)
ETHEREUM = Chain(name="ethereum", chain_id=1, range_size=10, slot_seconds=12)
OTHER = Chain(name="other", chain_id=2, range_size=10)
LIGHT = Chain(
    name="light",
    chain_id=3,
    range_size=10,
    mode="light",
    logs_of=LogFilter(addresses=("0x" + "00" * 20,)),
)


@dataclass(frozen=True)
class Tx:
    """A transaction; no status before Byzantium, no price of its own where the node left it out."""

    gas_used: int = 21_000
    price: int = 10
    status: int | None = 1
    logs: int = 0
    says_effective_price: bool = True
    value: int = 1


@dataclass(frozen=True)
class Block:
    number: int
    at: datetime
    transactions: tuple[Tx, ...] = ()
    base_fee: int | None = 7
    gas_limit: int = 30_000_000
    difficulty: int = 0

    @property
    def gas_used(self) -> int:
        return sum(one.gas_used for one in self.transactions)


def at(day: date, time: str = "00:00:00") -> datetime:
    return datetime.fromisoformat(f"{day} {time}")


def every(step: timedelta, start: datetime, numbers: range, **given: Any) -> list[Block]:
    """Blocks that far apart."""
    return [Block(number, start + place * step, **given) for place, number in enumerate(numbers)]


def commit(lake: Lake, chain: Chain, blocks: Sequence[Block], *, fork: int = 0) -> list[Proof]:
    """Commit whole ranges; returns the proofs of their blocks. A fork has other hashes."""
    return [
        _commit_range(lake, chain, blocks[start : start + chain.range_size], fork)
        for start in range(0, len(blocks), chain.range_size)
    ]


def pass_checks(lake: Lake, chain: Chain) -> None:
    """What is kept of the checks of every range, as if all had passed."""
    for part in lake.ranges(chain.name):
        for suite in guards_of(chain):
            keep_result(lake, suite, part)


def decode(
    lake: Lake, manifest: Path, chain: Chain, ranges: Iterable[BlockRange] | None = None
) -> None:
    """Publish ranges, all by default, as decoded into tables without a row that passed checks."""
    parts = [*lake.ranges(chain.name)]
    if ranges is not None:
        parts = [ChainRange(chain.name, blocks) for blocks in ranges]
    with duckdb.connect(lake.home / "warehouse.duckdb") as connection:
        create_marts(connection, manifest)
        content = json.loads(manifest.read_text(encoding="utf-8"))
        publish(connection, lake, content, parts, models=range_marts(manifest))
    for part in parts:
        for suite in mart_guards_of(chain):
            keep_result(lake, suite, part)


def keep_result(lake: Lake, suite: str, part: ChainRange, *, passed: bool = True) -> None:
    """What is kept of a suite that has judged a range."""
    row = {
        "suite": suite,
        "asset": f"raw/{part.chain}_blocks",
        "partition": part.partition,
        "expectation": "all_is_well",
        "passed": passed,
        "severity": "ERROR",
        "blocking": True,
        "observed": "{}",
        "unexpected_count": 0,
        "evaluated_at": datetime.now(UTC).replace(tzinfo=None),
        "run_id": "",
    }
    write_results(lake, suite, "range", part.partition, [row])


def block_hash(number: int, fork: int = 0) -> bytes:
    return hashlib.sha256(f"{fork} {number}".encode()).digest()


def expected_day(chain: Chain, day: date, blocks: Iterable[Block]) -> tuple[Any, ...]:
    """The row of network.blocks_daily, by Python's integers and the definitions of its columns."""
    of_day = [block for block in blocks if block.at.date() == day]
    transactions = [one for block in of_day for one in block.transactions]
    is_full = chain.mode == "full"
    charged = [block for block in of_day if block.base_fee is not None]
    base_fees = [block.base_fee for block in charged]
    burnt = sum(block.base_fee * block.gas_used for block in charged)
    fees = sum(one.gas_used * one.price for one in transactions) if is_full else None
    tips = None if fees is None else fees - burnt
    slots = None
    if chain.slot_seconds and of_day and not any(block.difficulty for block in of_day):
        first = int((of_day[0].at - at(day)).total_seconds())
        seconds = range(first % chain.slot_seconds, 86_400, chain.slot_seconds)
        slots = len(seconds) - len(of_day)
    knows_status = is_full and all(one.status is not None for one in transactions)
    return (
        chain.name,
        day,
        len(of_day),
        of_day[0].number,
        of_day[-1].number,
        of_day[0].at,
        of_day[-1].at,
        slots,
        len(transactions),
        sum(one.status == 0 for one in transactions) if knows_status else None,
        sum(one.logs for one in transactions) if is_full else None,
        Decimal(sum(block.gas_used for block in of_day)),
        Decimal(sum(block.gas_limit for block in of_day)),
        divided(
            sum(block.gas_used for block in of_day), sum(block.gas_limit for block in of_day), 12
        ),
        min(base_fees, default=None),
        max(base_fees, default=None),
        divided(sum(base_fees), len(base_fees), 6),
        divided(burnt, sum(block.gas_used for block in charged), 6),
        fees,
        burnt,
        tips,
        *(None if wei is None else Decimal(wei).scaleb(-18) for wei in (fees, burnt, tips)),
    )


def divided(numerator: int, denominator: int, digits: int) -> Decimal | None:
    """Rounded once, half away from zero; None where there is nothing to divide by."""
    with localcontext(prec=120):
        if not denominator:
            return None
        return (Decimal(numerator) / denominator).quantize(
            Decimal(1).scaleb(-digits), ROUND_HALF_UP
        )


def _commit_range(lake: Lake, chain: Chain, blocks: Sequence[Block], fork: int) -> Proof:
    part = ChainRange(chain.name, chain.range_of(blocks[0].number))
    rows = _rows(blocks, fork, is_light=chain.mode == "light")
    counts: dict[Kind, int] = dict(zip(KINDS, (batch.num_rows for batch in rows), strict=True))
    with RangeWriter(lake, datasets(chain), part) as writer:
        writer.write(rows)
        proofs = writer.commit(source_row_counts=counts, source=(), checks={"made": "passed"})
    return proofs["blocks"]


def _rows(blocks: Sequence[Block], fork: int, *, is_light: bool) -> tuple[pa.RecordBatch, ...]:
    made_blocks, transactions, logs = [], [], []
    for block in blocks:
        in_block = 0
        for index, one in enumerate(block.transactions):
            fits = one.value < 10**38
            own = {
                "block_number": block.number,
                "transaction_index": index,
                "block_timestamp": block.at,
                "hash": hashlib.sha256(block_hash(block.number, fork) + bytes([index])).digest(),
                "type": 0,
                "nonce": index,
                "value": Decimal(one.value) if fits else None,
                "value_overflow": None if fits else one.value.to_bytes(32, "big"),
                "gas": one.gas_used,
                "gas_price": Decimal(one.price),
                "status": one.status,
                "cumulative_gas_used": one.gas_used,
                "gas_used": one.gas_used,
                "effective_gas_price": Decimal(one.price) if one.says_effective_price else None,
                "log_count": one.logs,
            }
            transactions.append(own)
            for _ in range(one.logs):
                logs.append({**own, "log_index": in_block, "transaction_hash": own["hash"]})
                in_block += 1
        made_blocks.append(
            {
                "number": block.number,
                "hash": block_hash(block.number, fork),
                "parent_hash": block_hash(block.number - 1, fork),
                "timestamp": block.at,
                "gas_limit": block.gas_limit,
                "gas_used": block.gas_used,
                "base_fee_per_gas": None if block.base_fee is None else Decimal(block.base_fee),
                "difficulty": Decimal(block.difficulty),
                "transaction_count": len(block.transactions),
                "log_count": None if is_light else in_block,
                "uncle_count": 0,
            }
        )
    if is_light:
        transactions, logs = [], []
    return (
        _batch(made_blocks, BLOCKS),
        _batch(transactions, TRANSACTIONS),
        _batch(logs, LOGS),
    )


def _batch(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Bytes that nobody looks at are zeros."""
    zeros = {
        field.name: bytes(getattr(field.type, "byte_width", 0))
        for field in schema
        if not field.nullable and pa.types.is_fixed_size_binary(field.type)
    }
    zeros |= {
        field.name: b"" for field in schema if not field.nullable and field.type == pa.binary()
    }
    names = set(schema.names)
    filled = [zeros | {name: value for name, value in row.items() if name in names} for row in rows]
    return pa.RecordBatch.from_pylist(filled, schema=schema)
