"""Replies of nodes become structs, whatever a node, a fork or a rollup adds or leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evm_blocks import wire
from crypto_assets.errors import UnexpectedReplyError
from crypto_assets.sources.evm_types import (
    Block,
    Receipt,
    read_block,
    read_hashed_block,
    read_logs,
    read_receipt,
    read_receipts,
)

from .recorded_chain import CONTIGUOUS, FORKS, SINGLE, encoded, exchanges, results


def test_what_is_read_is_what_was_written(made: tuple[Block, list[Receipt]]) -> None:
    block, receipts = made
    assert read_block(wire(block), "block") == block
    assert read_receipts(wire(receipts), "receipts") == receipts
    assert read_receipt(wire(receipts[0]), "receipt") == receipts[0]


@pytest.mark.parametrize("read", [read_block, read_hashed_block, read_receipts, read_logs])
def test_null_is_a_node_that_does_not_have_it(read: Any) -> None:
    assert read(b"null", "block 17") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"0x1"',
        b'{"number": "0x1"}',
        b'{"number": 1}',
        b"\xff",
        b"[" * 10**5,
    ],
)
def test_anything_else_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(UnexpectedReplyError, match=r"^block 17: the reply is not what JSON-RPC"):
        read_block(body, "block 17")


@pytest.mark.parametrize("folder", [CONTIGUOUS, FORKS, SINGLE])
def test_every_field_of_recorded_blocks_is_known(realdata: Path, folder: str) -> None:
    for name, delivered in results(realdata / "ethereum" / folder):
        is_full = all(isinstance(each, dict) for each in delivered["transactions"])
        block = (read_block if is_full else read_hashed_block)(encoded(delivered), name)
        assert block is not None
        assert block.number == delivered["number"]
        assert block.extra is None
        assert len(block.transactions) == len(delivered["transactions"])
        for each in block.transactions:
            assert isinstance(each, str) or each.extra is None


def test_recorded_receipts_and_logs_are_read(realdata: Path) -> None:
    for name, delivered in results(realdata / "ethereum/rpc_receipts"):
        receipt = read_receipt(encoded(delivered), name)
        assert receipt is not None
        assert receipt.extra is None
        assert len(receipt.logs) == len(delivered["logs"])
    for name, delivered in results(realdata / "ethereum/rpc_getlogs"):
        if "etherscan" in name:  # its own envelope and fields
            continue
        logs = read_logs(encoded(delivered), name)
        assert logs is not None
        assert [log.topics for log in logs] == [log["topics"] for log in delivered]


def test_recorded_exchanges_are_read(realdata: Path) -> None:
    folder = realdata / "ethereum/execution_apis_io"
    seen = set()
    for name, delivered in exchanges(folder / "eth_getBlockReceipts"):
        receipts = read_receipts(encoded(delivered), name)
        assert (receipts is None) == (delivered is None)
        seen |= {"root" if each.status is None else "status" for each in receipts or ()}
    assert seen == {"root", "status"}
    for name, delivered in exchanges(folder / "eth_getLogs"):
        assert len(read_logs(encoded(delivered), name) or ()) == len(delivered)


def test_fields_of_a_rollup_are_set_aside_and_kept(made: tuple[Block, list[Receipt]]) -> None:
    block, receipts = made
    more = json.loads(wire(block))
    more |= {"l1BlockNumber": "0x1", "sendRoot": "0x02"}
    more["transactions"][3] |= {"sourceHash": "0x03", "isSystemTx": False}
    more["transactions"][4]["accessList"] = [
        {"address": "0x05", "storageKeys": None, "note": "not of the wire"}
    ]
    read = read_block(encoded(more), "block")
    assert read is not None
    assert read.extra == {"l1BlockNumber": "0x1", "sendRoot": "0x02"}
    assert read.transactions[3].extra == {"isSystemTx": False, "sourceHash": "0x03"}
    assert read.transactions[3].hash == block.transactions[3].hash
    assert read.transactions[5] == block.transactions[5]

    costly = json.loads(wire(receipts))
    costly[2] |= {"l1Fee": "0x1", "l1FeeScalar": "0.684", "big": 2**70}
    costly[2]["logs"] = [{**log, "transactionLogIndex": "0x0"} for log in costly[2]["logs"]]
    of_rollup = read_receipts(encoded(costly), "receipts")
    assert of_rollup is not None
    assert of_rollup[2].extra == {"big": 2**70, "l1Fee": "0x1", "l1FeeScalar": "0.684"}
    assert of_rollup[:2] == receipts[:2]


def test_wrong_field_beside_an_unknown_one_is_refused(
    made: tuple[Block, list[Receipt]],
) -> None:
    more = json.loads(wire(made[0])) | {"sendRoot": "0x02"}
    del more["transactions"][3]["hash"]
    with pytest.raises(UnexpectedReplyError, match=r"missing required field `hash`.*\[3\]"):
        read_block(encoded(more), "block")
    for wrong in ({"transactions": 5}, {"transactions": ["0x1"]}, {"transactions": None}):
        with pytest.raises(UnexpectedReplyError):
            read_block(encoded(more | wrong), "block")


def test_old_nodes_leave_out_what_came_later(made: tuple[Block, list[Receipt]]) -> None:
    bare = json.loads(wire(made[0]))
    for name in ("size", "totalDifficulty", "uncles", "withdrawals", "baseFeePerGas"):
        bare.pop(name, None)
    bare["transactions"] = [
        {name: value for name, value in each.items() if name not in ("type", "chainId", "yParity")}
        for each in bare["transactions"]
    ]
    read = read_block(encoded(bare), "block")
    assert read is not None
    assert read.size is None
    assert read.uncles == []
    assert {each.type for each in read.transactions} == {"0x0"}


def test_what_is_hashed_of_a_receipt_with_root_and_status(
    made: tuple[Block, list[Receipt]],
) -> None:
    receipt, root = made[1][0], "0x" + "ab" * 32
    assert (receipt.state_root, receipt.outcome) == (None, receipt.status)
    for delivered, state_root, outcome in (
        (root, root, None),
        ("0x", None, receipt.status),
        ("", None, receipt.status),
    ):
        read = read_receipt(encoded({**json.loads(wire(receipt)), "root": delivered}), "receipt")
        assert read is not None
        assert (read.state_root, read.outcome) == (state_root, outcome)
