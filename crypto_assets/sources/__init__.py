"""How to fetch: `http` is the client that all share, every venue or chain is one file beside it.

Fetching does I/O and parsing is pure. Nothing here knows Dagster, DuckDB or the lake.
"""

from collections.abc import Iterable

from crypto_assets.errors import CatalogError
from crypto_assets.sources.binance import Binance
from crypto_assets.sources.ccxt_candles import Ccxt
from crypto_assets.sources.coinbase import Coinbase
from crypto_assets.sources.kraken import Kraken
from crypto_assets.sources.venue import Venue

# Every venue that can be collected, and the datasets that come of it.
VENUES: dict[str, type[Venue]] = {
    "binance": Binance,
    "coinbase": Coinbase,
    "kraken": Kraken,
    "ccxt": Ccxt,
}
DATASETS = tuple(dataset for venue in VENUES.values() for dataset in venue.datasets)
# A dataset and those that are always fetched with it: if one has a day, the others must.
SIBLINGS = {
    dataset.name: frozenset(other.name for other in venue.datasets) - {dataset.name}
    for venue in VENUES.values()
    for dataset in venue.datasets
}


def require_sources(venues: Iterable[str]) -> None:
    """Raise CatalogError for a venue that the catalogue lists and that has no source."""
    for venue in venues:
        if venue not in VENUES:
            raise CatalogError(
                f"markets.yaml lists venue {venue!r}, but there is no source for it; "
                f"known are {', '.join(VENUES)}"
            )


__all__ = ["DATASETS", "SIBLINGS", "VENUES", "require_sources"]
