"""The dbt models as assets: one dbt command rebuilds every partition of a Dagster run.

What is built of chains is built apart from what is built of venues: neither waits for what the
other lacks. Of chains, events are decoded by block range, in assets of each chain (`dbt_ranges`),
and days are made of those.
"""

import json
import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets
from dagster_duckdb import DuckDBResource
from filelock import FileLock
from packaging.version import Version

from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange, Dataset
from crypto_assets.checks.asset_checks import guards_of, mart_guards_of
from crypto_assets.checks.results import refusals
from crypto_assets.lake import Lake, Proof, find_range
from crypto_assets.partitions import days_of, ranges_of
from crypto_assets.publishing import published_at
from crypto_assets.settings import PROJECT_ROOT, Settings, export_to_dbt
from crypto_assets.sources.evm_calls import all_datasets
from crypto_assets.warehouse import CoveredDay, create_marts, load_chains, load_raw, proofs_around

PROJECT = DbtProject(PROJECT_ROOT / "dbt_project", profiles_dir=PROJECT_ROOT / "dbt_project")
WAREHOUSE_POOL = "warehouse"
# How dbt selects models of chains by block range, and those by day.
OF_RANGES = "tag:range"
OF_CHAINS = "tag:chain"
# What days of chains take from venues.
_INDEX = "published_index_prices_1m"
# Days, and stretches of blocks, that a message lists.
_SHOWN = 5


class Translator(DagsterDbtTranslator):
    """Groups models by the schema that an analyst finds them in."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The schema."""
        return str(dbt_resource_props["schema"])


class _OfChains(Translator):
    """Days of chains, which may be older than the first market of the catalogue."""

    def get_partition_mapping(
        self,
        dbt_resource_props: Mapping[str, Any],  # noqa: ARG002
        dbt_parent_resource_props: Mapping[str, Any],
    ) -> dg.PartitionMapping | None:
        """The same day of venues, if they have it: without it there are no prices, but days.

        Otherwise Dagster refuses to backfill such a day (1.13.27).
        """
        if dbt_parent_resource_props["name"] != _INDEX:
            return None
        return dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Of the index what is published, since that is what passed its checks."""
        if dbt_resource_props["name"] == _INDEX:
            return dg.AssetKey(["crypto_duckdb", "venues"])
        return super().get_asset_key(dbt_resource_props)


class _Dbt(DbtCliResource):
    """dbt without two preparations of every command that this project has no use for.

    dagster-dbt asks a process of its own for dbt's version (2.4 s), and makes an adapter in this
    process for fetching row counts (3 s). Together they take as long as dbt itself.
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(metadata.version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> None:  # type: ignore[override] # noqa: ARG002
        return None


def dbt_cli() -> DbtCliResource:
    """dbt of this very environment, whatever is on the PATH."""
    executable = Path(sysconfig.get_path("scripts"), "dbt")
    return _Dbt(project_dir=PROJECT, dbt_executable=str(executable))  # type: ignore[arg-type]


def prepare_manifest(settings: Settings) -> Path:
    """Path of dbt's manifest; parses the project first if one of its files is newer."""
    export_to_dbt(settings)
    newest = max(
        path.stat().st_mtime
        # Folders count too: their time tells that a file was removed.
        for folder in ("models", "macros", "tests", "docs")
        for path in (
            *PROJECT.project_dir.glob("*.yml"),
            PROJECT.project_dir / folder,
            *(PROJECT.project_dir / folder).rglob("*"),
        )
    )
    manifest = PROJECT.manifest_path
    manifest.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(manifest.parent / "parse.lock"):
        if not manifest.exists() or manifest.stat().st_mtime < newest:
            dbt_cli().cli(["parse", "--quiet"], target_path=manifest.parent).wait()
    return manifest


# The dbt command that rebuilds what the environment says, tests included. Dagster learns from dbt's
# output what was built, so DBT_QUIET must not count. Unit tests prove the SQL, not the data: `make
# test` runs them.
DBT_BUILD = ("build", "--no-quiet", "--exclude-resource-type", "unit_test")
# What a run rebuilds, see dbt's macro `window`.
_WINDOW = "DBT_WINDOW"


def days_window(days: Sequence[date]) -> dict[str, Any]:
    """The window of an unbroken range of days."""
    return {"from_day": days[0].isoformat(), "to_day": days[-1].isoformat()}


def build_dbt_assets(
    settings: Settings,
    manifest: Path,
    days: dg.DailyPartitionsDefinition,
    chains: Sequence[Chain],
) -> dg.AssetsDefinition:
    """Every dbt model of venues as an asset `schema/table`, with dbt's tests as its checks."""

    @dbt_assets(
        manifest=manifest,
        project=PROJECT,
        exclude=f"{OF_CHAINS} {OF_RANGES}",
        dagster_dbt_translator=Translator(),
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
        name="dbt",
    )
    def dbt_models(
        context: dg.AssetExecutionContext,
        dbt: DbtCliResource,
        warehouse: DuckDBResource,
        collector: dg.ResourceParam[Collector],
    ) -> Iterator[Any]:
        keys = days_of(list(context.partition_keys))
        with warehouse.get_connection() as connection, closing(connection):
            load_raw(connection, collector.lake, keys, chains=_datasets(chains))
        yield from run_dbt(settings, context, dbt, days_window(keys))

    return dbt_models


def build_dbt_chain_assets(
    settings: Settings,
    manifest: Path,
    days: dg.DailyPartitionsDefinition,
    chains: Sequence[Chain],
) -> dg.AssetsDefinition:
    """Every dbt model of chains, for days that at least one chain covers."""

    @dbt_assets(
        manifest=manifest,
        project=PROJECT,
        select=OF_CHAINS,
        exclude=OF_RANGES,
        dagster_dbt_translator=_OfChains(),
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
        name="dbt_chains",
    )
    def dbt_chain_models(
        context: dg.AssetExecutionContext,
        dbt: DbtCliResource,
        warehouse: DuckDBResource,
        collector: dg.ResourceParam[Collector],
    ) -> Iterator[Any]:
        keys = days_of(list(context.partition_keys))
        with warehouse.get_connection() as connection, closing(connection):
            covered = load_chains(connection, collector.lake, keys, chains)
            create_marts(connection, manifest)
        if uncovered := [day for day in keys if day not in {found.day for found in covered}]:
            raise _uncovered(collector.lake, chains, uncovered)
        if refused := _refused(collector.lake, chains, covered, range_marts(manifest)):
            raise refused
        yield from run_dbt(settings, context, dbt, days_window(keys))

    return dbt_chain_models


def chain_sources(chains: Sequence[Chain]) -> list[dg.AssetSpec]:
    """What dbt reads of all chains at once, each from the raw assets of every chain."""
    return [
        dg.AssetSpec(
            ["raw", f"chain_{kind}"],
            deps=[dg.AssetKey(["raw", chain.dataset(kind)]) for chain in chains],
            group_name="raw",
            description=f"{kind.capitalize()} of every chain, read in place.",
        )
        for kind in KINDS
    ] + [
        dg.AssetSpec(
            ["raw", "covered_days"],
            deps=[dg.AssetKey(["raw", chain.dataset("blocks")]) for chain in chains],
            group_name="raw",
            description="The UTC days of which the committed ranges of a chain hold every block.",
        ),
        dg.AssetSpec(
            ["raw", "trusted_tokens"],
            group_name="raw",
            description="The tokens that chains.yaml vouches for.",
        ),
    ]


def run_dbt(
    settings: Settings,
    context: dg.AssetExecutionContext,
    dbt: DbtCliResource,
    window: Mapping[str, Any],
) -> Iterator[Any]:
    """Build the selected models for some days or blocks; yields Dagster's events."""
    export_to_dbt(settings)
    # One folder for all runs, which the pool keeps apart, so that dbt parses only what changed.
    target = settings.home / "dbt" / "run"
    with rebuilding(window):
        command = dbt.cli(list(DBT_BUILD), context=context, target_path=target)
    yield from command.stream()


@contextmanager
def rebuilding(window: Mapping[str, Any]) -> Iterator[None]:
    """While it lasts, a dbt command that is begun rebuilds these days or blocks."""
    before = os.environ.get(_WINDOW)
    os.environ[_WINDOW] = json.dumps(window)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WINDOW]
        else:
            os.environ[_WINDOW] = before


def _datasets(chains: Sequence[Chain]) -> list[Dataset]:
    return [dataset for chain in chains for dataset in all_datasets(chain)]


def _uncovered(lake: Lake, chains: Sequence[Chain], days: Sequence[date]) -> dg.Failure:
    """What is missing of days that no chain covers, and what brings it."""
    named = ", ".join(map(str, days[:_SHOWN])) + (", ..." if len(days) > _SHOWN else "")
    hints = [
        f"{chain.name} has {_runs(proofs_around(lake, chain, days)) or 'no block'} around there: "
        f"run `crypto-assets backfill {chain.name} --from {days[0]} --to {days[-1]}`"
        for chain in chains
    ]
    return dg.Failure(
        description=f"no chain covers {named}: all blocks of such a day must be committed, one "
        f"before it and one after it. {'; '.join(hints) or 'The catalogue lists no chain'}",
        metadata={"uncovered_days": len(days)},
        allow_retries=False,
    )


def _refused(
    lake: Lake, chains: Sequence[Chain], covered: Sequence[CoveredDay], marts: Sequence[str]
) -> dg.Failure | None:
    """Why days may not be built: a range that one of them rests on has not passed every check.

    Or what is decoded of it is not published. Dagster's blocking ends with the run, and ranges are
    collected and decoded in runs of their own.
    """
    failed = []
    for chain in chains:
        ranges = dict.fromkeys(
            blocks
            for day in covered
            if day.chain == chain.name and day.first_block is not None
            for blocks in chain.ranges(day.first_block, day.last_block or 0)
        )
        held = [find_range(lake, ChainRange(chain.name, blocks)) for blocks in ranges]
        of_blocks = [proofs["blocks"] for proofs in held if proofs is not None]
        failed += refusals(lake, guards_of(chain), of_blocks)
        failed += undecoded(lake, chain, of_blocks, marts)
    if not failed:
        return None
    return dg.Failure(
        description=f"{covered[0].day} to {covered[-1].day} rest on block ranges that have "
        f"not passed their checks: {'; '.join(failed[:_SHOWN])}. Once this is mended, run these "
        "ranges again with their checks, and then the days",
        metadata={"failed_checks": len(failed)},
        allow_retries=False,
    )


def range_marts(manifest: Path) -> list[str]:
    """Tables that hold a part for each block range, as `intermediate.int_dex_swaps`."""
    return [name for name, model in _tables(manifest) if model["config"]["meta"].get("grid")]


def day_marts(manifest: Path) -> list[str]:
    """Tables of chains that hold a part for each day, as `network.blocks_daily`."""
    return [
        name
        for name, model in _tables(manifest)
        if "chain" in model["tags"] and not model["config"]["meta"].get("grid")
    ]


def _tables(manifest: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for node in json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values():
        if node["resource_type"] == "model" and node["config"]["materialized"] == "incremental":
            yield f"{node['schema']}.{node['name']}", node


def undecoded(
    lake: Lake, chain: Chain, of_blocks: Sequence[Proof], marts: Sequence[str]
) -> list[str]:
    """Why what is decoded of some ranges cannot be built upon."""
    lines = refusals(lake, mart_guards_of(chain), of_blocks)
    for proof in of_blocks:
        part = ChainRange(chain.name, BlockRange.parse(proof.partition))
        if published_at(lake, marts, part) < proof.fetched_at:
            lines.append(f"{part}: not decoded since it was committed")
    return lines


def _runs(of_blocks: Sequence[Proof]) -> str:
    """Committed blocks, without the seams of ranges that follow each other."""
    runs: list[tuple[int, int]] = []
    for blocks in ranges_of(proof.partition for proof in of_blocks):
        follows = bool(runs) and runs[-1][1] + 1 == blocks.first
        first = runs.pop()[0] if follows else blocks.first
        runs.append((first, blocks.last))
    return " and ".join(f"blocks {first} to {last}" for first, last in runs[-_SHOWN:])
