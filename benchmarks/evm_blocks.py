"""Blocks of the size of mainnet's, made up from a seed, with receipts: hashes, roots, blooms right.

As JSON-RPC delivers them, about 400 KB a block. Signatures are random, so senders are too.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec

from crypto_assets.sources.evm_encoding import (
    bloom,
    contract_address,
    encode_header,
    encode_receipt,
    encode_transaction,
    encode_withdrawal,
)
from crypto_assets.sources.evm_types import (
    AccessListEntry,
    Authorization,
    Block,
    Log,
    Receipt,
    Transaction,
    Withdrawal,
)
from crypto_assets.sources.rlp import encode_list
from crypto_assets.sources.trie import keccak256, ordered_root

FIRST_BLOCK = 22_500_000
_BASE_FEE = 5 * 10**8
_TYPES = (0, 1, 2, 2, 2, 2, 2, 2, 3, 4)
_CREATES = (2, 10)  # of 40 transactions
_SIGNATURES = tuple(f"0x{keccak256(bytes([at])).hex()}" for at in range(8))


def blocks(
    count: int, *, transactions: int = 100, logs: int = 221, seed: int = 0
) -> Iterator[tuple[Block, list[Receipt]]]:
    """Contiguous blocks from FIRST_BLOCK, each with its receipts."""
    dice = Random(seed)  # noqa: S311
    world = _World(dice)
    parent = _hex(dice.randbytes(32))
    for number in range(FIRST_BLOCK, FIRST_BLOCK + count):
        block, receipts = world.block(number, parent, transactions, logs)
        parent = block.hash
        yield block, receipts


def wire(thing: Block | Receipt | list[Receipt]) -> bytes:
    """The result that a node would give."""
    return msgspec.json.encode(thing)


class _World:
    """Accounts and contracts of which a few are seen in every block and most rarely."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._accounts = [_hex(dice.randbytes(20)) for _ in range(20_000)]
        self._contracts = self._accounts[:1000]

    def block(
        self, number: int, parent: str, count: int, log_count: int
    ) -> tuple[Block, list[Receipt]]:
        place = {"block_number": hex(number), "block_hash": ""}
        signed = [self._transaction(index, place) for index in range(count)]
        envelopes = [encode_transaction(each) for each in signed]
        signed = [
            msgspec.structs.replace(each, hash=_hex(keccak256(envelope)))
            for each, envelope in zip(signed, envelopes, strict=True)
        ]
        receipts = self._receipts(signed, log_count, place)
        bits = 0
        for receipt in receipts:
            bits |= int(receipt.logs_bloom, 16)
        withdrawals = [
            Withdrawal(index=hex(at), validator_index="0x7f", address=self._account(), amount="0x1")
            for at in range(16)
        ]
        block = Block(
            parent_hash=parent,
            sha3_uncles=_hex(keccak256(encode_list(()))),
            miner=self._account(),
            state_root=self._word(),
            transactions_root=_hex(ordered_root(envelopes)),
            receipts_root=_hex(
                ordered_root(
                    [
                        encode_receipt(receipt, each.type)
                        for receipt, each in zip(receipts, signed, strict=True)
                    ]
                )
            ),
            logs_bloom=f"0x{bits:0512x}",
            difficulty="0x0",
            number=hex(number),
            gas_limit=hex(36_000_000),
            gas_used=receipts[-1].cumulative_gas_used if receipts else "0x0",
            timestamp=hex(1_747_000_000 + 12 * (number - FIRST_BLOCK)),
            extra_data="0x",
            mix_hash=self._word(),
            nonce=_hex(bytes(8)),
            base_fee_per_gas=hex(_BASE_FEE),
            withdrawals_root=_hex(ordered_root([encode_withdrawal(each) for each in withdrawals])),
            blob_gas_used=hex(
                131_072 * sum(len(each.blob_versioned_hashes or ()) for each in signed)
            ),
            excess_blob_gas="0x0",
            parent_beacon_block_root=self._word(),
            requests_hash=self._word(),
            hash="",
            size="0x10000",
            withdrawals=withdrawals,
            transactions=signed,
        )
        return _sealed(block, receipts)

    def _transaction(self, index: int, place: dict[str, str]) -> Transaction:
        dice = self._dice
        kind = _TYPES[index % len(_TYPES)]
        tip = dice.randrange(10**9)
        parity = hex(dice.randrange(2))
        return Transaction(
            **place,
            hash="",
            transaction_index=hex(index),
            type=hex(kind),
            chain_id="0x1",
            sender=self._account(),
            to=None if index % 40 in _CREATES else self._account(),
            nonce=hex(dice.randrange(1000)),
            value=hex(dice.choice((0, dice.randrange(10**20)))),
            gas=hex(dice.randrange(21_000, 400_000)),
            gas_price=hex(_BASE_FEE + tip),
            max_fee_per_gas=hex(2 * _BASE_FEE + tip) if kind > 1 else None,
            max_priority_fee_per_gas=hex(tip) if kind > 1 else None,
            max_fee_per_blob_gas="0x1" if kind == 3 else None,
            input=_hex(dice.randbytes(dice.choice((0, 4, 68, 68, 68, 228)))),
            access_list=self._access_list() if kind else None,
            blob_versioned_hashes=[self._word(), self._word()] if kind == 3 else None,
            authorization_list=[self._authorization()] if kind == 4 else None,
            y_parity=parity if kind else None,
            v=parity if kind else hex(37 + int(parity, 16)),
            r=hex(dice.getrandbits(256)),
            s=hex(dice.getrandbits(255)),
        )

    def _receipts(
        self, signed: list[Transaction], log_count: int, place: dict[str, str]
    ) -> list[Receipt]:
        of_transaction: list[int] = [0] * len(signed)
        for _ in range(log_count):
            of_transaction[self._dice.randrange(len(signed))] += 1
        receipts: list[Receipt] = []
        gas = index = 0
        for each, wanted in zip(signed, of_transaction, strict=True):
            used = self._dice.randrange(21_000, int(each.gas, 16) + 1)
            gas += used
            own = place | {
                "transaction_hash": each.hash,
                "transaction_index": each.transaction_index,
            }
            logs = [self._log(index + at, own) for at in range(wanted)]
            index += wanted
            blobs = len(each.blob_versioned_hashes or ())
            receipts.append(
                Receipt(
                    **own,
                    type=each.type,
                    sender=each.sender,
                    to=each.to,
                    contract_address=None if each.to else contract_address(each),
                    status="0x1" if logs or self._dice.random() < 0.9 else "0x0",
                    cumulative_gas_used=hex(gas),
                    gas_used=hex(used),
                    effective_gas_price=each.gas_price,
                    blob_gas_used=hex(131_072 * blobs) if blobs else None,
                    blob_gas_price="0x1" if blobs else None,
                    logs=logs,
                    logs_bloom=f"0x{bloom(logs):0512x}",
                )
            )
        return receipts

    def _log(self, index: int, own: dict[str, str]) -> Log:
        topics = [self._dice.choice(_SIGNATURES)]
        topics += [f"0x{self._account()[2:]:>064}" for _ in range(self._dice.randrange(4))]
        return Log(
            **own,
            address=self._dice.choice(self._contracts),
            topics=topics[self._dice.random() < 0.02 :],
            data=_hex(self._dice.randbytes(32 * self._dice.choice((0, 1, 1, 2, 5)))),
            log_index=hex(index),
        )

    def _access_list(self) -> list[AccessListEntry]:
        return [
            AccessListEntry(address=self._account(), storage_keys=[self._word()])
            for _ in range(self._dice.choice((0, 0, 0, 2)))
        ]

    def _authorization(self) -> Authorization:
        return Authorization(
            chain_id="0x1", address=self._account(), nonce="0x5", y_parity="0x1", r="0x2", s="0x3"
        )

    def _account(self) -> str:
        # A fifth of what is seen are a hundred accounts.
        dice = self._dice
        return dice.choice(self._accounts[:100] if dice.random() < 0.2 else self._accounts)

    def _word(self) -> str:
        return _hex(self._dice.randbytes(32))


def _sealed(block: Block, receipts: list[Receipt]) -> tuple[Block, list[Receipt]]:
    """Both with the block's hash in every place."""
    replace = msgspec.structs.replace
    digest = _hex(keccak256(encode_header(block)))
    transactions = [replace(each, block_hash=digest) for each in block.transactions]
    return replace(block, hash=digest, transactions=transactions), [
        replace(
            each, block_hash=digest, logs=[replace(log, block_hash=digest) for log in each.logs]
        )
        for each in receipts
    ]


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"
