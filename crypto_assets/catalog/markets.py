"""The market catalogue: which market of which venue is collected, and over which days.

Grain: one `Listing` per venue and market. The file format is in `markets.yaml` beside this module;
a folder given by the setting `CATALOG` replaces the packaged files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from crypto_assets.catalog.files import find_file, read_file
from crypto_assets.errors import CatalogError

# The one venue that stands for many exchanges: its markets name theirs, as in BTC-USD@bitstamp.
_OF_MANY = "ccxt"

# pydantic's URL-free subset: what may stand in a folder name and in a venue's request.
_MarketName = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]+-[A-Z0-9]+(@[a-z0-9]+)?$")]
_Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]+$")]
_Venue = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    market: _MarketName
    symbol: _Symbol
    since: date
    until: date | None = Field(default=None)


_FILE = TypeAdapter(dict[_Venue, list[_Entry]])


@dataclass(frozen=True, slots=True)
class Listing:
    """One market at one venue: `market` is BASE-QUOTE, `symbol` is the venue's own name.

    `since` and `until` are UTC days, both inclusive; `until` is None while the market is listed.
    A market of venue ccxt is BASE-QUOTE@exchange, and its symbol is ccxt's name (BTC/USD).
    """

    venue: str
    market: str
    symbol: str
    since: date
    until: date | None = None

    @property
    def pair(self) -> str:
        """BASE-QUOTE."""
        return self.market.partition("@")[0]

    @property
    def exchange(self) -> str:
        """Where the market is traded: the exchange that it names, else the venue."""
        return self.market.partition("@")[2] or self.venue

    def is_listed_on(self, day: date) -> bool:
        """Whether the venue had this market on a UTC day."""
        return self.since <= day and (self.until is None or day <= self.until)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All listings, in the order of the file."""

    listings: tuple[Listing, ...]

    @property
    def venues(self) -> tuple[str, ...]:
        """Venue names in the order of the file."""
        return tuple(dict.fromkeys(listing.venue for listing in self.listings))

    def of_venue(self, venue: str) -> tuple[Listing, ...]:
        """Listings of a venue; raises CatalogError for a venue that is not in the catalogue."""
        found = tuple(listing for listing in self.listings if listing.venue == venue)
        if not found:
            raise CatalogError(
                f"venue {venue!r} is not in markets.yaml; it lists: {', '.join(self.venues)}"
            )
        return found


def load_catalog(folder: Path | None = None) -> Catalog:
    """Read and check `markets.yaml` in a folder (default: the packaged one).

    A folder that holds only chains.yaml leaves the packaged markets as they are. Raises
    CatalogError naming the file and every entry that is wrong.
    """
    path = find_file("markets.yaml", folder)
    example = "{market: BTC-USDT, symbol: BTCUSDT, since: 2017-08-17}"
    entries = read_file(path, _FILE, example)
    listings = tuple(
        Listing(venue, entry.market, entry.symbol, entry.since, entry.until)
        for venue, of_venue in entries.items()
        for entry in of_venue
    )
    if not listings:
        raise CatalogError(f"{path} lists no market at all")
    _check(path, listings)
    return Catalog(listings)


def _check(path: Path, listings: tuple[Listing, ...]) -> None:
    for field in ("market", "symbol"):
        seen: set[tuple[str, str, str]] = set()
        for listing in listings:
            key = (listing.venue, listing.exchange, getattr(listing, field))
            if key in seen:
                raise CatalogError(f"{path}: {listing.exchange} lists {field} {key[2]} twice")
            seen.add(key)
    for listing in listings:
        if ("@" in listing.market) != (listing.venue == _OF_MANY):
            form = "BASE-QUOTE@exchange" if listing.venue == _OF_MANY else "BASE-QUOTE"
            raise CatalogError(
                f"{path}: a market of {listing.venue} is {form}, not {listing.market}"
            )
        if listing.until is not None and listing.until < listing.since:
            raise CatalogError(
                f"{path}: {listing.venue} {listing.market} ends ({listing.until}) "
                f"before it starts ({listing.since})"
            )
