"""The source of a chain over a real node that mines, reorganises, and is killed in the middle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from crypto_assets.catalog import BlockRange, Chain, ChainRange, LogFilter
from crypto_assets.errors import ConnectionFaultError, NotFinalError
from crypto_assets.lake import Lake, RangeWriter, find_range
from crypto_assets.sources.evm import PROOFS, Evm, RangeExtract
from crypto_assets.sources.evm_calls import Answer, ContractCall

from .anvil_node import Anvil, binary, running
from .chain_node import source

CHAIN = Chain(name="ethereum", chain_id=1, range_size=10)
ALL_PASSED = dict.fromkeys(PROOFS, "passed")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto_assets.sources.http.pause_before_retry", lambda _: 0.01)


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> Path:
    cache = request.config.cache
    assert cache is not None
    return binary(cache)


def tables(extract: RangeExtract) -> list[pa.Table]:
    return [pa.Table.from_batches(batches) for batches in zip(*extract, strict=True)]


def hashes(evm: Evm, last: int) -> list[str]:
    return [each.hash for each in evm.headers(range(last + 1))]


def folder(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


def test_ranges_of_a_real_node_are_proven_and_join_in_the_lake(
    program: Path, tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    with running(program) as node, source(None, node.url, chain=CHAIN, blocks_per_request=4) as evm:
        node.mine(31)  # and a block for the contract that they call
        assert evm.finalized() == 30
        for blocks in CHAIN.ranges(0, evm.finalized())[:3]:
            part = ChainRange(CHAIN.name, blocks)
            lake.inflight(part).mkdir(parents=True)
            with RangeWriter(lake, evm.datasets, part) as writer:
                extract = evm.fetch(blocks, lake.inflight(part))
                for rows in extract:
                    writer.write(rows)
                writer.commit(source_row_counts=extract.counts, source=(), checks=extract.checks)
            assert extract.checks == ALL_PASSED
            assert extract.counts["blocks"] == 10
        asked = datetime.fromtimestamp(evm.headers([17])[0].timestamp, UTC)
        assert evm.first_block_since(asked) == 17
        with pytest.raises(NotFinalError):
            evm.first_block_since(datetime.fromtimestamp(evm.headers([31])[0].timestamp, UTC))
    proofs = find_range(lake, ChainRange(CHAIN.name, BlockRange(20, 29)))
    assert proofs is not None
    assert proofs["transactions"].row_count == 40
    assert proofs["logs"].row_count == 20
    assert proofs["blocks"].checks["hashes_join_previous_range"] == "passed"


def test_light_mode_over_a_real_node(program: Path, tmp_path: Path) -> None:
    asked = LogFilter(topics=("0x" + "ab" * 32,))
    chain = Chain(name="ethereum", chain_id=1, range_size=10, mode="light", logs_of=asked)
    with running(program) as node, source(None, node.url, chain=chain, blocks_per_request=4) as evm:
        node.mine(12)
        extract = evm.fetch(BlockRange(0, 9), tmp_path)
        blocks, transactions, logs = tables(extract)
        assert [facts.log_count for facts in evm.facts([0, 1, 9])[node.url]] == [0, 1, 1]
    assert (blocks.num_rows, transactions.num_rows, logs.num_rows) == (10, 0, 9)
    assert extract.checks["logs_against_blooms"] == "passed"


def reorganise(node: Anvil) -> None:
    node("anvil_reorg", 7, [])


def revert(node: Anvil) -> None:
    """Back to block 9, and other transactions from there on."""
    assert node("evm_revert", "0x0")
    node.mine(6, value=1000)


@pytest.mark.parametrize("change", [reorganise, revert])
def test_headers_and_ranges_follow_a_real_reorganisation(
    program: Path, tmp_path: Path, change: Callable[[Anvil], None]
) -> None:
    blocks, kept, new = BlockRange(0, 14), folder(tmp_path, "kept"), folder(tmp_path, "new")
    with running(program) as node, source(None, node.url, chain=CHAIN, blocks_per_request=5) as evm:
        node.mine(8)
        assert node("evm_snapshot") == "0x0"
        node.mine(6)
        before, rows = hashes(evm, 14), tables(evm.fetch(blocks, kept))
        change(node)
        after = hashes(evm, 14)
        assert before[:10] == after[:10]
        assert all(one != other for one, other in zip(before[10:], after[10:], strict=True))
        again = evm.fetch(blocks, new)
        assert tables(again)[0]["hash"].to_pylist() == [bytes.fromhex(one[2:]) for one in after]
        assert again.checks == ALL_PASSED
        # The parts that were kept are of a chain that is no more, and one that is lost tells so.
        (kept / "000000005-000000009.page").unlink()
        assert tables(evm.fetch(blocks, kept)) == rows
        (kept / "000000010-000000014.page").unlink()
        assert tables(evm.fetch(blocks, kept)) == tables(again) != rows


def test_node_that_is_killed_in_the_middle_is_named_and_its_parts_are_kept(
    program: Path, tmp_path: Path
) -> None:
    blocks, parts, whole = BlockRange(0, 19), folder(tmp_path, "parts"), folder(tmp_path, "whole")
    with running(program) as node:
        node.mine(21)
        state = node("anvil_dumpState")
        with source(None, node.url, chain=CHAIN) as evm:
            rows = tables(evm.fetch(blocks, whole))
        options = {"chain": CHAIN, "blocks_per_request": 2, "concurrency": 1}
        with source(None, node.url, **options) as evm:
            delivered = iter(evm.fetch(blocks, parts))
            for _ in range(3):
                next(delivered)
            node.process.kill()
            node.process.wait()
            with pytest.raises(ConnectionFaultError, match=node.url):
                list(delivered)
    kept = list(parts.glob("*.page"))
    assert 3 <= len(kept) <= 4
    with running(program) as node, source(None, node.url, **options) as evm:
        assert node("anvil_loadState", state)
        extract = evm.fetch(blocks, parts)
        assert tables(extract) == rows
        assert extract.checks == ALL_PASSED
        assert len(extract.documents) == 2
        assert sum(document.bytes for document in extract.documents) > 0


def test_contracts_of_a_real_node_answer_revert_or_break(program: Path) -> None:
    codes = {
        "602a5f5260205ff3": Answer("returned", (42).to_bytes(32, "big")),
        "": Answer("returned", b""),
        "5f5ffd": Answer("reverted", None),
        "fe": Answer("reverted", None),
        "0c": Answer("reverted", None),
        "5b5f56": Answer("reverted", None),  # for ever, until its gas is used up
        "01": Answer("reverted", None),  # adds what is not there
        "600456": Answer("reverted", None),  # jumps out of its code
    }
    with running(program) as node, source(None, node.url, chain=CHAIN) as evm:
        node.mine(3)
        calls = {}
        for at, (code, answer) in enumerate(codes.items(), start=1):
            address = bytes([0xC0, *[0] * 18, at])
            node("anvil_setCode", f"0x{address.hex()}", f"0x{code}")
            calls[ContractCall(address, "decimals()", b"", "finalized")] = answer
        node("anvil_mine", "0x5")
        interview = evm.interview(BlockRange(0, 3))
        assert interview.ask(calls) == calls
        (document,) = interview.documents
        assert document.url.endswith(f" eth_call@{evm.finalized()}")
