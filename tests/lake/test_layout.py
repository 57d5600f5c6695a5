"""Paths stand for partitions and back; whatever else lies around is not committed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_assets.catalog import BlockRange, ChainRange, MarketDay
from crypto_assets.errors import CatalogError
from crypto_assets.lake import Lake
from lake import chain
from lake.chain import PART as RANGE
from lake.days import DAY, PART, commit, klines, trades

HOME = Path("home")
OTHERS = [
    ".binance_trades.parquet",
    ".binance_trades.1.parquet.tmp",
    "binance_trades.parquet.tmp",
    "binance_trades.1.parquet",
    "binance_klines.parquet",
    "deeper/binance_trades.parquet",
]
names = st.text("ABCXYZ0189", min_size=1, max_size=6)


def test_a_committed_file_lies_where_it_is_documented() -> None:
    folder = HOME / "lake" / "raw" / "binance_trades" / "market=BTC-USDT" / "date=2024-03-01"
    assert Lake(HOME).file(PART) == folder / "binance_trades.parquet"


@settings(deadline=None)
@given(
    st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True),
    names,
    names,
    st.sampled_from(["", "@bitstamp", "@okx"]),
    st.dates(),
)
def test_a_path_tells_its_partition(
    dataset: str, base: str, quote: str, exchange: str, day: date
) -> None:
    part = MarketDay(dataset, f"{base}-{quote}{exchange}", day)
    assert Lake(HOME).parse(Lake(HOME).file(part)) == part


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_stand_for_nothing(name: str) -> None:
    assert Lake(HOME).parse(Lake(HOME).file(PART).parent / name) is None


@pytest.mark.parametrize(
    "path",
    [
        "binance_trades/binance_trades.parquet",
        "binance_trades/market=btc-usdt/date=2024-03-01/binance_trades.parquet",
        "binance_trades/market=BTC USDT/date=2024-03-01/binance_trades.parquet",
        "binance_trades/market=../date=2024-03-01/binance_trades.parquet",
        "binance_trades/market=BTC-USDT@/date=2024-03-01/binance_trades.parquet",
        "binance_trades/market=BTC-USDT@OKX/date=2024-03-01/binance_trades.parquet",
        "binance_trades/market=BTC-USDT/date=2024-02-30/binance_trades.parquet",
        "binance_trades/market=BTC-USDT/date=2024-3-1/binance_trades.parquet",
        "binance_trades/market=BTC-USDT/date=20240301/binance_trades.parquet",
        "binance_trades/date=2024-03-01/market=BTC-USDT/binance_trades.parquet",
    ],
)
def test_other_folders_stand_for_nothing(path: str) -> None:
    assert Lake(HOME).parse(Lake(HOME).raw / path) is None


def test_paths_outside_the_lake_stand_for_nothing() -> None:
    assert Lake(HOME).parse(Lake(Path("elsewhere")).file(PART)) is None


def test_only_committed_files_are_listed(lake: Lake) -> None:
    candles = MarketDay("binance_klines", "BTC-USDT", DAY)
    other = MarketDay("binance_trades", "AAVE-USDT", DAY)
    commit(lake, trades(), PART)
    commit(lake, trades(other), other)
    commit(lake, klines(candles), candles)
    for name in OTHERS:
        path = lake.file(PART).with_name(name.split("/")[0])
        path.touch() if "/" not in name else path.mkdir()
    (lake.raw / "binance_trades" / "market=X-Y" / "date=2024-02-30").mkdir(parents=True)
    (lake.raw / "binance_trades" / "market=X-Y" / "date=2024-02-30" / "x.parquet").touch()
    assert [part for part, _ in lake.committed()] == [candles, other, PART]
    assert [part for part, _ in lake.committed("binance_trades")] == [other, PART]
    assert all(lake.file(part) == path for part, path in lake.committed())
    strays = {path.name for part, path in lake.strays() if part == PART}
    assert strays == {name.split("/")[0] for name in OTHERS}


def test_ranges_lie_where_they_are_documented() -> None:
    key = "range=018426000-018426999"
    part = ChainRange("ethereum", BlockRange(18_426_000, 18_426_999))
    lake = Lake(HOME)
    logs = HOME / "lake" / "raw" / "ethereum_logs" / key / "ethereum_logs.parquet"
    assert lake.file(part.of("logs")) == logs
    assert lake.parse(logs) == part.of("logs")
    assert lake.inflight(part) == HOME / "inflight" / "ethereum" / key
    assert lake.quarantine(part) == HOME / "quarantine" / "ethereum" / key
    assert lake.stale(part) == HOME / "stale" / "ethereum" / f"{key}.json"


@pytest.mark.parametrize(
    "name", ["range=100-109", "range=000000109-000000100", "000000100-000000109", "range=", "x"]
)
def test_other_folders_stand_for_no_range(lake: Lake, name: str) -> None:
    path = lake.raw / "ethereum_blocks" / name / "ethereum_blocks.parquet"
    path.parent.mkdir(parents=True)
    path.touch()
    assert lake.parse(path) is None
    assert lake.ranges("ethereum") == []
    assert lake.range_size("ethereum") is None


def test_days_and_ranges_are_listed_apart(lake: Lake) -> None:
    commit(lake, trades())
    parts = [RANGE.beside(step) for step in (9, 0, 3)]
    for part in parts:
        chain.commit(lake, part=part)
    lake.file(parts[2].of("blocks")).unlink()
    (lake.file(RANGE.of("logs")).parent / "stray").touch()
    assert [part for part, _ in lake.committed()] == [PART]
    assert lake.ranges("ethereum") == [RANGE, RANGE.beside(9)]
    assert lake.ranges("ethereum", "logs") == [RANGE, RANGE.beside(3), RANGE.beside(9)]
    assert lake.ranges("eth") == lake.ranges("ethereum_blocks") == []
    assert lake.range_size("ethereum") == 10
    assert list(lake.strays()) == []
    assert [part for part, _ in lake.range_strays("ethereum")] == [RANGE.of("logs")]


def test_ranges_in_quarantine_are_listed_by_chain(lake: Lake) -> None:
    assert lake.quarantined_ranges("ethereum") == []
    for step in (3, 0):
        lake.quarantine(RANGE.beside(step)).mkdir(parents=True)
    (lake.quarantine(RANGE).parent / "range=x").mkdir()
    lake.quarantine(ChainRange("base", RANGE.blocks)).mkdir(parents=True)
    assert lake.quarantined_ranges("ethereum") == [RANGE, RANGE.beside(3)]


def test_a_chain_is_held_in_ranges_of_one_size(lake: Lake) -> None:
    lake.check_grid("ethereum", 20)
    chain.commit(lake, part=RANGE)
    lake.check_grid("ethereum", 10)
    lake.check_grid("base", 20)
    with pytest.raises(CatalogError, match=r"ethereum: .* of 10 blocks, not of 20; set its"):
        lake.check_grid("ethereum", 20)


def test_ranges_have_locks_of_their_own(lake: Lake) -> None:
    with lake.partition_lock(RANGE), lake.commit_lock(RANGE):
        for step in range(1, 64):
            with lake.partition_lock(RANGE.beside(step)).acquire(blocking=False):
                pass
        with lake.commit_lock(ChainRange("base", RANGE.blocks)).acquire(blocking=False):
            pass
        for lock in (lake.partition_lock(RANGE), lake.commit_lock(RANGE.beside(1))):
            with pytest.raises(TimeoutError):
                lock.acquire(blocking=False)


def test_an_empty_home_holds_nothing(lake: Lake) -> None:
    assert list(lake.committed()) == list(lake.strays()) == []
    assert not lake.home.exists()


def test_partitions_have_locks_of_their_own(lake: Lake) -> None:
    other = MarketDay(PART.dataset, "ETH-USDT", DAY)
    with lake.partition_lock(PART), lake.commit_lock(PART):
        for step in range(1, 64):
            with lake.partition_lock(PART.beside(step)).acquire(blocking=False):
                pass
        with lake.commit_lock(other).acquire(blocking=False):
            pass
        with pytest.raises(TimeoutError):
            lake.partition_lock(PART).acquire(blocking=False)
        with pytest.raises(TimeoutError):
            lake.commit_lock(PART.beside(1)).acquire(blocking=False)


def test_clearing_what_is_in_flight_leaves_the_lake(lake: Lake) -> None:
    commit(lake, trades())
    lake.inflight(PART).mkdir(parents=True)
    (lake.inflight(PART) / "page.json").touch()
    lake.clear_inflight(PART)
    lake.clear_inflight(PART)
    assert not lake.inflight(PART).exists()
    assert lake.file(PART).exists()
