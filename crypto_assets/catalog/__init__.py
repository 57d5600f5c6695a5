"""What is collected: the catalogue files beside this module and their typed, checked loader.

Nothing here fetches or stores; how a listed market is fetched belongs to `sources`.
"""

from crypto_assets.catalog.chains import (
    CALLS,
    KINDS,
    AnyKind,
    BlockRange,
    Chain,
    Chains,
    Kind,
    LogFilter,
    load_chains,
)
from crypto_assets.catalog.datasets import ChainRange, Dataset, MarketDay, Part, RangePart, Unit
from crypto_assets.catalog.markets import Catalog, Listing, load_catalog
from crypto_assets.catalog.protocols import (
    NATIVE,
    AaveV3,
    Deployment,
    Factory,
    Role,
    TrustedToken,
    UniswapV2,
    UniswapV3,
    UniswapV4,
    project_and_version,
)

__all__ = [
    "CALLS",
    "KINDS",
    "NATIVE",
    "AaveV3",
    "AnyKind",
    "BlockRange",
    "Catalog",
    "Chain",
    "ChainRange",
    "Chains",
    "Dataset",
    "Deployment",
    "Factory",
    "Kind",
    "Listing",
    "LogFilter",
    "MarketDay",
    "Part",
    "RangePart",
    "Role",
    "TrustedToken",
    "UniswapV2",
    "UniswapV3",
    "UniswapV4",
    "Unit",
    "load_catalog",
    "load_chains",
    "project_and_version",
]
