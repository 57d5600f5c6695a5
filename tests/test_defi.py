"""DeFi marts end to end: two days of the sandbox chain, decoded, priced, and rebuilt out of order.

The days are built before the venues are there, so that what a late price changes is seen, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from command import write_catalog

from crypto_assets.assets.dbt import day_marts, prepare_manifest, range_marts
from crypto_assets.automation_marts import marts_of
from crypto_assets.backfill import Backfill
from crypto_assets.catalog import BlockRange, Chain, load_chains
from crypto_assets.settings import Profile, Settings

pytestmark = pytest.mark.timeout(900)

FIRST = 21_516_000
DAYS = [date(2024, 12, 31), date(2025, 1, 1)]
MARKETS = "kraken:\n" + "".join(
    f"  - {{market: {base}-USD, symbol: {symbol}USD, since: 2024-12-31}}\n"
    for base, symbol in (("BTC", "XBT"), ("ETH", "ETH"), ("USDT", "USDT"), ("USDC", "USDC"))
)
VIEWS = ("defi.dex_pools", "defi.dex_trades", "defi.lending_borrow", "defi.lending_supply")


@dataclass
class House:
    """A data folder, and what was in its marts at each moment of the story."""

    settings: Settings
    runs: Backfill
    states: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    priced_trades: dict[str, int] = field(default_factory=dict)

    @property
    def chain(self) -> Chain:
        return load_chains(self.settings.catalog).chains[0]

    @property
    def ranges(self) -> list[BlockRange]:
        return self.chain.ranges(FIRST, FIRST + 2999)

    @property
    def tables(self) -> list[str]:
        """Every table of what is made of chains, and the views on top of them."""
        manifest = prepare_manifest(self.settings)
        return [*range_marts(manifest), *day_marts(manifest), *VIEWS]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        path = self.settings.home / "crypto.duckdb"
        with duckdb.connect(path, read_only=True) as database:
            return database.execute(sql).fetchall()

    def remember(self, moment: str) -> None:
        """Rows and content of every table."""
        self.states[moment] = {
            name: self.query(f"select count(*), sum(hash(t)::hugeint) from {name} as t")[0]
            for name in self.tables
        }
        [(self.priced_trades[moment],)] = self.query(
            "select count(amount_usd) from defi.dex_trades"
        )

    def decode_again(self, blocks: Sequence[BlockRange]) -> None:
        self.runs._run(marts_of(self.chain), blocks)

    def files_of_ranges(self) -> dict[Path, int]:
        """When what is decoded was written."""
        marts = self.settings.home / "marts"
        return {path: path.stat().st_mtime_ns for path in marts.rglob("range=*.parquet")}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Ranges, days without prices, prices, and everything anew in another order."""
    home = tmp_path_factory.mktemp("defi")
    write_catalog(home, MARKETS)
    settings = Settings(profile=Profile.SANDBOX, data_dir=home, catalog=home / "catalog")
    with dg.instance_for_test() as instance:
        house = House(settings, Backfill(settings, instance))
        assert house.runs.chain(house.chain, house.ranges) == DAYS
        house.runs.network(DAYS)
        house.remember("without prices")
        decoded = house.files_of_ranges()
        house.runs.venues(["kraken"], DAYS)
        house.remember("with the index")
        house.runs.network(DAYS)
        house.remember("with prices")
        assert house.files_of_ranges() == decoded, "no range is decoded again for a price"
        house.decode_again(house.ranges[1:2])
        house.remember("the middle range again")
        for day in reversed(DAYS):
            house.runs.network([day])
        house.remember("the days again, the last one first")
        yield house


def test_everything_is_green_but_for_what_is_missing(house: House) -> None:
    told = [
        line
        for outcome in house.runs.outcomes
        for line in (*outcome.problems, *outcome.failed_checks, *outcome.skipped)
    ]
    assert (house.runs.is_proven, told) == (True, [])


def test_every_table_has_rows(house: House) -> None:
    empty = [name for name, (count, _) in house.states["with prices"].items() if not count]
    assert empty == []


@pytest.mark.parametrize("moment", ["the middle range again", "the days again, the last one first"])
def test_rebuilding_any_range_or_day_out_of_order_changes_nothing(
    house: House, moment: str
) -> None:
    assert house.states[moment] == house.states["with prices"]


def test_a_price_that_comes_later_changes_days_and_views_and_no_range(house: House) -> None:
    before, index, after = (
        house.states[moment] for moment in ("without prices", "with the index", "with prices")
    )
    ranges = range_marts(prepare_manifest(house.settings))
    assert {name: before[name] for name in ranges} == {name: after[name] for name in ranges}
    # Until the prices of tokens are built anew, the index alone changes nothing.
    assert index == before
    assert after["defi.token_prices_1m"] != before["defi.token_prices_1m"]
    assert after["defi.dex_trades"][0] == before["defi.dex_trades"][0]
    assert after["defi.dex_trades"] != before["defi.dex_trades"]
    assert house.priced_trades["without prices"] == house.priced_trades["with the index"] == 0
    assert house.priced_trades["with prices"] > 1000


_TRUSTED = (
    "select '0x' || lower(hex(address)) as token, asset from raw.trusted_tokens "
    "where asset is not null"
)
_INDEX = (
    f"select token, opened_at as minute, price_usd from ({_TRUSTED}) "
    "join markets.index_prices_1m using (asset)"
)


def test_pools_have_the_price_of_the_index(house: House) -> None:
    """After a swap of V3 or V4, in basis points; the widest noise of the sandbox is 10."""
    found = house.query(
        f"""
        select pool, count(*), max(abs(price_after * one.price_usd / zero.price_usd - 1) * 10000)
        from intermediate.int_dex_swaps
        join ({_INDEX}) as zero
            on token0_address = zero.token and date_trunc('minute', block_time) = zero.minute
        join ({_INDEX}) as one
            on token1_address = one.token and date_trunc('minute', block_time) = one.minute
        where is_genuine and price_after is not null
        group by pool
        """
    )
    assert len(found) >= 6
    liquid = [distance for _, count, distance in found if count > 100]
    assert len(liquid) >= 4
    assert max(liquid) < 20


def test_trades_are_worth_what_the_index_says(house: House) -> None:
    """What was bought for what was sold, in basis points, is the fee and a little."""
    found = house.query(
        f"""
        select pool, min(distance) + any_value(fee_pips) / 100, max(distance)
        from (
            select
                trade.*,
                (token_bought_amount * bought.price_usd / (token_sold_amount * sold.price_usd) - 1)
                    * 10000 as distance,
            from defi.dex_trades as trade
            join ({_INDEX}) as bought
                on token_bought_address = bought.token
                and date_trunc('minute', block_time) = bought.minute
            join ({_INDEX}) as sold
                on token_sold_address = sold.token
                and date_trunc('minute', block_time) = sold.minute
            -- Of a flash swap, which pays in both tokens, two of four amounts are told as traded.
            where not (amount0_in_raw > 0 and amount0_out_raw > 0)
                and not (amount1_in_raw > 0 and amount1_out_raw > 0)
        )
        group by pool
        having count(*) > 100
        """
    )
    assert len(found) >= 6
    assert min(lowest for _, lowest, _ in found) > -30
    assert max(highest for _, _, highest in found) < 30


def test_a_trade_says_where_its_worth_comes_from(house: House) -> None:
    """Of tokens with a venue from the index; of others, in a pool with those, from that pool."""
    sources = dict(
        house.query(
            "select coalesce(amount_usd_source, 'none'), count(*) from defi.dex_trades "
            "where block_date in ('2024-12-31', '2025-01-01') group by all"
        )
    )
    assert sources["venue_index"] > 1000
    assert house.query(
        "select count(*) from defi.dex_trades "
        "where (amount_usd is null) != (amount_usd_source is null)"
    ) == [(0,)]
    # Outside of covered days, before 2024-12-31, nothing has a price.
    assert house.query(
        "select count(amount_usd), count(*) > 0 from defi.dex_trades "
        "where block_date = '2024-12-30'"
    ) == [(0, True)]
