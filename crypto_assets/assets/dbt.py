"""The dbt models as assets: one dbt command rebuilds every day of a Dagster run.

What is built of chains is built apart from what is built of venues: a day of one needs nothing of
the other, and neither waits for what the other lacks.
"""

import json
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
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
from crypto_assets.catalog import KINDS, Chain, ChainRange, Dataset
from crypto_assets.checks.asset_checks import guards_of
from crypto_assets.checks.results import refusals
from crypto_assets.lake import Lake, Proof, find_range
from crypto_assets.partitions import days_of, ranges_of
from crypto_assets.settings import PROJECT_ROOT, Settings, export_to_dbt
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.warehouse import CoveredDay, load_chains, load_raw, proofs_around

PROJECT = DbtProject(PROJECT_ROOT / "dbt_project", profiles_dir=PROJECT_ROOT / "dbt_project")
WAREHOUSE_POOL = "warehouse"
# How dbt selects the models of chains.
OF_CHAINS = "tag:chain"
# Days, and stretches of blocks, that a message lists.
_SHOWN = 5


class _Translator(DagsterDbtTranslator):
    """Groups models by the schema that an analyst finds them in."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return str(dbt_resource_props["schema"])


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


def dbt_arguments(days: Sequence[date]) -> list[str]:
    """The dbt command that rebuilds an unbroken range of days, tests included."""
    window = {"from_day": days[0].isoformat(), "to_day": days[-1].isoformat()}
    # Dagster learns from dbt's output what was built, so DBT_QUIET must not count.
    # Unit tests prove the SQL, not the data: `make test` runs them.
    options = ["--no-quiet", "--exclude-resource-type", "unit_test"]
    return ["build", *options, "--vars", json.dumps(window)]


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
        exclude=OF_CHAINS,
        dagster_dbt_translator=_Translator(),
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
        yield from _build(settings, context, dbt, keys)

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
        dagster_dbt_translator=_Translator(),
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
        if uncovered := [day for day in keys if day not in {found.day for found in covered}]:
            raise _uncovered(collector.lake, chains, uncovered)
        if refused := _refused(collector.lake, chains, covered):
            raise refused
        yield from _build(settings, context, dbt, keys)

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
        )
    ]


def _build(
    settings: Settings,
    context: dg.AssetExecutionContext,
    dbt: DbtCliResource,
    days: Sequence[date],
) -> Iterator[Any]:
    export_to_dbt(settings)
    # One folder for all runs, which the pool keeps apart, so that dbt parses only what changed.
    target = settings.home / "dbt" / "run"
    yield from dbt.cli(dbt_arguments(days), context=context, target_path=target).stream()


def _datasets(chains: Sequence[Chain]) -> list[Dataset]:
    return [dataset for chain in chains for dataset in datasets(chain)]


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
    lake: Lake, chains: Sequence[Chain], covered: Sequence[CoveredDay]
) -> dg.Failure | None:
    """Why days may not be built: a range that one of them rests on has not passed every check.

    Dagster's blocking ends with the run, and ranges are collected in runs of their own.
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
    if not failed:
        return None
    return dg.Failure(
        description=f"{covered[0].day} to {covered[-1].day} rest on block ranges that have "
        f"not passed their checks: {'; '.join(failed[:_SHOWN])}. Once this is mended, run these "
        "ranges again with their checks, and then the days",
        metadata={"failed_checks": len(failed)},
        allow_retries=False,
    )


def _runs(of_blocks: Sequence[Proof]) -> str:
    """Committed blocks, without the seams of ranges that follow each other."""
    runs: list[tuple[int, int]] = []
    for blocks in ranges_of(proof.partition for proof in of_blocks):
        follows = bool(runs) and runs[-1][1] + 1 == blocks.first
        first = runs.pop()[0] if follows else blocks.first
        runs.append((first, blocks.last))
    return " and ".join(f"blocks {first} to {last}" for first, last in runs[-_SHOWN:])
