"""dbt models by block range as assets of each chain: one dbt command decodes every range of a run.

A model is one table over all chains, and its asset `<schema>/<table>/<chain>` the share of one of
them, in that chain's partitions. `<schema>/<table>` stands for all shares: days are made of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets
from dagster_duckdb import DuckDBResource
from more_itertools import split_when

from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.assets.dbt import OF_RANGES, PROJECT, WAREHOUSE_POOL, Translator, run_dbt
from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange
from crypto_assets.checks.asset_checks import guards_of
from crypto_assets.checks.results import refusals
from crypto_assets.lake import Lake, find_calls, find_range
from crypto_assets.partitions import range_partitions, ranges_of
from crypto_assets.settings import Settings
from crypto_assets.warehouse import create_marts, load_ranges

# Raw relations over all chains, each of which has a raw asset of its own: `raw/ethereum_logs`.
_OF_EVERY_CHAIN = (*KINDS, "calls")
_SHOWN = 5


@dataclass
class _OfChain(Translator):
    """Keys of one chain's shares. What is no share of it, as the prices in views, is left out."""

    chain: Chain

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        schema, name = dbt_resource_props["schema"], str(dbt_resource_props["name"])
        kind = name.removeprefix("chain_")
        if dbt_resource_props["resource_type"] == "source" and kind in _OF_EVERY_CHAIN:
            return dg.AssetKey(["raw", f"{self.chain.name}_{kind}"])
        if "range" in dbt_resource_props["tags"]:
            return dg.AssetKey([schema, name, self.chain.name])
        return super().get_asset_key(dbt_resource_props)

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        raw = {dg.AssetKey(["raw", f"{self.chain.name}_{kind}"]) for kind in _OF_EVERY_CHAIN}
        own = [
            dep
            for dep in spec.deps
            if dep.asset_key in raw or dep.asset_key.path[-1] == self.chain.name
        ]
        return spec.replace_attributes(deps=own)


def build_dbt_range_assets(
    settings: Settings, manifest: Path, chain: Chain, chains: Sequence[Chain]
) -> dg.AssetsDefinition:
    """Every dbt model by block range, for the ranges of one chain."""

    @dbt_assets(
        manifest=manifest,
        project=PROJECT,
        select=OF_RANGES,
        dagster_dbt_translator=_OfChain(chain),
        partitions_def=range_partitions(chain.name),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
        name=f"dbt_{chain.name}",
    )
    def dbt_range_models(
        context: dg.AssetExecutionContext,
        dbt: DbtCliResource,
        warehouse: DuckDBResource,
        ranges: dg.ResourceParam[RangeCollector],
    ) -> Iterator[Any]:
        wanted = sorted(ranges_of(context.partition_keys))
        if refused := _refused(ranges.lake, chain, wanted):
            raise refused
        with warehouse.get_connection() as connection, closing(connection):
            load_ranges(connection, ranges.lake, chain, wanted, chains)
            create_marts(connection, manifest)
        yield from run_dbt(settings, context, dbt, blocks_window(chain, wanted))

    return dbt_range_models


def blocks_window(chain: Chain, ranges: Sequence[BlockRange]) -> dict[str, Any]:
    """The window of some ranges of a chain, in order."""
    stretches = split_when(ranges, lambda one, other: one.beside(1) != other)
    return {"chain": chain.name, "blocks": [[some[0].first, some[-1].last] for some in stretches]}


def range_sources(decoded: Iterable[dg.AssetsDefinition]) -> list[dg.AssetSpec]:
    """What stands for the shares of all chains, `<schema>/<table>`, given those of each."""
    shares = sorted(tuple(key.path) for of_chain in decoded for key in of_chain.keys)
    return [
        dg.AssetSpec(
            [schema, table],
            deps=[dg.AssetKey(share) for share in some],
            group_name=schema,
            description=f"{table} of every chain, by block range.",
        )
        for (schema, table), some in groupby(shares, key=itemgetter(0, 1))
    ]


def _refused(lake: Lake, chain: Chain, ranges: Sequence[BlockRange]) -> dg.Failure | None:
    """Why ranges may not be decoded: one is not committed, not checked, or its calls not made."""
    held = {blocks: find_range(lake, ChainRange(chain.name, blocks)) for blocks in ranges}
    failed = [
        f"{chain.name} {blocks}: not committed" for blocks, proofs in held.items() if not proofs
    ]
    of_blocks = [proofs["blocks"] for proofs in held.values() if proofs]
    failed += refusals(lake, guards_of(chain), of_blocks)
    # Without their answers every pool would be one that nobody knows.
    failed += [
        f"{chain.name} {blocks}: its contracts were not asked"
        for blocks, proofs in held.items()
        if proofs
        and not find_calls(lake, ChainRange(chain.name, blocks), proofs["logs"].content_digest)
    ]
    if not failed:
        return None
    return dg.Failure(
        description=f"these block ranges cannot be decoded: {'; '.join(failed[:_SHOWN])}. Run the "
        f"job {chain.name} over them and then all of {chain.name}_marts, or "
        f"`crypto-assets backfill {chain.name}`",
        metadata={"ranges_refused": len(failed)},
        allow_retries=False,
    )
