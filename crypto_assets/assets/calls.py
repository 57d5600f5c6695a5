"""The asset of a chain's calls: what contracts answered about the logs of each block range."""

from collections.abc import Iterator

import dagster as dg

from crypto_assets.assets.chain import RangeConfig
from crypto_assets.assets.collect_calls import CollectedCalls
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.assets.raw import RECORDED_ALREADY, not_proven
from crypto_assets.catalog import CALLS, Chain
from crypto_assets.errors import CryptoAssetsError
from crypto_assets.partitions import range_partitions, ranges_of
from crypto_assets.sources.evm_calls import calls_dataset


def build_calls_asset(chain: Chain, policy: dg.BackfillPolicy) -> dg.AssetsDefinition:
    """The asset `raw/<chain>_calls`, for each range asked for; the range's logs must be there."""
    dataset = calls_dataset(chain)

    @dg.asset(
        key=["raw", dataset.name],
        deps=[dg.AssetKey(["raw", chain.dataset("logs")])],
        description=dataset.description,
        group_name="raw",
        kinds={"parquet", "ethereum"},
        partitions_def=range_partitions(chain.name),
        backfill_policy=policy,
        metadata={
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(field.name, str(field.type)) for field in dataset.schema]
            ),
            "key": ", ".join(dataset.key),
        },
    )
    def raw(
        context: dg.AssetExecutionContext,
        config: RangeConfig,
        ranges: dg.ResourceParam[RangeCollector],
    ) -> Iterator[dg.MaterializeResult[None]]:
        failures: dict[str, CryptoAssetsError] = {}
        wanted = ranges_of(context.partition_keys)
        for done in ranges.collect_calls(chain, wanted, refetch=config.refetch):
            if done.error is not None:
                failures[str(done.part)] = done.error
                context.log.error(f"{type(done.error).__name__}: {done.error}")
                continue
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=context.asset_key,
                    partition=done.part.partition,
                    metadata=calls_metadata(done, ranges),
                )
            )
        if failures:
            raise not_proven(f"calls of block ranges of {chain.name}", failures)
        yield dg.MaterializeResult(metadata={RECORDED_ALREADY: True})

    return raw


def calls_metadata(done: CollectedCalls, ranges: RangeCollector) -> dict[str, dg.MetadataValue]:
    """What a person wants to see of the calls of one range, which are proven."""
    proof = done.proof
    assert proof is not None  # noqa: S101
    path = ranges.lake.file(done.part.of(CALLS))
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(proof.row_count),
        "bytes": dg.MetadataValue.int(path.stat().st_size),
        "status": dg.MetadataValue.text(proof.status),
        "digest": dg.MetadataValue.text(proof.content_digest),
        "logs_digest": dg.MetadataValue.text(proof.group["logs"]),
        "source": dg.MetadataValue.text(", ".join(file.url for file in proof.source)),
        "fetched_now": dg.MetadataValue.bool(done.is_new),
        "asked_now": dg.MetadataValue.int(done.asked_now),
        "seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        "proofs": dg.MetadataValue.table(
            records=[
                dg.TableRecord({"claim": claim, "result": result})
                for claim, result in proof.checks.items()
            ],
            schema=dg.TableSchema([dg.TableColumn("claim"), dg.TableColumn("result")]),
        ),
    }
