"""The published database: the last asset, what everything before it was built for."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import dagster as dg
from dagster_duckdb import DuckDBResource

from crypto_assets.assets.collect import Collector
from crypto_assets.assets.dbt import WAREHOUSE_POOL
from crypto_assets.catalog import Dataset
from crypto_assets.partitions import days_of
from crypto_assets.warehouse import publish


def build_published_asset(
    group: Literal["venues", "chains"],
    manifest: Path,
    days: dg.DailyPartitionsDefinition,
    marts: Sequence[dg.AssetKey],
    chains: Sequence[Dataset],
) -> dg.AssetsDefinition:
    """The asset `crypto_duckdb/<group>`: published marts of a day, and the views over them.

    `marts` are the assets of the group's dbt models, and no others are published; `chains` are the
    datasets of all chains.
    """

    @dg.asset(
        key=["crypto_duckdb", group],
        description=(
            f"crypto.duckdb and the marts of {group} behind it, as files that are replaced "
            "atomically: readers are never blocked and never see half a day."
        ),
        group_name="published",
        kinds={"duckdb", "parquet"},
        deps=marts,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
    )
    def crypto_duckdb(
        context: dg.AssetExecutionContext,
        warehouse: DuckDBResource,
        collector: dg.ResourceParam[Collector],
    ) -> dg.MaterializeResult[None]:
        with warehouse.get_connection() as connection, closing(connection):
            published = publish(
                connection,
                collector.lake,
                json.loads(manifest.read_text(encoding="utf-8")),
                days_of(list(context.partition_keys)),
                chains=chains,
                models={".".join(mart.path) for mart in marts},
            )
        return dg.MaterializeResult(
            metadata={
                "files": published.files,
                "rows": published.rows,
                "database_replaced": published.is_replaced,
                "open_with": dg.MetadataValue.path(str(collector.lake.home / "crypto.duckdb")),
            }
        )

    return crypto_duckdb
