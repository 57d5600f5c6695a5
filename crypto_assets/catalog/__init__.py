"""What is collected: the catalogue files beside this module and their typed, checked loader.

Nothing here fetches or stores; how a listed market is fetched belongs to `sources`.
"""

from crypto_assets.catalog.datasets import Dataset, MarketDay
from crypto_assets.catalog.markets import Catalog, Listing, load_catalog

__all__ = ["Catalog", "Dataset", "Listing", "MarketDay", "load_catalog"]
