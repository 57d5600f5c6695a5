"""Assembly only: what `dagster` and `dg` load.

Tests and the CLI call `build_definitions` with their own settings or sources.
"""

from __future__ import annotations

import warnings

import dagster as dg
from dagster_duckdb import DuckDBResource

from crypto_assets import sandbox
from crypto_assets.assets.collect import Collector
from crypto_assets.assets.dbt import build_dbt_assets, dbt_cli, prepare_manifest
from crypto_assets.assets.published import build_published_asset
from crypto_assets.assets.raw import build_raw_asset
from crypto_assets.automation import build_jobs, build_schedules
from crypto_assets.catalog import Catalog, load_catalog
from crypto_assets.checks.asset_checks import build_checks
from crypto_assets.errors import CatalogError
from crypto_assets.lake import Lake
from crypto_assets.partitions import day_partitions
from crypto_assets.runs import tag_process
from crypto_assets.settings import Profile, Settings, load_settings
from crypto_assets.sources import DATASETS, require_sources
from crypto_assets.sources.binance import Binance
from crypto_assets.sources.ccxt_candles import Ccxt
from crypto_assets.sources.coinbase import Coinbase
from crypto_assets.sources.kraken import Kraken
from crypto_assets.sources.venue import Venue


def build_definitions(
    settings: Settings | None = None, *, collector: Collector | None = None
) -> dg.Definitions:
    """All definitions for some settings; `collector` replaces the sources and the lake."""
    # Backfill policies and partitioned checks are marked beta and preview in Dagster; what this
    # project relies on of them is held by tests, so a user need not be warned at every start.
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    # On purpose: a retry of raw days must stay cheap, while dbt takes any range in one command.
    warnings.filterwarnings("ignore", message=".*materializes assets with varying BackfillPolicies")
    settings = settings or load_settings()
    if collector is None:
        catalog = load_catalog(settings.catalog)
        collector = Collector(
            Lake(settings.home),
            catalog,
            lambda venue: _connect(venue, settings, catalog),
            workers=settings.fetch_workers,
        )
    require_sources(collector.catalog.venues)
    days = day_partitions(collector.catalog)
    manifest = prepare_manifest(settings)
    policy = dg.BackfillPolicy.multi_run(settings.max_partitions_per_run)
    raw = [build_raw_asset(dataset, days, policy) for dataset in DATASETS]
    # Without its dependencies: a backfill never reaches what lies behind an asset that it cannot
    # materialize (Dagster 1.13.27). All that reads it reads raw assets too.
    proofs = dg.AssetSpec(
        ["raw", "proofs"],
        group_name="raw",
        description="The proof of every committed file, read from the files themselves.",
    )
    marts = build_dbt_assets(settings, manifest, days)
    published = build_published_asset(manifest, days, sorted(marts.keys))
    jobs = build_jobs(collector.catalog.venues, DATASETS)
    return dg.Definitions(
        assets=[*raw, proofs, marts, published],
        asset_checks=build_checks(collector.lake, collector.catalog, days),
        jobs=jobs,
        schedules=build_schedules(jobs),
        resources={
            "collector": _resource(collector),
            "dbt": dbt_cli(),
            "warehouse": DuckDBResource(database=str(settings.home / "warehouse.duckdb")),
        },
        executor=dg.in_process_executor,
    )


def _resource(collector: Collector) -> dg.ResourceDefinition:
    """The collector, which every run needs first; so it is also where a run meets its process."""

    def make(context: dg.InitResourceContext) -> Collector:
        if context.instance is not None and context.run is not None:
            tag_process(context.instance, context.run.run_id)
        return collector

    return dg.ResourceDefinition(make)


def _connect(venue: str, settings: Settings, catalog: Catalog) -> Venue:
    transport = None
    if settings.profile is Profile.SANDBOX:
        transport = sandbox.transport(sandbox.create_app(catalog, faults=settings.sandbox_faults))
    limits = settings.home / "limits"
    key = settings.binance_api_key
    match venue:
        case "binance":
            return Binance(
                archive_url=settings.binance_archive_url,
                rest_url=settings.binance_rest_url,
                api_key=key.get_secret_value() if key else None,
                limits_folder=limits,
                transport=transport,
            )
        case "coinbase":
            return Coinbase(url=settings.coinbase_url, limits_folder=limits, transport=transport)
        case "kraken":
            return Kraken(url=settings.kraken_url, limits_folder=limits, transport=transport)
        case "ccxt":
            return Ccxt(urls=settings.ccxt_url_of, limits_folder=limits, transport=transport)
        case _:
            raise CatalogError(f"no source is connected for venue {venue!r}")


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of this environment's settings."""
    return build_definitions()
