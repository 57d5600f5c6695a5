"""Pure conversions: the unit of a time, and numbers from JSON that stay what they were."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from collecting import TRADES
from hypothesis import given
from hypothesis import strategies as st

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import (
    MalformedRowError,
    OutsidePartitionError,
    UnexpectedReplyError,
    WrongTimeUnitError,
)
from crypto_assets.sources.columns import json_rows, micros, raw_of_json, time_scale

PART = MarketDay(TRADES.name, "BTC-USDT", date(2025, 1, 1))
START = 1_735_689_600


@pytest.mark.parametrize(
    ("first", "scale"),
    [
        (START * 1000, 1000),
        (START * 1000 + 86_399_999, 1000),
        (START * 10**6, 1),
        (START * 10**6 + 86_399_999_999, 1),
    ],
)
def test_unit_is_known_by_the_day(first: int, scale: int) -> None:
    assert time_scale(first, PART) == scale


@pytest.mark.parametrize(("first", "unit"), [(START, "seconds"), (START * 10**9, "nanoseconds")])
def test_units_that_no_venue_documents_are_refused(first: int, unit: str) -> None:
    with pytest.raises(WrongTimeUnitError, match=f"in {unit}, expected milliseconds or micro"):
        time_scale(first, PART)


@pytest.mark.parametrize("first", [START * 1000 - 1, (START + 86_400) * 10**6, 0, -1, 2**63 - 1])
def test_time_of_another_day_is_refused(first: int) -> None:
    with pytest.raises(OutsidePartitionError, match=f"{first}, is not of that UTC day"):
        time_scale(first, PART)


def test_micros_are_exact() -> None:
    assert micros(datetime(2025, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == START * 10**6 + 1


SCHEMA = pa.schema([("id", pa.int64()), ("price", pa.decimal128(18, 8))])


@given(
    st.decimals(min_value=0, max_value=Decimal("9999999999.99999999"), places=8),
    st.integers(-(2**63), 2**63 - 1),
)
def test_numbers_of_json_come_through_exactly(price: Decimal, number: int) -> None:
    rows = json_rows(f'[{{"a": {number}, "p": "{price:f}"}}]'.encode(), "page")
    batch = raw_of_json(rows, ("a", "p"), SCHEMA, PART)
    assert batch.to_pylist() == [{"id": number, "price": price}]


@pytest.mark.parametrize(
    "price", ["1.123456789", "1e-9", "12345678901.12345678", "NaN", "Infinity", "", " ", "1,5"]
)
def test_price_that_does_not_fit_is_named(price: str) -> None:
    rows = [[1, "1.5"], [2, price]]
    with pytest.raises(MalformedRowError, match=r"price of a row of REST does not fit decimal128"):
        raw_of_json(rows, (0, 1), SCHEMA, PART)


@pytest.mark.parametrize("number", ["15.5", "15.0", "1e1", "true", '"15"', "null", str(2**63)])
def test_integer_that_is_none_is_named_not_cut(number: str) -> None:
    rows = json_rows(f'[[1, "1.5"], [{number}, "1.5"]]'.encode(), "page")
    with pytest.raises(MalformedRowError, match=r"id of a row of REST does not fit int64"):
        raw_of_json(rows, (0, 1), SCHEMA, PART)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[NaN]", b"null", b"<html>", b"[" * 100_000, b'{"code":-1000}', b"\xff"]
)
def test_body_that_is_no_array_is_refused(body: bytes) -> None:
    with pytest.raises(UnexpectedReplyError, match=r"page: expected a JSON array.*run again"):
        json_rows(body, "page")
