"""Replies parsed against Coinbase Exchange's documented formats, and faults on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.sandbox import create_app, transport

REST = "https://api.exchange.coinbase.com/products"
CATALOG = Catalog(
    (
        Listing("coinbase", "BTC-USD", "BTC-USD", date(2015, 7, 20)),
        Listing("coinbase", "NEW-USD", "NEW-USD", date(2025, 6, 20)),
    )
)
DAY = "2025-06-13"
Client = Callable[..., httpx.Client]


@pytest.fixture
def venue() -> Iterator[Client]:
    """Builds clients of new sandboxes: `venue("drift")`."""
    opened: list[httpx.Client] = []

    def client(faults: str = "", today: date = date(2025, 6, 15)) -> httpx.Client:
        app = create_app(CATALOG, faults=faults, today=today, trades_per_day=3000)
        opened.append(httpx.Client(transport=transport(app)))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def trades(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    reply = client.get(f"{REST}/BTC-USD/trades", params=params)
    assert reply.status_code == 200, reply.text
    return list(reply.json())


def candles(client: httpx.Client, start: str, end: str, granularity: int = 60) -> list[list[Any]]:
    params: dict[str, Any] = {"start": start, "end": end, "granularity": granularity}
    reply = client.get(f"{REST}/BTC-USD/candles", params=params)
    assert reply.status_code == 200, reply.text
    return list(json.loads(reply.text, parse_float=Decimal))


def test_trades_have_the_documented_form(venue: Client) -> None:
    reply = venue().get(f"{REST}/BTC-USD/trades")
    rows = reply.json()
    assert len(rows) == 1000
    for row in rows:
        assert list(row) == ["trade_id", "side", "size", "price", "time"]
        assert type(row["trade_id"]) is int
        assert row["side"] in ("buy", "sell")
        assert all(re.fullmatch(r"\d+\.\d{8}", row[name]) for name in ("size", "price"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?Z", row["time"])
    ids = [row["trade_id"] for row in rows]
    assert ids == list(range(ids[0], ids[0] - 1000, -1))
    assert (reply.headers["cb-before"], reply.headers["cb-after"]) == (str(ids[0]), str(ids[-1]))


def test_cursors_lead_to_older_and_newer_trades(venue: Client) -> None:
    client = venue()
    newest = trades(client, limit=10)
    older = trades(client, limit=10, after=newest[-1]["trade_id"])
    assert older[0]["trade_id"] == newest[-1]["trade_id"] - 1
    assert trades(client, limit=10, before=newest[4]["trade_id"]) == newest[:4]
    assert [row["trade_id"] for row in trades(client, after=4)] == [3, 2, 1]
    assert trades(client, after=1) == []
    assert trades(client, after=1 << 50, limit=1) == newest[:1]


def test_trades_are_as_old_as_the_clock_says(venue: Client) -> None:
    (newest,) = trades(venue(), limit=1)
    assert "2025-06-15T11:5" <= newest["time"] <= "2025-06-15T12:00:00Z"


def test_candles_have_the_documented_form_and_are_those_of_the_trades(venue: Client) -> None:
    client = venue()
    rows = candles(client, f"{DAY}T00:00:00Z", f"{DAY}T04:59:00Z")
    start = int(datetime.fromisoformat(f"{DAY}T00:00:00Z").timestamp())
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert rows[0][0] == start + 299 * 60
    assert rows[-1][0] < start <= rows[-2][0]  # one that precedes, as documented
    assert all(len(row) == 6 and row[1] <= min(row[3:5]) <= max(row[3:5]) <= row[2] for row in rows)
    page = trades(client, limit=1)
    while page[-1]["time"] > f"{DAY}T00:00:00Z":
        page += trades(client, after=page[-1]["trade_id"])
    first = [row for row in page if row["time"].startswith(f"{DAY}T00:00:")]
    prices = [Decimal(row["price"]) for row in first]
    assert rows[-2][1:] == [
        min(prices), max(prices), prices[-1], prices[0], sum(Decimal(row["size"]) for row in first),
    ]  # fmt: skip


def test_longer_candles_and_the_newest_ones(venue: Client) -> None:
    client = venue()
    hours = candles(client, f"{DAY}T00:00:00Z", f"{DAY}T23:00:00Z", 3600)
    assert len(hours) == 25
    newest = client.get(f"{REST}/BTC-USD/candles").json()
    assert newest[0][0] == int(datetime(2025, 6, 15, 11, 59, tzinfo=UTC).timestamp())
    assert 250 < len(newest) <= 300


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("NOSUCH/trades", 404, "NotFound"),
        ("NEW-USD/trades", 404, "NotFound"),
        ("NOSUCH/candles", 404, "NotFound"),
        ("BTC-USD/trades?limit=1001", 400, "Invalid limit"),
        ("BTC-USD/trades?after=x", 400, 'Invalid value for "after"'),
        ("BTC-USD/candles?granularity=120", 400, "Unsupported granularity"),
        ("BTC-USD/candles?start=x&end=y", 400, "Invalid start"),
        (
            f"BTC-USD/candles?start={DAY}T00:00:00Z&end={DAY}T05:01:00Z",
            400,
            "granularity too small for the requested time range. Count of aggregations requested "
            "exceeds 300",
        ),
    ],
)
def test_errors_are_objects_with_a_message(
    venue: Client, path: str, status: int, message: str
) -> None:
    reply = venue().get(f"{REST}/{path}")
    assert (reply.status_code, reply.json()) == (status, {"message": message})


# --- faults ------------------------------------------------------------------------------------


def ids(client: httpx.Client, **params: Any) -> list[int]:
    return [row["trade_id"] for row in trades(client, **params)]


def test_page_faults_change_pages_and_leave_single_trades_alone(venue: Client) -> None:
    sound = ids(venue(), after=5000, limit=20)
    assert sound == list(range(4999, 4979, -1))
    for fault, expected in {
        "page_overlap": [*range(5009, 4999, -1), *sound],
        "page_repeat": list(range(5019, 4999, -1)),
        "page_skip": sound[3:],
        "page_reverse": sound[::-1],
        "cursor_reset": sound,
    }.items():
        client = venue(fault)
        assert ids(client, after=5000, limit=20) == expected, fault
        assert ids(client, after=5000, limit=1) == sound[:1], fault
    params = {"after": 5000, "limit": 20}
    stuck = venue("cursor_reset").get(f"{REST}/BTC-USD/trades", params=params)
    assert stuck.headers["cb-after"] == "5000"
    assert "cb-after" not in venue("last_missing").get(f"{REST}/BTC-USD/trades").headers


def test_candle_faults_change_replies(venue: Client) -> None:
    asked = f"{DAY}T00:00:00Z", f"{DAY}T02:00:00Z"
    sound = candles(venue(), *asked)
    assert len(candles(venue("candle_gap"), *asked)) == len(sound) - 3
    assert all(row[1] <= row[2] for row in sound)
    (broken,) = (row for row in candles(venue("candle_high_below_low"), *asked) if row[2] < row[1])
    assert [broken[0], broken[2], broken[1], *broken[3:]] in sound


def test_skewed_venue_agrees_with_itself(venue: Client) -> None:
    asked = f"{DAY}T00:00:00Z", f"{DAY}T02:00:00Z"
    (sound,) = trades(venue(), after=5000, limit=1)
    (high,) = trades(venue("drift@BTC-USD"), after=5000, limit=1)
    assert Decimal(high["price"]) == Decimal(sound["price"]) * Decimal("1.01")
    by_time = {row[0]: row for row in candles(venue(), *asked)}
    for row in candles(venue("drift"), *asked):
        assert row[1:5] == [price * Decimal("1.01") for price in by_time[row[0]][1:5]]
        assert row[5] == by_time[row[0]][5]
    (fast,) = trades(venue("clock_off"), after=5000, limit=1)
    late = [datetime.fromisoformat(row["time"]) for row in (sound, fast)]
    assert (late[1] - late[0]).total_seconds() == 60
    shifted = {row[0]: row[1:] for row in candles(venue("clock_off"), *asked)}
    assert all(shifted[at + 60] == row[1:] for at, row in by_time.items() if at + 60 in shifted)
    assert len(shifted.keys() & {at + 60 for at in by_time}) > 100
