"""Suites as Dagster asset checks: partitioned by day, recorded for every day of a run, blocking.

Thin: which days, which database, and what a person sees of a result.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final

import dagster as dg
import duckdb

# The type of a public field of a public event, but not exported by itself.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from crypto_assets.catalog import Catalog
from crypto_assets.checks import binance, coinbase, history, index, kraken, markets
from crypto_assets.checks.data_docs import build_data_docs, keep_validation
from crypto_assets.checks.results import write_results
from crypto_assets.checks.suite import Row, Suite, SuiteResult, evaluate
from crypto_assets.lake.layout import Lake
from crypto_assets.warehouse import attach_raw_views

SUITES: tuple[Suite, ...] = (
    *binance.SUITES,
    *coinbase.SUITES,
    *kraken.SUITES,
    *markets.SUITES,
    *history.SUITES,
    *index.SUITES,
)
_POOL = "warehouse"


def build_checks(
    lake: Lake, catalog: Catalog, days: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    """One asset check per suite; those over marts need the DuckDB resource `warehouse`."""
    return [_build_check(suite, lake, catalog, days) for suite in SUITES]


def keep(lake: Lake, result: SuiteResult) -> Path:
    """Keep a result: a file per day for `quality.check_results`, and its page; returns the page."""
    for day in result.days:
        write_results(lake, result.suite.name, day, result.rows_to_keep(day))
    page = keep_validation(lake.home, result)
    build_data_docs(lake.home)
    return page


def _build_check(
    suite: Suite, lake: Lake, catalog: Catalog, days: dg.PartitionsDefinition[str]
) -> dg.AssetChecksDefinition:
    def check(context: dg.AssetCheckExecutionContext) -> Any:
        keys = [date.fromisoformat(key) for key in context.partition_keys]
        with _connect(suite, lake, context, keys) as connection:
            result = evaluate(suite, connection, keys, catalog=catalog, run_id=context.run.run_id)
        return _events(context, result, keep(lake, result))

    with warnings.catch_warnings():
        # Partitioned checks are a preview; tests hold what is used of it.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.asset_check(
            asset=_asset_key(suite.asset),
            name=suite.name,
            description=suite.description,
            blocking=True,
            additional_deps=[_asset_key(asset) for asset in suite.also_reads],
            required_resource_keys={"warehouse"} if suite.reads_warehouse else set(),
            partitions_def=days,
            pool=_POOL if suite.reads_warehouse else None,
        )(check)


@contextmanager
def _connect(
    suite: Suite, lake: Lake, context: dg.AssetCheckExecutionContext, days: Sequence[date]
) -> Iterator[duckdb.DuckDBPyConnection]:
    if suite.reads_warehouse:
        # The resource leaves its connection open, and the file locked, when an error passes by.
        with context.resources.warehouse.get_connection() as connection, closing(connection):
            yield connection
    else:
        with duckdb.connect() as connection:
            attach_raw_views(connection, lake, days)
            yield connection


def _events(
    context: dg.AssetCheckExecutionContext, result: SuiteResult, page: Path
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """One evaluation for every day of the run.

    An AssetCheckResult would be recorded once, for no partition, in a run over several days, and
    Dagster would show each of those days as skipped (1.13.27).
    """
    asset_key = _asset_key(result.suite.asset)
    targets = _targets(context.instance, asset_key, result.days)
    for day in result.days:
        yield dg.AssetCheckEvaluation(
            asset_key=asset_key,
            check_name=result.suite.name,
            passed=result.verdict(day) is None,
            severity=dg.AssetCheckSeverity[result.verdict(day) or "ERROR"],
            blocking=True,
            partition=day.isoformat(),
            target_materialization_data=targets.get(day.isoformat()),
            metadata=day_metadata(result, day, page),
        )
    yield dg.Output(None)


def _targets(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, days: Sequence[date]
) -> dict[str | None, Target]:
    """The materializations that were judged; the UI drops an evaluation that is of an older one."""
    kind: Final = dg.DagsterEventType.ASSET_MATERIALIZATION
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset_key, kind, {day.isoformat() for day in days}
    )
    records = instance.get_asset_event_summary_records(
        kind, asset_key, storage_ids=list(latest.values())
    )
    return {
        record.partition: Target(
            storage_id=record.storage_id, run_id=record.run_id or "", timestamp=record.timestamp
        )
        for record in records
    }


def day_metadata(result: SuiteResult, day: date, page: Path) -> dict[str, dg.MetadataValue]:
    """What a person sees of one day: every claim with what was observed, and offending rows."""
    claims = result.of_day(day)
    metadata: dict[str, dg.MetadataValue] = {
        "claims": _table(
            {
                "claim": result.claim.name,
                "holds": "yes" if result.passed else f"NO ({result.claim.severity})",
                "observed": "; ".join(
                    f"{market}: " + ", ".join(f"{name} {value}" for name, value in seen.items())
                    for market, seen in result.observed.items()
                ),
                "meaning": result.claim.meaning,
            }
            for result in claims
        ),
        "claims_that_fail": dg.MetadataValue.int(sum(not claim.passed for claim in claims)),
        "days_in_this_run": dg.MetadataValue.int(len(result.days)),
        "data_docs": dg.MetadataValue.path(str(page)),
    }
    if offenders := result.offenders_of(day):
        metadata["offending_rows"] = _table(offenders)
    return metadata


def _table(rows: Any) -> dg.TableMetadataValue:
    records: list[Row] = list(rows)
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(record)) for record in records],
        schema=dg.TableSchema([dg.TableColumn(name) for name in (records[0] if records else ())]),
    )


def _asset_key(asset: str) -> dg.AssetKey:
    return dg.AssetKey(asset.split("/"))
