"""Three venues from source to index, through the command line: what agrees, and what does not."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from command import run, write_catalog

# Whole backfills in processes of their own, on machines that do other things too.
pytestmark = pytest.mark.timeout(900)

CATALOG = """
binance:
  - {market: BTC-USDT, symbol: BTCUSDT, since: 2024-12-30}
coinbase:
  - {market: BTC-USD, symbol: BTC-USD, since: 2024-12-30}
kraken:
  - {market: BTC-USD, symbol: XBTUSD, since: 2024-12-30}
  - {market: USDT-USD, symbol: USDTUSD, since: 2024-12-30}
ccxt:
  - {market: BTC-USD@bitstamp, symbol: BTC/USD, since: 2024-12-30}
"""
ETH = "  - {market: ETH-USD, symbol: ETHUSD, since: 2024-12-30}\n"
DAY = ("--from", "2025-01-01", "--to", "2025-01-01")


def query(home: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(home / "sandbox" / "crypto.duckdb", read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def agreed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one proven day of three venues and a witness."""
    home = tmp_path_factory.mktemp("agreed")
    write_catalog(home, CATALOG)
    done = run(home, "backfill", "all", *DAY)
    assert done.returncode == 0, done.stderr
    return home


def test_three_venues_and_a_witness_agree(agreed: Path) -> None:
    assert query(
        agreed,
        """
        select venue, market, count(*) > 1000, abs(quantile_disc(deviation_bps, 0.5)) < 5
        from markets.venue_deviations_1m group by all order by all
        """,
    ) == [
        ("binance", "BTC-USDT", True, True),
        ("coinbase", "BTC-USD", True, True),
        ("kraken", "BTC-USD", True, True),
        ("kraken", "USDT-USD", True, True),
    ]
    judged = query(
        agreed,
        """
        select suite, bool_and(passed), bool_or(observed <> '{}')
        from quality.check_results
        where split_part(asset, '/', 1) not in ('defi', 'intermediate')
        group by all order by all
        """,
    )
    # A single day has no history, and Kraken has candles of the newest 720 minutes only.
    assert [row for row in judged if row[1:] != (True, True)] == [
        ("days_are_plausible", True, False)
    ]
    # Eleven suites of venues, five of the chain.
    assert len(judged) == 16


def test_a_market_is_one_line_and_the_next_run_fetches_only_it(
    agreed: Path, tmp_path: Path
) -> None:
    lake = agreed / "sandbox" / "lake" / "raw"
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*.parquet")}
    catalog = CATALOG.replace("ccxt:", f"{ETH}ccxt:")
    write_catalog(agreed, catalog)
    try:
        done = run(agreed, "backfill", "kraken", *DAY)
    finally:
        write_catalog(agreed, CATALOG)
    assert done.returncode == 0, done.stderr
    after = {path: path.stat().st_mtime_ns for path in lake.rglob("*.parquet")}
    assert before.items() <= after.items()
    assert {path.relative_to(lake).parts[:2] for path in after.keys() - before.keys()} == {
        ("kraken_trades", "market=ETH-USD"),
        ("kraken_ohlc", "market=ETH-USD"),
    }
    assert query(agreed, "select count(*) > 1000 from markets.index_prices_1m where asset = 'ETH'")


@pytest.mark.parametrize(
    ("faults", "claim"),
    [
        ("drift@XBTUSD", "prices_are_near_the_index"),
        ("clock_off@XBTUSD", "clocks_agree"),
    ],
)
def test_a_venue_that_is_consistently_wrong_is_stopped_by_the_others(
    tmp_path: Path, faults: str, claim: str
) -> None:
    """Its trades and its own candles agree, so only the other venues can tell."""
    write_catalog(tmp_path, CATALOG)
    done = run(tmp_path, "backfill", "all", *DAY, SANDBOX_FAULTS=faults)

    assert done.returncode == 1
    assert "check failed: markets/venue_deviations_1m venues_agree 2025-01-01" in done.stderr
    with duckdb.connect() as connection:
        broken = connection.execute(
            f"""
            select expectation, severity
            from '{tmp_path}/sandbox/checks/*/*.parquet'
            where not passed and severity = 'ERROR'
            """
        ).fetchall()
    assert broken == [(claim, "ERROR")]
    # Nothing of the day was published.
    published = (tmp_path / "sandbox" / "marts").rglob("date=2025-01-01.parquet")
    # The chain has no part in it, but for prices, which are not taken from a day that was refused.
    days = {path.parent.relative_to(tmp_path / "sandbox" / "marts").as_posix(): path
            for path in published}  # fmt: skip
    assert {name.split("/")[0] for name in days} == {"network", "defi"}
    with duckdb.connect() as connection:
        prices = connection.read_parquet(str(days["defi/token_prices_1m"]))
        assert prices.filter("source = 'venue_index'").fetchall() == []
