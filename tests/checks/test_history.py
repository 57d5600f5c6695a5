"""A day's volume and trades beside the days before: what warns, what blocks, and what is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import duckdb
import pytest

from crypto_assets.catalog import Catalog
from crypto_assets.checks.history import SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .conftest import DAYS

(SUITE,) = SUITES
BROKEN_DAY = "2024-03-02"
# Forty days until the last one that is judged. Every day has the volume and the trades of the
# others, so that a thousandth of them is 1.
WORLD = """
    create schema raw;
    create schema markets;

    create table markets.ohlcv_1d as
    select
        venue, market, timestamp '2024-03-03' - to_days(n::int) as opened_at,
        1000::decimal(38, 12) as volume, 1000::bigint as trade_count,
    from (values ('binance', 'BTC-USDT'), ('kraken', 'BTC-USD')) as m(venue, market),
        range(40) as r(n);

    create table raw.proofs as
    select
        venue || '_trades' as dataset, opened_at::date::varchar as partition, market, venue,
        'complete' as status,
    from markets.ohlcv_1d
    union all
    -- Candles of a venue are no trades of it.
    select 'kraken_ohlc', opened_at::date::varchar, 'ETH-USD', venue, 'complete'
    from markets.ohlcv_1d
    where venue = 'kraken';
"""
A_MARKET = "venue = 'kraken' and market = 'BTC-USD'"
A_DAY = f"{A_MARKET} and opened_at = timestamp '2024-03-02'"
SET = f"update markets.ohlcv_1d set {{}} where {A_DAY}"
A_PROOF = "update raw.proofs set status = '{}' where dataset = 'kraken_trades'"

# What is broken, and every claim that must then fail.
BREAKS = [
    (SET.format("volume = 20001"), {"volume_is_usual"}),
    (SET.format("volume = 49"), {"volume_is_usual"}),
    (SET.format("volume = 500001"), {"volume_is_possible", "volume_is_usual"}),
    (SET.format("volume = 1"), {"volume_is_possible", "volume_is_usual"}),
    (SET.format("trade_count = 20001"), {"trade_count_is_usual"}),
    (SET.format("trade_count = 49"), {"trade_count_is_usual"}),
    (SET.format("trade_count = 500001"), {"trade_count_is_possible", "trade_count_is_usual"}),
    (SET.format("trade_count = 1"), {"trade_count_is_possible", "trade_count_is_usual"}),
    # Trades are proven, and nothing was made of them.
    (f"delete from markets.ohlcv_1d where {A_DAY}",
     {"volume_is_possible", "volume_is_usual", "trade_count_is_possible", "trade_count_is_usual"}),
]  # fmt: skip


@pytest.fixture
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(WORLD)
        yield connection


def test_a_whole_world_passes(judge: Callable[[Suite], SuiteResult]) -> None:
    result = judge(SUITE)

    assert result.passed
    assert len(result.results) == len(SUITE.claims) * 3
    assert all(set(r.observed) == {"binance BTC-USDT", "kraken BTC-USD"} for r in result.results)
    assert result.offenders == ()


@pytest.mark.parametrize(("broken", "failing"), BREAKS)
def test_a_broken_day_fails_its_claims_alone(
    broken: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] == 1

    result = judge(SUITE)

    assert {r.claim.name for r in result.results if not r.passed} == failing
    blocks = any(name.endswith("possible") for name in failing)
    assert result.failed == ((BROKEN_DAY,) if blocks else ())
    assert result.warned == (() if blocks else (BROKEN_DAY,))
    assert {row["claim"] for row in result.offenders} == failing
    assert {(row["partition"], row["market"]) for row in result.offenders} == {
        ("2024-03-02", "BTC-USD")
    }


def test_every_claim_was_seen_failing() -> None:
    assert {claim.name for claim in SUITE.claims} == {
        name for _, failing in BREAKS for name in failing
    }


@pytest.mark.parametrize("column", ["volume", "trade_count"])
@pytest.mark.parametrize(
    ("permille", "verdict"), [(50, None), (20_000, None), (2, "WARN"), (500_000, "WARN")]
)
def test_a_limit_itself_is_within(
    column: str,
    permille: int,
    verdict: str | None,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(SET.format(f"{column} = {permille}"))

    assert judge(SUITE).verdict(BROKEN_DAY) == verdict


def test_the_day_stands_beside_the_days_before(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(SET.format("volume = 30000.5"))

    (row,) = judge(SUITE).offenders

    assert (row["place"], row["found"]) == ("whole day", "volume 30000.500000000000")
    assert row["expected"] == "about 1000.000000000000"


def test_wild_days_of_the_past_do_not_decide(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """Thirteen of twenty-eight; a mean would make 1000 a tenth of a permille."""
    world.execute(
        "update markets.ohlcv_1d set volume = 20000000, trade_count = 20000000 "
        "where opened_at < timestamp '2024-02-15'"
    )

    assert judge(SUITE).passed


@pytest.mark.parametrize(("days", "is_judged"), [(4, False), (5, True)])
def test_a_market_is_judged_once_it_has_a_past(
    days: int,
    is_judged: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    """Of days with trades, within four weeks."""
    first = DAYS[1] - timedelta(days=28)
    world.execute(
        f"delete from markets.ohlcv_1d where {A_MARKET} and opened_at < timestamp '2024-03-01' "
        # The first that counts, those before it, and some between.
        f"and opened_at > timestamp '{first}' and day(opened_at) not between 11 and {8 + days}"
    )
    world.execute(SET.format("volume = 1"))

    result = judge(SUITE)

    seen = result.of(BROKEN_DAY)[0].observed
    assert ("kraken BTC-USD" in seen) == is_judged
    assert result.passed != is_judged


@pytest.mark.parametrize(("trades", "is_judged"), [(99, False), (100, True)])
def test_a_market_of_few_trades_is_left_alone(
    trades: int,
    is_judged: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(f"update markets.ohlcv_1d set trade_count = {trades} where {A_MARKET}")
    world.execute(SET.format("volume = 1"))

    assert judge(SUITE).passed != is_judged


def test_days_of_more_than_four_weeks_ago_are_not_read(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute("alter table markets.ohlcv_1d rename to days")
    world.execute(
        "create view markets.ohlcv_1d as select * replace ("
        "if(opened_at < timestamp '2024-02-02', error('was read'), volume) as volume"
        ") from markets.days"
    )

    assert judge(SUITE).passed


@pytest.mark.parametrize("status", ["not_listed", "complete"])
def test_a_market_that_ended_is_not_missed(
    status: str,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(A_PROOF.format(status) + " and partition > '2024-03-01'")
    world.execute(
        f"delete from markets.ohlcv_1d where {A_MARKET} and opened_at > timestamp '2024-03-01'"
    )

    assert judge(SUITE).failed == (() if status == "not_listed" else ("2024-03-02", "2024-03-03"))


def test_a_day_is_judged_alike_alone_and_among_others(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult], catalog: Catalog
) -> None:
    world.execute("update markets.ohlcv_1d set volume = 1 + day(opened_at) * 100")

    together = judge(SUITE)

    for day in DAYS:
        alone = evaluate(SUITE, world, market_days(catalog, [day]))
        assert alone.of(day.isoformat()) == together.of(day.isoformat())
