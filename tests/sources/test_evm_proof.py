"""Sound blocks pass every proof, and what cannot be computed is said; see `test_evm_tampering`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.evm_blocks import blocks, wire
from crypto_assets.errors import (
    BrokenParentLinkError,
    DerivedValueMismatchError,
    HeaderHashMismatchError,
    IntegrityError,
    MalformedRowError,
    ReceiptsRootMismatchError,
    UnknownHeaderFieldError,
)
from crypto_assets.sources.evm_encoding import encode_header, quantity
from crypto_assets.sources.evm_proof import (
    PASSED,
    PROOFS,
    Tally,
    prove_block,
    prove_header,
    prove_link,
)
from crypto_assets.sources.evm_types import (
    Block,
    Receipt,
    read_block,
    read_hashed_block,
    read_receipts,
)
from crypto_assets.sources.rlp import encode_bytes
from crypto_assets.sources.trie import keccak256

from .recorded_chain import CONTIGUOUS, FORKS, SINGLE, encoded, exchanges, results, whole_block

ALL = frozenset(PROOFS)
OF_BLOCK_ALONE = ("header_hash", "block_body", "transaction_count", "transactions_root")


def read(block: Any, receipts: Any) -> tuple[Block, list[Receipt]]:
    """What a node delivered, as bytes or as JSON."""
    whole = read_block(block if isinstance(block, bytes) else encoded(block), "block")
    listed = read_receipts(receipts if isinstance(receipts, bytes) else encoded(receipts), "it")
    assert whole is not None
    assert listed is not None
    return whole, listed


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 127, 128, 129, 256, 300])
def test_made_blocks_pass_every_proof(count: int) -> None:
    previous = None
    for block, receipts in blocks(2, transactions=count, logs=2 * count, seed=count):
        delivered = read(wire(block), wire(receipts))
        assert delivered == (block, receipts)
        expected = dict.fromkeys(PROOFS[1:], PASSED)
        assert prove_block(*delivered, ALL) == expected
        if previous is not None:
            prove_link(previous.hash, block)
        previous = block


@pytest.mark.parametrize("folder", [CONTIGUOUS, FORKS, SINGLE])
def test_recorded_blocks_of_every_fork_pass(realdata: Path, folder: str) -> None:
    count = 0
    for name, delivered in results(realdata / "ethereum" / folder):
        if delivered["transactions"] and isinstance(delivered["transactions"][0], str):
            header = read_hashed_block(encoded(delivered), name)
            assert header is not None
            assert prove_header(header, ALL) == dict.fromkeys(OF_BLOCK_ALONE[:2], PASSED)
        else:
            block = read_block(encoded(delivered), name)
            assert block is not None
            proven = prove_block(block, None, ALL)
            assert {name: proven[name] for name in OF_BLOCK_ALONE} == dict.fromkeys(
                OF_BLOCK_ALONE, PASSED
            )
            assert proven["receipts_root"] == "not computable: no receipts"
        count += 1
    assert count > 5


def test_recorded_contiguous_blocks_are_linked(realdata: Path) -> None:
    headers = []
    for name, delivered in results(realdata / "ethereum" / CONTIGUOUS):
        header = read_block(encoded(delivered), name)
        assert header is not None
        headers.append(header)
    assert [header.requests_hash is None for header in headers] == [True] * 4 + [False] * 2
    for before, after in pairwise(headers):
        prove_link(before.hash, after)
    with pytest.raises(BrokenParentLinkError, match=r"^block 22431083: its parent is 0x.*, but"):
        prove_link(headers[1].hash, headers[3])


@pytest.mark.parametrize("number", [12900060, 12932986, 13004256])
def test_recorded_blocks_with_receipts_pass_every_proof(realdata: Path, number: int) -> None:
    folder = realdata / "ethereum/full_blocks_mev_inspect"
    delivered = read(*whole_block(folder / f"{number}.json.gz"))
    assert prove_block(*delivered, ALL) == dict.fromkeys(PROOFS[1:], PASSED)


def test_recorded_block_of_the_conformance_chain_passes_every_proof(realdata: Path) -> None:
    folder = realdata / "ethereum/execution_apis_io"
    block = dict(exchanges(folder / "eth_getBlockByNumber"))["get-latest"]
    receipts = dict(exchanges(folder / "eth_getBlockReceipts"))["get-block-receipts-latest"]
    assert prove_block(*read(block, receipts), ALL) == dict.fromkeys(PROOFS[1:], PASSED)


def test_garbage_receipts_are_refused_by_their_root_alone(realdata: Path) -> None:
    path = realdata / "bad_data/corrupt_receipts/12498502.json.gz"
    with pytest.raises(ReceiptsRootMismatchError) as refused:
        prove_block(*read(*whole_block(path)), ALL)
    message = str(refused.value)
    assert message.startswith("block 12498502: its 207 receipts make the root 0x963ec678")
    assert "0xaf1806db" in message
    assert "although header_hash, " in message
    assert "logs_bloom hold; nothing of the block is kept, ask another endpoint" in message
    assert {"header_hash", "log_index", "logs_bloom"} <= set(refused.value.evidence["held"])
    assert refused.value.evidence["proof"] == "receipts_root"


def test_proofs_run_by_name_alone(made: tuple[Block, list[Receipt]]) -> None:
    for name in PROOFS[1:]:
        assert prove_block(*made, frozenset({name})) == {name: PASSED}
    assert prove_block(*made, frozenset()) == {}
    assert prove_header(made[0], ALL) == {"header_hash": PASSED, "block_body": PASSED}


def test_same_numbers_and_addresses_written_otherwise_are_the_same(
    made: tuple[Block, list[Receipt]],
) -> None:
    block, receipts = made
    other = json.loads(wire(block))
    other["transactions"][1] |= {
        "from": "0x" + block.transactions[1].sender[2:].upper(),
        "transactionIndex": "0x01",
        "s": f"0x{int(block.transactions[1].s or '', 16):070x}",
    }
    assert other["transactions"][1]["from"] != block.transactions[1].sender
    assert set(prove_block(*read(other, wire(receipts)), ALL).values()) == {PASSED}


def test_unknown_transaction_type_is_said_and_not_refused(
    made: tuple[Block, list[Receipt]],
) -> None:
    block, receipts = json.loads(wire(made[0])), json.loads(wire(made[1]))
    block["transactions"][3] |= {"type": "0x7e", "sourceHash": "0x01", "mint": "0x0"}
    for name in ("v", "r", "s", "gasPrice"):
        block["transactions"][3].pop(name, None)
    receipts[3] |= {"type": "0x7e", "depositNonce": "0x1"}
    block["transactions"][5]["type"] = receipts[5]["type"] = "0x64"
    proven = prove_block(*read(block, receipts), ALL)
    unknown = {name for name, result in proven.items() if result != PASSED}
    assert unknown == {"transactions_root", "receipts_root", "derived_values"}
    assert {proven[name] for name in unknown} == {"not computable: transaction type 0x64, 0x7e"}
    # The transactions whose types are known are still proven one by one.
    block["transactions"][4]["value"] = "0x123"
    with pytest.raises(IntegrityError, match="transaction 4 hashes to"):
        prove_block(*read(block, receipts), ALL)


def sealed_with(block: Block, *newer: bytes) -> str:
    return f"0x{keccak256(encode_header(block, *newer)).hex()}"


def test_header_of_a_newer_fork_is_told_from_a_wrong_one(block: Block) -> None:
    access_list, slot = "0x" + "5a" * 32, "0x123"
    newer = (encode_bytes(bytes.fromhex(access_list[2:])), quantity(slot))
    extra = {
        "slotNumber": slot,
        "blockAccessListHash": access_list,
        "nothing": {"to": "hash"},
    }
    of_newer_fork = msgspec.structs.replace(block, extra=extra, hash=sealed_with(block, *newer))
    with pytest.raises(
        UnknownHeaderFieldError,
        match=r"only together with blockAccessListHash, slotNumber, .* newer fork; .* upgrade, or",
    ) as refused:
        prove_header(of_newer_fork, ALL)
    assert refused.value.evidence["fields"] == ("blockAccessListHash", "slotNumber")

    wrong = msgspec.structs.replace(of_newer_fork, gas_used="0x1")
    with pytest.raises(
        HeaderHashMismatchError, match="or one of these belongs to it: slotNumber, "
    ):
        prove_header(wrong, ALL)
    too_many = {f"field{number}": "0x1" for number in range(5)}
    with pytest.raises(HeaderHashMismatchError, match="field4"):
        prove_header(msgspec.structs.replace(of_newer_fork, extra=too_many), ALL)


def test_extra_field_that_is_no_part_of_the_header_is_harmless(block: Block) -> None:
    more = msgspec.structs.replace(block, extra={"l1BlockNumber": "0x1"})
    assert prove_header(more, ALL)["header_hash"] == PASSED


def test_uncles_are_there_if_the_header_has_some(block: Block) -> None:
    with pytest.raises(IntegrityError, match="1 uncles are delivered, the header has none"):
        prove_header(msgspec.structs.replace(block, uncles=["0x01"]), ALL)
    hidden = msgspec.structs.replace(block, sha3_uncles="0x" + "11" * 32)
    with pytest.raises(IntegrityError, match="0 uncles are delivered, the header has some"):
        prove_header(hidden, frozenset({"block_body"}))


def test_field_that_is_no_hex_is_named_with_its_block(made: tuple[Block, list[Receipt]]) -> None:
    block, receipts = made
    wrong = msgspec.structs.replace(block, number="seven")
    with pytest.raises(MalformedRowError, match=r"^block seven: number is 'seven': "):
        prove_block(wrong, receipts, ALL)
    bare = [msgspec.structs.replace(receipts[0], status=None), *receipts[1:]]
    with pytest.raises(
        MalformedRowError, match=r"receipt 0x0: a number is missing, although"
    ) as it:
        prove_block(block, bare, ALL)
    assert it.value.evidence["proof"] == "receipts_root"


def test_fields_of_another_type_and_prices_that_do_not_follow_are_refused(
    made: tuple[Block, list[Receipt]],
) -> None:
    block, receipts = json.loads(wire(made[0])), json.loads(wire(made[1]))
    at = next(at for at, each in enumerate(block["transactions"]) if each["type"] == "0x0")
    block["transactions"][at]["maxFeePerGas"] = "0x5"
    with pytest.raises(DerivedValueMismatchError, match="of type 0x0 has max_fee_per_gas, which"):
        prove_block(*read(block, receipts), ALL)


def test_contract_address_may_lack_only_where_creating_failed(
    made: tuple[Block, list[Receipt]],
) -> None:
    block, receipts = made
    only = frozenset({"derived_values"})
    at = next(at for at, each in enumerate(block.transactions) if each.to is None)
    for status, is_refused in (("0x0", False), ("0x1", True)):
        changed = list(receipts)
        changed[at] = msgspec.structs.replace(receipts[at], status=status, contract_address=None)
        if is_refused:
            with pytest.raises(DerivedValueMismatchError, match=r"contractAddress .* is None"):
                prove_block(block, changed, only)
        else:
            prove_block(block, changed, only)


def test_tally_puts_blocks_together() -> None:
    tally = Tally()
    for _ in range(998):
        tally.add({"header_hash": PASSED, "transactions_root": PASSED})
    for _ in range(2):
        tally.add({"header_hash": PASSED, "transactions_root": "not computable: type 0x7e"})
    assert tally.checks() == {
        "header_hash": "passed",
        "transactions_root": "passed (998 blocks); not computable: type 0x7e (2 blocks)",
    }
    assert Tally().checks() == {}
