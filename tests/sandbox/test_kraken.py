"""Kraken's face of the sandbox: its wire format, its cursor, and what its faults change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest
from krakening import DAY, XBT, morning_after, nanos, sandboxed

from crypto_assets.catalog import Catalog, Listing, load_catalog
from crypto_assets.sandbox import FAULTS, create_app
from crypto_assets.sandbox.paged import CandleFault, PageFault, Skew

USDT = Listing("kraken", "USDT-USD", "USDTUSD", date(2017, 4, 19))
GONE = Listing("kraken", "DOGE-EUR", "XDGEUR", date(2020, 1, 1), date(2021, 1, 1))
NOW = morning_after(DAY)

Ask = Callable[..., Any]


@pytest.fixture
def kraken() -> Iterator[Ask]:
    """Asks a sandbox: `kraken("Trades", pair="XBTUSD")`; `faults` switches some on."""
    clients: dict[str, httpx.Client] = {}

    def ask(name: str, faults: str = "", **params: Any) -> Any:
        if faults not in clients:
            clients[faults] = httpx.Client(transport=sandboxed(faults, XBT, USDT, GONE))
        reply = clients[faults].get(f"https://api.kraken.com/0/public/{name}", params=params)
        assert reply.status_code == 200
        return json.loads(reply.content, parse_float=Decimal)

    yield ask
    for client in clients.values():
        client.close()


def error_of(reply: Any) -> str:
    assert [*reply] == ["error"]
    (error,) = reply["error"]
    return str(error)


def test_pairs_carry_krakens_names(kraken: Ask) -> None:
    everything = kraken("AssetPairs")
    assert everything["error"] == []
    found = {key: (p["altname"], p["wsname"]) for key, p in everything["result"].items()}
    assert found == {"XXBTZUSD": ("XBTUSD", "XBT/USD"), "USDTZUSD": ("USDTUSD", "USDT/USD")}
    for name in ("XBTUSD", "XXBTZUSD", "XBT/USD"):
        assert [*kraken("AssetPairs", pair=name)["result"]] == ["XXBTZUSD"]


@pytest.mark.parametrize("name", ["AssetPairs", "Trades", "OHLC"])
@pytest.mark.parametrize("pair", ["BTCUSD", "XDGEUR", "nothing"])
def test_unknown_and_delisted_pairs_are_an_error_array(kraken: Ask, name: str, pair: str) -> None:
    assert error_of(kraken(name, pair=pair)) == "EQuery:Unknown asset pair"


def test_trades_come_oldest_first_after_the_cursor_and_never_twice(kraken: Ask) -> None:
    since, ids = str(nanos(DAY)), []
    for _ in range(3):
        result = kraken("Trades", pair="XBTUSD", since=since)["result"]
        assert [*result] == ["XXBTZUSD", "last"]
        rows = result["XXBTZUSD"]
        price, volume, time, side, kind, misc, _ = rows[0]
        assert (price[-6], volume[-9], side in "bs", kind in "ml", misc) == (".", ".", 1, 1, "")
        assert isinstance(time, Decimal)
        assert all(int(row[2] * 10**9) >= int(since) - 500 for row in rows)
        assert len(rows) == 1000 or result["last"] == since
        assert abs(int(rows[-1][2] * 10**9) - int(result["last"])) < 500
        ids += [row[6] for row in rows]
        since = result["last"]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    newest = kraken("Trades", pair="XBTUSD")["result"]
    assert kraken("Trades", pair="XBTUSD", since=newest["last"])["result"] == {
        "XXBTZUSD": [],
        "last": newest["last"],
    }


def test_cursor_may_be_seconds_and_must_be_a_number(kraken: Ask) -> None:
    exact = kraken("Trades", pair="XBTUSD", since=nanos(DAY), count=5)
    assert len(exact["result"]["XXBTZUSD"]) == 5
    assert kraken("Trades", pair="XBTUSD", since=nanos(DAY) // 10**9, count=5) == exact
    assert (
        error_of(kraken("Trades", pair="XBTUSD", since="x")) == "EGeneral:Invalid arguments:since"
    )


@pytest.mark.parametrize("pair", ["XBTUSD", "USDTUSD"])
def test_candles_are_exact_sums_of_the_trades(kraken: Ask, pair: str) -> None:
    result = kraken("OHLC", pair=pair, interval=1)["result"]
    candles = next(iter(result.values()))
    forming = int(NOW.timestamp())
    assert [candle[0] for candle in candles] == [forming - 60 * at for at in range(720, -1, -1)]
    assert result["last"] == candles[-2][0]
    since, found = (forming - 721 * 60) * 10**9, {}
    while int((page := kraken("Trades", pair=pair, since=since)["result"])["last"]) > since + 1:
        found |= {row[6]: row for row in next(iter(page.values()))}
        # A nanosecond back: the cursor is exclusive and may cut between trades of one instant.
        since = int(page["last"]) - 1
    trades = [*found.values()]
    close = None
    for opened, *prices, vwap, volume, count in candles:
        inside = [row for row in trades if opened <= row[2] < opened + 60]
        assert count == len(inside)
        if not inside:
            assert (Decimal(volume), vwap) == (0, "0.0")
            assert close in (None, prices[-1])
            assert len({*prices}) == 1
        else:
            paid = [Decimal(row[0]) for row in inside]
            sizes = [Decimal(row[1]) for row in inside]
            assert [*map(Decimal, prices)] == [paid[0], max(paid), min(paid), paid[-1]]
            assert Decimal(volume) == sum(sizes)
            mean = sum(p * s for p, s in zip(paid, sizes, strict=True)) / sum(sizes)
            last_digit = Decimal(1).scaleb(-len(vwap.partition(".")[2]))
            assert 0 <= mean - Decimal(vwap) < last_digit
        close = prices[-1]
    assert any(candle[-1] == 0 for candle in candles)


def rows_of(reply: Any) -> list[Any]:
    return list(next(iter(reply["result"].values())))


def ids_of(reply: Any) -> list[int]:
    return [row[6] for row in rows_of(reply)]


PAGES: dict[str, Callable[[Any, Any], bool]] = {
    "page_overlap": lambda sound, bad: ids_of(bad)[10:] == ids_of(sound) != ids_of(bad),
    "page_repeat": lambda sound, bad: ids_of(bad)[-1] + 1 == ids_of(sound)[0],
    "page_skip": lambda sound, bad: ids_of(bad) == ids_of(sound)[3:],
    "page_reverse": lambda sound, bad: ids_of(bad) == ids_of(sound)[::-1],
    "cursor_reset": lambda sound, bad: bad["result"]["last"] == str(nanos(DAY)),
    "last_missing": lambda sound, bad: [*bad["result"]] == ["XXBTZUSD"],
}


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if isinstance(f, PageFault)])
def test_page_faults_show_on_the_wire(kraken: Ask, name: str) -> None:
    ask = {"pair": "XBTUSD", "since": nanos(DAY)}
    sound = kraken("Trades", **ask)
    assert PAGES[name](sound, kraken("Trades", f"{name}:1", **ask))
    assert kraken("Trades", f"{name}:1", **ask) == sound
    assert kraken("Trades", f"{name}@USDTUSD", **ask) == sound


CANDLES: dict[str, Callable[[list[Any], list[Any]], bool]] = {
    "candle_gap": lambda sound, bad: len(bad) == len(sound) - 3,
    "candle_high_below_low": lambda sound, bad: (
        [Decimal(row[2]) < Decimal(row[3]) for row in bad].count(True) == 1
    ),
}


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if isinstance(f, CandleFault)])
def test_candle_faults_show_on_the_wire(kraken: Ask, name: str) -> None:
    sound, bad = (rows_of(kraken("OHLC", faults, pair="XBTUSD")) for faults in ("", name))
    assert CANDLES[name](sound, bad)


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if isinstance(f, Skew)])
def test_skew_is_the_same_in_trades_and_candles(kraken: Ask, name: str) -> None:
    minute = nanos(DAY) // 10**9 + 20 * 3600

    def closes(faults: str) -> tuple[dict[int, Decimal], dict[int, Decimal]]:
        trades = rows_of(kraken("Trades", faults, pair="XBTUSD", since=minute))
        candles = rows_of(kraken("OHLC", faults, pair="XBTUSD"))
        until = int(trades[-1][2]) // 60 * 60
        of_trades = {int(row[2]) // 60 * 60: Decimal(row[0]) for row in trades}
        of_candles = {row[0]: Decimal(row[4]) for row in candles if row[-1]}
        return tuple(
            {at: price for at, price in prices.items() if minute <= at < until}
            for prices in (of_trades, of_candles)
        )  # type: ignore[return-value]

    (sound, same), (skewed, also) = closes(""), closes(name)
    assert sound == same
    assert skewed == also
    if name == "clock_off":
        shifted = {at + 60: price for at, price in sound.items()}
        assert {at: skewed[at] for at in [*shifted][:100]} == {
            at: shifted[at] for at in [*shifted][:100]
        }
    else:
        assert all(0 <= sound[at] * 101 / 100 - skewed[at] < Decimal("0.02") for at in sound)


def test_every_kraken_market_of_the_catalogue_has_its_face() -> None:
    listings = load_catalog().of_venue("kraken")
    with httpx.Client(transport=sandboxed("", *listings)) as client:
        for listing in listings:
            reply = client.get(
                "https://api.kraken.com/0/public/AssetPairs", params={"pair": listing.symbol}
            )
            ((_, pair),) = reply.json()["result"].items()
            assert pair["altname"] == listing.symbol
    addresses = {route.path for route in create_app(Catalog(listings)).routes}  # type: ignore[attr-defined]
    assert "/0/public/Trades" in addresses
