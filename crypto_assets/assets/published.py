"""The published database: the last asset, what everything before it was built for."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from crypto_assets.assets.collect import Collector
from crypto_assets.assets.dbt import WAREHOUSE_POOL
from crypto_assets.catalog import Chain, ChainRange, Dataset
from crypto_assets.partitions import days_of, ranges_of
from crypto_assets.publishing import publish


def build_published_asset(
    group: str,
    manifest: Path,
    partitions: dg.PartitionsDefinition[str],
    marts: Sequence[dg.AssetKey],
    chains: Sequence[Dataset],
    *,
    chain: Chain | None = None,
) -> dg.AssetsDefinition:
    """The asset `crypto_duckdb/<group>`: published marts of a partition, and the views over them.

    `marts` are the assets of the group's dbt models, and no others are published; `chains` are the
    datasets of all chains. With a `chain`, the group is its block ranges, else days.
    """

    @dg.asset(
        key=["crypto_duckdb", group],
        description=(
            f"crypto.duckdb and the marts of {group} behind it, as files that are replaced "
            "atomically: readers are never blocked and never see half a file."
        ),
        group_name="published",
        kinds={"duckdb", "parquet"},
        deps=marts,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
    )
    def crypto_duckdb(
        context: dg.AssetExecutionContext,
        warehouse: DuckDBResource,
        collector: dg.ResourceParam[Collector],
    ) -> dg.MaterializeResult[None]:
        keys = list(context.partition_keys)
        with warehouse.get_connection() as connection, closing(connection):
            published = publish(
                connection,
                collector.lake,
                json.loads(manifest.read_text(encoding="utf-8")),
                [ChainRange(chain.name, each) for each in ranges_of(keys)]
                if chain
                else days_of(keys),
                chains=chains,
                models={".".join(mart.path[:2]) for mart in marts},
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
