"""Collecting Binance in a test: the real collector, client and lake, over a transport of files."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from crypto_assets.assets.collect import CollectedDay, Collector
from crypto_assets.catalog import Catalog, Dataset, Listing, MarketDay
from crypto_assets.lake import Lake, Proof
from crypto_assets.sandbox import create_app
from crypto_assets.sandbox import transport as sandbox_transport
from crypto_assets.sources.binance import KLINES, TRADES, Binance

BTC = Listing("binance", "BTC-USDT", "BTCUSDT", date(2017, 8, 17))
TODAY = date(2025, 6, 15)
BEFORE_LISTING = date(2017, 1, 1)

RestAnswer = Callable[[str, httpx.QueryParams], Any]


class House:
    """A lake in a folder of its own, and collectors for it; closes all that it opened."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def sandbox(self, faults: str = "", *, today: date = TODAY, **options: Any) -> Wire:
        """A new sandbox of BTCUSDT, with a count of what it is asked."""
        options = {"trades_per_day": 2500, **options}
        app = create_app(Catalog((BTC,)), faults=faults, today=today, **options)
        return Wire(sandbox_transport(app))

    def collector(
        self,
        wire: httpx.BaseTransport,
        *listings: Listing,
        now: datetime | None = None,
        workers: int = 2,
    ) -> Collector:
        """A collector of the listings (default: BTC-USDT), whose venue answers through `wire`."""
        binance = Binance(
            archive_url="https://data.binance.vision",
            rest_url="https://api.binance.com",
            transport=wire,
            now=lambda: now or noon(TODAY),
        )
        self._opened.callback(binance.close)
        return Collector(self.lake, Catalog(listings or (BTC,)), lambda _: binance, workers=workers)

    def collect(
        self,
        dataset: Dataset,
        days: Iterable[date],
        wire: httpx.BaseTransport,
        *listings: Listing,
        **options: Any,
    ) -> list[CollectedDay]:
        """Bring days up to date, whatever comes of it."""
        collector = self.collector(wire, *listings, **options)
        return list(collector.collect(dataset, list(days)))

    def prove(
        self,
        dataset: Dataset,
        day: date,
        wire: httpx.BaseTransport,
        *listings: Listing,
        **options: Any,
    ) -> Proof:
        """The proof of one day of one market; raises what kept it from being proven."""
        (done,) = self.collect(dataset, [day], wire, *listings, **options)
        for failure in done.failures:
            raise failure.error
        return done.proofs[0]

    def contents(self) -> dict[str, str]:
        """Every file of the lake with its SHA-256."""
        return {
            str(path.relative_to(self.lake.raw)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.lake.raw.rglob("*")
            if path.is_file()
        }

    def evidence(self, dataset: Dataset, day: date) -> list[dict[str, Any]]:
        """What the quarantine says of a day of BTC-USDT; `files` are the names beside it."""
        folder = self.lake.quarantine(MarketDay(dataset.name, BTC.market, day))
        return [
            json.loads(path.read_text()) | {"files": sorted(f.name for f in path.parent.iterdir())}
            for path in sorted(folder.glob("*/evidence.json"))
        ]


class Wire(httpx.BaseTransport):
    """Passes requests on and remembers them; `broken` may answer in place of what is behind it."""

    def __init__(self, behind: httpx.BaseTransport) -> None:
        self._behind = behind
        self.requests: list[httpx.Request] = []
        self.broken: Callable[[httpx.Request], httpx.Response | None] = lambda _: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.broken(request) or self._behind.handle_request(request)

    def asked(self, name: str) -> list[httpx.Request]:
        """Requests whose path ends in that name."""
        return [request for request in self.requests if request.url.path.endswith(name)]

    def close(self) -> None:
        self._behind.close()


class Shelf(httpx.BaseTransport):
    """Serves files as Binance's archive, each with its right checksum, and REST by a function."""

    def __init__(self, rest: RestAnswer = lambda path, sent: []) -> None:
        self.files: dict[str, bytes] = {}
        self._rest = rest

    def put(self, dataset: Dataset, day: date, archive: bytes, symbol: str = BTC.symbol) -> Shelf:
        """Publish the bytes of an archive."""
        kind = "trades" if dataset is TRADES else "1m"
        folder = f"trades/{symbol}" if dataset is TRADES else f"klines/{symbol}/1m"
        name = f"{symbol}-{kind}-{day}.zip"
        path = f"/data/spot/daily/{folder}/{name}"
        self.files[path] = archive
        digest = hashlib.sha256(archive).hexdigest()
        self.files[f"{path}.CHECKSUM"] = f"{digest}  {name}\n".encode()
        return self

    def put_csv(self, dataset: Dataset, day: date, csv: str, symbol: str = BTC.symbol) -> Shelf:
        """Publish an archive of one CSV under the name that it should have."""
        return self.put(dataset, day, zipped((member(dataset, day, symbol), csv.encode())), symbol)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path in self.files:
            return answered(self.files[path])
        if path.startswith("/api/"):
            said = self._rest(path.rsplit("/", 1)[1], request.url.params)
            return said if isinstance(said, httpx.Response) else answered(json.dumps(said).encode())
        return answered(b"<Error><Code>NoSuchKey</Code></Error>", 404)


def answered(body: bytes, status: int = 200) -> httpx.Response:
    """A response whose body is still to be read, as it comes from a network."""
    return httpx.Response(
        status, headers={"Content-Length": str(len(body))}, stream=httpx.ByteStream(body)
    )


def noon(day: date) -> datetime:
    """The middle of a UTC day."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def member(dataset: Dataset, day: date, symbol: str = BTC.symbol) -> str:
    """The name of the only file in an archive."""
    return f"{symbol}-{'trades' if dataset is TRADES else '1m'}-{day}.csv"


def zipped(*members: tuple[str, bytes]) -> bytes:
    """A zip archive of the members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def millis(day: date) -> int:
    """The start of a day in milliseconds since 1970."""
    return (day - date(1970, 1, 1)) // timedelta(milliseconds=1)


def trade_rows(day: date, count: int = 5, *, first_id: int = 100) -> list[list[str]]:
    """Trades as the archive writes them before 2025, one a second."""
    return [
        [
            str(first_id + at), f"{40_000 + at}.12000000", "0.50000000", f"{20_000 + at}.06000000",
            str(millis(day) + 1000 * at), "True" if at % 2 else "False", "True",
        ]
        for at in range(count)
    ]  # fmt: skip


def kline_rows(day: date, minutes: Iterable[int] = range(1440)) -> list[list[str]]:
    """Candles as the archive writes them before 2025."""
    return [
        [
            str(millis(day) + 60_000 * at), "1.50000000", "1.70000000", "1.40000000", "1.60000000",
            "10.00000000", str(millis(day) + 60_000 * at + 59_999), "15.00000000", "3",
            "4.00000000", "6.00000000", "0",
        ]
        for at in minutes
    ]  # fmt: skip


def csv_of(rows: Iterable[Iterable[str]], *, header: str = "") -> str:
    """Rows as the text of a CSV file."""
    lines = [header] if header else []
    return "".join(f"{line}\n" for line in [*lines, *(",".join(row) for row in rows)])


__all__ = [
    "BEFORE_LISTING",
    "BTC",
    "KLINES",
    "TODAY",
    "TRADES",
    "House",
    "Shelf",
    "Wire",
    "answered",
    "csv_of",
    "kline_rows",
    "member",
    "millis",
    "noon",
    "trade_rows",
    "zipped",
]
