"""How a block of the sandbox chain is made from calls: its encoding, hashes and JSON. Pure.

A thing on the chain is one dict of its JSON-RPC fields with plain values (int for a quantity, bytes
for data); its RLP is a selection of them. Formats: https://ethereum.github.io/execution-specs and
https://ethereum.github.io/execution-apis. Every hash, root and bloom is right; signatures are
random numbers, so that no sender could be recovered from them, and there is no state behind the
state root. Headers are those since the Prague fork, without requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Any

import msgspec

from crypto_assets.sandbox.chain_calls import BLOB_GAS, Call, Dice, Log, address
from crypto_assets.sources import rlp
from crypto_assets.sources.trie import keccak256, ordered_root

Fields = dict[str, Any]

GAS_LIMIT = 36_000_000
_NO_UNCLES = keccak256(rlp.encode([]))
_NO_REQUESTS = hashlib.sha256().digest()
# First bytes of the RLP of a topic, an address, and a list of up to four topics.
_TOPIC, _ADDRESS = b"\xa0", b"\x94"
_TOPICS = tuple(rlp.encode([bytes(32)] * count)[: -33 * count or None] for count in range(5))
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
        """What eth_getBlockReceipts gives; logs are encoded already."""
        first_log, receipts = 0, []
        for index, (transaction, receipt) in enumerate(
            zip(self.transactions, self.receipts, strict=True)
        ):
            place = {"transactionHash": transaction["hash"], "transactionIndex": index}
            in_common = _members(self._place() | place)
            logs = [
                msgspec.Raw(_log_json(log, in_common, first_log + at))
                for at, log in enumerate(receipt["logs"])
            ]
            first_log += len(logs)
            place |= {name: transaction[name] for name in ("from", "to", "type")}
            place |= {name: at for name, at in self._place().items() if name != "blockTimestamp"}
            wire = _wire({**receipt, **place, "logs": []}) | {"logs": logs}
            receipts.append(dict(sorted(wire.items())))
        return receipts

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
        transaction["hash"] = keccak256(envelopes[-1])
        transactions.append(transaction)
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
    encoded_withdrawals = [_encoded_list(one.values()) for one in withdrawals]
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
        "withdrawalsRoot": ordered_root(encoded_withdrawals),
        "blobGasUsed": sum(call.blobs for call in draft.calls) * BLOB_GAS,
        "excessBlobGas": 0,
        "parentBeaconBlockRoot": dice.bytes(32),
        "requestsHash": _NO_REQUESTS,
    }
    encoded_header = _encoded_list(header.values())
    # A typed transaction stands in its block as a byte string, one of the first type as a list.
    body = b"".join(
        encoded if call.type == 0 else rlp.encode(encoded)
        for call, encoded in zip(draft.calls, envelopes, strict=True)
    )
    parts = (
        encoded_header,
        _list_of(body),
        rlp.encode([]),
        _list_of(b"".join(encoded_withdrawals)),
    )
    size = len(_list_of(b"".join(parts)))
    return Sealed(header, keccak256(encoded_header), size, transactions, receipts, withdrawals)


def logs_bloom(logs: Iterable[tuple[bytes, Iterable[bytes]]]) -> bytes:
    """The bloom of logs, given as address and topics: three of 2048 bits for each of these."""
    bits = 0
    for emitter, topics in logs:
        bits |= _bloom_bits(emitter)
        for topic in topics:
            bits |= _bloom_bits(topic)
    return bits.to_bytes(256, "big")


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
    created = None
    if call.to is None:
        created = keccak256(rlp.encode([call.sender, transaction["nonce"]]))[12:]
    receipt = {
        "status": int(not call.has_failed),
        "cumulativeGasUsed": gas_before + call.gas_used,
        "gasUsed": call.gas_used,
        "effectiveGasPrice": transaction["gasPrice"],
        "contractAddress": created,
        "logsBloom": logs_bloom([log[:2] for log in call.logs]),
        "logs": list(call.logs),
    }
    if call.type == 3:
        receipt |= {"blobGasUsed": call.blobs * BLOB_GAS, "blobGasPrice": 1}
    return receipt


def _envelope(kind: int, fields: Fields, encoded: Sequence[str]) -> bytes:
    """What hangs in the trie: the RLP, after a byte for its type unless that is 0 (EIP-2718)."""
    return (bytes([kind]) if kind else b"") + _encoded_list([fields[key] for key in encoded])


def _encoded_log(log: Log) -> bytes:
    topics = b"".join([_TOPIC + topic for topic in log.topics])
    data = rlp.encode_bytes(log.data)
    return rlp.encode_list((_ADDRESS, log.address, _TOPICS[len(log.topics)], topics, data))


def _encoded_list(items: Iterable[Any]) -> bytes:
    return rlp.encode_list([_ENCODERS[type(item)](item) for item in items])


# The RLP of a field by its type: without the names of what it is made of, and None as nothing.
_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    bytes: rlp.encode_bytes,
    int: rlp.encode_int,
    Log: _encoded_log,
    list: _encoded_list,
    dict: lambda fields: _encoded_list(fields.values()),
    type(None): lambda _: rlp.encode_bytes(b""),
}


def _wire(value: Any) -> Any:
    """A field as JSON-RPC has it."""
    kind = type(value)
    if kind is bytes:
        return "0x" + value.hex()
    if kind is int:
        return hex(value)
    if kind is dict:
        return {
            name: "0x" + item.hex() if type(item) is bytes else _wire(item)
            for name, item in value.items()
        }
    if kind is list:
        return [*map(_wire, value)]
    return value


def _members(fields: Fields) -> str:
    """Fields of plain values as members of a JSON object."""
    return "".join([f',"{name}":"{_wire(value)}"' for name, value in fields.items()])


def _log_json(log: Log, in_common: str, index: int) -> str:
    topics = ",".join([f'"0x{topic.hex()}"' for topic in log.topics])
    return (
        f'{{"address":"0x{log.address.hex()}","topics":[{topics}],"data":"0x{log.data.hex()}"'
        f'{in_common},"logIndex":"{index:#x}","removed":false}}'
    )


def _list_of(encoded: bytes) -> bytes:
    return rlp.encode_list([encoded])


def _joined(blooms: Iterable[bytes]) -> bytes:
    return reduce(or_, (int.from_bytes(bloom, "big") for bloom in blooms), 0).to_bytes(256, "big")


@lru_cache(maxsize=8192)
def _bloom_bits(item: bytes) -> int:
    digest = keccak256(item)
    return reduce(or_, (1 << int.from_bytes(digest[at : at + 2], "big") % 2048 for at in (0, 2, 4)))
