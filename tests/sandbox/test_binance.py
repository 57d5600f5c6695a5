"""Replies parsed against the documented formats of Binance's archive and REST."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import REST, Client, address, rows_of

AMOUNT = r"\d+\.\d{8}"
TRADE_ROW = rf"\d+,{AMOUNT},{AMOUNT},{AMOUNT},TIME,(True|False),True"
KLINE_ROW = (
    rf"TIME,{AMOUNT},{AMOUNT},{AMOUNT},{AMOUNT},{AMOUNT},TIME,{AMOUNT},\d+,{AMOUNT},{AMOUNT},0"
)


@pytest.mark.parametrize(("day", "digits"), [("2024-12-31", 13), ("2025-01-01", 16)])
@pytest.mark.parametrize(("dataset", "row"), [("trades", TRADE_ROW), ("1m", KLINE_ROW)])
def test_archives_have_the_documented_rows(
    sound: httpx.Client, dataset: str, row: str, day: str, digits: int
) -> None:
    reply = sound.get(address(dataset, day)).raise_for_status()
    documented = re.compile(row.replace("TIME", rf"\d{{{digits}}}"))
    assert all(documented.fullmatch(",".join(fields)) for fields in rows_of(reply.content))
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.namelist() == [f"BTCUSDT-{dataset}-{day}.csv"]
        assert archive.testzip() is None
    assert reply.headers["content-type"] == "application/zip"
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.headers["last-modified"].endswith("02:06:00 GMT")


def test_archives_of_a_real_day_have_the_same_shape(sound: httpx.Client, realdata: Path) -> None:
    file = "spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2023-03-24.zip"
    real = rows_of((realdata / "binance_vision" / file).read_bytes())
    ours = rows_of(sound.get(address("1m", "2023-03-24")).content)
    assert [row[0] for row in ours] == [row[0] for row in real]
    assert [[len(row) for row in real]] == [[len(row) for row in ours]]
    assert ours[0][11] == real[0][11]
    assert int(ours[0][6]) - int(ours[0][0]) == int(real[0][6]) - int(real[0][0]) == 59_999


def test_close_times_are_one_unit_short_of_the_next_minute(sound: httpx.Client) -> None:
    rows = rows_of(sound.get(address("1m", "2025-01-01")).content)
    assert {int(row[6]) - int(row[0]) for row in rows} == {59_999_999}
    assert len(rows) == 1440


def test_klines_of_an_archive_are_the_candles_of_its_trades(sound: httpx.Client) -> None:
    traded = rows_of(sound.get(address("trades", "2025-01-01")).content)
    candles = rows_of(sound.get(address("1m", "2025-01-01")).content)
    assert sum(Decimal(row[2]) for row in traded) == sum(Decimal(row[5]) for row in candles)
    assert sum(Decimal(row[3]) for row in traded) == sum(Decimal(row[7]) for row in candles)
    assert all(Decimal(row[1]) * Decimal(row[2]) == Decimal(row[3]) for row in traded)
    taker_bought = sum(Decimal(row[2]) for row in traded if row[5] == "False")
    assert taker_bought == sum(Decimal(row[9]) for row in candles)


def test_the_checksum_file_is_that_of_sha256sum(sound: httpx.Client) -> None:
    url = address("trades", "2024-01-03")
    digest = hashlib.sha256(sound.get(url).content).hexdigest()
    assert sound.get(f"{url}.CHECKSUM").text == f"{digest}  BTCUSDT-trades-2024-01-03.zip\n"


def test_archives_are_the_same_bytes_in_every_sandbox(sandbox: Client) -> None:
    for dataset in ("trades", "1m"):
        url = address(dataset, "2024-01-03")
        one, other = sandbox().get(url), sandbox().get(url)
        assert one.content == other.content
        assert one.headers["etag"] == other.headers["etag"]
        assert sandbox(seed=1).get(url).content != one.content


def test_the_content_of_archives_is_pinned(sound: httpx.Client) -> None:
    # Of the rows, not of the zip: how well zlib packs them differs between its builds.
    digests = [
        hashlib.sha256(repr(rows_of(sound.get(address(*which)).content)).encode()).hexdigest()
        for which in (
            ("trades", "2024-01-03"),
            ("trades", "2025-01-03"),
            ("1m", "2024-01-03"),
            ("1m", "2018-12-15", "USDCUSDT"),
        )
    ]
    assert [digest[:16] for digest in digests] == [
        "e6ee22ccee00c795",
        "990fdc54b9425137",
        "1edd54ae9c65680a",
        "7057d64ee4073c29",
    ]


def test_a_range_continues_a_download(sound: httpx.Client) -> None:
    url = address("trades", "2024-01-03")
    whole = sound.get(url)
    for asked, expected in (
        ("1000-", slice(1000, None)),
        ("-7", slice(-7, None)),
        ("0-9", slice(10)),
    ):
        part = sound.get(
            url, headers={"Range": f"bytes={asked}", "If-Range": whole.headers["etag"]}
        )
        assert part.status_code == 206
        assert part.content == whole.content[expected]
        assert part.headers["content-range"].endswith(f"/{len(whole.content)}")
    assert sound.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200
    beyond = sound.get(url, headers={"Range": f"bytes={len(whole.content)}-"})
    assert beyond.status_code == 416


@pytest.mark.parametrize(
    "url",
    [
        address("trades", "2024-01-03", "NOSUCH"),
        address("trades", "2017-08-16"),
        address("trades", "2025-06-15"),
        address("trades", "2024-02-02", "PEPEBTC"),
        address("1m", "2024-02-30"),
        address("7m", "2024-01-03"),
        address("trades", "2024-01-03").replace(".zip", ".tar"),
    ],
    ids=["unknown", "before_since", "today", "after_until", "no_day", "no_interval", "no_file"],
)
def test_what_is_not_published_is_the_storages_404(sound: httpx.Client, url: str) -> None:
    for one in (url, f"{url}.CHECKSUM"):
        reply = sound.get(one)
        assert reply.status_code == 404
        assert reply.headers["content-type"] == "application/xml"
        assert "<Code>NoSuchKey</Code>" in reply.text
        assert one.partition("vision/")[2] in reply.text


def test_a_day_is_published_once_it_is_over(sandbox: Client) -> None:
    url = address("trades", "2025-06-14")
    assert sandbox(today=date(2025, 6, 14)).get(url).status_code == 404
    assert sandbox(today=date(2025, 6, 15)).get(url).status_code == 200


def rest(client: httpx.Client, name: str, *, micro: bool = False, **params: Any) -> Any:
    headers = {"X-MBX-TIME-UNIT": "MICROSECOND"} if micro else {}
    reply = client.get(f"{REST}/{name}", params=params, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_rest_klines_equal_the_archive(sound: httpx.Client) -> None:
    archived = rows_of(sound.get(address("1m", "2025-01-03")).content)
    start = int(archived[0][0]) // 1000
    asked = {"symbol": "BTCUSDT", "interval": "1m", "startTime": start, "limit": 1000}
    page = rest(sound, "klines", micro=True, **asked)
    assert [[str(value) for value in row] for row in page] == archived[:1000]
    in_ms = rest(sound, "klines", **{**asked, "limit": 1})[0]
    assert (in_ms[0], in_ms[6]) == (start, start + 59_999)
    assert [type(value) for value in in_ms] == [int, *[str] * 5, int, str, int, str, str, str]


def test_rest_klines_take_both_ends_in_either_unit(sound: httpx.Client) -> None:
    start = 1_735_862_400_000
    minutes = {"symbol": "BTCUSDT", "interval": "1m"}
    three = rest(sound, "klines", **minutes, startTime=start, endTime=start + 120_000)
    assert [row[0] for row in three] == [start, start + 60_000, start + 120_000]
    times = {"startTime": start * 1000, "endTime": (start + 120_000) * 1000}
    assert rest(sound, "klines", **minutes, **times) == three
    assert rest(sound, "klines", **minutes, endTime=start + 120_000, limit=3) == three
    days = rest(sound, "klines", symbol="BTCUSDT", interval="1d", startTime=start, limit=2)
    assert [row[0] for row in days] == [start, start + 86_400_000]


def test_rest_knows_data_up_to_now(sound: httpx.Client) -> None:
    now = rest(sound, "time")["serverTime"]
    assert now == 1_749_988_800_000
    assert rest(sound, "time", micro=True) == {"serverTime": now * 1000}
    newest = rest(sound, "klines", symbol="BTCUSDT", interval="1m")
    assert len(newest) == 500
    assert newest[-1][0] == now
    last = rest(sound, "trades", symbol="BTCUSDT", limit=1)[0]
    assert now - 120_000 < last["time"] <= now
    assert rest(sound, "historicalTrades", symbol="BTCUSDT", fromId=last["id"]) == [last]
    for name in ("aggTrades", "klines"):
        later = {"symbol": "BTCUSDT", "interval": "1m", "startTime": now + 60_000}
        assert rest(sound, name, **later) == []


def test_rest_trades_equal_the_archive_page_by_page(sound: httpx.Client) -> None:
    archived = rows_of(sound.get(address("trades", "2025-01-03")).content)
    first, pages = int(archived[0][0]), []
    while len(pages) < len(archived):
        asked = {"symbol": "BTCUSDT", "fromId": first + len(pages), "limit": 5000}
        page = rest(sound, "historicalTrades", micro=True, **asked)
        assert len(page) == 1000
        pages += page
    assert [[str(value) for value in row.values()] for row in pages[: len(archived)]] == archived
    assert ",".join(pages[0]) == "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch"
    assert rest(sound, "historicalTrades", symbol="BTCUSDT", fromId=0, limit=1)[0]["id"] == 0


def test_rest_aggregates_cover_every_trade_once(sound: httpx.Client) -> None:
    archived = rows_of(sound.get(address("trades", "2024-01-03")).content)
    start = 1_704_240_000_000
    page = rest(sound, "aggTrades", symbol="BTCUSDT", startTime=start, limit=1000)
    assert page[0]["f"] == int(archived[0][0])
    assert list(page[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
    following = rest(sound, "aggTrades", symbol="BTCUSDT", fromId=page[-1]["a"], limit=1000)
    assert following[0] == page[-1]
    joined = page + following[1:]
    assert all(one["l"] + 1 == two["f"] for one, two in pairwise(joined))
    assert all(one["a"] + 1 == two["a"] for one, two in pairwise(joined))
    merged = next(row for row in joined if row["l"] > row["f"])
    at = merged["f"] - int(archived[0][0])
    fills = archived[at : at + merged["l"] - merged["f"] + 1]
    assert sum(Decimal(fill[2]) for fill in fills) == Decimal(merged["q"])
    assert {fill[1] for fill in fills} == {merged["p"]}
    last_of_day = rest(sound, "aggTrades", symbol="BTCUSDT", endTime=start + 86_399_999, limit=1)
    assert last_of_day[0]["l"] == int(archived[-1][0])


def test_exchange_info_names_symbols_status_and_grid(sandbox: Client, sound: httpx.Client) -> None:
    symbols = {
        row["symbol"]: row
        for row in rest(sound, "exchangeInfo", symbols='["BTCUSDT","PEPEBTC"]')["symbols"]
    }
    assert {name: row["status"] for name, row in symbols.items()} == {
        "BTCUSDT": "TRADING",
        "PEPEBTC": "BREAK",
    }
    assert (symbols["BTCUSDT"]["baseAsset"], symbols["BTCUSDT"]["quoteAsset"]) == ("BTC", "USDT")
    assert symbols["BTCUSDT"]["filters"][0]["tickSize"] == "0.01000000"
    one = rest(sound, "exchangeInfo", symbol="BTCUSDT")["symbols"]
    assert one == [symbols["BTCUSDT"]]
    assert len(rest(sandbox(today=date(2025, 6, 20)), "exchangeInfo")["symbols"]) == 4


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("trades?symbol=NOSUCH", -1121),
        ("trades?symbol=NEWUSDT", -1121),
        ("exchangeInfo?symbol=NOSUCH", -1121),
        ("exchangeInfo?symbols=[", -1100),
        ("klines?interval=1m", -1102),
        ("klines?symbol=BTCUSDT", -1102),
        ("klines?symbol=BTCUSDT&interval=7m", -1120),
        ("aggTrades?symbol=BTCUSDT&fromId=x", -1100),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", -1128),
        ("trades?symbol=BTCUSDT&limit=0", -1130),
    ],
)
def test_rest_errors_are_objects_with_a_code(sound: httpx.Client, query: str, code: int) -> None:
    reply = sound.get(f"{REST}/{query}")
    assert reply.status_code == 400
    assert set(reply.json()) == {"code", "msg"}
    assert reply.json()["code"] == code


def test_used_weight_adds_up(sandbox: Client) -> None:
    client = sandbox()
    used = [
        client.get(f"{REST}/{query}").headers["x-mbx-used-weight-1m"]
        for query in ("time", "klines?symbol=BTCUSDT&interval=1m&limit=1", "trades?symbol=NOSUCH")
    ]
    assert used[0] == "1"
    assert used[1:] in (["3", "28"], ["2", "27"], ["3", "25"])  # a minute may end in between
