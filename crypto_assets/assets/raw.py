"""Raw assets: one per dataset, partitioned by UTC day; a day is recorded once it is proven."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import dagster as dg

# Dagster records one materialization per partition for an asset's result, all with the same
# metadata and only at the end of the step. Each day was recorded by its own event already, so the
# result is marked with the key by which Dagster itself leaves out such second events (checked by
# tests/assets/test_raw.py, which fails should a release drop it).
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from pydantic import Field

from crypto_assets.assets.collect import CollectedDay, Collector, Failure
from crypto_assets.catalog import Dataset
from crypto_assets.errors import CryptoAssetsError, TransientSourceError
from crypto_assets.lake import Proof
from crypto_assets.partitions import days_of

RECORDED_ALREADY = SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

_BARS = "▁▂▃▄▅▆▇█"


class RawConfig(dg.Config):
    """What a person may ask of a raw asset beside its partitions."""

    refetch: bool = Field(
        False, description="Fetch days again that are proven already, and replace them."
    )


def build_raw_asset(
    dataset: Dataset, days: dg.DailyPartitionsDefinition, policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The asset `raw/<dataset>`: every market of its venue for each partition asked for."""

    @dg.asset(
        key=["raw", dataset.name],
        description=dataset.description,
        group_name="raw",
        kinds={"parquet", dataset.venue},
        partitions_def=days,
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
        config: RawConfig,
        collector: dg.ResourceParam[Collector],
    ) -> Iterator[dg.MaterializeResult[None]]:
        failures: list[Failure] = []
        days = days_of(list(context.partition_keys))
        for day in collector.collect(dataset, days, refetch=config.refetch):
            failures += day.failures
            for failure in day.failures:
                context.log.error(f"{type(failure.error).__name__}: {failure.error}")
            if not day.failures:
                context.log_event(
                    dg.AssetMaterialization(
                        asset_key=context.asset_key,
                        partition=day.day.isoformat(),
                        metadata=day_metadata(day, dataset, collector),
                    )
                )
        if failures:
            raise not_proven(
                f"market-days of {dataset.name}", {str(f.part): f.error for f in failures}
            )
        yield dg.MaterializeResult(metadata={RECORDED_ALREADY: True})

    return raw


def not_proven(what: str, errors: Mapping[str, CryptoAssetsError]) -> dg.Failure:
    """The failure of a run in which some partitions could not be proven, and why, by partition."""
    failure = dg.Failure(
        description=f"{len(errors)} {what} are not proven; everything else is committed, run the "
        "partitions again once this is mended",
        metadata={
            part: f"{type(error).__name__}: {error}" for part, error in list(errors.items())[:50]
        },
        allow_retries=any(isinstance(error, TransientSourceError) for error in errors.values()),
    )
    failure.__cause__ = next(iter(errors.values()))
    return failure


def day_metadata(
    day: CollectedDay, dataset: Dataset, collector: Collector
) -> dict[str, dg.MetadataValue]:
    """What a person wants to see of one day: totals, then a line per market."""
    files = {
        proof.market: collector.lake.file(collector.part_of(proof)).stat().st_size
        for proof in day.proofs
    }
    rows = sum(proof.row_count for proof in day.proofs)
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(rows),
        "bytes": dg.MetadataValue.int(sum(files.values())),
        "fetched_now": dg.MetadataValue.int(day.fetched),
        "seconds": dg.MetadataValue.float(round(day.seconds, 3)),
        "markets": dg.MetadataValue.table(
            records=[
                dg.TableRecord(_market_row(proof, files[proof.market])) for proof in day.proofs
            ],
            schema=dg.TableSchema(
                [
                    dg.TableColumn(name, kind)
                    for name, kind in (
                        ("market", "string"),
                        ("status", "string"),
                        ("rows", "int"),
                        ("bytes", "int"),
                        ("first", "string"),
                        ("last", "string"),
                        ("gaps", "string"),
                        ("digest", "string"),
                        ("source", "string"),
                    )
                ]
            ),
        ),
        "price_by_hour": dg.MetadataValue.md(
            "\n".join(
                f"    {proof.market:>12}  {_sparkline(collector.hourly_prices(dataset, proof))}"
                for proof in day.proofs
            )
        ),
    }


def _market_row(proof: Proof, size: int) -> dict[str, str | int]:
    return {
        "market": proof.market,
        "status": proof.status,
        "rows": proof.row_count,
        "bytes": size,
        "first": f"{proof.first_at:%H:%M:%S.%f}" if proof.first_at else "",
        "last": f"{proof.last_at:%H:%M:%S.%f}" if proof.last_at else "",
        "gaps": "; ".join(
            f"{gap.reason} {gap.started_at:%H:%M}-{gap.ended_at:%H:%M}" for gap in proof.gaps
        ),
        "digest": proof.content_digest,
        "source": " ".join(file.url for file in proof.source),
    }


def _sparkline(prices: list[Decimal | None]) -> str:
    """A bar for each price; an hour without one is a dot."""
    known = [price for price in prices if price is not None]
    if not known:
        return bars(prices)
    return f"{bars(prices)}  {known[0].normalize():f} to {known[-1].normalize():f}"


def bars(values: Sequence[Decimal | int | None]) -> str:
    """A bar for each value from the lowest to the highest, and a dot for None."""
    known = [value for value in values if value is not None]
    if not known:
        return "·" * len(values)
    low, width = min(known), max(known) - min(known) or 1
    top = len(_BARS) - 1
    return "".join(
        "·" if value is None else _BARS[int((value - low) * top / width)] for value in values
    )
