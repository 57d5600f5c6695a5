"""Suites as Dagster asset checks: partitioned, recorded for every partition of a run, blocking.

Thin: which partitions, which database, and what a person sees of a result.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import dagster as dg
import duckdb

# The type of a public field of a public event, but not exported by itself.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from crypto_assets.catalog import BlockRange, Catalog, Chain
from crypto_assets.checks import (
    binance,
    coinbase,
    defi,
    defi_days,
    history,
    index,
    kraken,
    markets,
    network,
)
from crypto_assets.checks.chain import chain_suites
from crypto_assets.checks.data_docs import build_data_docs, keep_validation
from crypto_assets.checks.nodes import nodes_agree
from crypto_assets.checks.results import write_results
from crypto_assets.checks.scope import Scope, chain_ranges, market_days
from crypto_assets.checks.scope import days as days_alone
from crypto_assets.checks.suite import Row, Suite, SuiteResult, evaluate
from crypto_assets.lake.layout import Lake
from crypto_assets.partitions import days_of, ranges_of
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.warehouse import attach_raw_views, load_chains, load_ranges

SUITES: tuple[Suite, ...] = (
    *binance.SUITES,
    *coinbase.SUITES,
    *kraken.SUITES,
    *markets.SUITES,
    *history.SUITES,
    *index.SUITES,
)
_POOL = "warehouse"

_Attach = Callable[[duckdb.DuckDBPyConnection, list[str]], None]


def build_checks(
    lake: Lake, catalog: Catalog, days: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    """Those of the venues; what is over marts needs the DuckDB resource `warehouse`."""

    def attach(connection: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
        attach_raw_views(connection, lake, days_of(keys))

    def as_they_are(connection: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
        """The marts of venues rest on views over all days."""

    def scope(keys: list[str]) -> Scope:
        return market_days(catalog, days_of(keys))

    return [
        _build_check(suite, lake, days, scope, as_they_are if suite.reads_warehouse else attach)
        for suite in SUITES
    ]


def build_chain_checks(
    lake: Lake,
    chain: Chain,
    ranges: dg.PartitionsDefinition[str],
    facts: Callable[[Sequence[BlockRange]], Sequence[Mapping[str, Any]]],
) -> list[dg.AssetChecksDefinition]:
    """Those of a chain's block ranges; `facts` asks every node about some blocks of each.

    See `chain_ranges`. An error of `facts` is one of the run: nothing was compared.
    """

    def attach(connection: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
        attach_raw_views(connection, lake, [], chains=datasets(chain), ranges=ranges_of(keys))

    def scope(keys: list[str]) -> Scope:
        return chain_ranges(chain, ranges_of(keys))

    def asked(keys: list[str]) -> Scope:
        return chain_ranges(chain, ranges_of(keys), facts(ranges_of(keys)))

    return [
        *(_build_check(suite, lake, ranges, scope, attach) for suite in chain_suites(chain)),
        _build_check(nodes_agree(chain), lake, ranges, asked, attach),
    ]


def guards_of(chain: Chain) -> tuple[str, ...]:
    """Names of the suites that a block range must pass before anything is built on it."""
    return tuple(suite.name for suite in (*chain_suites(chain), nodes_agree(chain)))


def mart_guards_of(chain: Chain) -> tuple[str, ...]:
    """Names of the suites that what is decoded of a range must pass before days are built on it."""
    return tuple(suite.name for suite in defi.range_suites(chain))


def build_mart_checks(
    lake: Lake, chain: Chain, chains: Sequence[Chain], ranges: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    """Those of what is decoded of a chain's ranges; they need the DuckDB resource `warehouse`."""

    def prepare(connection: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
        load_ranges(connection, lake, chain, ranges_of(keys), chains)

    def scope(keys: list[str]) -> Scope:
        return chain_ranges(chain, ranges_of(keys))

    return [_build_check(suite, lake, ranges, scope, prepare) for suite in defi.range_suites(chain)]


def build_network_checks(
    lake: Lake, chains: Sequence[Chain], days: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    """Those of the marts over all chains; they need the DuckDB resource `warehouse`."""

    def prepare(connection: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
        load_chains(connection, lake, days_of(keys), chains)

    def scope(keys: list[str]) -> Scope:
        return days_alone(days_of(keys))

    suites = (*network.SUITES, *defi_days.SUITES)
    return [_build_check(suite, lake, days, scope, prepare) for suite in suites]


def keep(lake: Lake, result: SuiteResult) -> Path:
    """Keep a result: a file per partition for `quality.check_results`, and its page, returned."""
    for key in result.partitions:
        write_results(lake, result.suite.name, result.grid, key, result.rows_to_keep(key))
    page = keep_validation(lake.home, result)
    build_data_docs(lake.home)
    return page


def _build_check(
    suite: Suite,
    lake: Lake,
    partitions: dg.PartitionsDefinition[str],
    scope: Callable[[list[str]], Scope],
    attach: _Attach,
) -> dg.AssetChecksDefinition:
    """`attach` makes the raw views that the suite reads, in the warehouse if it reads that."""

    def check(context: dg.AssetCheckExecutionContext) -> Any:
        keys = list(context.partition_keys)
        judged = scope(keys)
        with _connect(context, suite) as connection:
            attach(connection, keys)
            result = evaluate(suite, connection, judged, run_id=context.run.run_id)
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
            partitions_def=partitions,
            pool=_POOL if suite.reads_warehouse else None,
        )(check)


@contextmanager
def _connect(
    context: dg.AssetCheckExecutionContext, suite: Suite
) -> Iterator[duckdb.DuckDBPyConnection]:
    if suite.reads_warehouse:
        # The resource leaves its connection open, and the file locked, when an error passes by.
        with context.resources.warehouse.get_connection() as connection, closing(connection):
            yield connection
    else:
        with duckdb.connect() as connection:
            yield connection


def _events(
    context: dg.AssetCheckExecutionContext, result: SuiteResult, page: Path
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """One evaluation for every partition of the run.

    An AssetCheckResult would be recorded once, for no partition, in a run over several, and Dagster
    would show each of those as skipped (1.13.27).
    """
    asset_key = _asset_key(result.suite.asset)
    targets = _targets(context.instance, asset_key, result.partitions)
    for key in result.partitions:
        yield dg.AssetCheckEvaluation(
            asset_key=asset_key,
            check_name=result.suite.name,
            passed=result.verdict(key) is None,
            severity=dg.AssetCheckSeverity[result.verdict(key) or "ERROR"],
            blocking=True,
            partition=key,
            target_materialization_data=targets.get(key),
            metadata=partition_metadata(result, key, page),
        )
    yield dg.Output(None)


def _targets(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Sequence[str]
) -> dict[str | None, Target]:
    """The materializations that were judged; the UI drops an evaluation that is of an older one."""
    kind: Final = dg.DagsterEventType.ASSET_MATERIALIZATION
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset_key, kind, set(keys)
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


def partition_metadata(
    result: SuiteResult, partition: str, page: Path
) -> dict[str, dg.MetadataValue]:
    """What a person sees of a partition: every claim, what was observed, and offending rows."""
    claims = result.of(partition)
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
        f"{result.grid}s_in_this_run": dg.MetadataValue.int(len(result.partitions)),
        "data_docs": dg.MetadataValue.path(str(page)),
    }
    if offenders := result.offenders_of(partition):
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
