"""Logs of `eth_getLogs` against the blooms of headers, which is all the light mode can do."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from benchmarks.evm_blocks import blocks, wire
from crypto_assets.catalog import LogFilter
from crypto_assets.errors import (
    IntegrityError,
    LogIndexGapError,
    LogOutsideBloomError,
    MalformedRowError,
    MisplacedLogError,
    UnrequestedLogError,
)
from crypto_assets.sources.evm_encoding import bloom
from crypto_assets.sources.evm_proof import prove_logs_against_bloom
from crypto_assets.sources.evm_rows import light_rows_of
from crypto_assets.sources.evm_types import (
    Block,
    HashedBlock,
    Log,
    Receipt,
    read_block,
    read_hashed_block,
    read_logs,
    read_receipt,
    read_receipts,
)

from .chain_node import CHAIN, ChainNode, RpcFaultError, served, source
from .recorded_chain import SINGLE, encoded, result, results, whole_block

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
NOBODY = "0x" + "12" * 20
TRANSFERS_OF_USDC = LogFilter(addresses=(USDC,), topics=(TRANSFER,))


def hashed(block: Block) -> HashedBlock:
    """The block as a node gives it that is not asked for transactions."""
    fields = msgspec.json.decode(wire(block))
    fields["transactions"] = [each["hash"] for each in fields["transactions"]]
    header = read_hashed_block(encoded(fields), "block")
    assert header is not None
    return header


@pytest.fixture
def header(block: Block) -> HashedBlock:
    return hashed(block)


@pytest.fixture
def logs(made: tuple[Block, list[Receipt]]) -> list[Log]:
    return [log for receipt in made[1] for log in receipt.logs]


def asked_for(log: Log) -> LogFilter:
    return LogFilter(addresses=(log.address,), topics=tuple(log.topics[:1]))


def test_all_logs_of_a_block_are_in_its_bloom(header: HashedBlock, logs: list[Log]) -> None:
    assert prove_logs_against_bloom(header, logs, LogFilter()) is False


def test_one_log_that_was_asked_for_is_an_answer(header: HashedBlock, logs: list[Log]) -> None:
    assert prove_logs_against_bloom(header, logs[5:6], asked_for(logs[5])) is False


def test_no_log_is_an_answer_where_the_bloom_rules_it_out(header: HashedBlock) -> None:
    assert prove_logs_against_bloom(header, [], LogFilter(addresses=(NOBODY,))) is False
    assert prove_logs_against_bloom(header, [], TRANSFERS_OF_USDC) is False


def test_no_log_where_the_bloom_admits_one_is_no_answer(
    header: HashedBlock, logs: list[Log]
) -> None:
    """Dropped by the node or a false positive: the caller counts it."""
    assert prove_logs_against_bloom(header, [], asked_for(logs[5])) is True
    either = LogFilter(addresses=(NOBODY, logs[5].address))
    assert prove_logs_against_bloom(header, [], either) is True
    # Another contract emitted that topic, or that contract another topic.
    assert (
        prove_logs_against_bloom(
            header, [], LogFilter(addresses=(NOBODY,), topics=tuple(logs[5].topics[:1]))
        )
        is False
    )


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"address": NOBODY}, LogOutsideBloomError, "ruled out by the bloom"),
        ({"topics": [TRANSFER]}, LogOutsideBloomError, "ruled out by the bloom"),
        ({"block_hash": "0x" + "11" * 32}, MisplacedLogError, "it is of block 0x1111"),
        ({"block_number": "0x1"}, MisplacedLogError, "it says that it is of block"),
        ({"removed": True}, MisplacedLogError, "a reorganisation removed it"),
        ({"transaction_hash": "0x" + "22" * 32}, MisplacedLogError, "of another transaction"),
        ({"transaction_index": "0x1000"}, MisplacedLogError, "of another transaction"),
        ({"log_index": "0x2"}, LogIndexGapError, "it comes after log 4"),
        ({"log_index": "0x4"}, LogIndexGapError, "there twice or out of order"),
        ({"log_index": "five"}, MalformedRowError, "'five'"),
        ({"address": "0x5"}, MalformedRowError, "'0x5' is not hex data|fromhex"),
    ],
)
def test_wrong_log_is_refused(
    header: HashedBlock,
    logs: list[Log],
    change: dict[str, object],
    error: type[IntegrityError],
    says: str,
) -> None:
    wrong = [*logs[:5], msgspec.structs.replace(logs[5], **change)]
    with pytest.raises(error, match=rf"^block 22500000: log .*{says}.*another endpoint") as refused:
        prove_logs_against_bloom(header, wrong, LogFilter())
    assert refused.value.evidence["block"] == 22_500_000
    assert refused.value.evidence["log"]["data"] == logs[5].data


def test_log_that_was_not_asked_for_is_refused(header: HashedBlock, logs: list[Log]) -> None:
    for asked in (
        LogFilter(addresses=(NOBODY,)),
        LogFilter(topics=(TRANSFER,)),
        LogFilter(addresses=(logs[5].address,), topics=(TRANSFER,)),
    ):
        with pytest.raises(UnrequestedLogError, match="it was not asked for"):
            prove_logs_against_bloom(header, logs[5:6], asked)


@pytest.mark.parametrize("number", [12900060, 12932986, 13004256])
def test_transfers_of_usdc_in_recorded_blocks(realdata: Path, number: int) -> None:
    folder = realdata / "ethereum/full_blocks_mev_inspect"
    body, listed = whole_block(folder / f"{number}.json.gz")
    block, receipts = read_block(body, "block"), read_receipts(listed, "receipts")
    assert block is not None
    assert receipts is not None
    logs = [log for receipt in receipts for log in receipt.logs]
    asked = [log for log in logs if log.address == USDC and log.topics[0] == TRANSFER]
    assert len(asked) > 5
    assert prove_logs_against_bloom(hashed(block), asked, TRANSFERS_OF_USDC) is False
    assert prove_logs_against_bloom(hashed(block), [], TRANSFERS_OF_USDC) is True
    with pytest.raises(UnrequestedLogError):
        prove_logs_against_bloom(hashed(block), logs, TRANSFERS_OF_USDC)


def test_logs_of_recorded_receipts_are_in_the_blooms_of_their_blocks(realdata: Path) -> None:
    count = 0
    for name, delivered in results(realdata / "ethereum/rpc_receipts"):
        path = realdata / "ethereum" / SINGLE / f"{name.split('_')[0]}.json.gz"
        if not path.exists():
            continue
        fields = result(path)
        fields["transactions"] = [
            each if isinstance(each, str) else each["hash"] for each in fields["transactions"]
        ]
        header, receipt = (
            read_hashed_block(encoded(fields), name),
            read_receipt(encoded(delivered), name),
        )
        assert header is not None
        assert receipt is not None
        assert prove_logs_against_bloom(header, receipt.logs, LogFilter()) is False
        count += bool(receipt.logs)
    assert count > 30


def test_all_logs_of_recorded_blocks_come_over_narrow_spans(realdata: Path) -> None:
    """25 blocks of mainnet, each log of which is known, from a node that limits spans."""
    (path,) = (realdata / "ethereum/cryo_logs").iterdir()
    recorded = pq.read_table(path).sort_by(
        [("block_number", "ascending"), ("log_index", "ascending")]
    )
    said = [_as_on_the_wire(row) for row in recorded.to_pylist()]
    node, spans = ChainNode(), Counter[int]()

    def act(method: str, params: list[Any]) -> bytes | None:
        if method != "eth_getLogs":
            return None
        first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
        spans[last - first + 1] += 1
        if last - first >= 4:
            raise RpcFaultError(-32000, "too wide blocks range, the limit is 4")
        return encoded([one for one in said if first <= int(one["blockNumber"], 16) <= last])

    node.act = act
    with served(node) as url, source(None, url, chain=CHAIN) as evm:
        raws = evm._nodes.ask(lambda each: each.logs({}, 18426253, 18426277))
    logs = [log for raw in raws for log in read_logs(raw, "logs") or ()]
    assert spans == {25: 1, 4: 6, 1: 1}
    assert len(logs) == recorded.num_rows == 8239
    by_block = [list(each) for _, each in groupby(logs, lambda log: log.block_number)]
    assert len(by_block) == 25
    headers = [_header_of(each) for each in by_block]
    for header, of_block in zip(headers, by_block, strict=True):
        assert [int(log.log_index, 16) for log in of_block] == list(range(len(of_block)))
        assert not prove_logs_against_bloom(header, of_block, LogFilter())
    rows = light_rows_of(headers, by_block).logs
    for name in ("block_number", "log_index", "transaction_index", "transaction_hash", "address",
                 "topic0", "topic1", "topic2", "topic3", "data"):  # fmt: skip
        assert rows[name].to_pylist() == recorded[name].to_pylist(), name


def _as_on_the_wire(row: dict[str, Any]) -> dict[str, Any]:
    """A log as a node gives it; of block hashes nothing was recorded."""
    return {
        "address": f"0x{row['address'].hex()}",
        "topics": [f"0x{row[name].hex()}" for name in ("topic0", "topic1", "topic2", "topic3")
                   if row[name] is not None],
        "data": f"0x{row['data'].hex()}",
        "blockHash": f"0x{row['block_number']:064x}",
        "blockNumber": hex(row["block_number"]),
        "transactionHash": f"0x{row['transaction_hash'].hex()}",
        "transactionIndex": hex(row["transaction_index"]),
        "logIndex": hex(row["log_index"]),
        "removed": False,
    }  # fmt: skip


def _header_of(logs: list[Log]) -> HashedBlock:
    """A header with that block's number, hash, bloom and transactions, as far as its logs tell."""
    hashes = {int(log.transaction_index, 16): log.transaction_hash for log in logs}
    return msgspec.structs.replace(
        hashed(next(blocks(1, transactions=0, logs=0))[0]),
        number=logs[0].block_number,
        hash=logs[0].block_hash,
        logs_bloom=f"0x{bloom(logs):0512x}",
        transactions=[hashes.get(at, NOBODY) for at in range(max(hashes) + 1)],
    )
