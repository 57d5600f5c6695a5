"""A day of candles through ccxt: whole, or with holes that are named, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from collecting import House, Wire, answered

from crypto_assets.errors import (
    BrokenCandleError,
    MalformedRowError,
    NotFinalError,
    PermanentSourceError,
)

from .ccxt_exchanges import (
    BTC,
    DAY,
    FORMATS,
    START,
    Exchange,
    candle,
    instant,
    minutes,
    prove,
    sandbox,
)


def test_the_sandbox_has_a_whole_day(house: House) -> None:
    assert prove(house, sandbox()).row_count == 1440


def test_a_killed_day_goes_on_after_its_last_page(house: House) -> None:
    wire = Wire(Exchange(minutes()))
    wire.broken = lambda request: (
        answered(b"busy", 403) if request.url.params.get("limit") == "441" else None
    )
    with pytest.raises(PermanentSourceError):
        prove(house, wire)
    again = Wire(Exchange(minutes()))
    assert prove(house, again).row_count == 1440
    assert [request.url.params["limit"] for request in again.asked("usd/")] == ["441"]


def test_one_line_is_another_exchange_and_markets_are_loaded_once(house: House) -> None:
    for name, form in FORMATS.items():
        wire = Wire(Exchange(minutes(), name=name))
        assert prove(house, wire, listing=form.listing).row_count == 1440, name
        assert len(wire.asked(form.markets[0])) == 1


def test_neither_the_next_day_nor_the_forming_minute_is_taken(house: House) -> None:
    now = instant(1440 + 12)
    exchange = Exchange(minutes(0, 1440 + 13), name="gemini")
    proof = prove(house, exchange, listing=FORMATS["gemini"].listing, now=now)
    assert (proof.row_count, proof.last_at) == (1440, instant(1439))


@pytest.mark.parametrize("minute", [700, 1440, 1449])
def test_a_day_that_is_not_settled_is_refused(house: House, minute: int) -> None:
    with pytest.raises(NotFinalError, match="a day is fetched 0:10:00 after"):
        prove(house, Exchange(minutes()), now=instant(minute))


def test_whether_a_missing_minute_was_quiet_is_not_guessed(house: House) -> None:
    rows = minutes(0, 600) + minutes(603, 1440)
    (gap,) = prove(house, Exchange(rows)).gaps
    assert (gap.started_at, gap.ended_at) == (instant(600), instant(603))
    assert gap.reason == "source_missing"
    assert "no candle of the day has volume 0" in gap.evidence


def test_evidence_says_that_quiet_minutes_have_candles(house: House) -> None:
    rows = [candle(0, volume="0.00000000"), *minutes(2)]
    (gap,) = prove(house, Exchange(rows)).gaps
    assert "1 others of the day have volume 0, so that it prints quiet minutes" in gap.evidence


def test_the_first_day_begins_with_the_listing(house: House) -> None:
    listing = replace(BTC, since=DAY)
    (gap,) = prove(house, Exchange(minutes(740)), listing=listing).gaps
    assert (gap.reason, gap.ended_at) == ("not_listed", instant(740))


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        (candle(3, "1.5", "1.2", "1.4", "1.6"), BrokenCandleError, "high below"),
        (candle(3, "1.5", "1.7", "1.55", "1.6"), BrokenCandleError, "low above"),
        (candle(3, "0", "0", "0", "0"), BrokenCandleError, "price of zero or less"),
        (candle(3, volume="-1"), BrokenCandleError, "negative volume"),
        (candle(3, volume="NaN"), MalformedRowError, "volume of a candle is no number"),
        (candle(3, volume="Infinity"), MalformedRowError, "volume of a candle is no number"),
        (candle(3, volume="much"), MalformedRowError, "volume of a candle is None"),
        (candle(3, volume=""), MalformedRowError, "volume of a candle is None"),
        (candle(3)[:5], MalformedRowError, "volume of a candle is None"),
        (("soon", *candle(3)[1:]), MalformedRowError, "no list of a time and open"),
        (candle(3, volume=f"0.{'1' * 25}"), MalformedRowError, "volume of a row of REST"),
        (candle(3, volume="9" * 15), MalformedRowError, "volume of a row of REST"),
    ],
)
def test_wrong_candle_is_refused(house: House, row: Any, kind: type[Exception], words: str) -> None:
    def spoil(rows: list[Any], sent: Any) -> list[Any]:
        return [*rows[:3], row, *rows[4:]] if int(sent["start"]) == START else rows

    with pytest.raises(kind, match=words):
        prove(house, Exchange(minutes(), spoil))
    assert house.contents() == {}
