"""Each wrong entry of a catalogue is named, with the file and what an entry looks like."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from crypto_assets.catalog import Catalog, Listing, load_catalog
from crypto_assets.errors import CatalogError

SOUND = "{market: BTC-USDT, symbol: BTCUSDT, since: 2017-08-17}"
OKX = "{market: BTC-USDT@okx, symbol: BTC/USDT, since: 2018-01-10}"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "markets.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_packaged_catalogue_is_sound() -> None:
    catalog = load_catalog()
    assert "binance" in catalog.venues
    assert Listing("binance", "BTC-USDT", "BTCUSDT", date(2017, 8, 17)) in catalog.listings


def test_folder_replaces_the_packaged_file(tmp_path: Path) -> None:
    text = f"""
    kraken:
      - {{market: BTC-USD, symbol: XBTUSD, since: 2013-09-10, until: 2024-01-31}}
    binance:
      - {SOUND}
    """
    catalog = load_catalog(written(tmp_path, text))
    assert catalog == Catalog(
        (
            Listing("kraken", "BTC-USD", "XBTUSD", date(2013, 9, 10), date(2024, 1, 31)),
            Listing("binance", "BTC-USDT", "BTCUSDT", date(2017, 8, 17)),
        )
    )
    assert catalog.venues == ("kraken", "binance")
    assert [listing.symbol for listing in catalog.of_venue("binance")] == ["BTCUSDT"]


@pytest.mark.parametrize(
    ("day", "is_listed"),
    [
        (date(2019, 12, 31), False),
        (date(2020, 1, 1), True),
        (date(2020, 1, 31), True),
        (date(2020, 2, 1), False),
    ],
)
def test_both_ends_of_a_listing_belong_to_it(day: date, is_listed: bool) -> None:
    listing = Listing("binance", "A-B", "AB", date(2020, 1, 1), date(2020, 1, 31))
    assert listing.is_listed_on(day) is is_listed


def test_missing_file_says_which_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"markets\.yaml.*set CRYPTO_ASSETS_CATALOG"):
        load_catalog(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "valid dictionary"),
        ("[]", "valid dictionary"),
        ("binance: BTCUSDT", "binance: Input should be a valid list"),
        ("binance: [BTCUSDT]", "binance.0"),
        ("binance: [{market: BTC-USDT]", "is not valid YAML"),
        ("Binance: []", "Binance"),
        ("binance: [{symbol: BTCUSDT, since: 2017-08-17}]", "binance.0.market: Field required"),
        ("binance: [{market: BTC-USDT, since: 2017-08-17}]", "binance.0.symbol: Field required"),
        ("binance: [{market: BTC-USDT, symbol: BTCUSDT}]", "binance.0.since: Field required"),
        (f"binance: [{SOUND[:-1]}, untill: 2020-01-01}}]", "binance.0.untill: Extra inputs"),
        (f"binance: [{SOUND.replace('BTC-USDT', 'BTCUSDT')}]", "binance.0.market"),
        (f"binance: [{SOUND.replace('BTC-USDT', 'btc-usdt')}]", "binance.0.market"),
        (f"binance: [{SOUND.replace('BTC-USDT', '../BTC-X')}]", "binance.0.market"),
        (f"binance: [{SOUND.replace(': BTCUSDT', ': BTC USDT')}]", "binance.0.symbol"),
        (f"binance: [{SOUND.replace(': BTCUSDT', ': 123')}]", "binance.0.symbol"),
        (f"binance: [{SOUND.replace('2017-08-17', 'yesterday')}]", "binance.0.since"),
        (f"binance: [{SOUND.replace('2017-08-17', '20170817')}]", "binance.0.since"),
        (f"binance: [{SOUND}, {SOUND}]", "binance lists market BTC-USDT twice"),
        (
            f"binance: [{SOUND}, {SOUND.replace('BTC-USDT', 'XBT-USDT')}]",
            "binance lists symbol BTCUSDT twice",
        ),
        (f"binance: [{SOUND.replace('-USDT', '-USDT@okx')}]", "of binance is BASE-QUOTE, not BTC-"),
        (f"ccxt: [{SOUND}]", "a market of ccxt is BASE-QUOTE@exchange, not BTC-USDT"),
        (f"ccxt: [{SOUND.replace('-USDT', '-USDT@')}]", "ccxt.0.market"),
        (f"ccxt: [{SOUND.replace('-USDT', '-USDT@../okx')}]", "ccxt.0.market"),
        (f"ccxt: [{OKX}, {OKX}]", "okx lists market BTC-USDT@okx twice"),
        (f"ccxt: [{OKX}, {OKX.replace('BTC-USDT', 'XBT-USDT')}]", "okx lists symbol BTC/USDT twi"),
        (
            f"binance: [{SOUND[:-1]}, until: 2017-08-16}}]",
            r"BTC-USDT ends \(2017-08-16\) before it starts \(2017-08-17\)",
        ),
    ],
)
def test_wrong_entry_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CatalogError, match=words) as caught:
        load_catalog(written(tmp_path, text))
    assert str(tmp_path / "markets.yaml") in str(caught.value)


def test_every_wrong_entry_is_named_at_once(tmp_path: Path) -> None:
    text = "binance: [{market: x, symbol: BTCUSDT, since: 2017-08-17}, {market: A-B, symbol: AB}]"
    with pytest.raises(CatalogError) as caught:
        load_catalog(written(tmp_path, text))
    message = str(caught.value)
    assert "binance.0.market" in message
    assert "binance.1.since" in message
    assert "An entry looks like {market: BTC-USDT" in message


def test_same_market_may_be_at_two_venues(tmp_path: Path) -> None:
    text = f"binance: [{SOUND}]\nkraken: [{SOUND}]"
    assert len(load_catalog(written(tmp_path, text)).listings) == 2


def test_a_market_of_ccxt_names_its_exchange(tmp_path: Path) -> None:
    text = f"ccxt: [{OKX}, {OKX.replace('okx', 'bybit')}]\nbinance: [{SOUND}]"
    assert [
        (listing.venue, listing.exchange, listing.pair)
        for listing in load_catalog(written(tmp_path, text)).listings
    ] == [
        ("ccxt", "okx", "BTC-USDT"),
        ("ccxt", "bybit", "BTC-USDT"),
        ("binance", "binance", "BTC-USDT"),
    ]


def test_unknown_venue_is_named_with_those_there_are() -> None:
    with pytest.raises(CatalogError, match=r"venue 'bittrex' is not in markets\.yaml.*binance"):
        load_catalog().of_venue("bittrex")


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe binance", f"binance: [{SOUND.replace('2017-08-17', '2017-13-40')}]".encode()],
    ids=["not UTF-8", "a date that no calendar has"],
)
def test_file_that_cannot_even_be_read_as_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "markets.yaml").write_bytes(content)
    with pytest.raises(CatalogError, match=r"markets\.yaml"):
        load_catalog(tmp_path)
