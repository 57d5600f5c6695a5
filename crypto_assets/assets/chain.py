"""Raw assets of a chain: one fetch of a block range makes three, recorded once it is proven."""

from collections.abc import Iterator, Sequence

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from crypto_assets.assets.collect_ranges import CollectedRange, RangeCollector
from crypto_assets.assets.raw import RECORDED_ALREADY, bars, not_proven
from crypto_assets.catalog import KINDS, Chain, Dataset, Kind
from crypto_assets.errors import CryptoAssetsError
from crypto_assets.lake import Proof, StaleRange, stale_ranges
from crypto_assets.partitions import range_partitions, ranges_of
from crypto_assets.publishing import publish_views

_PICTURE_WIDTH = 40


class RangeConfig(dg.Config):
    """What a person may ask of a chain's raw assets beside their partitions."""

    refetch: bool = Field(
        False, description="Fetch ranges again that are proven already, and replace them."
    )


def build_chain_assets(
    chain: Chain, datasets: Sequence[Dataset], policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The assets `raw/<chain>_blocks`, `_transactions` and `_logs`, for each range asked for."""
    keys = {
        kind: dg.AssetKey(["raw", dataset.name])
        for kind, dataset in zip(KINDS, datasets, strict=True)
    }

    @dg.multi_asset(
        name=f"raw__{chain.name}",
        specs=[
            dg.AssetSpec(
                keys[kind],
                description=dataset.description,
                group_name="raw",
                kinds={"parquet", "ethereum"},
                metadata={
                    "dagster/column_schema": dg.TableSchema(
                        [dg.TableColumn(field.name, str(field.type)) for field in dataset.schema]
                    ),
                    "key": ", ".join(dataset.key),
                },
            )
            for kind, dataset in zip(KINDS, datasets, strict=True)
        ],
        partitions_def=range_partitions(chain.name),
        backfill_policy=policy,
    )
    def raw(
        context: dg.AssetExecutionContext,
        config: RangeConfig,
        ranges: dg.ResourceParam[RangeCollector],
    ) -> Iterator[dg.MaterializeResult[None]]:
        failures: dict[str, CryptoAssetsError] = {}
        wanted = ranges_of(context.partition_keys)
        known = {stale.part for stale in stale_ranges(ranges.lake, chain.name)}
        for done in ranges.collect(chain, wanted, refetch=config.refetch):
            if done.error is not None:
                failures[str(done.part)] = done.error
                context.log.error(f"{type(done.error).__name__}: {done.error}")
                continue
            for kind, proof in done.proofs.items():
                context.log_event(
                    dg.AssetMaterialization(
                        asset_key=keys[kind],
                        partition=done.part.partition,
                        metadata=range_metadata(done, kind, proof, ranges),
                    )
                )
        for stale in stale_ranges(ranges.lake, chain.name):
            if stale.part not in known:
                context.log_event(stale_observation(chain, stale))
        publish_views(ranges.lake, ranges.chains.chains)
        for node, reason in ranges.source(chain).set_aside.items():
            context.log_event(
                dg.AssetObservation(keys["blocks"], description=f"{node} is set aside: {reason}")
            )
        if failures:
            raise not_proven(f"block ranges of {chain.name}", failures)
        for key in keys.values():
            yield dg.MaterializeResult(asset_key=key, metadata={RECORDED_ALREADY: True})

    return raw


def stale_observation(chain: Chain, stale: StaleRange) -> dg.AssetObservation:
    """That a committed range is off the chain, and the evidence, which outlives the range."""
    return dg.AssetObservation(
        asset_key=["raw", chain.dataset("blocks")],
        partition=stale.part.partition,
        description=f"stale: {stale.message}",
        metadata=stale.evidence,
    )


def range_metadata(
    done: CollectedRange, kind: Kind, proof: Proof, ranges: RangeCollector
) -> dict[str, dg.MetadataValue]:
    """What a person wants to see of one dataset of one range."""
    path = ranges.lake.file(done.part.of(kind))
    blocks = done.proofs["blocks"]
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/partition_row_count": dg.MetadataValue.int(proof.row_count),
        "bytes": dg.MetadataValue.int(path.stat().st_size),
        "status": dg.MetadataValue.text(proof.status),
        "first_block_at": dg.MetadataValue.text(_at(blocks, "first_at")),
        "last_block_at": dg.MetadataValue.text(_at(blocks, "last_at")),
        "digest": dg.MetadataValue.text(proof.content_digest),
        "last_hash": dg.MetadataValue.text(blocks.last_hash or ""),
        "joins": dg.MetadataValue.text(
            ", ".join(f"{side} {key}" for side, key in proof.neighbours.items()) or "no neighbour"
        ),
        "source": dg.MetadataValue.text(" ".join(file.url for file in proof.source)),
        "fetched_now": dg.MetadataValue.bool(done.is_new),
        "seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        "proofs": dg.MetadataValue.table(
            records=[
                dg.TableRecord({"claim": claim, "result": result})
                for claim, result in proof.checks.items()
            ],
            schema=dg.TableSchema([dg.TableColumn("claim"), dg.TableColumn("result")]),
        ),
    }
    if kind == "blocks":
        counts = pq.read_table(path, columns=["transaction_count"], partitioning=None)
        parts = np.array_split(np.asarray(counts["transaction_count"]), _PICTURE_WIDTH)
        sums = [int(part.sum()) for part in parts if part.size]
        metadata["transactions_along_the_range"] = dg.MetadataValue.md(
            f"    {bars(sums)}  {sum(sums):,} transactions"
        )
    return metadata


def _at(proof: Proof, name: str) -> str:
    at = getattr(proof, name)
    return f"{at:%Y-%m-%d %H:%M:%S}" if at is not None else ""
