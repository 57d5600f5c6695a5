"""What the checks over DeFi days excuse, and from where on they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import pytest

from crypto_assets.checks.scope import days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .defi_day_world import BROKEN_DAY, DAY_WORLD
from .defi_world import DAI, V2, V3, WETH
from .test_defi_days import JUDGED, LIQUID, MISSING, OF_DAY, OF_NAME, SWAP, TIMES, pools


def dai_trades(at: str, usdc: int = 100) -> str:
    """One trade of the liquid pool for that many dollars, as if its other token were DAI."""
    return (
        SWAP.format(
            f"token1_address = '{DAI}', amount0_in_raw = if(amount0_in_raw > 0, {usdc}e6, 0), "
            f"amount0_out_raw = if(amount0_out_raw > 0, {usdc}e6, 0)"
        )
        + f"pool = '{V3}' and strftime(block_time, '%H:%M') = '{at}'"
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(DAY_WORLD)
        yield connection


@pytest.fixture
def world(shared: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """What a test breaks is whole again after it."""
    shared.begin()
    yield shared
    shared.rollback()


@pytest.fixture
def judge(world: duckdb.DuckDBPyConnection) -> Callable[[Suite], SuiteResult]:
    return lambda suite: evaluate(suite, world, days(JUDGED))


@pytest.mark.parametrize(
    "broken",
    [
        # Hooks may ask for any price, and a burst of trades may have one.
        f"update intermediate.int_dex_pools set hooks_address = '{WETH}' where pool = '{V3}'; "
        + SWAP.format(TIMES.format(0, "* 1.1")) + f"pool = '{V3}'",
        f"delete from intermediate.int_dex_swaps where pool = '{V3}' and {OF_DAY} and "
        "hour(block_time) > 5; " + SWAP.format(TIMES.format(0, "* 1.1")) + f"pool = '{V3}'",
    ],
)  # fmt: skip
def test_a_pool_that_is_not_liquid_only_warns(
    broken: str, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(broken)

    result = judge(OF_NAME["dex_agrees_with_the_index"])

    assert (result.failed, result.warned) == ((), (BROKEN_DAY,))
    assert {(r["claim"], r["market"]) for r in result.offenders} == {
        ("thin_pools_are_near_the_index", LIQUID)
    }


@pytest.mark.parametrize(
    ("more", "away", "is_blocked"),
    [
        ([pools(2)], 1, False),
        ([pools(3)], 2, False),
        ([pools(3)], 3, True),
        # Fewer than three have no vote, and V4 has none at all.
        ([pools(1)], 2, False),
        ([pools(1), pools(4, "uniswap_v4")], 6, False),
    ],
)
def test_no_pool_stops_a_day_unless_most_are_away(
    more: list[str],
    away: int,
    is_blocked: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    for made in more:
        world.execute(made)
    names = ", ".join(repr(pool) for pool in [V3, *(f"pool {n}" for n in range(1, away))])
    world.execute(SWAP.format(TIMES.format(0, "* 1.1")) + f"pool in ({names})")

    result = judge(OF_NAME["dex_agrees_with_the_index"])

    assert result.failed == ((BROKEN_DAY,) if is_blocked else ())
    assert result.warned == (() if is_blocked else (BROKEN_DAY,))


@pytest.mark.parametrize(
    ("broken", "reason", "is_true"),
    [
        (dai_trades("11:30"), "no_pool_price", False),
        (dai_trades("10:30"), "no_pool_price", False),
        (dai_trades("10:30"), "pool_refused", True),
        (dai_trades("10:29"), "pool_refused", False),
        (dai_trades("10:29"), "no_pool_price", True),
        (dai_trades("11:31"), "no_pool_price", True),
        # Below the floor it may be refused, or not count at all.
        (dai_trades("11:20", usdc=99), "no_pool_price", True),
        (dai_trades("11:20", usdc=99), "pool_refused", True),
        # In a minute without an index price.
        ("delete from raw.published_index_prices_1m where asset = 'USDC' and opened_at = timestamp "
         f"'{BROKEN_DAY} 11:20'; " + dai_trades("11:20"), "no_pool_price", True),
        (f"update intermediate.int_dex_pools set hooks_address = '{WETH}' where pool = '{V3}'; "
         + dai_trades("11:20"), "no_pool_price", True),
    ],
)  # fmt: skip
def test_a_pool_that_could_have_priced_a_token_must_have_been_refused(
    broken: str,
    reason: str,
    is_true: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    # But for that minute, nothing is said of those around it.
    world.execute(
        "update defi.token_prices_1m set price_usd = 1, source = 'dex_pool', age_minutes = 0, "
        f"source_detail = '{V2}', priced_at = opened_at, unpriced_reason = null "
        f"where symbol = 'DAI' and opened_at <> timestamp '{BROKEN_DAY} 11:30'"
    )
    assert world.execute(MISSING.format(reason)).fetchall() == [(1,)]
    assert world.execute(broken).fetchall() == [(1,)]

    result = judge(OF_NAME["token_prices_are_known"])

    failing = {r.claim.name for r in result.results if not r.passed}
    assert ("missing_prices_have_true_reasons" not in failing) == is_true


@pytest.mark.parametrize("days_before", [4, 5])
def test_who_trades_only_lately_cannot_go_silent(
    days_before: int, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(
        "delete from network.blocks_daily "
        f"where day < date '{BROKEN_DAY}' - {days_before} or day > date '{BROKEN_DAY}'"
    )
    world.execute(f"delete from defi.dex_pools_daily where day = date '{BROKEN_DAY}'")

    assert judge(OF_NAME["usual_trade_goes_on"]).passed == (days_before < 5)
