"""What is true of a block, by libraries that share no code with this project."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_bloom import BloomFilter
from eth_hash.auto import keccak
from trie import HexaryTrie  # type: ignore[import-untyped]

from crypto_assets.sandbox.chain_calls import EVERYDAY
from crypto_assets.sandbox.chain_world import Branch, ChainSpec, branch

Json = dict[str, Any]

PLAIN = ChainSpec(emitters=EVERYDAY)
FIRST = PLAIN.first

HEADER = (
    "parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom d:difficulty "
    "d:number d:gasLimit d:gasUsed d:timestamp extraData mixHash nonce d:baseFeePerGas "
    "withdrawalsRoot d:blobGasUsed d:excessBlobGas parentBeaconBlockRoot requestsHash"
)
_CALL = "d:gas to d:value input"
_TYPED = "d:chainId d:nonce {} " + _CALL + " {} d:yParity d:r d:s"
_FEES = "d:maxPriorityFeePerGas d:maxFeePerGas"
TRANSACTIONS = {
    "0x0": f"d:nonce d:gasPrice {_CALL} d:v d:r d:s",
    "0x1": _TYPED.format("d:gasPrice", "accessList"),
    "0x2": _TYPED.format(_FEES, "accessList"),
    "0x3": _TYPED.format(_FEES, "accessList d:maxFeePerBlobGas blobVersionedHashes"),
    "0x4": _TYPED.format(_FEES, "accessList authorizationList"),
}


def block_of(number: int, line: Branch | None = None) -> tuple[Json, list[Json]]:
    """A block and its receipts as they are on the chain."""
    made = (line or branch(PLAIN)).block(number)
    return json.loads(made.block), json.loads(made.receipts)


def data(text: str | None) -> bytes:
    return bytes.fromhex((text or "0x")[2:])


def quantity(text: str) -> bytes:
    """An integer as RLP has it."""
    assert text == hex(int(text, 16)), "a quantity has no leading zeros"
    number = int(text, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def fields(of: Json, names: str) -> list[Any]:
    return [_field(of, name) for name in names.split()]


def _field(of: Json, name: str) -> Any:
    if name.startswith("d:"):
        return quantity(of[name[2:]])
    if name == "accessList":
        return [[data(one["address"]), [*map(data, one["storageKeys"])]] for one in of[name]]
    if name == "blobVersionedHashes":
        return [*map(data, of[name])]
    if name == "authorizationList":
        return [fields(one, "d:chainId address d:nonce d:yParity d:r d:s") for one in of[name]]
    return data(of[name])


def transaction_envelope(transaction: Json) -> bytes:
    kind = transaction["type"]
    return envelope(kind, fields(transaction, TRANSACTIONS[kind]))


def receipt_envelope(receipt: Json) -> bytes:
    logs = [[data(one["address"]), [*map(data, one["topics"])], data(one["data"])]
            for one in receipt["logs"]]  # fmt: skip
    head = fields(receipt, "d:status d:cumulativeGasUsed logsBloom")
    return envelope(receipt["type"], [*head, logs])


def envelope(kind: str, items: list[Any]) -> bytes:
    encoded: bytes = rlp.encode(items)
    return encoded if kind == "0x0" else bytes([int(kind, 16)]) + encoded


def root(values: Iterable[bytes]) -> str:
    tree = HexaryTrie({})
    for index, value in enumerate(values):
        tree[rlp.encode(index)] = value
    return f"0x{tree.root_hash.hex()}"


def bloom(logs: Iterable[Json]) -> str:
    items = (data(item) for log in logs for item in (log["address"], *log["topics"]))
    return f"0x{int(BloomFilter.from_iterable(items)):0512x}"


def broken(block: Json, receipts: list[Json]) -> set[str]:
    """Which claims of a block do not hold."""
    transactions = block["transactions"]
    logs = [log for receipt in receipts for log in receipt["logs"]]
    gas = [0, *(int(one["cumulativeGasUsed"], 16) for one in receipts)]
    withdrawals = (
        rlp.encode(fields(one, "d:index d:validatorIndex address d:amount"))
        for one in block["withdrawals"]
    )
    place = {"blockHash": block["hash"], "blockNumber": block["number"]}
    places = [place | {"transactionIndex": hex(at)} for at in range(len(transactions))]
    claims = {
        "hash": block["hash"] == f"0x{keccak(rlp.encode(fields(block, HEADER))).hex()}",
        "transactions": all(
            one["hash"] == f"0x{keccak(transaction_envelope(one)).hex()}" for one in transactions
        ),
        "transactions root": block["transactionsRoot"] == root(
            map(transaction_envelope, transactions)
        ),
        "receipts root": block["receiptsRoot"] == root(map(receipt_envelope, receipts)),
        "withdrawals root": block["withdrawalsRoot"] == root(withdrawals),
        "block bloom": block["logsBloom"] == bloom(logs),
        "receipt blooms": all(one["logsBloom"] == bloom(one["logs"]) for one in receipts),
        "log index": [log["logIndex"] for log in logs] == [*map(hex, range(len(logs)))],
        "gas": all(
            gas[at] + int(receipt["gasUsed"], 16) == gas[at + 1]
            for at, receipt in enumerate(receipts)
        ) and gas[-1] == int(block["gasUsed"], 16),
        "receipts": len(receipts) == len(transactions),
        "places": all(
            one | places[at] == one for of in (transactions, receipts) for at, one in enumerate(of)
        ) and all(
            log | place | {
                "blockTimestamp": block["timestamp"],
                "transactionHash": receipt["transactionHash"],
                "transactionIndex": receipt["transactionIndex"],
                "removed": False,
            } == log
            for receipt in receipts for log in receipt["logs"]
        ),
    }  # fmt: skip
    return {name for name, holds in claims.items() if not holds}


def logs_in(receipts: list[Json]) -> list[Json]:
    return [log for receipt in receipts for log in receipt["logs"]]
