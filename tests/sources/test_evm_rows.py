"""Rows of a chain: every value of every form of block, held against what nodes delivered."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.evm_blocks import blocks, wire
from crypto_assets.errors import MalformedRowError, MisplacedReceiptError, MissingReceiptError
from crypto_assets.lake.digest import ContentDigest
from crypto_assets.sources.evm_rows import (
    BLOCKS,
    LOGS,
    TRANSACTIONS,
    Rows,
    datasets,
    light_rows_of,
    rows_of,
)
from crypto_assets.sources.evm_types import (
    Block,
    Receipt,
    read_block,
    read_hashed_block,
    read_receipts,
)

from .chain_node import CHAIN, changed, hashed, made_blocks
from .recorded_chain import CONTIGUOUS, FORKS, encoded, result, results, whole_block

Json = dict[str, Any]
ETHEREUM_ETL = "ethereum_etl/small/test_export_blocks_job/block_with_logs"


def read(block: bytes, receipts: bytes) -> tuple[Block, list[Receipt]]:
    found, of_block = read_block(block, "block"), read_receipts(receipts, "receipts")
    assert found is not None
    assert of_block is not None
    return found, of_block


def rows(*delivered: tuple[bytes, bytes]) -> Rows:
    pairs = [read(*each) for each in delivered]
    return rows_of([block for block, _ in pairs], [receipts for _, receipts in pairs])


def without_receipts(block: bytes) -> tuple[bytes, bytes]:
    """The block with receipts that say nothing, so that its rows can be made."""
    whole = json.loads(block)
    receipts = [
        {
            "transactionHash": each["hash"], "transactionIndex": each["transactionIndex"],
            "blockHash": whole["hash"], "blockNumber": whole["number"], "status": "0x1",
            "cumulativeGasUsed": "0x1", "gasUsed": "0x1", "logs": [],
            "logsBloom": "0x" + "00" * 256,
        }
        for each in whole["transactions"]
    ]  # fmt: skip
    return block, encoded(receipts)


def listed(batch: pa.RecordBatch) -> list[Json]:
    batch.validate(full=True)
    found: list[Json] = batch.to_pylist()
    return found


def data(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text[2:])


def number(text: str | None) -> int | None:
    return None if text is None else int(text, 16)


def wei(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(int(text, 16))


def word(text: str | None) -> bytes | None:
    return None if text is None else int(text, 16).to_bytes(32, "big")


def bytes_of(text: str | None) -> bytes | None:
    value = number(text)
    return None if value is None else value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def at(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds, 16), UTC).replace(tzinfo=None)


def block_row(block: Json, log_count: int | None) -> Json:
    withdrawals = block.get("withdrawals")
    difficulty = int(block["difficulty"], 16)
    fits = difficulty < 10**38
    return {
        "number": number(block["number"]),
        "hash": data(block["hash"]),
        "parent_hash": data(block["parentHash"]),
        "timestamp": at(block["timestamp"]),
        "miner": data(block["miner"]),
        "gas_limit": number(block["gasLimit"]),
        "gas_used": number(block["gasUsed"]),
        "base_fee_per_gas": wei(block.get("baseFeePerGas")),
        "difficulty": Decimal(difficulty) if fits else None,
        "difficulty_overflow": None if fits else bytes_of(block["difficulty"]),
        "size": number(block.get("size")),
        "transaction_count": len(block["transactions"]),
        "log_count": log_count,
        "uncle_count": len(block.get("uncles", [])),
        "nonce": data(block["nonce"]),
        "mix_hash": data(block["mixHash"]),
        "extra_data": data(block["extraData"]),
        "sha3_uncles": data(block["sha3Uncles"]),
        "state_root": data(block["stateRoot"]),
        "transactions_root": data(block["transactionsRoot"]),
        "receipts_root": data(block["receiptsRoot"]),
        "logs_bloom": data(block["logsBloom"]),
        "withdrawals_root": data(block.get("withdrawalsRoot")),
        "withdrawal_count": None if withdrawals is None else len(withdrawals),
        "blob_gas_used": number(block.get("blobGasUsed")),
        "excess_blob_gas": number(block.get("excessBlobGas")),
        "parent_beacon_block_root": data(block.get("parentBeaconBlockRoot")),
        "requests_hash": data(block.get("requestsHash")),
    }


def transaction_row(block: Json, one: Json, receipt: Json) -> Json:
    value = int(one["value"], 16)
    root = receipt.get("root")
    return {
        "block_number": number(block["number"]),
        "transaction_index": number(one["transactionIndex"]),
        "hash": data(one["hash"]),
        "block_timestamp": at(block["timestamp"]),
        "type": int(one.get("type", "0x0"), 16),
        "from_address": data(one["from"]),
        "to_address": data(one.get("to")),
        "nonce": number(one["nonce"]),
        "value": Decimal(value) if value < 10**38 else None,
        "value_overflow": None if value < 10**38 else bytes_of(one["value"]),
        "gas": number(one["gas"]),
        "gas_price": wei(one.get("gasPrice")),
        "max_fee_per_gas": wei(one.get("maxFeePerGas")),
        "max_priority_fee_per_gas": wei(one.get("maxPriorityFeePerGas")),
        "input": data(one["input"]),
        "max_fee_per_blob_gas": wei(one.get("maxFeePerBlobGas")),
        "v": bytes_of(one.get("v", one.get("yParity"))),
        "r": word(one.get("r")),
        "s": word(one.get("s")),
        "status": None if root else number(receipt.get("status")),
        "root": data(root),
        "cumulative_gas_used": number(receipt["cumulativeGasUsed"]),
        "gas_used": number(receipt["gasUsed"]),
        "effective_gas_price": wei(receipt.get("effectiveGasPrice")),
        "contract_address": data(receipt.get("contractAddress")),
        "log_count": len(receipt["logs"]),
        "blob_gas_used": number(receipt.get("blobGasUsed")),
        "blob_gas_price": wei(receipt.get("blobGasPrice")),
    }


def log_row(block: Json, log: Json) -> Json:
    topics = [*map(data, log["topics"]), None, None, None, None]
    return {
        "block_number": number(block["number"]),
        "log_index": number(log["logIndex"]),
        "block_timestamp": at(block["timestamp"]),
        "transaction_index": number(log["transactionIndex"]),
        "transaction_hash": data(log["transactionHash"]),
        "address": data(log["address"]),
        **{f"topic{place}": topics[place] for place in range(4)},
        "data": data(log["data"]),
    }


def check(made: Rows, *delivered: tuple[bytes, bytes]) -> None:
    """Every column of every row is what was delivered; JSON texts by what they say."""
    expected: tuple[list[Json], ...] = ([], [], [])
    for block, receipts in ((json.loads(one), json.loads(other)) for one, other in delivered):
        expected[0].append(block_row(block, sum(len(each["logs"]) for each in receipts)))
        for transaction, receipt in zip(block["transactions"], receipts, strict=True):
            expected[1].append(transaction_row(block, transaction, receipt))
            expected[2].extend(log_row(block, log) for log in receipt["logs"])
    for batch, wanted in zip(made, expected, strict=True):
        found = listed(batch)
        assert len(found) == len(wanted)
        for row, other in zip(found, wanted, strict=True):
            assert {name: row[name] for name in other} == other
            texts = {"extra", "access_list", "blob_versioned_hashes", "authorization_list"}
            assert row.keys() - other.keys() <= texts
    transactions = [one for block, _ in delivered for one in json.loads(block)["transactions"]]
    for row, one in zip(listed(made.transactions), transactions, strict=True):
        for column, field in (
            ("access_list", "accessList"),
            ("blob_versioned_hashes", "blobVersionedHashes"),
            ("authorization_list", "authorizationList"),
        ):
            text = row[column]
            assert (None if text is None else json.loads(text)) == one.get(field)


# --- blocks of every fork ------------------------------------------------------------------------


def test_made_blocks_with_transactions_of_every_type() -> None:
    delivered = list(made_blocks(3, transactions=40, logs=90).values())
    made = rows(*delivered)
    check(made, *delivered)
    assert {row["type"] for row in listed(made.transactions)} == {0, 1, 2, 3, 4}
    logs = listed(made.logs)
    assert {sum(row[f"topic{place}"] is not None for place in range(4)) for row in logs} >= {
        1, 2, 3, 4,
    }  # fmt: skip
    assert all(row["extra"] is None for row in listed(made.blocks) + listed(made.transactions))


@pytest.mark.parametrize("number", [12900060, 12932986, 13004256])
def test_recorded_blocks_with_receipts(realdata: Path, number: int) -> None:
    delivered = whole_block(realdata / f"ethereum/full_blocks_mev_inspect/{number}.json.gz")
    made = rows(delivered)
    check(made, delivered)
    assert made.logs.num_rows > 290


@pytest.mark.parametrize("folder", [CONTIGUOUS, FORKS])
def test_recorded_blocks_of_every_fork(realdata: Path, folder: str) -> None:
    delivered = [
        without_receipts(encoded(one)) for _, one in results(realdata / "ethereum" / folder)
    ]
    check(rows(*delivered), *delivered)
    hashes = [read_hashed_block(hashed(block), "block") for block, _ in delivered]
    light = light_rows_of([each for each in hashes if each], [[] for _ in hashes])
    for row, (block, _) in zip(listed(light.blocks), delivered, strict=True):
        wanted = block_row(json.loads(block), None)
        assert {name: row[name] for name in wanted} == wanted
    assert (light.transactions.num_rows, light.logs.num_rows) == (0, 0)


def test_forks_have_the_columns_that_they_brought(realdata: Path) -> None:
    by_fork = {
        name.partition("_")[2].partition(".")[0]: listed(
            rows(without_receipts(encoded(block))).blocks
        )[0]
        for name, block in results(realdata / "ethereum" / FORKS)
    }
    has = {
        column: {fork for fork, row in by_fork.items() if row[column] is not None}
        for column in ("base_fee_per_gas", "withdrawals_root", "blob_gas_used", "requests_hash")
    }
    assert has == {
        "base_fee_per_gas": {"London", "Paris", "Shanghai"},
        "withdrawals_root": {"Shanghai"},
        "blob_gas_used": set(),
        "requests_hash": set(),
    }
    contiguous = [
        listed(rows(without_receipts(encoded(block))).blocks)[0]["requests_hash"] is not None
        for _, block in results(realdata / "ethereum" / CONTIGUOUS)
    ]
    assert contiguous == [False] * 4 + [True] * 2  # Prague begins at 22431084


def test_rows_equal_those_of_ethereum_etl(realdata: Path) -> None:
    folder = realdata / "ethereum" / ETHEREUM_ETL
    (reply,) = folder.glob("web3_response*")
    made = rows(without_receipts(encoded(result(reply))))
    names = {"transaction_type": "type"}
    for batch, file in ((made.blocks, "blocks"), (made.transactions, "transactions")):
        with (folder / f"expected_{file}.csv").open(newline="") as lines:
            expected = list(csv.DictReader(lines))
        found = listed(batch)
        assert len(found) == len(expected)
        compared = set()
        for row, wanted in zip(found, expected, strict=True):
            for column, text in wanted.items():
                name = names.get(column, column)
                if name in row:
                    compared.add(name)
                    assert _as_text(row[name]) == text, name
        assert len(compared) >= 12


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, datetime):
        return str(int(value.replace(tzinfo=UTC).timestamp()))
    return str(value)


# --- odd values ----------------------------------------------------------------------------------


@pytest.fixture
def one() -> tuple[Json, list[Json]]:
    """A block with a transaction and two logs, to be changed."""
    ((block, receipts),) = made_blocks(1, transactions=1, logs=2).values()
    return json.loads(block), json.loads(receipts)


def remade(one: tuple[Json, list[Json]]) -> Rows:
    return rows((encoded(one[0]), encoded(one[1])))


def test_value_beyond_38_digits_keeps_all_of_them(one: tuple[Json, list[Json]]) -> None:
    for value in (10**38 - 1, 10**38, 2**128, 2**256 - 1):
        one[0]["transactions"][0]["value"] = one[0]["difficulty"] = hex(value)
        made = remade(one)
        check(made, (encoded(one[0]), encoded(one[1])))
        (row,) = listed(made.transactions)
        assert (row["value"] is None) is (row["value_overflow"] is not None) is (value >= 10**38)


@pytest.mark.parametrize("name", ["gasPrice", "maxFeePerGas", "maxPriorityFeePerGas"])
def test_price_beyond_38_digits_is_an_error(one: tuple[Json, list[Json]], name: str) -> None:
    one[0]["transactions"][0][name] = hex(10**38)
    with pytest.raises(MalformedRowError, match=r"blocks 0x\w+ to 0x\w+: a value of .* 38 decimal"):
        remade(one)


def test_unknown_fields_become_json_text(one: tuple[Json, list[Json]]) -> None:
    block, receipts = one
    block["blockAccessListHash"] = "0x01"
    block["transactions"][0] |= {"sourceHash": "0x02", "isSystemTx": False}
    receipts[0] |= {"l1Fee": "0x3", "l1FeeScalar": 0.5}
    made = remade(one)
    assert json.loads(listed(made.blocks)[0]["extra"]) == {"blockAccessListHash": "0x01"}
    assert json.loads(listed(made.transactions)[0]["extra"]) == {
        "transaction": {"sourceHash": "0x02", "isSystemTx": False},
        "receipt": {"l1Fee": "0x3", "l1FeeScalar": 0.5},
    }


def test_transaction_of_an_unknown_type_without_signature(one: tuple[Json, list[Json]]) -> None:
    """A deposit of an OP rollup: nobody signs it, and nodes leave its price out."""
    (transaction,) = one[0]["transactions"]
    transaction["type"] = "0x7e"
    for name in ("v", "r", "s", "yParity", "gasPrice", "chainId"):
        transaction.pop(name, None)
    (row,) = listed(remade(one).transactions)
    assert row["type"] == 126
    assert [row[name] for name in ("v", "r", "s", "gas_price")] == [None] * 4


def test_receipt_before_byzantium_has_a_root_and_no_status(one: tuple[Json, list[Json]]) -> None:
    (receipt,) = one[1]
    receipt["root"] = "0x" + "ab" * 32
    for status in ("0x1", None):
        receipt["status"] = status
        (row,) = listed(remade(one).transactions)
        assert (row["status"], row["root"]) == (None, b"\xab" * 32)
    receipt |= {"status": "0x0", "root": "0x"}
    (row,) = listed(remade(one).transactions)
    assert (row["status"], row["root"]) == (0, None)


def test_parity_stands_for_v_where_a_node_leaves_it_out(one: tuple[Json, list[Json]]) -> None:
    (transaction,) = one[0]["transactions"]
    transaction.pop("v")
    transaction["yParity"] = "0x1"
    assert listed(remade(one).transactions)[0]["v"] == b"\1"


def test_numbers_of_64_bits_without_sign_fit_where_they_may(one: tuple[Json, list[Json]]) -> None:
    one[0]["transactions"][0]["nonce"] = hex(2**64 - 2)
    assert listed(remade(one).transactions)[0]["nonce"] == 2**64 - 2
    one[0]["gasLimit"] = hex(2**63)
    with pytest.raises(MalformedRowError, match="a value of gas_limit does not fit"):
        remade(one)


@pytest.mark.parametrize(
    ("place", "name", "value", "column"),
    [
        ("block", "hash", "0x12", "hash"),
        ("block", "number", "x", "number"),
        ("block", "timestamp", "0x", "timestamp"),
        ("block", "timestamp", hex(2**63 // 10**6 + 1), "timestamp"),
        ("block", "extraData", "0x1", "extra_data"),
        ("block", "nonce", "0x0", "nonce"),
        ("transaction", "to", "0x12", "to_address"),
        ("transaction", "input", "abcd", "input"),
        ("transaction", "value", "1e18", "value"),
        ("transaction", "v", "-0x1", "v"),
        ("receipt", "gasUsed", "", "gas_used"),
        ("receipt", "contractAddress", "0x", "contract_address"),
        ("log", "address", "0x" + "0g" * 20, "address"),
        ("log", "topics", ["0x00"], "topics"),
        ("log", "data", "0x0", "data"),
        ("log", "logIndex", "-0x1", "log_index"),
    ],
)
def test_value_that_fits_no_column_is_an_error_with_its_name(
    one: tuple[Json, list[Json]], place: str, name: str, value: Any, column: str
) -> None:
    block, receipts = one
    holder = {
        "block": block,
        "transaction": block["transactions"][0],
        "receipt": receipts[0],
        "log": receipts[0]["logs"][0],
    }[place]
    holder[name] = value
    with pytest.raises(MalformedRowError, match=f"a value of {column} does not fit") as raised:
        remade(one)
    assert raised.value.evidence == {"column": column}


def test_five_topics_are_too_many(one: tuple[Json, list[Json]]) -> None:
    one[1][0]["logs"][1]["topics"] = ["0x" + "00" * 32] * 5
    with pytest.raises(MalformedRowError, match="a log has 5 topics"):
        remade(one)


def test_receipts_must_be_those_of_the_transactions() -> None:
    (first, receipts), (second, others) = made_blocks(2, transactions=2).values()
    for wrong in (json.loads(receipts)[::-1], json.loads(others)):
        with pytest.raises(MisplacedReceiptError, match="its 2 receipts are not those of its 2"):
            rows((first, encoded(wrong)))
    for wrong in (json.loads(receipts)[:1], json.loads(receipts) + json.loads(others)[:1]):
        with pytest.raises(MissingReceiptError):
            rows((second, others), (first, encoded(wrong)))


# --- light, empty, datasets ----------------------------------------------------------------------


def test_light_rows_say_of_a_log_what_it_says_itself() -> None:
    delivered = list(made_blocks(3, transactions=5, logs=8).values())
    headers = [read_hashed_block(hashed(block), "block") for block, _ in delivered]
    logs = [[log for each in read(*one)[1] for log in each.logs] for one in delivered]
    light = light_rows_of([each for each in headers if each], logs)
    whole = rows(*delivered)
    assert light.logs.equals(whole.logs)
    assert light.blocks.drop_columns(["log_count"]).equals(whole.blocks.drop_columns(["log_count"]))
    assert light.blocks["log_count"].null_count == 3


def test_blocks_without_transactions_have_no_other_rows() -> None:
    delivered = list(made_blocks(2, transactions=0, logs=0).values())
    made = rows(*delivered)
    check(made, *delivered)
    assert [batch.num_rows for batch in made] == [2, 0, 0]


def test_batches_have_the_schemas_of_the_datasets_and_a_digest() -> None:
    made = rows(*made_blocks(2, transactions=12, logs=20).values())
    declared = datasets(CHAIN)
    assert [each.name for each in declared] == [
        "ethereum_blocks",
        "ethereum_transactions",
        "ethereum_logs",
    ]
    for batch, dataset in zip(made, declared, strict=True):
        assert batch.schema.equals(dataset.schema)
        assert set(dataset.key) | {dataset.time_column, dataset.position_column} <= set(
            dataset.schema.names
        )
        digest = ContentDigest(dataset.schema)
        digest.update(batch)
        whole = digest.hexdigest()
        digest = ContentDigest(dataset.schema)
        for start in range(0, batch.num_rows, 7):
            digest.update(batch.slice(start, 7))
        assert digest.hexdigest() == whole
    assert (BLOCKS.names[0], TRANSACTIONS.names[0], LOGS.names[1]) == (
        "number",
        "block_number",
        "log_index",
    )


def test_nullable_columns_are_those_that_may_be_missing() -> None:
    required = {field.name for schema in (BLOCKS, TRANSACTIONS, LOGS) for field in schema
                if not field.nullable}  # fmt: skip
    assert {"number", "hash", "nonce", "input", "gas_used", "address", "data"} <= required
    assert not required & {"topic0", "status", "root", "base_fee_per_gas", "to_address", "value"}


def test_missing_value_of_a_required_column_is_an_error() -> None:
    (block, receipts), *_ = blocks(1, transactions=2, logs=1)
    broken = changed(wire(block), transactions=[None])
    with pytest.raises(Exception, match="Expected `object`"):
        read(broken, wire(receipts))
