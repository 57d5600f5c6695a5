"""What we hash, against the libraries `rlp` and `eth-bloom` and against recorded hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import rlp
from eth_bloom import BloomFilter
from hypothesis import given
from hypothesis import strategies as st

from crypto_assets.sources.evm_encoding import (
    bloom,
    encode_header,
    encode_receipt,
    encode_transaction,
    encode_withdrawal,
    foreign_fields,
    unhex,
)
from crypto_assets.sources.evm_types import (
    AccessListEntry,
    Authorization,
    Block,
    Header,
    Log,
    Receipt,
    Transaction,
    Withdrawal,
    read_receipt,
)
from crypto_assets.sources.trie import keccak256

from .recorded_chain import encoded, exchanges, results

NUMBERS = st.integers(0, 2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20)
WORDS = st.binary(min_size=32, max_size=32)
BLOOMS = st.binary(min_size=256, max_size=256)
LOGS = st.lists(st.tuples(ADDRESSES, st.lists(WORDS, max_size=4), st.binary(max_size=100)))


def hexed(value: Any) -> Any:
    """A value as it is on the wire."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, list):
        return [hexed(each) for each in value]
    return hex(value) if isinstance(value, int) else value


def log(address: bytes, topics: list[bytes], data: bytes = b"") -> Log:
    place = dict.fromkeys(("block_hash", "block_number", "transaction_hash"), "0x1")
    return Log(
        address=hexed(address),
        topics=hexed(topics),
        data=hexed(data),
        transaction_index="0x0",
        log_index="0x0",
        **place,
    )


@given(st.data(), st.integers(0, 4))
def test_transactions_of_every_type(data: st.DataObject, kind: int) -> None:
    def number() -> int:
        return data.draw(NUMBERS)

    listed = data.draw(st.lists(st.tuples(ADDRESSES, st.lists(WORDS, max_size=3)), max_size=3))
    signed = data.draw(st.lists(st.tuples(NUMBERS, ADDRESSES, NUMBERS, NUMBERS), max_size=2))
    hashes = data.draw(st.lists(WORDS, max_size=3))
    to = data.draw(st.none() | ADDRESSES)
    text = data.draw(st.binary(max_size=300))
    chain, nonce, price, most, tip, gas, value, v, r, s, blob = (number() for _ in range(11))
    call = [gas, to or b"", value, text]
    fees = [chain, nonce, tip, most, *call, [list(each) for each in listed]]
    fields = [
        [nonce, price, *call],
        [chain, nonce, price, *call, [list(each) for each in listed]],
        fees,
        [*fees, blob, hashes],
        [*fees, [[*each, 1, 2] for each in signed]],
    ]
    expected = rlp.encode([*fields[kind], v, r, s])
    transaction = Transaction(
        hash="0x",
        block_hash="0x",
        block_number="0x",
        transaction_index="0x0",
        type=hex(kind),
        chain_id=hexed(chain),
        sender="0x",
        to=hexed(to),
        nonce=hexed(nonce),
        value=hexed(value),
        gas=hexed(gas),
        gas_price=hexed(price),
        max_fee_per_gas=hexed(most),
        max_priority_fee_per_gas=hexed(tip),
        max_fee_per_blob_gas=hexed(blob),
        input=hexed(text),
        access_list=[
            AccessListEntry(address=hexed(address), storage_keys=hexed(keys) or None)
            for address, keys in listed
        ],
        blob_versioned_hashes=hexed(hashes),
        authorization_list=[
            Authorization(
                chain_id=hexed(of), address=hexed(address), nonce=hexed(at), y_parity=hexed(odd),
                r="0x1", s="0x02",
            )
            for of, address, at, odd in signed
        ],
        v=hexed(v),
        r=hexed(r),
        s=hexed(s),
    )  # fmt: skip
    assert encode_transaction(transaction) == (bytes([kind]) if kind else b"") + expected


@given(LOGS, st.integers(0, 1) | WORDS, NUMBERS, BLOOMS, st.integers(0, 4))
def test_receipts_before_and_since_byzantium(
    logs: list[tuple[bytes, list[bytes], bytes]],
    outcome: int | bytes,
    gas: int,
    bits: bytes,
    kind: int,
) -> None:
    receipt = Receipt(
        transaction_hash="0x",
        transaction_index="0x0",
        block_hash="0x",
        block_number="0x",
        status=hexed(outcome) if isinstance(outcome, int) else None,
        root=hexed(outcome) if isinstance(outcome, bytes) else "0x",
        cumulative_gas_used=hexed(gas),
        gas_used="0x0",
        logs=[log(*each) for each in logs],
        logs_bloom=hexed(bits),
    )
    expected = rlp.encode([outcome, gas, bits, [list(each) for each in logs]])
    assert encode_receipt(receipt, hex(kind)) == (bytes([kind]) if kind else b"") + expected


@given(LOGS)
def test_bloom_of_logs(logs: list[tuple[bytes, list[bytes], bytes]]) -> None:
    expected = BloomFilter()
    for address, topics, _ in logs:
        expected.extend([address, *topics])
    assert bloom([log(*each) for each in logs]) == int(expected)


@given(st.tuples(NUMBERS, NUMBERS, ADDRESSES, NUMBERS))
def test_withdrawals(fields: tuple[int, int, bytes, int]) -> None:
    index, validator, address, amount = map(hexed, fields)
    withdrawal = Withdrawal(index=index, validator_index=validator, address=address, amount=amount)
    assert encode_withdrawal(withdrawal) == rlp.encode(list(fields))


def test_recorded_receipts_have_the_bloom_of_their_logs(realdata: Path) -> None:
    for name, delivered in results(realdata / "ethereum/rpc_receipts"):
        receipt = read_receipt(encoded(delivered), name)
        assert receipt is not None
        assert bloom(receipt.logs) == int(receipt.logs_bloom, 16), name


def test_recorded_headers_of_every_fork_of_geth_hash_right(realdata: Path) -> None:
    # The conformance chain of execution-apis: one block at each fork from London to Prague.
    folder = realdata / "ethereum/execution_apis_io/eth_getBlockByNumber"
    forks = 0
    for name, delivered in exchanges(folder):
        if delivered is not None:
            known = {field.encode_name for field in msgspec.structs.fields(Header)}
            fields = {key: value for key, value in delivered.items() if key in known}
            header = msgspec.convert(fields, Header)
            assert f"0x{keccak256(encode_header(header)).hex()}" == header.hash, name
            forks += "fork" in name
    assert forks == 5


def test_field_of_a_fork_may_not_be_missing_before_a_later_one(block: Block) -> None:
    """Else the value of one could be delivered under the name of the next."""
    renamed = msgspec.structs.replace(
        block, parent_beacon_block_root=None, requests_hash=block.parent_beacon_block_root
    )
    with pytest.raises(ValueError, match="parent_beacon_block_root is missing, although requests"):
        encode_header(renamed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gas": "0xzz"}, "gas is '0xzz'"),
        ({"input": "0x123"}, "input is '0x123'"),
        ({"input": "0x12 34 "}, "input is '0x12 34 '"),
        ({"r": None, "s": "-0x1"}, "r is None: a number is missing"),
        ({"s": "-0x1"}, "s is '-0x1'"),
        ({"to": ""}, "to is ''"),
    ],
)
def test_field_that_is_missing_or_no_hex_is_named(
    block: Block, change: dict[str, str], says: str
) -> None:
    transaction = msgspec.structs.replace(block.transactions[2], **change)
    with pytest.raises(ValueError, match=f"^transaction 0x2: {says}"):
        encode_transaction(transaction)


def test_hex_with_blanks_is_none() -> None:
    for text in (None, "0x1", "0xzz", "0x12 4", "0x12  34", ""):
        with pytest.raises(ValueError, match=r"hex|number"):
            unhex(text)


def test_only_the_type_that_signs_a_field_may_have_it(block: Block) -> None:
    assert all(foreign_fields(each) == [] for each in block.transactions)
    legacy = next(each for each in block.transactions if each.type == "0x0")
    more = msgspec.structs.replace(legacy, max_fee_per_gas="0x1", access_list=[], chain_id="0x1")
    assert foreign_fields(more) == ["max_fee_per_gas"]
