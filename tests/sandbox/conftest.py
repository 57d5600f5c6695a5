"""A small catalogue, and clients of sandboxes whose clock stands still."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import httpx
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.sandbox import create_app, transport

ARCHIVE = "https://data.binance.vision/data/spot/daily"
REST = "https://api.binance.com/api/v3"
TODAY = date(2025, 6, 15)

Client = Callable[..., httpx.Client]
Csv = list[list[str]]


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return Catalog(
        (
            Listing("binance", "BTC-USDT", "BTCUSDT", date(2017, 8, 17)),
            Listing("binance", "USDC-USDT", "USDCUSDT", date(2018, 12, 15)),
            Listing("binance", "PEPE-BTC", "PEPEBTC", date(2023, 5, 5), date(2024, 2, 1)),
            Listing("binance", "NEW-USDT", "NEWUSDT", date(2025, 6, 20)),
        )
    )


@pytest.fixture(scope="session")
def sound(catalog: Catalog) -> Iterator[httpx.Client]:
    """A client of a sandbox without faults, shared by the tests that only read."""
    with httpx.Client(transport=transport(create_app(catalog, today=TODAY))) as client:
        yield client


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Client]:
    """Builds clients of new sandboxes: `sandbox("gap@BTCUSDT")`."""
    opened: list[httpx.Client] = []

    def client(faults: str = "", timeout: float = 10, **options: Any) -> httpx.Client:
        app = create_app(catalog, faults=faults, **{"today": TODAY, **options})
        opened.append(httpx.Client(transport=transport(app), timeout=timeout))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def address(dataset: str, day: str, symbol: str = "BTCUSDT") -> str:
    """Of an archive; the dataset is `trades` or the interval of klines."""
    folder = f"trades/{symbol}" if dataset == "trades" else f"klines/{symbol}/{dataset}"
    return f"{ARCHIVE}/{folder}/{symbol}-{dataset}-{day}.zip"


def rows_of(archive: bytes) -> Csv:
    """The rows of a zip's only member."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        (name,) = opened.namelist()
        return [line.split(",") for line in opened.read(name).decode().splitlines()]
