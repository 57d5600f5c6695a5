"""Each claim about block ranges passes on whole ones and fails, for its range only, when broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sources.chain_node import CHAIN

from crypto_assets.catalog import KINDS, Chain, ChainRange
from crypto_assets.checks.chain import chain_suites
from crypto_assets.checks.nodes import nodes_agree
from crypto_assets.checks.scope import chain_ranges
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.warehouse import attach_raw_views

from .chain_world import BROKEN, FIRST, LIGHT, NODES, RANGES, copied, lake_of, told_by

WITHOUT_SLOTS = Chain(**{**CHAIN.model_dump(), "slot_seconds": None})
WITH_SLOTS = Chain(**{**CHAIN.model_dump(), "slot_seconds": 12})

# The fourth block of the range in the middle.
A_BLOCK = FIRST + 13
BLOCK = "update raw.ethereum_blocks set {} where number = {}"
LOG = "update raw.ethereum_logs set {} where block_number = {} and log_index = {}"
TRANSACTION = (
    "update raw.ethereum_transactions set {} where block_number = {} and transaction_index = {}"
)
# Suite, what is broken, and every claim that must then fail.
BREAKS = [
    ("blocks_are_complete", f"delete from raw.ethereum_blocks where number = {A_BLOCK}",
     {"files_hold_every_block", "numbers_leave_no_hole"}),
    ("blocks_are_complete", f'delete from raw.ethereum_blocks where "range" = \'{BROKEN}\'',
     {"files_hold_every_block", "numbers_leave_no_hole"}),
    # A block of the range after it.
    ("blocks_are_complete",
     f"insert into raw.ethereum_blocks select * replace ('{BROKEN}' as \"range\") "
     f"from raw.ethereum_blocks where number = {FIRST + 20}",
     {"files_hold_every_block"}),
    ("blocks_are_complete", BLOCK.format("parent_hash = state_root", A_BLOCK),
     {"parents_are_the_blocks_before"}),
    ("blocks_are_complete",
     BLOCK.format("timestamp = timestamp - interval '12 seconds'", A_BLOCK),
     {"timestamps_increase"}),
    ("transactions_are_complete",
     f"delete from raw.ethereum_transactions where block_number = {A_BLOCK} "
     "and transaction_index = 3",
     {"files_hold_every_transaction", "blocks_have_their_transactions"}),
    ("transactions_are_complete",
     f"delete from raw.ethereum_transactions where block_number = {A_BLOCK} "
     "and transaction_index = 1",
     {"files_hold_every_transaction", "blocks_have_their_transactions", "indexes_leave_no_hole"}),
    ("transactions_are_complete", TRANSACTION.format("transaction_index = 4", A_BLOCK, 3),
     {"indexes_leave_no_hole"}),
    ("transactions_are_complete", TRANSACTION.format("transaction_index = 2", A_BLOCK, 3),
     {"indexes_leave_no_hole"}),
    ("transactions_are_complete", BLOCK.format("transaction_count = 5", A_BLOCK),
     {"files_hold_every_transaction", "blocks_have_their_transactions"}),
    ("transactions_are_complete", BLOCK.format("transaction_count = null", A_BLOCK),
     {"files_hold_every_transaction", "blocks_have_their_transactions"}),
    ("transactions_are_complete",
     f"{BLOCK.format('transaction_count = 3', A_BLOCK)}; "
     f"{BLOCK.format('transaction_count = 5', A_BLOCK + 1)}",
     {"blocks_have_their_transactions"}),
    ("logs_are_complete",
     f"delete from raw.ethereum_logs where block_number = {A_BLOCK} and log_index = 8",
     {"files_hold_every_log", "blocks_have_their_logs", "transactions_have_their_logs"}),
    ("logs_are_complete",
     f"delete from raw.ethereum_logs where block_number = {A_BLOCK} and log_index = 0",
     {"files_hold_every_log", "blocks_have_their_logs", "indexes_leave_no_hole",
      "transactions_have_their_logs"}),
    ("logs_are_complete", LOG.format("log_index = 9", A_BLOCK, 8), {"indexes_leave_no_hole"}),
    ("logs_are_complete", LOG.format("transaction_index = 9", A_BLOCK, 8),
     {"transactions_have_their_logs"}),
    ("logs_are_complete", LOG.format("transaction_hash = topic0", A_BLOCK, 0),
     {"transactions_have_their_logs"}),
    ("logs_are_complete", TRANSACTION.format("log_count = log_count + 1", A_BLOCK, 2),
     {"transactions_have_their_logs"}),
    ("logs_are_complete", BLOCK.format("log_count = null", A_BLOCK),
     {"files_hold_every_log", "blocks_have_their_logs"}),
    ("logs_are_complete",
     f"{BLOCK.format('log_count = 8', A_BLOCK)}; {BLOCK.format('log_count = 10', A_BLOCK + 1)}",
     {"blocks_have_their_logs"}),
    ("nodes_agree", BLOCK.format("hash = parent_hash", FIRST + 14), {"nodes_agree_on_hashes"}),
    ("nodes_agree", f"delete from raw.ethereum_blocks where number = {FIRST + 14}",
     {"nodes_agree_on_hashes", "nodes_agree_on_log_counts"}),
    ("nodes_agree",
     f"delete from raw.ethereum_logs where block_number = {FIRST + 14} and log_index = 8",
     {"nodes_agree_on_log_counts"}),
]  # fmt: skip
# Of the last block of the range two logs were asked for, the second of transaction 3.
A_LIGHT_BLOCK = FIRST + 19
LIGHT_BREAKS = [
    ("transactions_are_complete",
     'insert into raw.ethereum_transactions by name select "range", number as block_number, '
     f"0 as transaction_index, hash from raw.ethereum_blocks where number = {A_BLOCK}",
     {"no_transaction_is_here"}),
    ("logs_are_complete",
     f"delete from raw.ethereum_logs where block_number = {A_LIGHT_BLOCK} and log_index = 7",
     {"files_hold_what_was_delivered"}),
    ("logs_are_complete",
     f"delete from raw.proofs where dataset = 'ethereum_logs' and partition = '{BROKEN}'",
     {"files_hold_what_was_delivered"}),
    ("logs_are_complete", f"delete from raw.ethereum_blocks where number = {A_BLOCK}",
     {"logs_are_of_blocks_here"}),
    ("logs_are_complete", BLOCK.format("timestamp = timestamp + interval '1 second'", A_BLOCK),
     {"logs_are_of_blocks_here"}),
    ("logs_are_complete", LOG.format("address = topic0[:20]", A_LIGHT_BLOCK, 7),
     {"logs_are_those_asked_for"}),
    ("logs_are_complete", LOG.format("topic0 = null", A_LIGHT_BLOCK, 7),
     {"logs_are_those_asked_for"}),
    ("logs_are_complete", LOG.format("transaction_index = 1", A_LIGHT_BLOCK, 7),
     {"logs_follow_their_transactions"}),
    ("nodes_agree",
     f"delete from raw.ethereum_logs where block_number = {A_LIGHT_BLOCK} and log_index = 7",
     {"nodes_agree_on_log_counts"}),
]  # fmt: skip
MODES = {"full": WITH_SLOTS, "light": LIGHT}

Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def worlds(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, duckdb.DuckDBPyConnection]]:
    with duckdb.connect() as full, duckdb.connect() as light:
        opened = {"full": full, "light": light}
        for mode, connection in opened.items():
            copied(lake_of(tmp_path_factory.mktemp(mode), MODES[mode]), connection, MODES[mode])
        yield opened


@pytest.fixture(params=["full"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(
    worlds: dict[str, duckdb.DuckDBPyConnection], mode: str
) -> Iterator[duckdb.DuckDBPyConnection]:
    """What a test breaks is whole again after it."""
    worlds[mode].begin()
    yield worlds[mode]
    worlds[mode].rollback()


@pytest.fixture
def told(world: duckdb.DuckDBPyConnection) -> Told:
    """What two nodes say that have what is committed, until a test breaks that."""
    return told_by(world)


@pytest.fixture
def judge(world: duckdb.DuckDBPyConnection, told: Told) -> Callable[..., SuiteResult]:
    """Evaluates a suite of a chain, by its name, for all ranges."""

    def judged(name: str, chain: Chain = WITH_SLOTS) -> SuiteResult:
        (suite,) = (suite for suite in suites(chain) if suite.name == f"ethereum_{name}")
        return evaluate(suite, world, chain_ranges(chain, RANGES, told))

    return judged


def suites(chain: Chain) -> tuple[Suite, ...]:
    return (*chain_suites(chain), nodes_agree(chain))


@pytest.mark.parametrize("mode", MODES, indirect=True)
def test_whole_ranges_pass(mode: str, world: duckdb.DuckDBPyConnection, told: Told) -> None:
    (logs,) = world.execute("select count(*) from raw.ethereum_logs").fetchall()[0]
    assert logs == 270 if mode == "full" else 30 < logs < 60

    for suite in suites(MODES[mode]):
        result = evaluate(suite, world, chain_ranges(MODES[mode], RANGES, told))

        assert result.passed
        assert result.partitions == tuple(blocks.key for blocks in RANGES)
        assert len(result.results) == len(suite.claims) * 3
        assert all(set(r.observed) == {"ethereum"} for r in result.results)
        assert result.offenders == ()


@pytest.mark.parametrize(("name", "broken", "failing"), BREAKS)
def test_a_broken_range_fails_its_claims_alone(
    name: str,
    broken: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[..., SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] >= 1

    _fails_alone(judge(name), failing)


@pytest.mark.parametrize("mode", ["light"], indirect=True)
@pytest.mark.parametrize(("name", "broken", "failing"), LIGHT_BREAKS)
def test_a_broken_range_of_the_light_mode_fails_its_claims_alone(
    name: str,
    broken: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[..., SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] >= 1

    _fails_alone(judge(name, LIGHT), failing)


def _fails_alone(result: SuiteResult, failing: set[str]) -> None:
    assert {r.claim.name for r in result.results if not r.passed} == failing
    assert result.failed == (BROKEN.key,)
    assert result.warned == ()
    assert {row["claim"] for row in result.offenders} == failing
    assert {row["partition"] for row in result.offenders} == {BROKEN.key}


def test_every_claim_was_seen_failing() -> None:
    """Below, that a node did not tell of a block; the blocks of both modes are judged alike."""
    seen = {(name, claim) for name, _, failing in BREAKS + LIGHT_BREAKS for claim in failing}
    seen.add(("nodes_agree", "all_nodes_told_of_all_blocks"))
    assert seen == {
        (suite.name.removeprefix("ethereum_"), claim.name)
        for suite in (*suites(WITH_SLOTS), *suites(LIGHT))
        for claim in suite.claims
    }


@pytest.mark.parametrize("chain", [WITH_SLOTS, WITHOUT_SLOTS])
@pytest.mark.parametrize(("seconds", "fails_without_slots"), [(0, False), (-1, True)])
def test_only_a_chain_without_slots_may_have_two_blocks_at_one_time(
    chain: Chain,
    seconds: int,
    fails_without_slots: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[..., SuiteResult],
) -> None:
    world.execute(
        f"update raw.ethereum_blocks set timestamp = (select timestamp + to_seconds({seconds}) "
        f"from raw.ethereum_blocks where number = {A_BLOCK - 1}) where number = {A_BLOCK}"
    )

    result = judge("blocks_are_complete", chain)

    assert result.passed == (chain is WITHOUT_SLOTS and not fails_without_slots)


def test_what_is_missing_is_shown_beside_what_should_be_there(
    world: duckdb.DuckDBPyConnection, judge: Callable[..., SuiteResult]
) -> None:
    world.execute(f"delete from raw.ethereum_blocks where number = {A_BLOCK}")
    of_block = f"block_number = {A_BLOCK + 1}"
    world.execute(f"delete from raw.ethereum_logs where {of_block} and transaction_index = 3")

    blocks, logs = judge("blocks_are_complete"), judge("logs_are_complete")

    assert _shown(blocks) == {
        ("files_hold_every_block", "whole range", "blocks_in_file 9", "blocks_of_range 10"),
        ("numbers_leave_no_hole", f"block {A_BLOCK}", "no block", "a block"),
    }
    assert {
        ("files_hold_every_log", "whole range", "logs_in_file 86", "logs_of_blocks 81"),
        ("blocks_have_their_logs", f"block {A_BLOCK}", "9 logs, indexes 0 to 8", "no such block"),
        (
            "blocks_have_their_logs",
            f"block {A_BLOCK + 1}",
            "5 logs, indexes 0 to 4",
            "9 by the block",
        ),
        (
            "transactions_have_their_logs",
            f"block {A_BLOCK + 1} transaction 3",
            "0 logs",
            "4 by its receipt",
        ),
    } == _shown(logs)


def test_a_range_that_is_not_there_passes_no_suite(
    world: duckdb.DuckDBPyConnection, judge: Callable[..., SuiteResult]
) -> None:
    for kind in ("blocks", "transactions", "logs"):
        world.execute(f"delete from raw.ethereum_{kind} where \"range\" = '{BROKEN}'")

    for suite in suites(WITH_SLOTS):
        assert judge(suite.name.removeprefix("ethereum_")).failed == (BROKEN.key,)


def test_a_range_is_judged_alike_alone_and_among_others(
    world: duckdb.DuckDBPyConnection, told: Told, judge: Callable[..., SuiteResult]
) -> None:
    world.execute(f"delete from raw.ethereum_logs where block_number = {A_BLOCK}")

    together = judge("logs_are_complete")

    (suite,) = (suite for suite in suites(WITH_SLOTS) if suite.name == together.suite.name)
    for blocks in RANGES:
        alone = evaluate(suite, world, chain_ranges(WITH_SLOTS, [blocks], told))
        assert alone.of(blocks.key) == together.of(blocks.key)
        assert alone.offenders == together.offenders_of(blocks.key)


def test_ranges_apart_are_judged_apart(world: duckdb.DuckDBPyConnection, told: Told) -> None:
    """What is between them is not told of."""
    world.execute(f"delete from raw.ethereum_blocks where number = {A_BLOCK}")

    for suite in suites(WITH_SLOTS):
        result = evaluate(suite, world, chain_ranges(WITH_SLOTS, [RANGES[2], RANGES[0]], told))

        assert result.passed
        assert result.partitions == (RANGES[0].key, RANGES[2].key)


def test_for_a_range_no_other_file_is_read(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, WITH_SLOTS)
    for kind in KINDS:
        lake.file(ChainRange("ethereum", BROKEN).of(kind)).write_text("not Parquet")
    with duckdb.connect() as connection:
        attach_raw_views(connection, lake, [], chains=datasets(WITH_SLOTS), ranges=RANGES)
        for suite in suites(WITH_SLOTS):
            scope = chain_ranges(WITH_SLOTS, [RANGES[0], RANGES[2]])
            assert evaluate(suite, connection, scope).passed


def test_a_node_on_another_fork_is_shown_with_what_it_says(
    told: Told, judge: Callable[..., SuiteResult]
) -> None:
    """Of the last block of the range, which the chain has no more by what the node says."""
    fact = _fact(told, FIRST + 19, NODES[1])
    committed, fact["hash"] = fact["hash"], bytes(32)

    result = judge("nodes_agree")

    _fails_alone(result, {"nodes_agree_on_hashes"})
    assert _shown(result) == {
        (
            "nodes_agree_on_hashes",
            f"block {FIRST + 19} at node-b.test",
            f"0x{bytes(32).hex()}",
            f"0x{committed.hex()}",
        )
    }
    assert [dict(r.observed["ethereum"]) for r in result.of(BROKEN.key)] == [
        {"blocks_that_all_told_of": 3, "blocks_compared": 3},
        {"nodes_with_the_hashes": 1, "nodes_compared": 2},
        {"nodes_with_the_logs": 2, "nodes_compared": 2},
    ]


def test_a_node_that_leaves_logs_out_is_shown(
    told: Told, judge: Callable[..., SuiteResult]
) -> None:
    _fact(told, FIRST + 10, NODES[0])["log_count"] = 7

    result = judge("nodes_agree")

    _fails_alone(result, {"nodes_agree_on_log_counts"})
    assert _shown(result) == {
        ("nodes_agree_on_log_counts", f"block {FIRST + 10} at node-a.test", "7 logs", "9 logs")
    }


def test_a_block_that_a_node_did_not_tell_of_is_no_agreement(
    told: Told, judge: Callable[..., SuiteResult]
) -> None:
    told.remove(_fact(told, FIRST + 14, NODES[1]))

    result = judge("nodes_agree")

    _fails_alone(result, {"all_nodes_told_of_all_blocks"})
    assert _shown(result) == {
        (
            "all_nodes_told_of_all_blocks",
            "whole range",
            "blocks_that_all_told_of 2",
            "blocks_compared 3",
        )
    }


def test_one_node_alone_compares_nothing_and_says_so(
    told: Told, judge: Callable[..., SuiteResult]
) -> None:
    told.clear()

    result = judge("nodes_agree")

    assert result.passed
    assert {n for r in result.results for n in r.observed["ethereum"].values()} == {0}


def _fact(told: Told, number: int, node: str) -> dict[str, Any]:
    (fact,) = (each for each in told if (each["number"], each["node"]) == (number, node))
    return fact


def _shown(result: SuiteResult) -> set[tuple[str, ...]]:
    names = ("claim", "place", "found", "expected")
    return {tuple(row[name] for name in names) for row in result.offenders}
