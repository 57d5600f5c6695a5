"""Calls of ranges: what is asked, what is known already, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from asking import Contracts, RefusedError, Script
from collecting_ranges import ONE, SIZE, TWO, nth

from crypto_assets.assets.collect_calls import CollectedCalls
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.catalog import CALLS, Catalog, Chain, ChainRange, Chains, load_chains
from crypto_assets.errors import (
    EndpointsDisagreeError,
    LogsMissingError,
    UnansweredCallError,
    UnexpectedReplyError,
)
from crypto_assets.lake import Lake, RangeWriter, SourceFile, committed_logs, find_range, read_proof
from crypto_assets.raw_catalogue import catalogue_tables
from crypto_assets.raw_views import range_views, union_views
from crypto_assets.sandbox import create_app, transport
from crypto_assets.sources.evm import Evm
from crypto_assets.sources.evm_answers import Interview
from crypto_assets.sources.evm_calls import Answer, ContractCall, all_datasets, read_answers

PACKAGED = load_chains().named("ethereum")
CHAIN = Chain(**(PACKAGED.model_dump() | {"range_size": SIZE}))
RANGES = nth(0, 1, 2)
USDC, DECIMALS, SUPPLY = (
    bytes.fromhex(text)
    for text in ("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "313ce567", "18160ddd")
)


class Calling:
    """A lake that holds ranges, and collectors of their calls; closes all that it opened."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home)
        self.contracts: Contracts
        self.opened = ExitStack()

    def collector(
        self, *, chain: Chain = CHAIN, urls: tuple[str, ...] = ONE, say: Script | None = None
    ) -> RangeCollector:
        self.contracts = Contracts(create_app(Catalog(())))
        if say is not None:
            self.contracts.say = say
        source = Evm(chain, urls=urls, transport=self.contracts)
        self.opened.callback(source.close)
        return RangeCollector(self.lake, Chains((chain,)), lambda _: source, workers=2)

    def collect(
        self, *numbers: int, chain: Chain = CHAIN, refetch: bool = False, **options: Any
    ) -> list[CollectedCalls]:
        found = self.collector(chain=chain, **options).collect_calls(
            chain, nth(*numbers), refetch=refetch
        )
        return sorted(found, key=lambda done: done.part)

    def path(self, number: int) -> Path:
        return self.lake.file(part(number).of(CALLS))

    def asked(self) -> int:
        return self.contracts.asked.total()


def part(number: int) -> ChainRange:
    return ChainRange(CHAIN.name, nth(number)[0])


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three ranges, without their calls."""
    calling = Calling(tmp_path_factory.mktemp("lake") / "home")
    with calling.opened:
        done = list(calling.collector().collect(CHAIN, RANGES))
    assert [each.error for each in done] == [None] * 3
    return calling.lake.home


@pytest.fixture
def calling(collected: Path, tmp_path: Path) -> Iterator[Calling]:
    calling = Calling(Path(shutil.copytree(collected, tmp_path / "home")))
    with calling.opened:
        yield calling


def only(done: list[CollectedCalls]) -> CollectedCalls:
    (found,) = done
    assert found.error is None
    return found


def test_calls_are_asked_once_and_committed_with_a_proof(calling: Calling) -> None:
    done = only(calling.collect(0))
    proof = done.proof
    assert proof is not None
    assert proof == read_proof(calling.path(0))
    assert done.is_new
    assert done.asked_now == proof.row_count == calling.asked()
    logs = committed_logs(calling.lake, part(0)).content_digest
    assert proof.group == {"logs": logs}
    assert proof.checks["calls_are_answered"] == "passed"
    assert len({source.url for source in proof.source}) == 3
    assert all(source.url.startswith("http://sandbox eth_call@") for source in proof.source)
    answers = read_answers(str(calling.path(0)))
    of_usdc = {call.call: said for call, said in answers.items() if call.address == USDC}
    assert of_usdc["decimals()"] == Answer("returned", (6).to_bytes(32, "big"))
    blocks = nth(0)[0]
    supplied = {number for _, to, data, number in calling.contracts.calls if data == SUPPLY}
    assert supplied == {blocks.first - 1, blocks.last}
    others = {number for *_, data, number in calling.contracts.calls if data != SUPPLY}
    assert len(others) == 1
    assert min(others) > blocks.last


def test_a_second_run_asks_nothing_and_changes_nothing(calling: Calling) -> None:
    calling.collect(0, 1)
    files = [calling.path(number).read_bytes() for number in (0, 1)]
    done = calling.collect(0, 1)
    assert [(each.is_new, each.asked_now) for each in done] == [(False, 0)] * 2
    assert calling.asked() == 0
    assert [calling.path(number).read_bytes() for number in (0, 1)] == files


def test_what_is_known_of_the_ranges_beside_is_not_asked_again(calling: Calling) -> None:
    alone = only(calling.collect(1, refetch=True))
    fresh = read_answers(str(calling.path(1)))
    calling.path(1).unlink()
    calling.collect(0)
    calling.collect(2)
    done = only(calling.collect(1))
    assert done.proof is not None
    assert alone.proof is not None
    assert 0 < done.asked_now == calling.asked() < alone.asked_now
    assert done.proof.content_digest == alone.proof.content_digest
    assert read_answers(str(calling.path(1))) == fresh
    taken = [source for source in done.proof.source if "eth_call@" not in source.url]
    held = {str(part(number).of(CALLS)): read_proof(calling.path(number)) for number in (0, 2)}
    assert taken
    assert all(held[source.url].file_sha256 == source.sha256 for source in taken)
    assert sum(data == SUPPLY for *_, data, _ in calling.contracts.calls) == 6


def test_refetch_asks_everything_anew(calling: Calling) -> None:
    first = only(calling.collect(0))
    again = only(calling.collect(0, refetch=True))
    assert again.is_new
    assert again.asked_now == calling.asked() == first.asked_now


def test_another_catalogue_asks_for_what_it_adds(calling: Calling) -> None:
    fewer = CHAIN.model_copy(update={"tokens": CHAIN.tokens[:-1]})
    first = only(calling.collect(0, chain=fewer))
    done = only(calling.collect(0))
    assert first.proof is not None
    assert done.proof is not None
    assert done.is_new
    assert done.proof.row_count >= first.proof.row_count
    # Beside what is new, supplies and what was not answered.
    assert calling.asked() < first.asked_now / 2
    assert not only(calling.collect(0)).is_new


def replace_range(calling: Calling, number: int) -> None:
    """Commit a range again, without its last log."""
    held = find_range(calling.lake, part(number))
    assert held is not None
    tables = {
        kind: pq.read_table(calling.lake.file(part(number).of(kind)), partitioning=None)
        for kind in ("blocks", "transactions", "logs")
    }
    tables["logs"] = tables["logs"].slice(0, tables["logs"].num_rows - 1)
    datasets = all_datasets(CHAIN)[:3]
    source = SourceFile(url="x", etag=None, sha256="0" * 64, bytes=1)
    with RangeWriter(calling.lake, datasets, part(number)) as writer:
        writer.write(
            [
                table.cast(dataset.schema).combine_chunks().to_batches()[0]
                for table, dataset in zip(tables.values(), datasets, strict=True)
            ]
        )
        counts = {kind: table.num_rows for kind, table in tables.items()}
        writer.commit(source_row_counts=counts, source=(source,), checks={})  # type: ignore[arg-type]


def test_a_range_whose_logs_were_replaced_is_asked_about_again(calling: Calling) -> None:
    before = only(calling.collect(0)).proof
    replace_range(calling, 0)
    assert not calling.path(0).exists()
    done = only(calling.collect(0))
    assert before is not None
    assert done.proof is not None
    assert done.is_new
    assert done.proof.group != before.group


def test_a_range_that_is_not_committed_is_an_error_and_the_others_go_on(calling: Calling) -> None:
    missing, there = calling.collect(7, 0)[::-1]
    assert there.error is None
    assert isinstance(missing.error, LogsMissingError)
    assert "021516070" in str(missing.error)


def test_a_range_whose_logs_were_changed_by_other_hands_is_an_error(calling: Calling) -> None:
    path = calling.lake.file(part(0).of("logs"))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    (done,) = calling.collect(0)
    assert isinstance(done.error, LogsMissingError)
    assert calling.asked() == 0


def test_a_file_that_was_changed_by_other_hands_is_asked_for_again(calling: Calling) -> None:
    only(calling.collect(0))
    sound = calling.path(0).read_bytes()
    calling.path(0).write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    done = only(calling.collect(0))
    assert done.is_new
    assert done.asked_now == calling.asked() > 40


def test_nodes_that_differ_commit_nothing_and_leave_evidence(calling: Calling) -> None:
    def say(node: str, to: bytes, data: bytes, number: int) -> str | None:
        lies = node == "ethereum-b" and (to, data) == (USDC, DECIMALS)
        return "0x" + "00" * 31 + "08" if lies else None

    (done,) = calling.collect(0, urls=TWO, say=say)
    assert isinstance(done.error, EndpointsDisagreeError)
    assert not calling.path(0).exists()
    (evidence,) = calling.lake.quarantine(part(0).of(CALLS)).glob("*/evidence.json")
    kept = json.loads(evidence.read_text())
    assert (kept["reason"], kept["dataset"]) == ("EndpointsDisagreeError", "ethereum_calls")
    assert kept["evidence"]["calls"][0]["call"] == "decimals()"
    done = only(calling.collect(0, urls=TWO))
    assert done.proof is not None
    assert done.proof.checks["nodes_agree"] == "passed"
    assert calling.contracts.asked == {
        "ethereum": done.proof.row_count,
        "ethereum-b": done.proof.row_count,
    }


def test_a_contract_that_answers_each_node_differently_stops_no_range(calling: Calling) -> None:
    only(calling.collect(0))
    listed = {bytes.fromhex(token.address[2:]) for token in CHAIN.tokens}
    answers = read_answers(str(calling.path(0)))
    inputs = {
        min(each for each in answers if each.call == call and each.address not in listed)
        for call in ("decimals()", "fee()")
    }

    def say(node: str, to: bytes, data: bytes, number: int) -> bytes | None:
        is_hostile = (to, data) in {(call.address, call.data) for call in inputs}
        return b"\0" * 31 + b"\x09" if is_hostile and node == "ethereum-b" else None

    done = only(calling.collect(0, urls=TWO, say=say, refetch=True))
    assert done.proof is not None
    assert done.proof.checks["nodes_agree"] == "2 answers disputed"
    answers = read_answers(str(calling.path(0)))
    disputed = {call for call, said in answers.items() if said == Answer("disputed", None)}
    assert disputed == inputs


def test_a_node_of_the_sandbox_that_lies_is_found_out(calling: Calling) -> None:
    for faults, told in (("lying_call@ethereum-b", EndpointsDisagreeError), ("", type(None))):
        source = Evm(CHAIN, urls=TWO, transport=transport(create_app(Catalog(()), faults=faults)))
        calling.opened.callback(source.close)
        collector = RangeCollector(calling.lake, Chains((CHAIN,)), lambda _: source, workers=1)  # noqa: B023
        (done,) = collector.collect_calls(CHAIN, nth(0))
        assert type(done.error) is told
        assert calling.path(0).exists() == (done.error is None)


def test_reverts_and_lost_state_are_kept_as_such(calling: Calling) -> None:
    def say(node: str, to: bytes, data: bytes, number: int) -> None:
        if data == SUPPLY:
            raise RefusedError(-32002, f"No state available for block {number}")
        if (to, data) == (USDC, DECIMALS):
            raise RefusedError(-32000, "execution reverted: rate limit")

    done = only(calling.collect(0, say=say))
    statuses = {
        (call.call, said.status)
        for call, said in read_answers(str(calling.path(0))).items()
        if call.address == USDC
    }
    assert statuses == {
        ("symbol()", "returned"), ("decimals()", "reverted"), ("totalSupply()", "unavailable"),
    }  # fmt: skip
    assert done.proof is not None
    # Neither is taken for known: the next run of another range asks again.
    only(calling.collect(1))
    asked = {(to, data) for _, to, data, _ in calling.contracts.calls}
    assert {(USDC, DECIMALS), (USDC, SUPPLY)} <= asked


def test_a_call_without_an_answer_commits_nothing(
    calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Interview.ask

    def forgetful(self: Interview, calls: Iterable[ContractCall]) -> dict[ContractCall, Answer]:
        return dict(list(ask(self, calls).items())[:-1])

    monkeypatch.setattr(Interview, "ask", forgetful)
    (done,) = calling.collect(0)
    assert isinstance(done.error, UnansweredCallError)
    assert not calling.path(0).exists()


def test_garbage_commits_nothing(calling: Calling) -> None:
    (done,) = calling.collect(0, say=lambda *_: "<html>")
    assert isinstance(done.error, UnexpectedReplyError)
    assert not calling.path(0).exists()


def killed_after(home: Path, calls: int) -> None:
    calling = Calling(Lake(home).home)
    seen = 0

    def say(node: str, to: bytes, data: bytes, number: int) -> None:
        nonlocal seen
        seen += 1
        if seen > calls:
            os.kill(os.getpid(), signal.SIGKILL)

    calling.collect(0, say=say)


def killed_at_commit(home: Path) -> None:
    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and "ethereum_calls" in str(arguments[1]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    Calling(Lake(home).home).collect(0)


def test_a_killed_run_leaves_nothing_that_counts(calling: Calling) -> None:
    spawn = get_context("spawn")
    home = calling.lake.home
    for target, arguments in ((killed_after, (home, 30)), (killed_at_commit, (home,))):
        child = spawn.Process(target=target, args=arguments)
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL
        assert not calling.path(0).exists()
    only(calling.collect(0))
    assert list(calling.lake.inflight(part(0).of(CALLS)).parent.glob("*/.*")) == []


def test_the_warehouse_shows_calls_and_what_follows_from_them(calling: Calling) -> None:
    calling.collect(0, 1)
    connection = duckdb.connect()
    connection.execute("create schema raw")
    datasets = all_datasets(CHAIN)

    def create(views: dict[str, str]) -> None:
        for name, query in views.items():
            connection.execute(f"create or replace view {name} as {query}")

    create({**range_views(calling.lake, datasets, nth(0, 1)), **union_views(datasets)})
    catalogue_tables(connection, calling.lake, [CHAIN], {CHAIN.name: nth(0)})
    columns = "range, address, call, argument, as_of, status, result"
    assert connection.execute("describe raw.ethereum_calls").fetchall()[0][0] == "range"
    found = connection.execute(f"select {columns} from raw.ethereum_calls").fetchall()
    union = connection.execute(f"select {columns} from raw.chain_calls where chain = 'ethereum'")
    assert sorted(map(str, union.fetchall())) == sorted(map(str, found))
    assert {row[0] for row in found} == {blocks.key for blocks in nth(0, 1)}

    named = connection.execute(
        "select name, protocol, project, version, fee_pips from raw.deployments"
    )
    assert ("sushiswap_v2", "uniswap_v2", "sushiswap", "2", 3000) in named.fetchall()
    tokens = connection.execute("select symbol, decimals, role, asset from raw.trusted_tokens")
    assert ("WETH", 18, "wrapped_native", "ETH") in tokens.fetchall()
    pools = connection.execute(
        "select range, address, deployment from raw.derived_pools"
    ).fetchall()
    assert (nth(0)[0].key, "0x88e6a0c2ddd26feeb64f039a2c41296fcb3f5640", "uniswap_v3") in pools
    assert {row[0] for row in pools} == {nth(0)[0].key}
    assert {row[2] for row in pools} == {
        "uniswap_v2", "uniswap_v3", "uniswap_v4", "sushiswap_v2",
    }  # fmt: skip
    assert all(len(row[1]) == (66 if row[2] == "uniswap_v4" else 42) for row in pools)

    # Without its commit record nothing of a range is shown.
    calling.lake.file(part(0).of("blocks")).unlink()
    catalogue_tables(connection, calling.lake, [CHAIN], {CHAIN.name: nth(0)})
    assert connection.execute("select count(*) from raw.derived_pools").fetchone() == (0,)
    count = "select count(*) from raw.ethereum_calls where range = ?"
    assert connection.execute(count, [nth(0)[0].key]).fetchone() == (0,)


def test_a_chain_without_calls_has_empty_views_of_the_same_columns(tmp_path: Path) -> None:
    connection = duckdb.connect()
    connection.execute("create schema raw")
    lake = Lake(tmp_path)
    for datasets in (all_datasets(CHAIN), ()):
        for name, query in {**range_views(lake, datasets), **union_views(datasets)}.items():
            connection.execute(f"create or replace view {name} as {query}")
        described = connection.execute("describe raw.chain_calls").fetchall()
        assert [(row[0], row[1]) for row in described] == [
            ("chain", "VARCHAR"), ("range", "VARCHAR"), ("address", "BLOB"), ("call", "VARCHAR"),
            ("argument", "BLOB"), ("as_of", "VARCHAR"), ("status", "VARCHAR"), ("result", "BLOB"),
        ]  # fmt: skip
    catalogue_tables(connection, lake, [], {})
    for table in ("deployments", "trusted_tokens", "derived_pools"):
        assert connection.execute(f"select count(*) from raw.{table}").fetchone() == (0,)
