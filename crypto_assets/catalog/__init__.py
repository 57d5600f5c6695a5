"""What is collected: the catalogue files beside this module and their typed, checked loader.

Nothing here fetches or stores; how a listed market is fetched belongs to `sources`.
"""

from crypto_assets.catalog.chains import (
    KINDS,
    BlockRange,
    Chain,
    Chains,
    Kind,
    LogFilter,
    load_chains,
)
from crypto_assets.catalog.datasets import ChainRange, Dataset, MarketDay, Part, RangePart, Unit
from crypto_assets.catalog.markets import Catalog, Listing, load_catalog

__all__ = [
    "KINDS",
    "BlockRange",
    "Catalog",
    "Chain",
    "ChainRange",
    "Chains",
    "Dataset",
    "Kind",
    "Listing",
    "LogFilter",
    "MarketDay",
    "Part",
    "RangePart",
    "Unit",
    "load_catalog",
    "load_chains",
]
