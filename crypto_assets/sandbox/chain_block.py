"""How a block of the sandbox chain is made from calls: its encoding, hashes and JSON. Pure.

A thing on the chain is one dict of its JSON-RPC fields with plain values (int for a quantity, bytes
for data); its RLP is a selection of them. Formats: https://ethereum.github.io/execution-specs and
https://ethereum.github.io/execution-apis. Every hash, root and bloom is right; signatures are
random numbers, so that no sender could be recovered from them, and there is no state behind the
state root. Headers are those since the Prague fork, without requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Any

from crypto_assets.sandbox.chain_calls import BLOB_GAS, Call, Dice, address
from crypto_assets.sources import rlp
from crypto_assets.sources.trie import keccak256, ordered_root

Fields = dict[str, Any]

GAS_LIMIT = 36_000_000
_NO_UNCLES = keccak256(rlp.encode([]))
_NO_REQUESTS = hashlib.sha256().digest()
_FEES = ("maxPriorityFeePerGas", "maxFeePerGas")
_TARGET = ("gas", "to", "value", "input")
_SIGNED = ("yParity", "r", "s")
# What is encoded of a transaction of each type, in order (EIP-2718, 2930, 1559, 4844 and 7702).
_ENCODED = (
    ("nonce", "gasPrice", *_TARGET, "v", "r", "s"),
    ("chainId", "nonce", "gasPrice", *_TARGET, "accessList", *_SIGNED),
    ("chainId", "nonce", *_FEES, *_TARGET, "accessList", *_SIGNED),
    ("chainId", "nonce", *_FEES, *_TARGET, "accessList", "maxFeePerBlobGas", "blobVersionedHashes",
     *_SIGNED),
    ("chainId", "nonce", *_FEES, *_TARGET, "accessList", "authorizationList", *_SIGNED),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """A block before it is sealed."""

    chain_id: int
    number: int
    time: int
    parent_hash: bytes
    base_fee: int
    calls: Sequence[Call]
    dice: Dice


@dataclass(frozen=True, slots=True)
class Sealed:
    """A block of plain values. Receipts have their logs; `header` is in the order of its RLP."""

    header: Fields
    hash: bytes
    size: int
    transactions: list[Fields]
    receipts: list[Fields]
    withdrawals: list[Fields]

    def block_json(self) -> Fields:
        """What eth_getBlockByNumber gives, with full transactions."""
        block = {
            **self.header,
            "hash": self.hash,
            "size": self.size,
            "transactions": [
                {**self._place(), "transactionIndex": index, **transaction}
                for index, transaction in enumerate(self.transactions)
            ],
            "uncles": [],
            "withdrawals": self.withdrawals,
        }
        wire: Fields = _wire(dict(sorted(block.items())))
        return wire

    def receipts_json(self) -> list[Fields]:
        """What eth_getBlockReceipts gives."""
        first_log, receipts = 0, []
        for index, (transaction, receipt) in enumerate(
            zip(self.transactions, self.receipts, strict=True)
        ):
            place = {"transactionHash": transaction["hash"], "transactionIndex": index}
            logs = [
                {**log, **self._place(), **place, "logIndex": first_log + at, "removed": False}
                for at, log in enumerate(receipt["logs"])
            ]
            first_log += len(logs)
            place |= {name: transaction[name] for name in ("from", "to", "type")}
            place |= {name: at for name, at in self._place().items() if name != "blockTimestamp"}
            receipts.append(dict(sorted({**receipt, **place, "logs": logs}.items())))
        wire: list[Fields] = _wire(receipts)
        return wire

    def _place(self) -> Fields:
        header = self.header
        return {
            "blockHash": self.hash,
            "blockNumber": header["number"],
            "blockTimestamp": header["timestamp"],
        }


def seal(draft: Draft) -> Sealed:
    """The block of a draft, every field of its header computed or drawn."""
    dice = draft.dice
    transactions: list[Fields] = []
    receipts: list[Fields] = []
    envelopes: list[bytes] = []
    for index, call in enumerate(draft.calls):
        transaction = _transaction(call, draft, index)
        envelopes.append(_envelope(transaction["type"], transaction, _ENCODED[call.type]))
        transactions.append({**transaction, "hash": keccak256(envelopes[-1])})
        gas_before = receipts[-1]["cumulativeGasUsed"] if receipts else 0
        receipts.append(_receipt(call, transaction, gas_before))
    withdrawals = [
        {
            "index": 70_000_000 + draft.number * 2 + at,
            "validatorIndex": dice.below(1_000_000),
            "address": address(f"validator {dice.below(16)}"),
            "amount": 10**7 + dice.below(10**7),
        }
        for at in range(2)
    ]
    encoded_receipts = [
        _envelope(call.type, receipt, ("status", "cumulativeGasUsed", "logsBloom", "logs"))
        for call, receipt in zip(draft.calls, receipts, strict=True)
    ]
    header = {
        "parentHash": draft.parent_hash,
        "sha3Uncles": _NO_UNCLES,
        "miner": address(f"builder {dice.below(8)}"),
        "stateRoot": dice.bytes(32),
        "transactionsRoot": ordered_root(envelopes),
        "receiptsRoot": ordered_root(encoded_receipts),
        "logsBloom": _joined(receipt["logsBloom"] for receipt in receipts),
        "difficulty": 0,
        "number": draft.number,
        "gasLimit": GAS_LIMIT,
        "gasUsed": sum(call.gas_used for call in draft.calls),
        "timestamp": draft.time,
        "extraData": b"sandbox",
        "mixHash": dice.bytes(32),
        "nonce": bytes(8),
        "baseFeePerGas": draft.base_fee,
        "withdrawalsRoot": ordered_root([rlp.encode(_plain(one)) for one in withdrawals]),
        "blobGasUsed": sum(call.blobs for call in draft.calls) * BLOB_GAS,
        "excessBlobGas": 0,
        "parentBeaconBlockRoot": dice.bytes(32),
        "requestsHash": _NO_REQUESTS,
    }
    encoded_header = rlp.encode(_plain(header))
    # A typed transaction stands in its block as a byte string, one of the first type as a list.
    body = b"".join(
        encoded if call.type == 0 else rlp.encode(encoded)
        for call, encoded in zip(draft.calls, envelopes, strict=True)
    )
    parts = (encoded_header, _list_of(body), rlp.encode([]), rlp.encode(_plain(withdrawals)))
    size = len(_list_of(b"".join(parts)))
    return Sealed(header, keccak256(encoded_header), size, transactions, receipts, withdrawals)


def logs_bloom(logs: Iterable[tuple[bytes, Iterable[bytes]]]) -> bytes:
    """The bloom of logs, given as address and topics: three of 2048 bits for each of these."""
    bits = (_bloom_bits(item) for address, topics in logs for item in (address, *topics))
    return reduce(or_, bits, 0).to_bytes(256, "big")


def _transaction(call: Call, draft: Draft, index: int) -> Fields:
    dice, kind = draft.dice, call.type
    parity, tip = dice.below(2), 10**8 + dice.below(2 * 10**9)
    fields = {
        "from": call.sender,
        "nonce": draft.number % 10**6 * 1000 + index,  # rises with every call of a sender
        "gas": call.gas_used if call.has_failed else call.gas_used * 5 // 4,
        "to": call.to,
        "value": call.value,
        "input": call.input,
        "type": kind,
        "chainId": draft.chain_id,
        "gasPrice": draft.base_fee + tip,
        "v": parity if kind else 35 + 2 * draft.chain_id + parity,
        "r": 1 + dice.below(2**255),
        "s": 1 + dice.below(2**254),
    }
    if kind >= 1:
        keys = [dice.bytes(32) for _ in range(dice.below(3))] if kind == 1 else []
        listed = [{"address": call.to or call.sender, "storageKeys": keys}] if keys else []
        fields |= {"accessList": listed, "yParity": parity}
    if kind >= 2:
        fields |= {"maxPriorityFeePerGas": tip, "maxFeePerGas": 2 * draft.base_fee + tip}
    if kind == 3:
        hashes = [b"\1" + dice.bytes(31) for _ in range(call.blobs)]
        fields |= {"maxFeePerBlobGas": 10**9, "blobVersionedHashes": hashes}
    if kind == 4:
        delegate = address(f"delegate {dice.below(4)}")
        authorization = {"chainId": draft.chain_id, "address": delegate, "nonce": index}
        signature = {"yParity": parity, "r": 1 + dice.below(2**255), "s": 1 + dice.below(2**254)}
        fields |= {"authorizationList": [authorization | signature]}
    return fields


def _receipt(call: Call, transaction: Fields, gas_before: int) -> Fields:
    created = keccak256(rlp.encode([call.sender, transaction["nonce"]]))[12:]
    blob_fields = {"blobGasUsed": call.blobs * BLOB_GAS, "blobGasPrice": 1}
    return {
        "status": int(not call.has_failed),
        "cumulativeGasUsed": gas_before + call.gas_used,
        "gasUsed": call.gas_used,
        "effectiveGasPrice": transaction["gasPrice"],
        "contractAddress": None if call.to else created,
        "logsBloom": logs_bloom((log.address, log.topics) for log in call.logs),
        "logs": [
            {"address": log.address, "topics": list(log.topics), "data": log.data}
            for log in call.logs
        ],
        **(blob_fields if call.type == 3 else {}),
    }


def _envelope(kind: int, fields: Fields, encoded: Sequence[str]) -> bytes:
    """What hangs in the trie: the RLP, after a byte for its type unless that is 0 (EIP-2718)."""
    return (bytes([kind]) if kind else b"") + rlp.encode([_plain(fields[key]) for key in encoded])


def _plain(value: Any) -> Any:
    """A field as RLP has it: no names, and nothing is an empty string."""
    if isinstance(value, dict):
        return [_plain(item) for item in value.values()]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return b"" if value is None else value


def _wire(value: Any) -> Any:
    """A field as JSON-RPC has it."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, dict):
        return {name: _wire(item) for name, item in value.items()}
    return [_wire(item) for item in value]


def _list_of(encoded: bytes) -> bytes:
    return rlp.encode_list([encoded])


def _joined(blooms: Iterable[bytes]) -> bytes:
    return reduce(or_, (int.from_bytes(bloom, "big") for bloom in blooms), 0).to_bytes(256, "big")


@lru_cache(maxsize=8192)
def _bloom_bits(item: bytes) -> int:
    digest = keccak256(item)
    return reduce(or_, (1 << int.from_bytes(digest[at : at + 2], "big") % 2048 for at in (0, 2, 4)))
