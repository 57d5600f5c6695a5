"""One thing in a block or its receipts altered, dropped or doubled: which error refuses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.evm_blocks import blocks, wire
from crypto_assets.errors import (
    BrokenParentLinkError,
    CryptoAssetsError,
    HeaderHashMismatchError,
    IntegrityError,
    LogIndexGapError,
    LogsBloomMismatchError,
    ReceiptsRootMismatchError,
)
from crypto_assets.sources.evm_encoding import bloom, encode_header, encode_receipt
from crypto_assets.sources.evm_proof import PROOFS, prove_block, prove_link
from crypto_assets.sources.evm_types import Block, Receipt, read_block, read_receipts
from crypto_assets.sources.trie import keccak256, ordered_root

from .recorded_chain import encoded

# By what is refused whichever field is altered; "nothing": no hash covers it. A field of several
# types of transactions, or of the last and of other logs, is refused in several ways.
ALTERED = {
    "HeaderHashMismatch": """
        block.parentHash block.sha3Uncles block.miner block.stateRoot block.transactionsRoot
        block.receiptsRoot block.logsBloom block.difficulty block.number block.gasLimit
        block.gasUsed block.timestamp block.extraData block.mixHash block.nonce
        block.baseFeePerGas block.withdrawalsRoot block.blobGasUsed block.excessBlobGas
        block.parentBeaconBlockRoot block.requestsHash block.hash
    """,
    "BlockBodyMismatch": """
        block.withdrawals.index block.withdrawals.validatorIndex block.withdrawals.address
        block.withdrawals.amount
    """,
    "MisplacedTransaction": """
        block.transactions.blockHash block.transactions.blockNumber
        block.transactions.transactionIndex
    """,
    "TransactionHashMismatch": """
        block.transactions.hash block.transactions.type block.transactions.chainId
        block.transactions.to block.transactions.nonce block.transactions.value
        block.transactions.gas block.transactions.gasPrice block.transactions.maxFeePerGas
        block.transactions.maxPriorityFeePerGas block.transactions.maxFeePerBlobGas
        block.transactions.input block.transactions.blobVersionedHashes[]
        block.transactions.yParity block.transactions.v block.transactions.r block.transactions.s
        block.transactions.accessList.address block.transactions.accessList.storageKeys[]
        block.transactions.authorizationList.chainId block.transactions.authorizationList.address
        block.transactions.authorizationList.nonce block.transactions.authorizationList.yParity
        block.transactions.authorizationList.r block.transactions.authorizationList.s
    """,
    "MisplacedReceipt": """
        block.transactions.from block.transactions.type receipts.transactionHash
        receipts.transactionIndex receipts.blockHash receipts.blockNumber receipts.type
        receipts.from receipts.to
    """,
    "MisplacedLog": """
        receipts.logs.blockHash receipts.logs.blockNumber receipts.logs.transactionHash
        receipts.logs.transactionIndex receipts.logs.removed
    """,
    "LogIndexGap": "receipts.logs.logIndex",
    "LogsBloomMismatch": "receipts.logsBloom receipts.logs.address receipts.logs.topics[]",
    "ReceiptsRootMismatch": "receipts.status receipts.cumulativeGasUsed receipts.logs.data",
    "GasMismatch": "receipts.gasUsed",
    "DerivedValueMismatch": """
        block.transactions.gasPrice receipts.effectiveGasPrice receipts.blobGasUsed
        receipts.contractAddress
    """,
    "MalformedRow": "block.transactions.type",
    "nothing": "block.size block.transactions.chainId receipts.blobGasPrice",
}
DROPPED = {
    "UnexpectedReply": """
        block.parentHash block.sha3Uncles block.miner block.stateRoot block.transactionsRoot
        block.receiptsRoot block.logsBloom block.difficulty block.number block.gasLimit
        block.gasUsed block.timestamp block.extraData block.mixHash block.nonce block.hash
        block.withdrawals.index block.withdrawals.validatorIndex block.withdrawals.address
        block.withdrawals.amount block.transactions block.transactions.hash
        block.transactions.blockHash block.transactions.blockNumber
        block.transactions.transactionIndex block.transactions.from block.transactions.nonce
        block.transactions.value block.transactions.gas block.transactions.input
        block.transactions.accessList.address block.transactions.authorizationList.chainId
        block.transactions.authorizationList.address block.transactions.authorizationList.nonce
        block.transactions.authorizationList.yParity block.transactions.authorizationList.r
        block.transactions.authorizationList.s
        receipts.transactionHash receipts.transactionIndex receipts.blockHash receipts.blockNumber
        receipts.cumulativeGasUsed receipts.gasUsed receipts.logs receipts.logsBloom
        receipts.logs.address receipts.logs.topics receipts.logs.data receipts.logs.blockHash
        receipts.logs.blockNumber receipts.logs.transactionHash receipts.logs.transactionIndex
        receipts.logs.logIndex
    """,
    "MalformedRow": """
        block.baseFeePerGas block.withdrawalsRoot block.blobGasUsed block.excessBlobGas
        block.parentBeaconBlockRoot block.transactions.chainId block.transactions.gasPrice
        block.transactions.maxFeePerGas block.transactions.maxPriorityFeePerGas
        block.transactions.maxFeePerBlobGas block.transactions.v block.transactions.r
        block.transactions.s receipts.status
    """,
    "HeaderHashMismatch": "block.requestsHash",
    "BlockBodyMismatch": "block.withdrawals block.withdrawals[]",
    "MisplacedTransaction": "block.transactions[]",
    "TransactionsRootMismatch": "block.transactions[]",
    "TransactionHashMismatch": """
        block.transactions.type block.transactions.to block.transactions.accessList
        block.transactions.accessList[] block.transactions.accessList.storageKeys
        block.transactions.accessList.storageKeys[] block.transactions.blobVersionedHashes
        block.transactions.blobVersionedHashes[] block.transactions.authorizationList
        block.transactions.authorizationList[]
    """,
    "MissingReceipt": "receipts[]",
    "LogIndexGap": "receipts.logs[]",
    "LogsBloomMismatch": "receipts.logs[] receipts.logs.topics[]",
    "ReceiptsRootMismatch": "receipts.logs.topics[]",
    "DerivedValueMismatch": (
        "receipts.effectiveGasPrice receipts.blobGasUsed receipts.contractAddress"
    ),
    # What is the default anyway, follows from elsewhere, or may lack.
    "nothing": """
        block.size block.transactions.type block.transactions.chainId block.transactions.gasPrice
        block.transactions.accessList block.transactions.v block.transactions.yParity
        receipts.type receipts.from receipts.to receipts.blobGasPrice
        receipts.logs.removed
    """,
}
DOUBLED = {
    "BlockBodyMismatch": "block.withdrawals[]",
    "MisplacedTransaction": "block.transactions[]",
    "TransactionsRootMismatch": "",
    "TransactionHashMismatch": """
        block.transactions.accessList[] block.transactions.accessList.storageKeys[]
        block.transactions.blobVersionedHashes[] block.transactions.authorizationList[]
    """,
    "MissingReceipt": "receipts[]",
    "LogIndexGap": "receipts.logs[]",
    "ReceiptsRootMismatch": "receipts.logs.topics[]",
}
Delivered = dict[str, Any]


@pytest.fixture
def delivered() -> Delivered:
    """A block with at least one of everything that can be altered, and its receipts, as JSON."""
    block, receipts = next(blocks(1, transactions=12, logs=12, seed=4))
    whole = {"block": json.loads(wire(block)), "receipts": json.loads(wire(receipts))}
    for receipt in whole["receipts"]:
        for log in receipt["logs"]:
            log["removed"] = False
    assert refused_by(whole) == "nothing"
    return whole


@pytest.mark.parametrize(
    ("tamper", "expected"), [("alter", ALTERED), ("drop", DROPPED), ("double", DOUBLED)]
)
def test_everything_tampered_with_is_refused_by_its_name(
    delivered: Delivered, tamper: str, expected: dict[str, str]
) -> None:
    seen: dict[str, set[str]] = {}
    for path, parent, key in list(places(delivered)):
        if (change := TAMPERING[tamper](parent, key)) is None:
            continue
        undo = parent.copy()
        change()
        seen.setdefault(refused_by(delivered), set()).add(path)
        parent.clear()
        parent.update(undo) if isinstance(parent, dict) else parent.extend(undo)
    assert seen == {error: set(fields.split()) for error, fields in expected.items() if fields}


def test_node_that_covers_its_tracks_is_refused_by_the_next_proof(
    made: tuple[Block, list[Receipt]],
) -> None:
    """A log dropped from a receipt, and whatever gives that away altered to fit."""
    block, receipts = made
    at = next(at for at, each in enumerate(receipts) if len(each.logs) > 1)
    logs = receipts[at].logs[1:]
    cut = [*receipts[:at], replace(receipts[at], logs=logs), *receipts[at + 1 :]]
    refuse(block, cut, LogIndexGapError)

    numbers = count()
    cut = [
        replace(each, logs=[replace(log, log_index=hex(next(numbers))) for log in each.logs])
        for each in cut
    ]
    refuse(block, cut, LogsBloomMismatchError, "do not make the bloom of its receipt")

    cut[at] = replace(cut[at], logs_bloom=f"0x{bloom(logs):0512x}")
    refuse(block, cut, LogsBloomMismatchError, "do not make the header's bloom")

    bits = bloom([log for each in cut for log in each.logs])
    of_cut = replace(block, logs_bloom=f"0x{bits:0512x}")
    refuse(of_cut, cut, HeaderHashMismatchError)
    # Without the proof of the header, the one of the receipts root is left.
    rest = frozenset(PROOFS) - {"header_hash"}
    refuse(of_cut, cut, ReceiptsRootMismatchError, proofs=rest)

    root = ordered_root(
        [encode_receipt(each, of.type) for each, of in zip(cut, block.transactions, strict=True)]
    )
    of_cut = replace(of_cut, receipts_root=f"0x{root.hex()}")
    refuse(of_cut, cut, HeaderHashMismatchError)

    # A block that hashes to something else is another block, which its neighbours do not know.
    other = replace(of_cut, hash=f"0x{keccak256(encode_header(of_cut)).hex()}")
    prove_block(other, None, frozenset({"header_hash"}))
    with pytest.raises(BrokenParentLinkError):
        prove_link(other.hash, replace(block, parent_hash=block.hash))


def refuse(
    block: Block,
    receipts: list[Receipt],
    error: type[IntegrityError],
    says: str = "",
    proofs: frozenset[str] = frozenset(PROOFS),
) -> None:
    with pytest.raises(error, match=says or None):
        prove_block(block, receipts, proofs)


def refused_by(delivered: Delivered) -> str:
    """Name of the error that a block is refused by; "nothing" if it is not."""
    try:
        block = read_block(encoded(delivered["block"]), "block")
        receipts = read_receipts(encoded(delivered["receipts"]), "receipts")
        assert block is not None
        prove_block(block, receipts, frozenset(PROOFS))
    except CryptoAssetsError as error:
        return type(error).__name__.removesuffix("Error")
    return "nothing"


def places(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every field and every item below `value`: its path, the object it is in, its key there."""
    named = isinstance(value, dict)
    for key in list(value) if named else range(len(value)):
        here = f"{path}.{key}".strip(".") if named else path
        if path:
            yield (here if named else f"{here}[]"), value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key], here)


def altered(parent: Any, key: Any) -> Callable[[], None] | None:
    """The last hex digit changed, or another truth; nothing for what has parts of its own."""
    value = parent[key]
    if isinstance(value, dict | list):
        return None
    if isinstance(value, str):
        last = "01" if value == "0x" else f"{int(value[-1], 16) ^ 1:x}"
        other: Any = value + last if value == "0x" else value[:-1] + last
    else:
        other = not value
    return lambda: parent.__setitem__(key, other)


def dropped(parent: Any, key: Any) -> Callable[[], None] | None:
    return lambda: parent.__delitem__(key)


def doubled(parent: Any, key: Any) -> Callable[[], None] | None:
    return (lambda: parent.insert(key, parent[key])) if isinstance(parent, list) else None


TAMPERING = {"alter": altered, "drop": dropped, "double": doubled}
