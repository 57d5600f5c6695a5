"""Each claim about what is decoded of a range passes on what is right, and fails when it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import pytest
from sources.chain_node import CHAIN

from crypto_assets.checks.defi import range_suites
from crypto_assets.checks.scope import chain_ranges
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .defi_world import (
    A_BLOCK,
    BROKEN,
    DAI,
    FAKE,
    LENDING_WORLD,
    LOST,
    MANAGER,
    RANGE_WORLD,
    RANGES,
    SCAM,
    STABLECOIN_WORLD,
    USDC,
    V2,
    V3,
    V4,
)

SUITES = {suite.name.removeprefix(f"{CHAIN.name}_"): suite for suite in range_suites(CHAIN)}
SWAP = "update intermediate.int_dex_swaps set {} where " + f"block_number = {A_BLOCK} and "
POOL = "update intermediate.int_dex_pools set {} where " + f"block_range = '{BROKEN}' and "
SUPPLY, BORROW, UPDATES = (
    f"update intermediate.int_lending_{table} set {{}} where block_number = {A_BLOCK} and "
    for table in ("supply", "borrow", "reserve_updates")
)
CHANGE = (
    "update intermediate.int_stablecoin_changes set {} where "
    f"block_number = {A_BLOCK} and token_address = '{USDC}' and "
)
MOVE = (
    "update intermediate.int_dex_swaps set pool = '{0}', contract_address = '{1}', "
    "is_genuine = false, token0_address = null, token1_address = null "
    f"where block_number between {A_BLOCK} and {A_BLOCK + 1}"
)
# Suite, what is broken, the market that it breaks, and every claim that must then fail.
BREAKS = [
    ("swaps_decode",
     f"delete from intermediate.int_dex_swaps where block_number = {A_BLOCK} and log_index = 2",
     "uniswap_v3", {"rows_count_the_swap_logs", "each_swap_log_has_one_row"}),
    ("swaps_decode",
     f"delete from raw.chain_logs where block_number = {A_BLOCK} and log_index = 4",
     "uniswap_v4", {"rows_count_the_swap_logs", "each_swap_log_has_one_row"}),
    # Twice, and another not at all.
    ("swaps_decode", SWAP.format("log_index = 0") + "log_index = 1", "uniswap_v2",
     {"each_swap_log_has_one_row"}),
    ("swaps_decode", SWAP.format("token0_address = null") + f"pool = '{V3}' and log_index = 2",
     "uniswap_v3",
     {"genuine_swaps_decode", "sides_are_those_of_the_amounts", "swaps_agree_with_their_pools"}),
    ("swaps_decode", SWAP.format("amount1_in_raw = null") + "log_index = 4", "uniswap_v4",
     {"genuine_swaps_decode"}),
    ("swaps_decode", SWAP.format("token_bought_address = null") + "log_index = 3", "uniswap_v3",
     {"sides_are_those_of_the_amounts"}),
    ("swaps_decode", SWAP.format("token_sold_amount_raw = 1") + "log_index = 0", "uniswap_v2",
     {"sides_are_those_of_the_amounts"}),
    # The sides are the wrong way round, amounts and all.
    ("swaps_decode",
     SWAP.format("token_bought_address = token_sold_address, "
                 "token_sold_address = token_bought_address") + "log_index = 4",
     "uniswap_v4", {"sides_are_those_of_the_amounts"}),
    ("swaps_decode", SWAP.format("amount0_out_raw = -1") + "log_index = 4", "uniswap_v4",
     {"amounts_are_not_negative"}),
    ("swaps_decode", f"delete from intermediate.int_dex_pools where block_range = '{BROKEN}' "
     f"and pool = '{V3}'", "uniswap_v3", {"swaps_agree_with_their_pools"}),
    ("swaps_decode", POOL.format(f"token1_address = '{SCAM}'") + f"pool = '{V2}'", "uniswap_v2",
     {"swaps_agree_with_their_pools"}),
    ("swaps_decode", SWAP.format("is_genuine = false") + "log_index = 4", "uniswap_v4",
     {"swaps_agree_with_their_pools"}),
    ("swaps_decode", f"{MOVE.format(LOST, MANAGER)} and pool = '{V4}'", "uniswap_v4",
     {"pools_are_known"}),
    ("swaps_decode", f"{MOVE.format(FAKE, FAKE)} and pool = '{V2}'", "uniswap_v2",
     {"imitations_are_few"}),
    ("lending_decodes", f"delete from intermediate.int_lending_supply where "
     f"block_number = {A_BLOCK} and transaction_type = 'deposit'", "aave_v3",
     {"rows_count_the_events", "each_event_has_its_rows"}),
    ("lending_decodes", f"delete from raw.chain_logs where block_number = {A_BLOCK + 1} and "
     "log_index = 12", "aave_v3", {"rows_count_the_events", "each_event_has_its_rows"}),
    # A repayment with aTokens that the supply does not know, and one that nobody made.
    ("lending_decodes", SUPPLY.format("log_index = 13") + "log_index = 14", "aave_v3",
     {"each_event_has_its_rows", "sides_of_an_event_agree"}),
    ("lending_decodes", f"delete from intermediate.int_lending_reserve_updates where "
     f"block_number = {A_BLOCK}", "aave_v3", {"rows_count_the_events", "each_event_has_its_rows"}),
    # Rows of a contract that is not listed.
    ("lending_decodes", BORROW.format(f"contract_address = '{SCAM}'") + "log_index = 12", SCAM,
     {"rows_count_the_events", "each_event_has_its_rows"}),
    ("lending_decodes", SUPPLY.format("depositor = null") + "log_index = 10", "aave_v3",
     {"rows_are_complete"}),
    ("lending_decodes", BORROW.format("amount_raw = null") + "log_index = 12", "aave_v3",
     {"rows_are_complete"}),
    ("lending_decodes", UPDATES.format("liquidity_rate_ray = null") + "true", "aave_v3",
     {"rows_are_complete"}),
    ("lending_decodes", BORROW.format("amount_raw = -amount_raw") + "log_index = 13", "aave_v3",
     {"amounts_have_their_sign"}),
    ("lending_decodes", SUPPLY.format("amount_raw = -71") + "log_index = 14", "aave_v3",
     {"sides_of_an_event_agree"}),
    ("lending_decodes",
     SUPPLY.format("amount_raw = 59") + "transaction_type = 'liquidation_proceeds'", "aave_v3",
     {"sides_of_an_event_agree"}),
    ("lending_decodes", UPDATES.format("liquidity_index_ray = 1e26::decimal(38, 0)") + "true",
     "aave_v3", {"indices_are_at_least_one"}),
    ("lending_decodes", BORROW.format("amount_raw = 0") + "log_index = 17", "aave_v3",
     {"amounts_are_not_zero"}),
    ("stablecoin_supplies_agree", CHANGE.format("amount_raw = 701") + "kind = 'mint'", "USDC",
     {"supply_changes_by_what_was_issued"}),
    ("stablecoin_supplies_agree",
     f"delete from intermediate.int_stablecoin_changes where block_range = '{BROKEN}' and "
     "event = 'redeem'", "USDC", {"supply_changes_by_what_was_issued"}),
    # As if a part of what was sent to the zero address was not burned, and more than all of it.
    ("stablecoin_supplies_agree", CHANGE.format("amount_raw = 699") + "kind = 'mint'", "USDC",
     {"burns_change_the_supply"}),
    ("stablecoin_supplies_agree",
     "update intermediate.int_stablecoin_supplies set supply_after_raw = 9 * supply_before_raw "
     f"where block_range = '{BROKEN}' and token_address = '{USDC}'", "USDC",
     {"supply_changes_by_what_was_issued"}),
    ("stablecoin_supplies_agree",
     f"delete from raw.chain_logs where block_number = {A_BLOCK} and log_index = 20", "USDC",
     {"transfers_are_counted"}),
    ("stablecoin_supplies_agree", CHANGE.format("kind = 'gift'") + "kind = 'transfer'", "USDC",
     {"changes_are_of_a_kind"}),
    ("stablecoin_supplies_agree",
     CHANGE.format("overflow_count = 1, amount_raw = null") + "kind = 'transfer'", "USDC",
     {"amounts_are_known"}),
]  # fmt: skip
WARNINGS = {claim.name for suite in SUITES.values() for claim in suite.claims
            if claim.severity == "WARN"}  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(RANGE_WORLD + LENDING_WORLD + STABLECOIN_WORLD)
        yield connection


@pytest.fixture
def world(shared: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """What a test breaks is whole again after it."""
    shared.begin()
    yield shared
    shared.rollback()


@pytest.fixture
def judge(world: duckdb.DuckDBPyConnection) -> Callable[[Suite], SuiteResult]:
    return lambda suite: evaluate(suite, world, chain_ranges(CHAIN, RANGES))


@pytest.mark.parametrize(
    ("name", "markets"),
    [
        ("swaps_decode", {"uniswap_v2", "uniswap_v3", "uniswap_v4"}),
        ("lending_decodes", {"aave_v3"}),
        ("stablecoin_supplies_agree", {"USDC", "DAI"}),
    ],
)
def test_what_is_right_passes(
    name: str, markets: set[str], judge: Callable[[Suite], SuiteResult]
) -> None:
    result = judge(SUITES[name])

    assert result.passed
    assert result.offenders == ()
    assert result.partitions == tuple(blocks.key for blocks in RANGES)
    assert all(set(r.observed) == {f"ethereum {m}" for m in markets} for r in result.results)


def test_counts_are_those_of_the_logs(judge: Callable[[Suite], SuiteResult]) -> None:
    (swaps,), (events,) = (
        [r.observed for r in judge(SUITES[name]).of(BROKEN.key) if r.claim.name == claim]
        for name, claim in (
            ("swaps_decode", "rows_count_the_swap_logs"),
            ("lending_decodes", "rows_count_the_events"),
        )
    )
    assert swaps == {
        "ethereum uniswap_v2": {"swap_rows": 21, "swap_logs": 21},
        "ethereum uniswap_v3": {"swap_rows": 20, "swap_logs": 20},
        "ethereum uniswap_v4": {"swap_rows": 21, "swap_logs": 21},
    }
    assert events == {"ethereum aave_v3": {"event_rows": 130, "rows_of_events": 130}}


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_range_fails_its_claims_alone(
    case: tuple[str, str, str, set[str]],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    name, broken, market, failing = case
    assert world.execute(broken).fetchall()[0][0] > 0

    result = judge(SUITES[name])

    assert {r.claim.name for r in result.results if not r.passed} == failing
    warns = failing <= WARNINGS
    assert result.failed == (() if warns else (BROKEN.key,))
    assert result.warned == ((BROKEN.key,) if warns else ())
    assert {row["claim"] for row in result.offenders} == failing
    assert {row["partition"] for row in result.offenders} == {BROKEN.key}
    assert market in {row["market"] for row in result.offenders}


def test_every_claim_was_seen_failing() -> None:
    seen = {(name, claim) for name, *_, failing in BREAKS for claim in failing}
    assert seen == {(name, claim.name) for name, suite in SUITES.items() for claim in suite.claims}


def test_an_amount_that_does_not_fit_is_decoded(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(
        SWAP.format(
            "amount0_in_raw = null, token_sold_amount_raw = null, "
            "amount_overflow = '0x' || repeat('f', 64)"
        )
        + "log_index = 4"
    )
    assert judge(SUITES["swaps_decode"]).passed


def test_a_supply_that_is_not_known_is_not_compared(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute("update intermediate.int_stablecoin_supplies set supply_before_raw = null")
    world.execute(CHANGE.format("amount_raw = 701") + "kind = 'mint'")

    assert judge(SUITES["stablecoin_supplies_agree"]).passed


def test_a_stablecoin_without_events_keeps_its_supply(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    suite = SUITES["stablecoin_supplies_agree"]
    known = (
        "update intermediate.int_stablecoin_supplies set supply_before_raw = 5, "
        f"supply_after_raw = {{}} where token_address = '{DAI}' and block_range = '{BROKEN}'"
    )
    world.execute(known.format(5))
    assert judge(suite).passed

    world.execute(known.format(6))
    assert [(row["market"], row["found"], row["expected"]) for row in judge(suite).offenders] == [
        ("DAI", "minted less burned 0", "1, from 5 to 6")
    ]


def test_a_chain_of_which_nothing_is_listed_passes(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    for table in ("raw.deployments", "raw.trusted_tokens", "raw.chain_logs"):
        world.execute(f"delete from {table}")
    for table in ("dex_swaps", "lending_supply", "lending_borrow", "lending_reserve_updates"):
        world.execute(f"delete from intermediate.int_{table}")

    assert all(judge(suite).passed for suite in SUITES.values())
