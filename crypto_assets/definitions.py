"""Assembly only: what `dagster` and `dg` load.

Tests and the CLI call `build_definitions` with their own settings or sources.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import dagster as dg
import httpx
from dagster_duckdb import DuckDBResource

from crypto_assets import sandbox
from crypto_assets.assets.calls import build_calls_asset
from crypto_assets.assets.chain import build_chain_assets
from crypto_assets.assets.collect import Collector
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.assets.dbt import (
    build_dbt_assets,
    build_dbt_chain_assets,
    chain_sources,
    day_marts,
    dbt_cli,
    prepare_manifest,
    range_marts,
)
from crypto_assets.assets.dbt_ranges import build_dbt_range_assets, range_sources
from crypto_assets.assets.published import build_published_asset
from crypto_assets.assets.raw import build_raw_asset
from crypto_assets.automation import build_jobs, build_schedules
from crypto_assets.automation_chains import (
    build_chain_jobs,
    build_chain_sensors,
    build_recheck_schedule,
)
from crypto_assets.automation_marts import (
    build_days_sensor,
    build_marts_job,
    build_marts_sensor,
    build_network_job,
)
from crypto_assets.catalog import Catalog, Chain, Dataset, load_catalog, load_chains
from crypto_assets.checks.asset_checks import (
    build_chain_checks,
    build_checks,
    build_mart_checks,
    build_network_checks,
)
from crypto_assets.errors import CatalogError
from crypto_assets.lake import Lake
from crypto_assets.partitions import day_partitions, network_days, range_partitions
from crypto_assets.runs import tag_process
from crypto_assets.settings import Profile, Settings, load_settings
from crypto_assets.sources import DATASETS, VENUES, require_sources
from crypto_assets.sources.binance import Binance
from crypto_assets.sources.ccxt_candles import Ccxt
from crypto_assets.sources.coinbase import Coinbase
from crypto_assets.sources.evm import PROOFS, Evm
from crypto_assets.sources.evm_calls import all_datasets
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.sources.kraken import Kraken
from crypto_assets.sources.venue import Venue


def build_definitions(
    settings: Settings | None = None,
    *,
    collector: Collector | None = None,
    ranges: RangeCollector | None = None,
) -> dg.Definitions:
    """All definitions for some settings; the collectors replace the sources and the lake."""
    # Backfill policies and partitioned checks are marked beta and preview in Dagster; what this
    # project relies on of them is held by tests, so a user need not be warned at every start.
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    # On purpose: a retry of raw days must stay cheap, while dbt takes any range in one command.
    warnings.filterwarnings("ignore", message=".*materializes assets with varying BackfillPolicies")
    settings = settings or load_settings()
    collector = collector or connect_venues(settings)
    ranges = ranges or connect_chains(settings, collector.catalog)
    require_sources(collector.catalog.venues)
    if both := sorted(set(VENUES) & set(ranges.chains.names)):
        raise CatalogError(f"chains.yaml calls a chain {both[0]}, which is a venue")
    manifest = prepare_manifest(settings)
    policy = dg.BackfillPolicy.multi_run(settings.max_partitions_per_run)
    return dg.Definitions.merge(
        _of_venues(settings, collector, manifest, policy, ranges.chains.chains),
        _of_chains(settings, ranges, manifest, policy),
        dg.Definitions(
            resources={
                "collector": _resource(collector),
                "ranges": _resource(ranges),
                "dbt": dbt_cli(),
                "warehouse": DuckDBResource(database=str(settings.home / "warehouse.duckdb")),
            },
            executor=dg.in_process_executor,
        ),
    )


def connect_venues(settings: Settings) -> Collector:
    """The collector of market-days; it opens nothing before it collects."""
    catalog = load_catalog(settings.catalog)
    return Collector(
        Lake(settings.home),
        catalog,
        lambda venue: _connect(venue, settings, catalog),
        workers=settings.fetch_workers,
    )


def connect_chains(settings: Settings, catalog: Catalog) -> RangeCollector:
    """The collector of block ranges; it opens nothing before a chain is needed."""
    return RangeCollector(
        Lake(settings.home),
        load_chains(settings.catalog),
        lambda chain: _connect_chain(chain, settings, catalog),
        workers=settings.fetch_workers,
    )


def _of_venues(
    settings: Settings,
    collector: Collector,
    manifest: Path,
    policy: dg.BackfillPolicy,
    chains: Sequence[Chain],
) -> dg.Definitions:
    """What is partitioned by UTC day from the source on."""
    days = day_partitions(collector.catalog)
    raw = [build_raw_asset(dataset, days, policy) for dataset in DATASETS]
    # Without its dependencies: a backfill never reaches what lies behind an asset that it cannot
    # materialize (Dagster 1.13.27). All that reads it reads raw assets too.
    proofs = dg.AssetSpec(
        ["raw", "proofs"],
        group_name="raw",
        description="The proof of every committed file, read from the files themselves.",
    )
    marts = build_dbt_assets(settings, manifest, days, chains)
    published = build_published_asset("venues", manifest, days, sorted(marts.keys), _raw_of(chains))
    jobs = build_jobs(
        collector.catalog.venues,
        DATASETS,
        dg.AssetSelection.assets(*marts.keys, *published.keys),
    )
    return dg.Definitions(
        assets=[*raw, proofs, marts, published],
        asset_checks=build_checks(collector.lake, collector.catalog, days),
        jobs=jobs,
        schedules=build_schedules(jobs),
    )


def _of_chains(
    settings: Settings, ranges: RangeCollector, manifest: Path, policy: dg.BackfillPolicy
) -> dg.Definitions:
    """What is partitioned by block range, and what is made of that by UTC day."""
    chains = ranges.chains.chains
    days = network_days()
    marts = build_dbt_chain_assets(settings, manifest, days, chains)
    published = build_published_asset("chains", manifest, days, sorted(marts.keys), _raw_of(chains))
    network = build_network_job(dg.AssetSelection.assets(*marts.keys, *published.keys))
    decoded = {one.name: build_dbt_range_assets(settings, manifest, one, chains) for one in chains}
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        *chain_sources(chains),
        *range_sources(decoded.values()),
        marts,
        published,
    ]
    checks = build_network_checks(ranges.lake, chains, days)
    jobs: list[dg.JobDefinition | dg.UnresolvedAssetJobDefinition] = [network]
    schedules = []
    sensors = [build_days_sensor(chains, network, range_marts(manifest), day_marts(manifest))]
    for chain in chains:
        of_chain, grid = datasets(chain), range_partitions(chain.name)
        collect, register, recheck = build_chain_jobs(chain, of_chain)
        raw = build_chain_assets(chain, of_chain, policy)
        calls = build_calls_asset(chain, policy)
        shown = build_published_asset(
            chain.name,
            manifest,
            grid,
            sorted(decoded[chain.name].keys),
            _raw_of(chains),
            chain=chain,
        )
        decode = build_marts_job(
            chain, dg.AssetSelection.assets(*calls.keys, *decoded[chain.name].keys, *shown.keys)
        )
        assets += [raw, calls, decoded[chain.name], shown]
        checks += build_chain_checks(ranges.lake, chain, grid, partial(ranges.node_facts, chain))
        checks += build_mart_checks(ranges.lake, chain, chains, grid)
        jobs += [collect, decode, register, recheck]
        schedules.append(build_recheck_schedule(recheck, chain))
        sensors += build_chain_sensors(chain, collect)
        sensors.append(build_marts_sensor(chain, decode, range_marts(manifest)))
    return dg.Definitions(
        assets=assets, asset_checks=checks, jobs=jobs, schedules=schedules, sensors=sensors
    )


def _raw_of(chains: Sequence[Chain]) -> list[Dataset]:
    return [dataset for chain in chains for dataset in all_datasets(chain)]


def _resource(value: Collector | RangeCollector) -> dg.ResourceDefinition:
    """A collector, which every run needs first; so it is also where a run meets its process."""

    def make(context: dg.InitResourceContext) -> Collector | RangeCollector:
        if context.instance is not None and context.run is not None:
            tag_process(context.instance, context.run.run_id)
        return value

    return dg.ResourceDefinition(make)


def _transport(settings: Settings, catalog: Catalog) -> httpx.BaseTransport | None:
    """What answers instead of the network, if anything."""
    if settings.profile is not Profile.SANDBOX:
        return None
    chains = load_chains(settings.catalog)
    return sandbox.transport(sandbox.create_app(catalog, chains, faults=settings.sandbox_faults))


def _connect(venue: str, settings: Settings, catalog: Catalog) -> Venue:
    transport = _transport(settings, catalog)
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


def _connect_chain(chain: Chain, settings: Settings, catalog: Catalog) -> Evm:
    return Evm(
        chain,
        urls=[url.get_secret_value() for url in settings.urls_of(chain.name)],
        limits_folder=settings.home / "limits",
        transport=_transport(settings, catalog),
        proofs=settings.proofs_among(PROOFS),
        blocks_per_request=settings.blocks_per_request,
        calls_per_second=settings.rpc_calls_per_second,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of this environment's settings."""
    return build_definitions()
