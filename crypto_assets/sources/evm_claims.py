"""The claims that a block makes by its hash, each as a function that raises if it does not hold.

A block's hash covers its header; the header covers transactions, receipts and withdrawals by Merkle
roots, and logs by a bloom. Each function raises IntegrityErrors of its own, which name neither the
block nor what to do (`evm_proof` adds that), and returns why it could not be computed, or None.
Pure: structs in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import permutations
from operator import attrgetter
from typing import TypeAlias

from msgspec import to_builtins

from crypto_assets.errors import (
    BlockBodyMismatchError,
    DerivedValueMismatchError,
    GasMismatchError,
    HeaderHashMismatchError,
    LogIndexGapError,
    LogsBloomMismatchError,
    MisplacedLogError,
    MisplacedReceiptError,
    MisplacedTransactionError,
    MissingReceiptError,
    ReceiptsRootMismatchError,
    TransactionHashMismatchError,
    TransactionsRootMismatchError,
    UnknownHeaderFieldError,
)
from crypto_assets.sources.evm_encoding import (
    TRANSACTION_TYPES,
    bloom,
    contract_address,
    data,
    encode_header,
    encode_receipt,
    encode_transaction,
    encode_withdrawal,
    foreign_fields,
    quantity,
    unhex,
)
from crypto_assets.sources.evm_types import Block, Header, Receipt, Transaction
from crypto_assets.sources.rlp import encode_list
from crypto_assets.sources.trie import EMPTY_ROOT, keccak256, ordered_root

Why: TypeAlias = str | None
"""Why a claim could not be computed; None if it was, and holds."""

_NO_UNCLES = keccak256(encode_list(()))
_BLOB_GAS = 131_072  # of one blob (EIP-4844)
# A fork adds one to three fields; the ways to arrange more than four are too many to try.
_UNKNOWN_FIELDS = 4

_OF_TRANSACTION = attrgetter(
    "hash", "transaction_index", "block_hash", "block_number", "type", "sender", "to"
)
_OF_ITS_RECEIPT = attrgetter(
    "transaction_hash", "transaction_index", "block_hash", "block_number", "type", "sender", "to"
)
_PLACE = attrgetter("block_hash", "block_number", "transaction_hash", "transaction_index")


def differ(value: str | None, expected: str | None) -> bool:
    """Whether a delivered value contradicts another; the same number may be written differently."""
    if value is None or value == expected:
        return False
    return expected is None or int(value, 16) != int(expected, 16)


def _header_hash(header: Header) -> None:
    expected = unhex(header.hash)
    computed = keccak256(encode_header(header))
    if computed == expected:
        return
    unknown = _unknown_fields(header)
    for count in range(1, len(unknown) + 1):
        for names in permutations(unknown, count):
            newer = encode_header(header, *(unknown[name] for name in names))
            if keccak256(newer) == expected:
                raise UnknownHeaderFieldError(
                    f"the header hashes to {header.hash} only together with {', '.join(names)}, "
                    "which this version does not know: nothing is wrong but that the block is of "
                    "a newer fork",
                    fields=names,
                )
    also = f", or one of these belongs to it: {', '.join(header.extra)}" if header.extra else ""
    raise HeaderHashMismatchError(
        f"the header hashes to 0x{computed.hex()} but is delivered as {header.hash}: a field of it "
        f"is wrong or missing{also}",
        computed=f"0x{computed.hex()}",
        delivered=header.hash,
    )


def _unknown_fields(header: Header) -> dict[str, bytes]:
    """Fields that are not known here, each as a header would hold it."""
    encoded = {}
    for name, value in (header.extra or {}).items():
        with suppress(ValueError, OverflowError, TypeError):  # no number and no hash
            encoded[name] = data(value) if len(value) == len(header.hash) else quantity(value)
    return encoded if len(encoded) <= _UNKNOWN_FIELDS else {}


def _block_body(header: Header) -> None:
    has_uncles = unhex(header.sha3_uncles) != _NO_UNCLES
    if has_uncles != bool(header.uncles):
        raise BlockBodyMismatchError(
            f"{len(header.uncles)} uncles are delivered, the header has "
            f"{'some' if has_uncles else 'none'}",
            uncles=header.uncles,
        )
    root = ordered_root([encode_withdrawal(each) for each in header.withdrawals or ()])
    expected = unhex(header.withdrawals_root) if header.withdrawals_root else EMPTY_ROOT
    if root != expected:
        raise BlockBodyMismatchError(
            f"the {len(header.withdrawals or ())} withdrawals make the root 0x{root.hex()}, the "
            f"header has {header.withdrawals_root}",
            computed=f"0x{root.hex()}",
            delivered=header.withdrawals_root,
        )


def _transaction_count(block: Block) -> None:
    for index, transaction in enumerate(block.transactions):
        if (
            int(transaction.transaction_index, 16) != index
            or differ(transaction.block_hash, block.hash)
            or differ(transaction.block_number, block.number)
        ):
            raise MisplacedTransactionError(
                f"transaction {index} says that it is {transaction.transaction_index} of block "
                f"{transaction.block_number}, {transaction.block_hash}",
                index=index,
                transaction=transaction.hash,
            )


def _transactions_root(block: Block) -> Why:
    unknown = _unknown_types(block)
    encoded = []
    for index, transaction in enumerate(block.transactions):
        if transaction.type in unknown:
            continue
        value = encode_transaction(transaction)
        digest = keccak256(value)
        if digest != unhex(transaction.hash) or _has_two_parities(transaction):
            raise TransactionHashMismatchError(
                f"transaction {index} hashes to 0x{digest.hex()} but is delivered as "
                f"{transaction.hash}: one of its fields is wrong or missing",
                index=index,
                transaction=to_builtins(transaction),
            )
        encoded.append(value)
    if unknown:
        return f"transaction type {', '.join(unknown)}"
    root = ordered_root(encoded)
    if root != unhex(block.transactions_root):
        raise TransactionsRootMismatchError(
            f"its {len(encoded)} transactions make the root 0x{root.hex()}, the header has "
            f"{block.transactions_root}: one is missing, added, or at another place",
            computed=f"0x{root.hex()}",
            delivered=block.transactions_root,
        )
    return None


def _unknown_types(block: Block) -> list[str]:
    types = {transaction.type for transaction in block.transactions}
    return sorted(kind for kind in types if int(kind, 16) not in TRANSACTION_TYPES)


def _has_two_parities(transaction: Transaction) -> bool:
    """Whether a typed transaction says another `yParity` than its `v`, which is what is hashed."""
    return int(transaction.type, 16) != 0 and differ(transaction.y_parity, transaction.parity)


def _receipts_per_transaction(block: Block, receipts: Sequence[Receipt]) -> None:
    for transaction, receipt in _pairs(block, receipts):
        expected, said = _OF_TRANSACTION(transaction), _OF_ITS_RECEIPT(receipt)
        if said != expected and any(map(differ, said, expected)):
            raise MisplacedReceiptError(
                f"the receipt delivered for transaction {transaction.transaction_index}, "
                f"{transaction.hash}, is of another one or contradicts it: {said}",
                expected=expected,
                said=said,
            )


def _pairs(block: Block, receipts: Sequence[Receipt]) -> Iterator[tuple[Transaction, Receipt]]:
    if len(receipts) != len(block.transactions):
        raise MissingReceiptError(
            f"{len(receipts)} receipts are delivered for {len(block.transactions)} transactions",
            receipts=len(receipts),
            transactions=len(block.transactions),
        )
    return zip(block.transactions, receipts, strict=True)


def _log_index(block: Block, receipts: Sequence[Receipt]) -> None:
    expected = 0
    for receipt in receipts:
        place = (block.hash, block.number, receipt.transaction_hash, receipt.transaction_index)
        for log in receipt.logs:
            said = _PLACE(log)
            if log.removed or (said != place and any(map(differ, said, place))):
                raise MisplacedLogError(
                    f"log {log.log_index}, delivered with transaction {receipt.transaction_index}, "
                    f"says that it is of {said}, or that it was removed by a reorganisation",
                    log=to_builtins(log),
                    expected=place,
                )
            # Which geth 1.16 leaves at 0x0 (go-ethereum #32334).
            at = log.block_timestamp or block.timestamp
            if at != block.timestamp and int(at, 16) not in {0, int(block.timestamp, 16)}:
                raise MisplacedLogError(
                    f"log {log.log_index} says that its block is of {int(at, 16)}, which is of "
                    f"{int(block.timestamp, 16)}",
                    log=to_builtins(log),
                    expected=block.timestamp,
                )
            if int(log.log_index, 16) != expected:
                raise LogIndexGapError(
                    f"log {int(log.log_index, 16)} follows where log {expected} should: a log is "
                    "missing or there twice",
                    expected=expected,
                    log=to_builtins(log),
                )
            expected += 1


def _logs_bloom(block: Block, receipts: Sequence[Receipt]) -> None:
    of_block = 0
    for receipt in receipts:
        of_receipt = bloom(receipt.logs)
        if of_receipt != int(receipt.logs_bloom, 16):
            raise LogsBloomMismatchError(
                f"the {len(receipt.logs)} logs of transaction {receipt.transaction_index} do not "
                "make the bloom of its receipt: one is missing, added or altered",
                transaction=receipt.transaction_hash,
            )
        of_block |= of_receipt
    if of_block != int(block.logs_bloom, 16):
        raise LogsBloomMismatchError(
            "the logs of all receipts do not make the header's bloom: one is missing, added or "
            "altered, together with its receipt's bloom",
            logs=sum(len(receipt.logs) for receipt in receipts),
        )


def _receipts_root(block: Block, receipts: Sequence[Receipt]) -> Why:
    pairs = _pairs(block, receipts)
    if unknown := _unknown_types(block):
        return f"transaction type {', '.join(unknown)}"
    root = ordered_root([encode_receipt(receipt, each.type) for each, receipt in pairs])
    if root != unhex(block.receipts_root):
        raise ReceiptsRootMismatchError(
            f"its {len(receipts)} receipts make the root 0x{root.hex()}, the header has "
            f"{block.receipts_root}: a status, gas or log of one of them is wrong",
            computed=f"0x{root.hex()}",
            delivered=block.receipts_root,
        )
    return None


def _cumulative_gas(block: Block, receipts: Sequence[Receipt]) -> None:
    total = 0
    for receipt in receipts:
        total += int(receipt.gas_used, 16)
        if total != int(receipt.cumulative_gas_used, 16):
            raise GasMismatchError(
                f"the gas of receipts up to transaction {receipt.transaction_index} adds up to "
                f"{total}, the receipt says {int(receipt.cumulative_gas_used, 16)}",
                transaction=receipt.transaction_hash,
                computed=total,
            )
    if total != int(block.gas_used, 16):
        raise GasMismatchError(
            f"the gas of all receipts adds up to {total}, the header says "
            f"{int(block.gas_used, 16)}",
            computed=total,
        )


def _derived_values(block: Block, receipts: Sequence[Receipt]) -> Why:
    unknown = _unknown_types(block)
    for transaction, receipt in _pairs(block, receipts):
        if transaction.type in unknown:
            continue
        if foreign := foreign_fields(transaction):
            raise DerivedValueMismatchError(
                f"transaction {transaction.transaction_index} of type {transaction.type} has "
                f"{', '.join(foreign)}, which nobody signs in that type",
                transaction=transaction.hash,
                fields=foreign,
            )
        price = _price(transaction, block)
        blobs = len(transaction.blob_versioned_hashes or ())
        created = contract_address(transaction) if transaction.to is None else None
        # Some nodes leave out prices before London, and the address where creating failed.
        for name, said, follows, may_lack in (
            ("gasPrice", transaction.gas_price, price, True),
            ("effectiveGasPrice", receipt.effective_gas_price, price, not block.base_fee_per_gas),
            ("blobGasUsed", receipt.blob_gas_used, hex(_BLOB_GAS * blobs), not blobs),
            ("contractAddress", receipt.contract_address, created, receipt.status != "0x1"),
        ):
            if said != follows and (differ(said, follows) or (said is None and not may_lack)):
                raise DerivedValueMismatchError(
                    f"{name} of transaction {transaction.transaction_index} is {said}, what was "
                    f"signed makes it {follows}",
                    transaction=transaction.hash,
                    field=name,
                )
    return f"transaction type {', '.join(unknown)}" if unknown else None


def _price(transaction: Transaction, block: Block) -> str | None:
    """Wei per gas: the base fee and the tip, or the most that was offered (EIP-1559)."""
    most, tip = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
    base = block.base_fee_per_gas
    if most is None or tip is None or base is None:
        return transaction.gas_price
    return hex(min(int(most, 16), int(base, 16) + int(tip, 16)))


OF_HEADER: Mapping[str, Callable[..., Why]] = {
    "header_hash": _header_hash,
    "block_body": _block_body,
}
OF_BLOCK: Mapping[str, Callable[..., Why]] = {
    "transaction_count": _transaction_count,
    "transactions_root": _transactions_root,
}
# The receipts root comes before what follows from it, so that wrong receipts are refused by it.
OF_RECEIPTS: Mapping[str, Callable[..., Why]] = {
    "receipts_per_transaction": _receipts_per_transaction,
    "log_index": _log_index,
    "logs_bloom": _logs_bloom,
    "receipts_root": _receipts_root,
    "cumulative_gas": _cumulative_gas,
    "derived_values": _derived_values,
}
