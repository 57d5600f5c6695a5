"""The dbt models as assets: one dbt command rebuilds every day of a Dagster run."""

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
from crypto_assets.partitions import days_of
from crypto_assets.settings import PROJECT_ROOT, Settings, export_to_dbt
from crypto_assets.warehouse import load_raw

PROJECT = DbtProject(PROJECT_ROOT / "dbt_project", profiles_dir=PROJECT_ROOT / "dbt_project")
WAREHOUSE_POOL = "warehouse"


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
    settings: Settings, manifest: Path, days: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    """Every dbt model as an asset `schema/table`, with dbt's tests as its checks."""

    @dbt_assets(
        manifest=manifest,
        project=PROJECT,
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
            load_raw(connection, collector.lake, keys)
        export_to_dbt(settings)
        arguments = dbt_arguments(keys)
        # One folder for all runs, which the pool keeps apart, so that dbt parses only what changed.
        target = settings.home / "dbt" / "run"
        yield from dbt.cli(arguments, context=context, target_path=target).stream()

    return dbt_models
