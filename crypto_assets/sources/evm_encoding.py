"""The bytes that Ethereum hashes: headers, transactions, receipts, withdrawals, and bloom bits.

Each function takes a struct of the wire and gives its canonical RLP. ValueError names a field that
is missing, or is not the hex it should be. Nothing is compared with anything: see `evm_proof`.

Formats: the yellow paper, and EIPs 2718 (types), 2930 (1), 1559 (2), 4844 (3), 7702 (4), 4895.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias

from crypto_assets.sources.evm_types import (
    AccessListEntry,
    Authorization,
    Header,
    Log,
    Receipt,
    Transaction,
    Withdrawal,
)
from crypto_assets.sources.rlp import encode_bytes, encode_int, encode_list
from crypto_assets.sources.trie import keccak256

_Encoder: TypeAlias = Callable[[Any], bytes]
# Every bit of a bloom, and how the three of one value are read from its hash.
_BITS = tuple(1 << place for place in range(2048))
_FIRST_WORDS = struct.Struct(">HHH").unpack_from


def encode_header(header: Header, *newer: bytes) -> bytes:
    """A header; `newer` are encoded fields of forks that came after those known here.

    The encoding has places, not names: if a field could be missing before one that is there, a
    value could pass under its neighbour's name.
    """
    since: list[bytes] = []
    missing = None
    for name, encode in _SINCE:
        value = getattr(header, name)
        if value is None:
            missing = missing or name
        elif missing:
            raise ValueError(f"{missing} is missing, although {name}, which came later, is there")
        else:
            since.append(encode(value))
    return encode_list([*_HEADER.encode(header), *since, *newer])


def encode_transaction(transaction: Transaction) -> bytes:
    """A transaction of one of TRANSACTION_TYPES as it was signed; its Keccak-256 is its hash."""
    kind = int(transaction.type, 16)
    try:
        encoded = encode_list(TRANSACTION_TYPES[kind].encode(transaction))
    except ValueError as error:
        raise ValueError(f"transaction {transaction.transaction_index}: {error}") from error
    return bytes([kind]) + encoded if kind else encoded


def encode_receipt(receipt: Receipt, transaction_type: str) -> bytes:
    """A receipt, which has the type of its transaction."""
    root = receipt.state_root
    try:
        encoded = encode_list(
            (
                quantity(receipt.status) if root is None else data(root),
                quantity(receipt.cumulative_gas_used),
                data(receipt.logs_bloom),
                encode_list([_log(log) for log in receipt.logs]),
            )
        )
    except (ValueError, OverflowError) as error:
        raise ValueError(f"receipt {receipt.transaction_index}: {error}") from error
    kind = int(transaction_type, 16)
    return bytes([kind]) + encoded if kind else encoded


def encode_withdrawal(withdrawal: Withdrawal) -> bytes:
    """A withdrawal."""
    return encode_list(_WITHDRAWAL.encode(withdrawal))


def contract_address(transaction: Transaction) -> str:
    """Address of the contract that a transaction creates, in hex."""
    creator = encode_list((data(transaction.sender), quantity(transaction.nonce)))
    return f"0x{keccak256(creator)[12:].hex()}"


def foreign_fields(transaction: Transaction) -> list[str]:
    """Fields that a transaction has, but its type, one of TRANSACTION_TYPES, does not sign."""
    foreign = _FOREIGN[int(transaction.type, 16)]
    return [name for name in foreign if getattr(transaction, name)]


# A block asks twice for each address and topic, for its blooms and for its receipts root, and
# blocks have many in common. Enough for the largest block; about 5 MB when full.
@lru_cache(maxsize=8192)
def indexed(text: str) -> tuple[bytes, int]:
    """RLP of an address or topic, and the three of 2,048 bits that it sets in a bloom."""
    value = unhex(text)
    first, second, third = _FIRST_WORDS(keccak256(value))
    return encode_bytes(value), _BITS[first & 2047] | _BITS[second & 2047] | _BITS[third & 2047]


def bloom(logs: Sequence[Log]) -> int:
    """Bloom of logs as an integer: the bits of every address and topic."""
    bits = 0
    for log in logs:
        bits |= indexed(log.address)[1]
        for topic in log.topics:
            bits |= indexed(topic)[1]
    return bits


def data(text: str | None) -> bytes:
    """RLP of bytes that are written as hex."""
    return encode_bytes(unhex(text))


def quantity(text: str | None) -> bytes:
    """RLP of an integer that is written as hex."""
    if text is None:
        raise ValueError("a number is missing")
    return encode_int(int(text, 16))


def unhex(text: str | None) -> bytes:
    """Bytes that are written as hex after "0x"."""
    if text is None:
        raise ValueError("hex data is missing")
    value = bytes.fromhex(text[2:])
    # fromhex skips blanks: another reader would find other bytes in the same text.
    if 2 * len(value) + 2 != len(text):
        raise ValueError(f"{text[:80]!r} is not hex data")
    return value


def _to(address: str | None) -> bytes:
    """The recipient; nobody if the transaction creates a contract."""
    return encode_bytes(b"") if address is None else data(address)


def _access_list(entries: list[AccessListEntry] | None) -> bytes:
    """Like every list here it may be missing instead of empty: nodes leave it out."""
    return encode_list(
        [
            encode_list((data(entry.address), encode_list(map(data, entry.storage_keys or ()))))
            for entry in entries or ()
        ]
    )


def _hashes(hashes: list[str] | None) -> bytes:
    return encode_list(map(data, hashes or ()))


def _authorizations(authorizations: list[Authorization] | None) -> bytes:
    return encode_list([encode_list(_AUTHORIZATION.encode(each)) for each in authorizations or ()])


def _log(log: Log) -> bytes:
    topics = encode_list([indexed(topic)[0] for topic in log.topics])
    return encode_list((indexed(log.address)[0], topics, data(log.data)))


class _Layout:
    """The fields of a struct in the order they are encoded, and how each is."""

    def __init__(self, *fields: tuple[str, _Encoder]) -> None:
        self.names = tuple(name for name, _ in fields)
        self._encoders = tuple(encode for _, encode in fields)
        self._values = attrgetter(*self.names)

    def encode(self, item: Any) -> list[bytes]:
        """The encoded fields of `item`; ValueError names the one that cannot be."""
        values = self._values(item)
        try:
            return [encode(value) for encode, value in zip(self._encoders, values, strict=True)]
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{self._culprit(values)}: {error}") from error

    def _culprit(self, values: Sequence[Any]) -> str:
        for name, encode, value in zip(self.names, self._encoders, values, strict=True):
            try:
                encode(value)
            except (ValueError, OverflowError):
                return f"{name} is {value!r:.80}"
        raise AssertionError("a field that failed to encode does so again")


_HEADER = _Layout(
    ("parent_hash", data),
    ("sha3_uncles", data),
    ("miner", data),
    ("state_root", data),
    ("transactions_root", data),
    ("receipts_root", data),
    ("logs_bloom", data),
    ("difficulty", quantity),
    ("number", quantity),
    ("gas_limit", quantity),
    ("gas_used", quantity),
    ("timestamp", quantity),
    ("extra_data", data),
    ("mix_hash", data),
    ("nonce", data),
)
# Fields that forks appended: London, Shanghai, Cancun (three), Prague.
_SINCE: tuple[tuple[str, _Encoder], ...] = (
    ("base_fee_per_gas", quantity),
    ("withdrawals_root", data),
    ("blob_gas_used", quantity),
    ("excess_blob_gas", quantity),
    ("parent_beacon_block_root", data),
    ("requests_hash", data),
)
_FEES = (
    ("chain_id", quantity),
    ("nonce", quantity),
    ("max_priority_fee_per_gas", quantity),
    ("max_fee_per_gas", quantity),
)
_CALL = (("gas", quantity), ("to", _to), ("value", quantity), ("input", data))
_ACCESS = ("access_list", _access_list)
_SIGNATURE = (("parity", quantity), ("r", quantity), ("s", quantity))
_NONCE_PRICE = (("nonce", quantity), ("gas_price", quantity))
TRANSACTION_TYPES = {
    0: _Layout(*_NONCE_PRICE, *_CALL, *_SIGNATURE),
    1: _Layout(("chain_id", quantity), *_NONCE_PRICE, *_CALL, _ACCESS, *_SIGNATURE),
    2: _Layout(*_FEES, *_CALL, _ACCESS, *_SIGNATURE),
    3: _Layout(
        *_FEES,
        *_CALL,
        _ACCESS,
        ("max_fee_per_blob_gas", quantity),
        ("blob_versioned_hashes", _hashes),
        *_SIGNATURE,
    ),
    4: _Layout(*_FEES, *_CALL, _ACCESS, ("authorization_list", _authorizations), *_SIGNATURE),
}
"""The types of transactions whose encoding is known here."""
# Only a type that signs them may have these; `gasPrice` and `chainId` are delivered with all.
_FOREIGN = {
    kind: sorted(
        {name for each in TRANSACTION_TYPES.values() for name in each.names}
        - {*layout.names, "gas_price", "chain_id"}
    )
    for kind, layout in TRANSACTION_TYPES.items()
}
_AUTHORIZATION = _Layout(
    ("chain_id", quantity),
    ("address", data),
    ("nonce", quantity),
    ("y_parity", quantity),
    ("r", quantity),
    ("s", quantity),
)
_WITHDRAWAL = _Layout(
    ("index", quantity), ("validator_index", quantity), ("address", data), ("amount", quantity)
)
