"""Kraken's candles, through the real client and lake, and what it really sent on 2025-11-10."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collecting import Wire, answered
from krakening import (
    DAY,
    NEXT_DAY,
    XBT,
    KrakenHouse,
    Row,
    Venue,
    candle,
    morning_after,
    nanos,
    said,
    sandboxed,
)

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import (
    BrokenCandleError,
    DuplicateIdError,
    IntegrityError,
    MalformedRowError,
    NotFinalError,
    OffGridError,
    UnexpectedReplyError,
    UnorderedIdError,
)
from crypto_assets.sources.kraken import OHLC, TRADES
from crypto_assets.sources.kraken_rows import (
    batch_of_trades,
    candles_of_page,
    read_candles,
    read_trades,
    trades_of_rows,
)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[KrakenHouse]:
    with KrakenHouse(tmp_path / "home") as built:
        yield built


def test_candles_are_those_that_kraken_keeps_and_the_rest_is_a_hole(house: KrakenHouse) -> None:
    wire = sandboxed()
    proof = house.prove(OHLC, DAY, wire)
    (gap,) = proof.gaps
    assert (proof.status, proof.row_count, proof.source_row_count) == ("complete", 360, 360)
    assert (gap.reason, gap.ended_at - gap.started_at) == ("source_missing", timedelta(hours=18))
    assert "newest 720 minutes" in gap.evidence
    assert len(wire.asked("OHLC")) == 1


@pytest.mark.parametrize(("minutes", "rows"), [(1, 719), (719, 1), (720, 0), (100_000, 0)])
def test_day_is_asked_for_only_while_some_of_it_is_left(
    house: KrakenHouse, minutes: int, rows: int
) -> None:
    now = morning_after(DAY, minutes=minutes, seconds=1)
    wire = sandboxed(now=now)
    proof = house.prove(OHLC, DAY, wire, now=now)
    assert (proof.row_count, proof.status) == (rows, "complete" if rows else "empty")
    assert sum((gap.ended_at - gap.started_at for gap in proof.gaps), timedelta()) == timedelta(
        minutes=1440 - rows
    )
    assert len(wire.asked("OHLC")) == (rows > 0)


def test_candle_that_is_still_forming_is_waited_for(house: KrakenHouse) -> None:
    now = morning_after(DAY, seconds=2)
    venue = Venue(candles=[candle(DAY, 1438), candle(DAY, 1439)])
    for candles in (venue.candles, []):
        with pytest.raises(NotFinalError, match="still forming"):
            house.prove(OHLC, DAY, Venue(candles=candles).wire(), now=now)
    assert house.contents() == {}
    venue.candles.append(candle(DAY + NEXT_DAY, 0))
    assert house.prove(OHLC, DAY, venue.wire(), now=now).row_count == 2


def test_minutes_left_out_are_a_hole_of_their_own(house: KrakenHouse) -> None:
    now = morning_after(DAY, minutes=1)
    proof = house.prove(OHLC, DAY, sandboxed("candle_gap", now=now), now=now)
    assert proof.row_count == 716
    assert [gap.reason for gap in proof.gaps] == ["source_missing"] * 2
    assert "leaves these minutes out" in proof.gaps[1].evidence


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        ([candle(DAY, 5, high="0.5")], BrokenCandleError, "high below its open or close"),
        ([candle(DAY, 5, low="2.5")], BrokenCandleError, "low above its open or close"),
        ([candle(DAY, 5, vwap="0.9")], BrokenCandleError, "mean price below its low"),
        ([candle(DAY, 5, vwap="4.1")], BrokenCandleError, "mean price above its high"),
        ([candle(DAY, 5, volume="0")], BrokenCandleError, "trades without volume"),
        ([candle(DAY, 5, count=0)], BrokenCandleError, "volume without trades"),
        ([candle(DAY, 5, count=-1)], BrokenCandleError, "fewer than no trades"),
        ([candle(DAY, 5.5)], OffGridError, "grid of 60 s"),
        ([candle(DAY, 5)] * 2, DuplicateIdError, "there twice"),
        ([candle(DAY, 5), candle(DAY, 4)], UnorderedIdError, "after a higher one"),
        ([candle(DAY, 5, count="ten")], MalformedRowError, "count of a row"),
        ([candle(DAY, 5, open="1.12345678901")], MalformedRowError, "open of a row"),
        ([candle(DAY, 5, close=None)], MalformedRowError, "None is no number"),
        ([candle(DAY, 5)[:7]], MalformedRowError, "not the 8 columns"),
        ([candle(DAY, 5, time=1.5)], MalformedRowError, "no whole second"),
    ],
)
def test_wrong_candle_is_refused(
    house: KrakenHouse, rows: list[Row], kind: type[IntegrityError], words: str
) -> None:
    venue = Venue(candles=[*rows, candle(DAY + NEXT_DAY, 0)])
    with pytest.raises(kind, match=words):
        house.prove(OHLC, DAY, venue.wire())
    assert house.contents() == {}
    folder = house.lake.quarantine(MarketDay(OHLC.name, XBT.market, DAY))
    assert [path.name for path in folder.glob("*/ohlc.json")] == ["ohlc.json"]


def test_high_below_low_of_the_sandbox_is_refused(house: KrakenHouse) -> None:
    with pytest.raises(BrokenCandleError):
        house.prove(OHLC, DAY, sandboxed("candle_high_below_low"))
    assert house.contents() == {}


def test_candles_without_last_are_refused(house: KrakenHouse) -> None:
    wire = Venue().wire()
    body = said({"XXBTZUSD": [candle(DAY + NEXT_DAY, 0)]}).read()
    wire.broken = lambda request: answered(body) if request.url.path.endswith("OHLC") else None
    with pytest.raises(UnexpectedReplyError, match="`last` is None"):
        house.prove(OHLC, DAY, wire)


# --- what Kraken really sent -------------------------------------------------------------------

REAL = date(2025, 11, 10)
USDT = Listing("kraken", "BTC-USDT", "XBTUSDT", date(2020, 1, 1))


@pytest.fixture
def recorded(realdata: Path, house: KrakenHouse) -> Callable[[Dataset], Path]:
    """Commits the recorded replies as that day of XBTUSDT, through client and lake."""
    folder = realdata / "kraken" / "rest"
    trades, ohlc = (
        (folder / f"{name}_2025-11-10.json").read_bytes()
        for name in ("Trades_XBTUSDT", "OHLC_XBTUSDT_1m")
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("AssetPairs"):
            return said({"XBTUSDT": {"altname": "XBTUSDT", "wsname": "XBT/USDT"}})
        return answered(trades if request.url.path.endswith("Trades") else ohlc)

    def commit(dataset: Dataset) -> Path:
        wire = Wire(httpx.MockTransport(answer))
        house.prove(dataset, REAL, wire, USDT, now=morning_after(REAL, minutes=17, seconds=30))
        return house.lake.file(MarketDay(dataset.name, USDT.market, REAL))

    return commit


def test_recorded_trades_are_read_exactly(recorded: Callable[[Dataset], Path]) -> None:
    rows = pq.read_table(recorded(TRADES), partitioning=None).to_pylist()
    # The other 35 of the page's 1,000 trades are of the next day.
    assert (len(rows), rows[0]["trade_id"]) == (965, 10218208)
    assert rows[0]["price"] == Decimal("105433.60000")
    assert rows[0]["volume"] == Decimal("0.00027625")
    assert rows[0]["time_ns"] == 1762795433_971744500
    assert [row["trade_id"] for row in rows] == [*range(10218208, 10218208 + 965)]


def test_recorded_candles_are_read_exactly(recorded: Callable[[Dataset], Path]) -> None:
    rows = pq.read_table(recorded(OHLC), partitioning=None).to_pylist()
    assert len(rows) == 703  # 12:17 to midnight
    assert rows[3] == {
        "open_time": datetime(2025, 11, 10, 12, 20), "open": Decimal("106038.1"),
        "high": Decimal("106044.3"), "low": Decimal("106038.1"), "close": Decimal("106040.1"),
        "vwap": Decimal("106039.6"), "volume": Decimal("0.08317981"), "count": 3,
    }  # fmt: skip


def test_candles_built_from_trades_equal_the_venues_own(realdata: Path) -> None:
    """In every minute that the trades cover whole, over midnight; vwap is cut off, not rounded."""
    folder = realdata / "kraken" / "rest"
    page = read_trades((folder / "Trades_XBTUSDT_2025-11-10.json").read_bytes(), "trades")
    kept = read_candles((folder / "OHLC_XBTUSDT_1m_2025-11-10.json").read_bytes(), "candles")
    trades, ohlc = [], []
    for day in (REAL, REAL + NEXT_DAY):
        part = MarketDay(TRADES.name, USDT.market, day)
        of_day = [
            trade
            for trade in trades_of_rows(page.rows, part)
            if nanos(day) <= trade.time_ns < nanos(day + NEXT_DAY)
        ]
        trades.append(batch_of_trades(of_day, part))
        ohlc += candles_of_page(kept, USDT, part, ()).batches
    with duckdb.connect() as con:
        con.register("trades", pa.Table.from_batches(trades))
        con.register("ohlc", pa.Table.from_batches(ohlc))
        found = con.execute(
            """
            with covered as (
                select
                    date_trunc('minute', min(time)) + interval 1 minute as starts,
                    date_trunc('minute', max(time)) as ends,
                from trades
            ),
            built as (
                select
                    date_trunc('minute', time) as open_time,
                    arg_min(price, trade_id) as open,
                    max(price) as high,
                    min(price) as low,
                    arg_max(price, trade_id) as close,
                    sum(volume)::decimal(28, 8) as volume,
                    count(*) as count,
                    -- Price in 1e-5 and volume in 1e-8, so that the division cuts off in tenths.
                    sum((price::decimal(38, 10) * 100000)::hugeint
                    * (volume * 100000000)::hugeint)
                    // (10000 * sum((volume * 100000000)::hugeint)) as vwap_tenths,
                from trades, covered
                where time >= starts and time < ends
                group by 1
            ),
            own as (
                select ohlc.*, (vwap::decimal(38, 10) * 10)::hugeint as vwap_tenths
                from ohlc, covered
                where open_time >= starts and open_time < ends and count > 0
            )
            select
                count(b.open_time),
                count(o.open_time),
                count(*) filter (
                    (b.open, b.high, b.low, b.close, b.volume, b.count, b.vwap_tenths)
                    is distinct from
                    (o.open, o.high, o.low, o.close, o.volume, o.count, o.vwap_tenths)
                ),
            from built b full join own o using (open_time)
            """
        ).fetchone()
    assert found == (272, 272, 0)
