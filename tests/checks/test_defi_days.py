"""Each claim about DeFi marts of a day passes on what is right, and fails when it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest
import yaml
from sources.chain_node import CHAIN

from crypto_assets.checks.defi import range_suites
from crypto_assets.checks.defi_days import SUITES
from crypto_assets.checks.defi_prices import INDEX_MINUTES, POOL_MINUTES, TURNOVER_USD
from crypto_assets.checks.defi_reserves import CARRIED_HOURS
from crypto_assets.checks.scope import chain_ranges, days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .defi_day_world import AAVE, BROKEN_DAY, DAY_WORLD, SCAM, USDC, V2, V3, V4, WETH

OF_NAME = {suite.name: suite for suite in SUITES}
JUDGED = [date(2024, 3, 2), date(2024, 3, 3)]
# Any single minute, hour or swap of the day that tests break.
NOON = f"timestamp '{BROKEN_DAY} 12:00'"
OF_DAY = f"block_time::date = date '{BROKEN_DAY}'"
SWAP = f"update intermediate.int_dex_swaps set {{}} where {OF_DAY} and "
TIMES = "amount{0}_in_raw = amount{0}_in_raw {1}, amount{0}_out_raw = amount{0}_out_raw {1}"
TRADE = f"update defi.dex_trades set {{}} where {OF_DAY} and "
POOL_DAY = f"update defi.dex_pools_daily set {{}} where day = date '{BROKEN_DAY}' and "
POOL_HOUR = f"update defi.dex_ohlcv_1h set {{}} where opened_at = {NOON} and "
PRICE = f"update defi.token_prices_1m set {{}} where opened_at = {NOON} and token_address = "
RESERVE = f"update defi.lending_reserves_hourly set {{}} where hour = {NOON}"
FLOW = (
    "update defi.stablecoin_flows_daily set {} "
    f"where day = date '{BROKEN_DAY}' and token_address = '{USDC}'"
)


def pools(count: int, protocol: str = "uniswap_v3") -> str:
    """As many pools more, each with the trades of the liquid one."""
    return (
        "insert into intermediate.int_dex_swaps "
        f"select found.* replace ('pool ' || n as pool, '{protocol}' as protocol) "
        f"from intermediate.int_dex_swaps as found, range(1, {count} + 1) as r(n) "
        f"where pool = '{V3}' and {OF_DAY}"
    )


MISSING = (
    "update defi.token_prices_1m set unpriced_reason = '{}' where symbol = 'DAI' and "
    f"price_usd is null and opened_at = timestamp '{BROKEN_DAY} 11:30'"
)
AAVE_MARKET = f"aave_v3 {AAVE}"
LIQUID, THIN = f"uniswap_v3 USDC-WETH {V3}", f"uniswap_v2 USDC-WETH {V2}"
# Suite, what is broken, the market that it breaks, and every claim that must then fail.
BREAKS = [
    # A decoded swap that is lost takes no trade with it if it was empty.
    ("trades_count_the_swap_logs",
     f"delete from intermediate.int_dex_swaps where {OF_DAY} and is_empty", "",
     {"swaps_count_the_logs"}),
    ("trades_count_the_swap_logs", f"delete from raw.chain_logs where block_timestamp = {NOON}", "",
     {"swaps_count_the_logs"}),
    ("trades_count_the_swap_logs",
     f"insert into defi.dex_trades from defi.dex_trades where block_time = {NOON}", "",
     {"dex_trades_has_each_trade_once"}),
    ("trades_count_the_swap_logs",
     f"{POOL_DAY.format('swap_count = swap_count - 1')} pool = '{V3}'", "",
     {"days_of_pools_count_the_trades", "days_are_made_of_hours"}),
    ("trades_count_the_swap_logs", f"delete from defi.dex_ohlcv_1h where opened_at = {NOON}", "",
     {"hours_of_pools_count_the_trades", "days_are_made_of_hours"}),
    ("trades_count_the_swap_logs", f"delete from raw.covered_days where day = date '{BROKEN_DAY}'",
     "", {"days_of_pools_count_the_trades", "hours_of_pools_count_the_trades"}),
    ("trades_count_the_swap_logs", f"{POOL_DAY.format('high = high + 1')} pool = '{V3}'", "",
     {"days_are_made_of_hours"}),
    ("trades_count_the_swap_logs", f"{POOL_HOUR.format('low = high')} pool = '{V3}'", "",
     {"days_are_made_of_hours"}),

    # A price the wrong way round, wrong decimals, and one that is a little off.
    ("dex_agrees_with_the_index",
     SWAP.format(TIMES.format(1, "/ 1000")) + f"pool = '{V3}'",
     LIQUID, {"liquid_pools_are_near_the_index", "hours_of_pools_are_near_the_index"}),
    ("dex_agrees_with_the_index", f"{SWAP.format('token0_decimals = 18')} pool = '{V3}'",
     LIQUID, {"liquid_pools_are_near_the_index", "hours_of_pools_are_near_the_index"}),
    ("dex_agrees_with_the_index",
     SWAP.format(TIMES.format(0, "* 1.022")) + f"pool = '{V3}'",
     LIQUID, {"liquid_pools_are_near_the_index", "hours_of_pools_are_near_the_index"}),
    ("dex_agrees_with_the_index",
     SWAP.format(TIMES.format(0, "* 1.0065")) + f"pool = '{V3}' and hour(block_time) = 9",
     LIQUID, {"hours_of_pools_are_near_the_index"}),
    ("dex_agrees_with_the_index",
     f"{SWAP.format('amount0_in_raw = amount0_in_raw * 1.05')} pool = '{V2}'",
     THIN, {"thin_pools_are_near_the_index"}),
    # Of three pools two: then it is no pool.
    ("dex_agrees_with_the_index",
     f"{pools(2)}; {SWAP.format(TIMES.format(0, '* 1.1'))} pool in ('{V3}', 'pool 1')", "",
     {"most_pools_are_near_the_index", "liquid_pools_are_near_the_index",
      "hours_of_pools_are_near_the_index"}),
    # The index is between 3000 and 3059 in every hour.
    ("dex_agrees_with_the_index", f"{POOL_HOUR.format('close = 3092')} pool = '{V3}'", LIQUID,
     {"candles_close_near_the_index"}),
    ("dex_agrees_with_the_index", f"{POOL_HOUR.format('close = 1 / close')} pool = '{V3}'", LIQUID,
     {"candles_close_near_the_index"}),

    ("usd_amounts_are_plausible",
     f"{TRADE.format('amount_usd = 1e10::decimal(38, 12) + 1')} block_time = {NOON}", "",
     {"trades_are_possible", "trades_are_of_usual_size"}),
    ("usd_amounts_are_plausible",
     TRADE.format(f"amount_usd = 1e11, pool = '{V4}'") + f"block_time = {NOON}", "",
     {"trades_are_of_usual_size"}),
    ("usd_amounts_are_plausible",
     TRADE.format("amount_usd = 1e11, amount_usd_source = 'dex_pool'") + f"block_time = {NOON}", "",
     {"trades_are_of_usual_size"}),
    ("usd_amounts_are_plausible",
     TRADE.format("token_bought_amount = token_bought_amount * 0.96") + "true", "",
     {"both_sides_are_worth_as_much"}),
    ("usd_amounts_are_plausible", TRADE.format("amount_usd = null") + "hour(block_time) < 13", "",
     {"most_trades_have_a_value"}),
    ("usd_amounts_are_plausible",
     POOL_DAY.format("volume_usd = 2e6, volume_quote = 6e6") + f"pool = '{V2}'", "",
     {"volume_is_of_the_order_of_reserves"}),

    ("usual_trade_goes_on",
     f"delete from defi.dex_pools_daily where day = date '{BROKEN_DAY}' and pool = '{V3}'",
     "uniswap_v3", {"pools_have_not_gone_silent", "protocols_have_not_gone_silent"}),
    ("usual_trade_goes_on", POOL_DAY.format("pool = 'another'") + f"pool = '{V3}'", "uniswap_v3",
     {"pools_have_not_gone_silent"}),

    ("lending_reserves_are_sound",
     f"delete from defi.lending_reserves_hourly where hour = {NOON}", AAVE_MARKET,
     {"every_update_has_its_hour"}),
    ("lending_reserves_are_sound",
     "insert into defi.lending_reserves_hourly from defi.lending_reserves_hourly "
     f"where hour = {NOON} + interval 1 hour", AAVE_MARKET, {"hours_are_there_once"}),
    ("lending_reserves_are_sound", RESERVE.format("liquidity_rate = null"), AAVE_MARKET,
     {"rates_are_not_negative"}),
    ("lending_reserves_are_sound", RESERVE.format("variable_borrow_rate = -0.01"), AAVE_MARKET,
     {"rates_are_not_negative"}),
    ("lending_reserves_are_sound", RESERVE.format("liquidity_index = 1"), AAVE_MARKET,
     {"indices_never_fall"}),
    ("lending_reserves_are_sound",
     RESERVE.format("last_updated_block = last_updated_block - 1"), AAVE_MARKET,
     {"values_are_those_of_the_last_update"}),
    ("lending_reserves_are_sound", RESERVE.format("update_count = 1"), AAVE_MARKET,
     {"values_are_those_of_the_last_update"}),
    ("lending_reserves_are_sound",
     "insert into intermediate.int_lending_reserve_updates select * replace "
     f"(block_number + 70 as block_number, block_time + interval 70 minutes as block_time) "
     f"from intermediate.int_lending_reserve_updates where hour(block_time) = 12 and {OF_DAY}",
     AAVE_MARKET, {"every_update_has_its_hour", "values_are_those_of_the_last_update"}),
    # The first hours of the day have values of the day before.
    ("lending_reserves_are_sound",
     "update defi.lending_reserves_hourly set last_updated_at = last_updated_at - interval 25 hours"
     f" where hour = {NOON} + interval 1 hour", AAVE_MARKET,
     {"values_are_not_carried_past_a_gap", "values_are_those_of_the_last_update"}),
    ("lending_reserves_are_sound", RESERVE.format("stable_borrow_rate = 1.01"), AAVE_MARKET,
     {"rates_are_plausible"}),

    ("stablecoin_flows_add_up", f"delete from defi.stablecoin_flows_daily where "
     f"day = date '{BROKEN_DAY}' and symbol = 'DAI'", "DAI", {"covered_days_have_a_row"}),
    ("stablecoin_flows_add_up", "insert into defi.stablecoin_flows_daily from "
     f"defi.stablecoin_flows_daily where day = date '{BROKEN_DAY}' and symbol = 'DAI'", "DAI",
     {"covered_days_have_a_row"}),
    ("stablecoin_flows_add_up", FLOW.format("burn_count = burn_count + 1"), "USDC",
     {"rows_count_the_events"}),
    ("stablecoin_flows_add_up", FLOW.format("minted_raw = minted_raw + 1"), "USDC",
     {"net_issuance_is_mints_less_burns"}),
    ("stablecoin_flows_add_up", FLOW.format("burned_raw = null"), "USDC",
     {"net_issuance_is_mints_less_burns"}),
    ("stablecoin_flows_add_up", FLOW.format("supply_change_raw = supply_change_raw - 1"), "USDC",
     {"supply_changes_by_net_issuance"}),
    # More than was sent to the zero address; that much says nothing against the rest.
    ("stablecoin_flows_add_up", FLOW.format("supply_change_raw = supply_change_raw + 10"), "USDC",
     {"supply_changes_by_net_issuance"}),
    ("stablecoin_flows_add_up", FLOW.format("supply_change_raw = supply_change_raw + 1"), "USDC",
     {"burns_change_the_supply"}),
    ("stablecoin_flows_add_up", FLOW.format("supply_raw = 50"), "USDC",
     {"issuance_is_plausible"}),

    ("token_prices_are_known", f"delete from defi.token_prices_1m where opened_at = {NOON} and "
     f"token_address = '{WETH}'", "WETH", {"trusted_tokens_have_every_minute"}),
    ("token_prices_are_known", f"delete from raw.covered_days where day = date '{BROKEN_DAY}'",
     "other tokens", {"trusted_tokens_have_every_minute"}),
    ("token_prices_are_known", "insert into defi.token_prices_1m from defi.token_prices_1m where "
     f"opened_at = {NOON} and token_address = '{SCAM}'", "other tokens",
     {"minutes_have_one_price"}),
    ("token_prices_are_known",
     "update defi.token_prices_1m set unpriced_reason = null where price_usd is null and "
     f"opened_at::date = date '{BROKEN_DAY}'", "DAI", {"prices_have_a_source_or_a_reason"}),
    # DAI has no price from 11:01 to 11:59, and no pool trades it.
    ("token_prices_are_known", MISSING.format("pool_refused"), "DAI",
     {"missing_prices_have_true_reasons"}),
    ("token_prices_are_known", MISSING.format("no_index_price"), "DAI",
     {"missing_prices_have_true_reasons"}),
    ("token_prices_are_known", MISSING.format("because"), "DAI",
     {"missing_prices_have_true_reasons"}),
    ("token_prices_are_known", PRICE.format("source = null") + f"'{SCAM}'", "other tokens",
     {"prices_have_a_source_or_a_reason"}),
    ("token_prices_are_known", PRICE.format("price_usd = 0") + f"'{SCAM}'", "other tokens",
     {"prices_are_positive"}),
    ("token_prices_are_known", PRICE.format("price_usd = price_usd + 0.000000000001")
     + f"'{WETH}'", "WETH", {"the_index_comes_first"}),
    ("token_prices_are_known", PRICE.format(f"source = 'dex_pool', source_detail = '{V3}'")
     + f"'{WETH}'", "WETH", {"the_index_comes_first"}),
    ("token_prices_are_known", PRICE.format("source = 'venue_index'") + f"'{SCAM}'",
     "other tokens", {"the_index_comes_first"}),
    # It is an hour old and says so, or does not say it.
    ("token_prices_are_known",
     PRICE.format("priced_at = priced_at - interval 61 minutes, age_minutes = 61") + f"'{SCAM}'",
     "other tokens", {"prices_are_young"}),
    ("token_prices_are_known", PRICE.format("age_minutes = age_minutes + 1") + f"'{SCAM}'",
     "other tokens", {"prices_are_young"}),
    ("token_prices_are_known",
     "delete from raw.published_index_prices_1m where asset = 'ETH' and "
     f"opened_at::date = date '{BROKEN_DAY}'; update defi.token_prices_1m set price_usd = null, "
     f"source = null, unpriced_reason = 'no_index_price' where token_address = '{WETH}' and "
     f"opened_at::date = date '{BROKEN_DAY}' and hour(opened_at) + minute(opened_at) > 15",
     "WETH", {"most_minutes_have_a_price", "the_index_comes_first"}),
    ("token_prices_are_known",
     "update defi.token_prices_1m set price_usd = 0.98 where symbol = 'DAI' and price_usd is not "
     f"null and opened_at::date = date '{BROKEN_DAY}' and hour(opened_at) = 4", "DAI",
     {"stablecoins_are_near_a_dollar"}),
]  # fmt: skip
MODELS = Path(__file__).parents[2] / "dbt_project" / "models"
RAW = """
    create schema raw;
    create table raw.deployments (
        chain varchar, name varchar, protocol varchar, project varchar, version varchar,
        address blob, fee_pips bigint
    );
    create table raw.trusted_tokens (
        chain varchar, address blob, symbol varchar, decimals integer, role varchar, asset varchar
    );
    create table raw.covered_days (
        chain varchar, day date, first_block bigint, last_block bigint, slot_seconds bigint
    );
    create table raw.chain_logs (
        chain varchar, "range" varchar, block_number bigint, block_timestamp timestamp,
        log_index bigint, address blob, topic0 blob, topic1 blob, topic2 blob, topic3 blob,
        data blob
    );
    create table raw.published_index_prices_1m (
        asset varchar, opened_at timestamp, price_usd decimal(28, 12), is_contested boolean,
        venue_count bigint
    );
"""
WARNINGS = {claim.name for suite in SUITES for claim in suite.claims if claim.severity == "WARN"}


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


@pytest.mark.parametrize("suite", SUITES, ids=OF_NAME)
def test_what_is_right_passes(suite: Suite, judge: Callable[[Suite], SuiteResult]) -> None:
    result = judge(suite)

    assert result.passed
    assert result.offenders == ()
    assert result.partitions == tuple(day.isoformat() for day in JUDGED)
    assert all(r.observed for r in result.results)


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_day_fails_its_claims_alone(
    case: tuple[str, str, str, set[str]],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    name, broken, market, failing = case
    assert world.execute(broken).fetchall()[0][0] > 0

    result = judge(OF_NAME[name])

    assert {r.claim.name for r in result.results if not r.passed} == failing
    warns = failing <= WARNINGS
    assert result.failed == (() if warns else (BROKEN_DAY,))
    assert result.warned == ((BROKEN_DAY,) if warns else ())
    assert {row["claim"] for row in result.offenders} == failing
    assert {row["partition"] for row in result.offenders} == {BROKEN_DAY}
    assert market in {row["market"] for row in result.offenders}


def test_what_was_sent_to_zero_before_midnight_shows_on_the_day_after(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """Supply at midnight was brought forward with it, from where the range begins."""
    sent = (
        "insert into intermediate.int_stablecoin_changes by name "
        "select 'ethereum' as chain, {0} as block_number, 'burn' as kind, 'transfer' as event, "
        "timestamp '2024-03-01' + to_minutes({0}) as block_time, "
        f"'{USDC}' as token_address, 0 as event_count, 500 as amount_raw"
    )
    suite = OF_NAME["stablecoin_flows_add_up"]
    world.execute(FLOW.format("supply_change_raw = supply_change_raw + 500"))
    # Before that range, and after the day.
    for number in (1409, 2880):
        world.execute(sent.format(number))
    assert judge(suite).failed == (BROKEN_DAY,)

    world.execute(sent.format(1410))
    result = judge(suite)
    assert (result.failed, result.warned) == ((), (BROKEN_DAY,))
    assert {row["claim"] for row in result.offenders} == {"burns_change_the_supply"}


def test_a_chain_in_the_light_mode_has_flows_only_of_days_with_events(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute("update network.blocks_daily set log_count = null")
    world.execute("delete from defi.stablecoin_flows_daily where symbol = 'DAI'")

    result = judge(OF_NAME["stablecoin_flows_add_up"])

    assert result.passed
    assert {market for r in result.results for market in r.observed} == {"ethereum USDC"}


def test_every_claim_was_seen_failing() -> None:
    seen = {(name, claim) for name, *_, failing in BREAKS for claim in failing}
    assert seen == {(suite.name, claim.name) for suite in SUITES for claim in suite.claims}


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("index_price_max_minutes", INDEX_MINUTES),
        ("dex_price_max_minutes", POOL_MINUTES),
        ("dex_price_min_turnover_usd", TURNOVER_USD),
        ("reserve_max_hours", CARRIED_HOURS),
    ],
)
def test_values_are_carried_as_long_as_the_models_carry_them(name: str, limit: int) -> None:
    paths = [MODELS.parent / "dbt_project.yml", *MODELS.rglob("*.sql")]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)

    assert set(re.findall(rf'\b{name}(?:",|:) (\d+)', text)) == {str(limit)}


@pytest.mark.parametrize("suite", [*range_suites(CHAIN), *SUITES], ids=lambda suite: suite.name)
def test_suites_read_columns_that_the_models_have(suite: Suite) -> None:
    """Of empty tables nothing can be wrong; a column that is not in the contract is an error."""
    with duckdb.connect() as connection:
        connection.execute(RAW)
        for path in sorted(MODELS.rglob("_*__models.yml")):
            schema = "intermediate" if "intermediate" in path.parts else path.parent.name
            connection.execute(f"create schema if not exists {schema}")
            for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]:
                columns = [f'"{each["name"]}" {each["data_type"]}' for each in model["columns"]]
                connection.execute(f"create table {schema}.{model['name']} ({', '.join(columns)})")
        in_ranges = suite.name.startswith(CHAIN.name)
        scope = chain_ranges(CHAIN, CHAIN.ranges(0, 0)) if in_ranges else days(JUDGED)

        assert evaluate(suite, connection, scope).passed
        for name, table in scope.relations.items():
            connection.register(name, table)
        assert connection.execute(suite.offenders, scope.bounds).fetchall() == []
