"""The source of a chain through its real client: ranges, checkpoints, failover, light mode."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pydantic import SecretStr

from crypto_assets.catalog import BlockRange, Catalog, Chain, ChainRange
from crypto_assets.definitions import connect_chains
from crypto_assets.errors import (
    BlockMissingError,
    BrokenParentLinkError,
    FinalityUnknownError,
    HeaderHashMismatchError,
    IntegrityError,
    MissingReceiptError,
    ReceiptsRootMismatchError,
    ServerFaultError,
    SettingsError,
    SourceError,
    StorageError,
    UnexpectedReplyError,
    WrongBlockError,
)
from crypto_assets.lake import Lake, RangeWriter, SourceFile, find_range
from crypto_assets.sandbox import create_app, transport
from crypto_assets.settings import Profile, Settings
from crypto_assets.sources.evm import PROOFS, Evm, RangeExtract
from crypto_assets.sources.evm_pages import find

from .chain_node import (
    CHAIN,
    KEY,
    OTHER_URL,
    URL,
    ChainNode,
    Network,
    RpcFaultError,
    changed,
    light,
    made_blocks,
    range_of,
    served,
    source,
)
from .recorded_chain import CONTIGUOUS, encoded, results, whole_block

BLOCKS = made_blocks(10)
RANGE = range_of(BLOCKS)
ALL_PASSED = dict.fromkeys(PROOFS, "passed")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto_assets.sources.http.pause_before_retry", lambda _: 0.01)


@pytest.fixture
def node() -> ChainNode:
    return ChainNode(BLOCKS)


@pytest.fixture
def network(node: ChainNode) -> Network:
    """A sound node, which a test may break, and a second sound one."""
    return Network(node_a=node, node_b=ChainNode(BLOCKS))


@pytest.fixture
def evm(network: Network) -> Iterator[Evm]:
    """The source over the first node, in parts of four blocks."""
    with source(network, blocks_per_request=4, concurrency=2) as built:
        yield built


@pytest.fixture
def pair(network: Network) -> Iterator[Evm]:
    """The source over both nodes."""
    with source(network, URL, OTHER_URL, blocks_per_request=4, concurrency=2) as built:
        yield built


def tables(extract: RangeExtract) -> list[pa.Table]:
    """All rows of a range, a table for each dataset."""
    return [pa.Table.from_batches(batches) for batches in zip(*extract, strict=True)]


def sound(tmp_path: Path) -> list[pa.Table]:
    """The rows of RANGE from a sound node."""
    folder = tmp_path / "sound"
    folder.mkdir(exist_ok=True)
    with source(Network(node_a=ChainNode(BLOCKS))) as evm:
        return tables(evm.fetch(RANGE, folder))


def pages(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def answers(node: ChainNode, method: str, number: int, change: Callable[[bytes], bytes]) -> None:
    """The node changes what it says of one block, when it is asked by that method."""
    act = node.act

    def changed_act(asked: str, params: list[Any]) -> bytes | None:
        if asked == method and params[0] == hex(number):
            before = act(asked, params)
            return change(node._result(asked, params) if before is None else before)
        return act(asked, params)

    node.act = changed_act


def drop_log(receipts: bytes) -> bytes:
    """Without the last log of the last receipt that has any."""
    listed = json.loads(receipts)
    next(one for one in reversed(listed) if one["logs"])["logs"].pop()
    return encoded(listed)


# --- a range -------------------------------------------------------------------------------------


def test_range_comes_in_parts_with_every_proof(evm: Evm, node: ChainNode, tmp_path: Path) -> None:
    extract = evm.fetch(RANGE, tmp_path)
    assert node.sizes == []  # nothing is asked before it is wanted
    parts = list(extract)
    assert [[batch.num_rows for batch in rows] for rows in parts] == [
        [4, 16, 36], [4, 16, 36], [2, 8, 18],
    ]  # fmt: skip
    assert extract.counts == {"blocks": 10, "transactions": 40, "logs": 90}
    assert extract.checks == ALL_PASSED
    (document,) = extract.documents
    assert (document.url, document.etag) == ("https://node-a.test", None)
    bodies = sum(len(block) + len(receipts) for block, receipts in BLOCKS.values())
    assert 0 < document.bytes - bodies < 200  # brackets and commas
    assert sorted(node.sizes) == [2, 2, 4, 4, 4, 4]
    assert not evm.set_aside


def test_rows_are_the_same_however_a_range_is_cut(network: Network, tmp_path: Path) -> None:
    expected = sound(tmp_path)
    for size, concurrency in ((1, 1), (3, 4), (10, 2), (1000, 1)):
        folder = tmp_path / f"{size}"
        folder.mkdir()
        with source(network, blocks_per_request=size, concurrency=concurrency) as evm:
            extract = evm.fetch(RANGE, folder)
            assert tables(extract) == expected
            assert tables(extract) == expected  # again, from what is kept
            assert extract.checks == ALL_PASSED
            assert extract.counts["logs"] == expected[2].num_rows


def test_range_is_committed_to_the_lake(evm: Evm, tmp_path: Path) -> None:
    lake, part = Lake(tmp_path), ChainRange("ethereum", RANGE)
    lake.inflight(part).mkdir(parents=True)
    with RangeWriter(lake, evm.datasets, part) as writer:
        extract = evm.fetch(RANGE, lake.inflight(part))
        for rows in extract:
            writer.write(rows)
        writer.commit(
            source_row_counts=extract.counts,
            source=tuple(
                SourceFile(url=one.url, etag=one.etag, sha256=one.sha256, bytes=one.bytes)
                for one in extract.documents
            ),
            checks=extract.checks,
        )
    proofs = find_range(lake, part)
    assert proofs is not None
    first, last = (json.loads(BLOCKS[number][0]) for number in (RANGE.first, RANGE.last))
    assert (proofs["blocks"].parent_hash, proofs["blocks"].last_hash) == (
        first["parentHash"],
        last["hash"],
    )
    assert proofs["logs"].checks["receipts_root"] == "passed"
    assert KEY not in json.dumps([proof.model_dump(mode="json") for proof in proofs.values()])


def test_abandoned_range_leaves_nothing_under_way(
    evm: Evm, node: ChainNode, tmp_path: Path
) -> None:
    iterator = iter(evm.fetch(RANGE, tmp_path))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    asked = len(node.sizes)
    assert asked <= 6
    assert evm.finalized() == RANGE.last - 2
    assert len(node.sizes) == asked + 1


def test_only_as_many_parts_are_ahead_as_may_be_in_memory(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    with source(network, blocks_per_request=1, concurrency=2) as evm:
        iterator = iter(evm.fetch(RANGE, tmp_path))
        next(iterator)
        next(iterator)
        assert len(pages(tmp_path)) <= 4
        assert len(list(iterator)) == 8


def test_proofs_that_are_off_are_said_to_be(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    answers(node, "eth_getBlockReceipts", RANGE.first, drop_log)
    with source(network, proofs=["header_hash", "parent_links"]) as evm:
        extract = evm.fetch(RANGE, tmp_path)
        assert tables(extract)[2].num_rows == 89
        assert extract.checks == dict.fromkeys(PROOFS, "off") | {
            "header_hash": "passed",
            "parent_links": "passed",
        }


def test_replies_in_another_order_and_in_small_batches_make_the_same_rows(
    evm: Evm, node: ChainNode, tmp_path: Path
) -> None:
    def batch(calls: list[Any], replies: list[Any]) -> Any:
        if len(calls) > 3:
            return {"id": None, "error": {"code": -32600, "message": "batch too large"}}
        return replies[::-1] if len(calls) > 1 else None

    node.batch = batch
    assert tables(evm.fetch(RANGE, tmp_path)) == sound(tmp_path)


def test_receipts_come_by_transaction_from_a_node_that_knows_no_other_way(
    evm: Evm, node: ChainNode, tmp_path: Path
) -> None:
    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "eth_getBlockReceipts":
            raise RpcFaultError(-32601, "the method eth_getBlockReceipts does not exist")
        return None

    node.act = act
    extract = evm.fetch(RANGE, tmp_path)
    assert tables(extract) == sound(tmp_path)
    assert extract.checks == ALL_PASSED
    assert node.calls["eth_getTransactionReceipt"] == 40
    assert node.calls["eth_getBlockReceipts"] <= 8  # asked once, by each of two threads
    assert max(node.sizes) == 4


def test_unknown_fields_and_transaction_types_are_kept_and_named(
    network: Network, tmp_path: Path
) -> None:
    """An OP rollup: a deposit that nobody signed, fields of its own, and headers as on mainnet."""
    number = RANGE.first
    block, receipts = (json.loads(one) for one in BLOCKS[number])
    block["transactions"][0] |= {"type": "0x7e", "sourceHash": "0x01", "mint": None}
    receipts[0] |= {"type": "0x7e", "l1Fee": "0x2"}
    network.nodes["node-a.test"] = ChainNode({number: (encoded(block), encoded(receipts))})
    with source(network) as evm:
        extract = evm.fetch(BlockRange(number, number), tmp_path)
        _, transactions, _ = tables(extract)
    assert transactions["type"][0].as_py() == 126
    assert json.loads(transactions["extra"][0].as_py()) == {
        "transaction": {"sourceHash": "0x01", "mint": None},
        "receipt": {"l1Fee": "0x2"},
    }
    assert extract.checks["transactions_root"].startswith("not computable: transaction type 0x7e")
    assert extract.checks["receipts_root"].startswith("not computable: ")
    assert extract.checks["header_hash"] == extract.checks["logs_bloom"] == "passed"


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (("eth_getBlockReceipts", drop_log), IntegrityError),
        (
            ("eth_getBlockReceipts", lambda said: encoded(json.loads(said)[:-1])),
            MissingReceiptError,
        ),
        (
            ("eth_getBlockByNumber", lambda said: changed(said, gasUsed="0x1")),
            HeaderHashMismatchError,
        ),
        (("eth_getBlockByNumber", lambda _: BLOCKS[RANGE.first][0]), WrongBlockError),
    ],
)
def test_what_cannot_be_proven_is_refused_with_its_evidence(
    evm: Evm, node: ChainNode, tmp_path: Path, lie: tuple[str, Any], kind: type[Exception]
) -> None:
    number = RANGE.first + 5
    method, change = lie
    answers(node, method, number, change)
    with pytest.raises(kind, match=rf"^https://node-a\.test: block {number}") as raised:
        list(evm.fetch(RANGE, tmp_path))
    assert isinstance(raised.value, IntegrityError)
    assert raised.value.evidence["endpoint"] == "https://node-a.test"
    refused = [name for name in pages(tmp_path) if name.endswith(".refused")]
    assert len(refused) == 1
    assert refused[0].startswith("022500004-022500007.")
    kept = find(tmp_path / refused[0], evm.asked)
    assert kept is not None
    assert len(kept.page.blocks) == 4
    node.act = lambda method, params: None
    assert tables(evm.fetch(RANGE, tmp_path)) == sound(tmp_path)


@pytest.mark.parametrize("method", ["eth_getBlockReceipts", "eth_getBlockByNumber"])
def test_null_block_is_asked_for_again_and_then_named(
    evm: Evm, node: ChainNode, tmp_path: Path, method: str
) -> None:
    number = RANGE.first + 2
    answers(node, method, number, lambda _: b"null")
    with pytest.raises(BlockMissingError, match=rf"block {number}; it is not that far yet, or has"):
        list(evm.fetch(RANGE, tmp_path))
    node.act = lambda method, params: None
    assert tables(evm.fetch(RANGE, tmp_path)) == sound(tmp_path)


@pytest.mark.parametrize("said", [b"{}", b"[]", b'"0x1"', b'{"hash": 5}'])
def test_block_of_another_form_is_unexpected(
    evm: Evm, node: ChainNode, tmp_path: Path, said: bytes
) -> None:
    answers(node, "eth_getBlockByNumber", RANGE.first, lambda _: said)
    with pytest.raises(UnexpectedReplyError, match="block 22500000 of ethereum"):
        list(evm.fetch(RANGE, tmp_path))


def test_number_that_is_none_is_unexpected(evm: Evm, node: ChainNode, tmp_path: Path) -> None:
    answers(node, "eth_getBlockByNumber", RANGE.first, lambda said: changed(said, number="ten"))
    with pytest.raises(UnexpectedReplyError, match="'ten' is no number"):
        list(evm.fetch(RANGE, tmp_path))


def test_parts_on_different_forks_are_refused(
    evm: Evm, network: Network, node: ChainNode, tmp_path: Path
) -> None:
    fork = made_blocks(10, seed=1)
    node.blocks |= {number: fork[number] for number in range(RANGE.first + 4, RANGE.last + 1)}
    with pytest.raises(
        BrokenParentLinkError, match=r"node-a.test: block 22500004 of ethereum: its parent is 0x"
    ) as raised:
        list(evm.fetch(RANGE, tmp_path))
    assert raised.value.evidence["block"] == 22500004
    with source(network, URL, OTHER_URL, blocks_per_request=4) as pair:
        extract = pair.fetch(RANGE, tmp_path)
        assert tables(extract) == sound(tmp_path)
        assert list(pair.set_aside) == ["https://node-a.test"]


def test_all_bad_data_of_the_recorded_faulty_node_is_refused(
    realdata: Path, tmp_path: Path
) -> None:
    number = 12498502
    delivered = whole_block(realdata / f"bad_data/corrupt_receipts/{number}.json.gz")
    with (
        source(Network(node_a=ChainNode({number: delivered}))) as evm,
        pytest.raises(
            ReceiptsRootMismatchError,
            match=f"block {number}: .*although header_hash, .*logs_bloom.* hold",
        ),
    ):
        list(evm.fetch(BlockRange(number, number), tmp_path))


def test_disk_that_is_full_is_a_storage_error(
    evm: Evm, tmp_path: Path, small_files: Callable[[int], Any]
) -> None:
    with small_files(1000), pytest.raises(StorageError, match="cannot write"):
        list(evm.fetch(RANGE, tmp_path))
    assert tables(evm.fetch(RANGE, tmp_path)) == sound(tmp_path)


# --- several nodes -------------------------------------------------------------------------------


def test_node_with_a_wrong_receipt_is_set_aside_and_the_next_one_asked(
    pair: Evm, node: ChainNode, tmp_path: Path
) -> None:
    answers(node, "eth_getBlockReceipts", RANGE.first + 5, drop_log)
    extract = pair.fetch(RANGE, tmp_path)
    assert tables(extract) == sound(tmp_path)
    assert extract.checks == ALL_PASSED
    reason = pair.set_aside["https://node-a.test"]
    assert reason.startswith(f"block {RANGE.first + 5}: ")
    by_name = {document.url: document.bytes for document in extract.documents}
    assert "https://node-b.test" in by_name
    asked = len(node.sizes)
    list(pair.fetch(RANGE, tmp_path))
    pair.headers([RANGE.first])
    assert len(node.sizes) == asked


@pytest.mark.parametrize(
    "fault",
    [
        RpcFaultError(-32603, "Internal error"),
        RpcFaultError(4444, "pruned history unavailable"),
        RpcFaultError(-32005, "rate limit exceeded"),
        b"null",
        b"{}",
    ],
    ids=str,
)
def test_node_that_fails_is_passed_over(
    pair: Evm, node: ChainNode, tmp_path: Path, fault: RpcFaultError | bytes
) -> None:
    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "eth_chainId":
            return None
        if isinstance(fault, Exception):
            raise fault
        return fault

    node.act = act
    extract = pair.fetch(RANGE, tmp_path)
    assert tables(extract) == sound(tmp_path)
    assert not pair.set_aside
    assert [document.url for document in extract.documents] == ["https://node-b.test"]


def test_part_is_of_one_node_as_a_whole(pair: Evm, node: ChainNode, tmp_path: Path) -> None:
    """A node that gives blocks and then dies delivers nothing: the other one is asked for both."""

    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "eth_getBlockReceipts":
            raise RpcFaultError(-32603, "Internal error")
        return None

    node.act = act
    other = pair._nodes.all[1]._http._client._transport.nodes["node-b.test"]  # type: ignore[attr-defined]
    assert tables(pair.fetch(RANGE, tmp_path)) == sound(tmp_path)
    assert other.calls["eth_getBlockByNumber"] == other.calls["eth_getBlockReceipts"] == 10


def test_where_both_are_wrong_the_error_says_so_of_both(
    pair: Evm, network: Network, node: ChainNode, tmp_path: Path
) -> None:
    other = network.nodes["node-b.test"]
    assert isinstance(other, ChainNode)
    for one in (node, other):
        answers(one, "eth_getBlockReceipts", RANGE.first, drop_log)
    with pytest.raises(IntegrityError) as raised:
        list(pair.fetch(RANGE, tmp_path))
    assert len(raised.value.evidence["other_endpoints"]) == 1
    assert len([name for name in pages(tmp_path) if name.endswith(".refused")]) == 1  # the same
    other.act = lambda method, params: None
    assert tables(pair.fetch(RANGE, tmp_path)) == sound(tmp_path)


def test_facts_are_what_each_node_says(pair: Evm, node: ChainNode) -> None:
    numbers = [RANGE.first, RANGE.first + 3, RANGE.last]
    facts = pair.facts(numbers)
    assert list(facts) == ["https://node-a.test", "https://node-b.test (2)"]
    (said,) = {tuple(each) for each in facts.values()}
    assert [(fact.number, fact.log_count) for fact in said] == [(each, 9) for each in numbers]
    assert said[2].hash == json.loads(BLOCKS[RANGE.last][0])["hash"]


def test_facts_of_nodes_that_disagree_are_not_judged(pair: Evm, node: ChainNode) -> None:
    number, other = RANGE.first + 3, "0x" + "ab" * 32
    answers(node, "eth_getBlockReceipts", RANGE.first, drop_log)
    answers(node, "eth_getBlockByNumber", number, lambda said: changed(said, hash=other))
    one, another = pair.facts([RANGE.first, number]).values()
    assert [fact.log_count for fact in one] == [8, 9]
    assert [fact.log_count for fact in another] == [9, 9]
    assert one[0].hash == another[0].hash
    assert one[1].hash == other != another[1].hash
    assert not pair.set_aside


def test_facts_are_of_all_nodes_or_none(pair: Evm, network: Network, node: ChainNode) -> None:
    answers(node, "eth_getBlockByNumber", RANGE.first, lambda _: b"null")
    with pytest.raises(SourceError, match=r"node-a\.test"):
        pair.facts([RANGE.first])


def test_a_node_is_asked_no_more_in_a_second_than_is_set(node: ChainNode, tmp_path: Path) -> None:
    with served(node) as url:
        settings = Settings(
            profile=Profile.LIVE,
            data_dir=tmp_path,
            rpc_urls={"ethereum": (SecretStr(url),)},
            rpc_calls_per_second=4,
        )
        evm = connect_chains(settings, Catalog(())).source(CHAIN)
        try:
            started = time.monotonic()
            assert len(evm.headers(range(RANGE.first, RANGE.last + 1))) == 10
        finally:
            evm.close()
    assert max(node.sizes) == 4
    # Eleven calls with the one for the chain id: three seconds' worth.
    assert time.monotonic() - started > 1.5


def test_a_node_that_fails_is_named_where_another_one_is_of_the_same_host() -> None:
    class Gateway(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.startswith("/second"):
                return httpx.Response(503)
            reply = ChainNode(BLOCKS).respond(request.read())
            return httpx.Response(200, stream=httpx.ByteStream(reply.content))

    one, another = "https://gateway.test/first-key", "https://gateway.test/second-key"
    with (
        source(Gateway(), one, another) as evm,
        pytest.raises(ServerFaultError, match=r"^https://gateway\.test \(2\): ") as raised,
    ):
        evm.facts([RANGE.first])
    assert "503" in str(raised.value)
    assert "second-key" not in str(raised.value)


# --- heads and headers ---------------------------------------------------------------------------


def test_finalized_is_a_number(evm: Evm) -> None:
    assert evm.finalized() == RANGE.last - 2


@pytest.mark.parametrize(
    "said",
    [
        RpcFaultError(-39001, "Unknown block"),
        RpcFaultError(-32000, "finalized block not found"),
        RpcFaultError(-32602, "invalid argument 0: hex string without 0x prefix"),
        b"null",
    ],
    ids=str,
)
def test_chain_without_finality_is_named(
    evm: Evm, node: ChainNode, said: RpcFaultError | bytes
) -> None:
    def act(method: str, params: list[Any]) -> bytes | None:
        if method != "eth_getBlockByNumber":
            return None
        if isinstance(said, Exception):
            raise said
        return said

    node.act = act
    with pytest.raises(FinalityUnknownError, match=r"node-a.test: "):
        evm.finalized()


def test_headers_are_read_again_and_proven(evm: Evm, node: ChainNode) -> None:
    numbers = [RANGE.last, RANGE.first]
    found = evm.headers(numbers)
    blocks = [json.loads(BLOCKS[number][0]) for number in numbers]
    assert [each.number for each in found] == numbers
    assert [each.hash for each in found] == [block["hash"] for block in blocks]
    assert [each.parent_hash for each in found] == [block["parentHash"] for block in blocks]
    assert [each.timestamp for each in found] == [int(block["timestamp"], 16) for block in blocks]
    assert evm.headers([]) == []
    answers(
        node,
        "eth_getBlockByNumber",
        RANGE.first,
        lambda said: changed(said, miner="0x" + "00" * 20),
    )
    with pytest.raises(HeaderHashMismatchError):
        evm.headers(numbers)
    with source(Network(node_a=node), proofs=()) as unproven:
        assert len(unproven.headers(numbers)) == 2


def test_source_without_a_url_is_a_setting_to_correct() -> None:
    with pytest.raises(SettingsError, match="ethereum has no RPC URL"):
        Evm(CHAIN, urls=[])


# --- checkpoints ---------------------------------------------------------------------------------


def first_parts(evm: Evm, folder: Path, count: int) -> None:
    """Fetch that many parts of RANGE and stop."""
    iterator = iter(evm.fetch(RANGE, folder))
    for _ in range(count):
        next(iterator)
    iterator.close()  # type: ignore[attr-defined]


def test_range_that_was_cut_off_goes_on_after_its_last_part(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    with source(network, blocks_per_request=2, concurrency=1) as evm:
        first_parts(evm, tmp_path, 3)
    kept = pages(tmp_path)
    assert len(kept) in (3, 4)
    node.calls.clear()
    with source(network, blocks_per_request=2, concurrency=1) as evm:
        extract = evm.fetch(RANGE, tmp_path)
        assert tables(extract) == sound(tmp_path)
        assert extract.checks == ALL_PASSED
        assert extract.counts["blocks"] == 10
    assert node.calls["eth_getBlockByNumber"] == 10 - 2 * len(kept)
    assert sum(document.bytes for document in extract.documents) > 0


def test_documents_of_a_resumed_range_are_those_of_one_that_was_not(
    evm: Evm, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    extracts = []
    for folder, parts in zip(folders, (0, 2), strict=True):
        folder.mkdir()
        if parts:
            first_parts(evm, folder, parts)
        extracts.append(evm.fetch(RANGE, folder))
        list(extracts[-1])
    assert extracts[0].documents == extracts[1].documents
    digest = hashlib.sha256()
    for name in pages(folders[0]):
        kept = find(folders[0] / name, evm.asked)
        assert kept is not None
        digest.update(bytes.fromhex(kept.sha256))
    assert extracts[0].documents[0].sha256 == digest.hexdigest()


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-60] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def forged(path: Path) -> None:
    """With a log less, and a digest that fits."""
    _rewrite(
        path,
        lambda page: page["receipts"].__setitem__(
            0, json.loads(drop_log(encoded(page["receipts"][0])))
        ),
    )


def shortened(path: Path) -> None:
    """With a block less, and a digest that fits."""
    _rewrite(path, lambda page: (page["blocks"].pop(), page["receipts"].pop()))


def nulled(path: Path) -> None:
    _rewrite(path, lambda page: page["blocks"].__setitem__(0, None))


def _rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    head, _, packed = path.read_bytes().partition(b"\n")
    page = json.loads(pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read())
    change(page)
    body, label = encoded(page), json.loads(head)
    label |= {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
    path.write_bytes(json.dumps(label).encode() + b"\n" + bytes(pa.Codec("zstd").compress(body)))


@pytest.mark.parametrize("tamper", [torn, flipped, empty, zeros, forged, shortened, nulled])
def test_checkpoint_that_was_tampered_with_is_not_trusted(
    network: Network, node: ChainNode, tmp_path: Path, tamper: Callable[[Path], None]
) -> None:
    expected = sound(tmp_path)
    folder = tmp_path / "range"
    folder.mkdir()
    with source(network, blocks_per_request=4) as evm:
        list(evm.fetch(RANGE, folder))
        tamper(folder / pages(folder)[1])
        node.calls.clear()
        extract = evm.fetch(RANGE, folder)
        assert tables(extract) == expected
        assert extract.checks == ALL_PASSED
        assert node.calls["eth_getBlockByNumber"] == 4  # of that part alone
        assert not evm.set_aside


def test_checkpoints_of_another_question_are_not_used(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    addresses = sorted({log["address"] for log in all_logs()})
    for chain in (light(addresses=(addresses[0],)), light(addresses=tuple(addresses[:9])), CHAIN):
        node.calls.clear()
        with source(network, chain=chain, blocks_per_request=4) as evm:
            tables(evm.fetch(RANGE, tmp_path))
        assert node.calls["eth_getBlockByNumber"] == 10


def test_kept_part_of_a_fork_is_fetched_again(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    """A run that was cut off before a reorganisation, and its parts after it."""
    expected, fork = sound(tmp_path), made_blocks(10, seed=1)
    folder = tmp_path / "range"
    folder.mkdir()
    node.blocks = {**BLOCKS, **{n: fork[n] for n in range(RANGE.first + 4, RANGE.last + 1)}}
    with source(network, blocks_per_request=4) as evm:
        with pytest.raises(BrokenParentLinkError):
            list(evm.fetch(RANGE, folder))
        node.blocks = dict(BLOCKS)
        assert tables(evm.fetch(RANGE, folder)) == expected


KILLED = """
import sys
from pathlib import Path
from crypto_assets.catalog import BlockRange, Chain
from crypto_assets.sources.evm import Evm
url, folder, first, last = sys.argv[1:]
evm = Evm(Chain(name="ethereum", chain_id=1), urls=[url], blocks_per_request=2, concurrency=2)
for rows in evm.fetch(BlockRange(int(first), int(last)), Path(folder)):
    print(rows.blocks.num_rows, flush=True)
"""


def test_kill_in_the_middle_is_resumed_with_the_same_rows(tmp_path: Path) -> None:
    node, reached, go_on = ChainNode(BLOCKS), threading.Event(), threading.Event()
    expected = sound(tmp_path)
    folder = tmp_path / "range"
    folder.mkdir()

    def act(method: str, params: list[Any]) -> bytes | None:
        if params and params[0] == hex(RANGE.first + 6):
            reached.set()
            go_on.wait(60)
        return None

    node.act = act
    with served(node) as url:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url, folder, str(RANGE.first), str(RANGE.last)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == [b"2\n"] * 3
        assert reached.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        go_on.set()
        node.calls.clear()
        with source(None, url, blocks_per_request=2, concurrency=2) as evm:
            extract = evm.fetch(RANGE, folder)
            assert tables(extract) == expected
    # Four, and what the killed process had asked for besides.
    assert node.calls["eth_getBlockByNumber"] <= 6
    assert extract.documents[0].url == url.rsplit("/v3", 1)[0]
    assert all(KEY.encode() not in path.read_bytes() for path in folder.iterdir())


# --- light mode ----------------------------------------------------------------------------------


def all_logs() -> list[dict[str, Any]]:
    return [
        log
        for _, receipts in BLOCKS.values()
        for receipt in json.loads(receipts)
        for log in receipt["logs"]
    ]


def test_light_mode_takes_headers_and_the_logs_asked_for(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    logs = all_logs()
    asked = tuple(sorted({log["address"] for log in logs[:5]}))
    chain = light(addresses=asked)
    with source(network, chain=chain, blocks_per_request=4) as evm:
        extract = evm.fetch(RANGE, tmp_path)
        blocks, transactions, found = tables(extract)
    expected = [log for log in logs if log["address"] in asked]
    assert (blocks.num_rows, transactions.num_rows) == (10, 0)
    assert found["log_index"].to_pylist() == [int(log["logIndex"], 16) for log in expected]
    assert extract.counts == {"blocks": 10, "transactions": 0, "logs": len(expected)}
    assert blocks["log_count"].null_count == 10
    assert node.calls["eth_getBlockReceipts"] == 0
    checks = extract.checks
    assert checks["header_hash"] == checks["block_body"] == checks["parent_links"] == "passed"
    assert checks["receipts_root"] == "not computable: the light mode has no receipts (10 blocks)"
    assert checks["logs_are_complete"] == (
        "not computable: in the light mode it rests on blooms and on the node"
    )
    assert checks["logs_against_blooms"] == "passed"


def test_what_is_asked_for_tells_questions_apart_but_not_by_their_order(network: Network) -> None:
    one, other = "0x" + "11" * 20, "0x" + "22" * 20
    chains = [
        CHAIN,
        CHAIN.model_copy(update={"chain_id": 2}),
        light(addresses=(one,)),
        light(addresses=(one, other)),
        light(topics=("0x" + "11" * 32,)),
    ]

    def asked(chain: Chain) -> str:
        with source(network, chain=chain) as evm:
            return evm.asked

    assert len({asked(chain) for chain in chains}) == len(chains)
    assert json.loads(asked(chains[2])) == [1, "light", {"addresses": [one], "topics": []}]
    assert asked(light(addresses=(other, one, other))) == asked(chains[3])
    assert asked(CHAIN.model_copy(update={"range_size": 7, "slot_seconds": 5})) == asked(CHAIN)


def test_light_mode_by_topic_and_over_narrow_spans(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    logs = all_logs()
    topic = next(log["topics"][0] for log in logs if log["topics"])

    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "eth_getLogs":
            bounds = params[0]
            if int(bounds["toBlock"], 16) - int(bounds["fromBlock"], 16) >= 3:
                raise RpcFaultError(-32614, "eth_getLogs is limited to a 3 range")
        return None

    node.act = act
    with source(network, chain=light(topics=(topic,)), blocks_per_request=10) as evm:
        extract = evm.fetch(RANGE, tmp_path)
        found = tables(extract)[2]
    expected = [log for log in logs if log["topics"][:1] == [topic]]
    assert found["log_index"].to_pylist() == [int(log["logIndex"], 16) for log in expected]
    assert node.calls["eth_getLogs"] == 1 + 4


def test_light_mode_says_where_a_bloom_admits_logs_that_did_not_come(
    network: Network, node: ChainNode, tmp_path: Path
) -> None:
    address = all_logs()[0]["address"]
    node.act = lambda method, params: b"[]" if method == "eth_getLogs" else None
    with source(network, chain=light(addresses=(address,))) as evm:
        extract = evm.fetch(RANGE, tmp_path)
        list(extract)
    assert "the bloom admits logs and none came" in extract.checks["logs_against_blooms"]
    assert "not computable" in extract.checks["logs_against_blooms"]


@pytest.mark.parametrize(
    "change",
    [
        lambda log: log | {"address": "0x" + "12" * 20},
        lambda log: log | {"blockNumber": hex(RANGE.last + 1)},
        lambda log: log | {"blockHash": "0x" + "12" * 32},
        lambda log: log | {"removed": True},
    ],
)
def test_light_mode_refuses_logs_that_cannot_be_or_were_not_asked(
    network: Network, node: ChainNode, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    address = all_logs()[0]["address"]

    def act(method: str, params: list[Any]) -> bytes | None:
        if method != "eth_getLogs":
            return None
        found = json.loads(node._result(method, params))
        return encoded([change(found[0]), *found[1:]])

    node.act = act
    with (
        source(network, chain=light(addresses=(address,))) as evm,
        pytest.raises(IntegrityError),
    ):
        list(evm.fetch(RANGE, tmp_path))


def test_light_facts_count_the_logs_asked_for(network: Network, node: ChainNode) -> None:
    address = all_logs()[0]["address"]
    with source(network, URL, OTHER_URL, chain=light(addresses=(address,))) as pair:
        facts = pair.facts([RANGE.first])
        assert {each[0].log_count for each in facts.values()} == {
            sum(log["address"] == address for log in all_logs()[:9])
        }
        node.act = lambda method, params: b"[]" if method == "eth_getLogs" else None
        assert [each[0].log_count == 0 for each in pair.facts([RANGE.first]).values()] == [
            True,
            False,
        ]


# --- recorded blocks, and the sandbox ------------------------------------------------------------


def test_recorded_contiguous_blocks_over_a_socket(realdata: Path, tmp_path: Path) -> None:
    """Mainnet across the Prague fork, of which there are no receipts: so headers, and no logs."""
    recorded = {
        int(block["number"], 16): (encoded(block), b"[]")
        for _, block in results(realdata / "ethereum" / CONTIGUOUS)
    }
    node = ChainNode(recorded)
    blocks = range_of(recorded)
    assert (blocks.first, blocks.size) == (22431080, 6)
    chain = light(addresses=("0x" + "12" * 20,))
    with served(node) as url, source(None, url, chain=chain, blocks_per_request=2) as evm:
        extract = evm.fetch(blocks, tmp_path)
        found = tables(extract)[0]
        assert evm.headers([blocks.last])[0].number == blocks.last
    assert found["transaction_count"].to_pylist() == [108, 148, 68, 139, 95, 82]
    assert [value is None for value in found["requests_hash"].to_pylist()] == [True] * 4 + [
        False
    ] * 2
    assert {extract.checks[name] for name in ("header_hash", "block_body", "parent_links")} == {
        "passed"
    }
    assert extract.documents[0].url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("number", [12900060, 12932986, 13004256])
def test_recorded_whole_blocks_over_a_socket(realdata: Path, tmp_path: Path, number: int) -> None:
    delivered = whole_block(realdata / f"ethereum/full_blocks_mev_inspect/{number}.json.gz")
    with served(ChainNode({number: delivered})) as url, source(None, url) as evm:
        extract = evm.fetch(BlockRange(number, number), tmp_path)
        _, transactions, logs = tables(extract)
    assert extract.checks == ALL_PASSED
    receipts = json.loads(delivered[1])
    assert transactions["gas_used"].to_pylist() == [int(one["gasUsed"], 16) for one in receipts]
    assert logs.num_rows == sum(len(one["logs"]) for one in receipts)


SANDBOX = Chain(name="ethereum", chain_id=1, first_block=21_516_000)
SANDBOX_URLS = ("http://sandbox.test/ethereum", "http://sandbox.test/ethereum-b")
SANDBOX_RANGE = BlockRange(21_516_000, 21_516_039)


@pytest.mark.parametrize(
    "fault",
    [
        "",
        "batch_refused",
        "batch_413",
        "batch_unsupported",
        "batch_reversed",
        "no_block_receipts",
    ],
)
def test_sandbox_chain_with_faults_that_a_source_copes_with(fault: str, tmp_path: Path) -> None:
    app = transport(create_app(Catalog(()), faults=fault))
    with source(app, SANDBOX_URLS[0], chain=SANDBOX, blocks_per_request=20) as evm:
        extract = evm.fetch(SANDBOX_RANGE, tmp_path)
        blocks, transactions, logs = tables(extract)
    assert extract.checks == ALL_PASSED
    assert blocks.num_rows == 40
    assert transactions.num_rows > 40
    assert logs.num_rows > 20


@pytest.mark.parametrize(
    "fault",
    [
        "dropped_log",
        "dropped_log_renumbered",
        "dropped_log_unbloomed_block",
        "altered_log",
        "missing_receipt",
        "missing_transaction",
        "garbage_receipts",
        "flipped_status",
        "wrong_parent",
    ],
)
def test_sandbox_chain_that_lies_is_refused_and_its_twin_believed(
    fault: str, tmp_path: Path
) -> None:
    app = transport(create_app(Catalog(()), faults=f"{fault}@ethereum"))
    folders = [tmp_path / name for name in ("alone", "both", "sound")]
    for folder in folders:
        folder.mkdir()
    with (
        source(app, SANDBOX_URLS[0], chain=SANDBOX) as evm,
        pytest.raises(IntegrityError, match=r"^http://sandbox\.test: "),
    ):
        list(evm.fetch(SANDBOX_RANGE, folders[0]))
    app = transport(create_app(Catalog(()), faults=f"{fault}@ethereum"))
    with source(app, *SANDBOX_URLS, chain=SANDBOX) as evm:
        extract = evm.fetch(SANDBOX_RANGE, folders[1])
        found = tables(extract)
        assert list(evm.set_aside) == ["http://sandbox.test"]
    app = transport(create_app(Catalog(())))
    with source(app, SANDBOX_URLS[0], chain=SANDBOX) as evm:
        assert found == tables(evm.fetch(SANDBOX_RANGE, folders[2]))
