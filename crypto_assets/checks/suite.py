"""What a suite is, and evaluating one: DuckDB computes, Great Expectations judges.

A suite's `metrics` query gives one row per venue, market and partition, counted in one pass over
the data and with equality decided on exact decimals; the small frame of counts goes to Great
Expectations. (Its own SQL expectations fail on DuckDB: it reads the rows after it gave the
connection back, great_expectations #11579.) No Dagster and no file here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Literal

import duckdb
import pyarrow as pa

from crypto_assets.checks.scope import Grid, Scope
from crypto_assets.errors import CryptoAssetsError

Severity = Literal["ERROR", "WARN"]
Row = Mapping[str, Any]

# Offending rows shown for one partition; the count of all of them is in the metrics.
SHOWN_ROWS = 50

_KEY = ("venue", "market", "partition")
_BROKEN = "broken_claims"


class BrokenSuiteError(CryptoAssetsError):
    """A suite could not be judged: its query or an expectation is wrong, not the data."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold for every row of the metrics: one Great Expectations expectation, as data.

    `name` is the claim in the present tense and `meaning` one sentence for people. A claim of
    severity ERROR says that numbers are wrong; WARN, that a person should know.
    """

    name: str
    meaning: str
    expectation: str
    kwargs: Mapping[str, Any]
    severity: Severity = "ERROR"

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that the expectation looks at."""
        return tuple(v for k, v in self.kwargs.items() if k in {"column", "column_A", "column_B"})


def is_zero(column: str, name: str, meaning: str) -> Claim:
    """The claim that a count of wrong things is zero."""
    kwargs = {"column": column, "value_set": [0]}
    return Claim(name, meaning, "expect_column_values_to_be_in_set", kwargs)


def is_between(column: str, least: int, most: int, name: str, meaning: str) -> Claim:
    """The claim that a number lies within two bounds, both inclusive."""
    kwargs = {"column": column, "min_value": least, "max_value": most}
    return Claim(name, meaning, "expect_column_values_to_be_between", kwargs)


def as_warning(claim: Claim) -> Claim:
    """The same claim, which a market may break without a number being wrong."""
    return replace(claim, severity="WARN")


def are_equal(left: str, right: str, name: str, meaning: str) -> Claim:
    """The claim that two counts agree."""
    kwargs = {"column_A": left, "column_B": right}
    return Claim(name, meaning, "expect_column_pair_values_to_be_equal", kwargs)


@dataclass(frozen=True, slots=True)
class Suite:
    """Claims about one asset, judged for each partition: UTC days, or block ranges of a chain.

    Both queries see the relations of the `Scope` that is judged, and must use its parameters, so
    that only files of those partitions are read: `$from_day` and `$to_day`, inclusive, or for one
    range after the other `$partition`. `metrics` gives venue, market, `day` (of ranges `partition`)
    and integers. `offenders` gives the rows that break a claim: claim, venue, market, day or
    partition, place (where in it), found, expected. `also_reads` are assets, other than the one it
    guards, that must be there before it is judged. A broken claim of severity ERROR blocks what is
    built on the asset.
    """

    name: str
    asset: str
    description: str
    claims: tuple[Claim, ...]
    metrics: str
    offenders: str
    also_reads: tuple[str, ...] = ()

    @property
    def reads_warehouse(self) -> bool:
        """Whether it needs warehouse.duckdb; suites over raw assets read the lake alone."""
        return not self.asset.startswith("raw/")


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """One claim judged for one partition.

    `observed` maps each market to the metrics it was judged by; `unexpected` holds (venue, market,
    partition) of those for which the claim does not hold.
    """

    claim: Claim
    partition: str
    observed: Mapping[str, Row]
    unexpected: tuple[tuple[str, str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether the claim holds for every market of the partition."""
        return not self.unexpected


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """A suite judged for partitions. `validation` is Great Expectations' own result, as JSON."""

    suite: Suite
    grid: Grid
    partitions: tuple[str, ...]
    results: tuple[ClaimResult, ...]
    offenders: tuple[Row, ...]
    validation: Mapping[str, Any]
    evaluated_at: datetime
    run_id: str

    @property
    def passed(self) -> bool:
        """Whether every claim holds for every partition."""
        return all(result.passed for result in self.results)

    @property
    def failed(self) -> tuple[str, ...]:
        """Partitions for which a claim of severity ERROR does not hold."""
        return tuple(key for key in self.partitions if self.verdict(key) == "ERROR")

    @property
    def warned(self) -> tuple[str, ...]:
        """Partitions for which only claims of severity WARN do not hold."""
        return tuple(key for key in self.partitions if self.verdict(key) == "WARN")

    def verdict(self, partition: str) -> Severity | None:
        """The gravest severity among the claims that do not hold for it; None if all do."""
        broken = {result.claim.severity for result in self.of(partition) if not result.passed}
        return "ERROR" if "ERROR" in broken else "WARN" if broken else None

    def of(self, partition: str) -> tuple[ClaimResult, ...]:
        """The results of one partition."""
        return tuple(result for result in self.results if result.partition == partition)

    def offenders_of(self, partition: str) -> tuple[Row, ...]:
        """The offending rows of one partition, at most SHOWN_ROWS."""
        return tuple(row for row in self.offenders if row["partition"] == partition)

    def rows_to_keep(self, partition: str) -> list[dict[str, Any]]:
        """The results of one partition as rows of CHECK_RESULTS."""
        return [
            {
                "suite": self.suite.name,
                "asset": self.suite.asset,
                "partition": partition,
                "expectation": result.claim.name,
                "passed": result.passed,
                "severity": result.claim.severity,
                "blocking": result.claim.severity == "ERROR",
                "observed": json.dumps(result.observed, default=str),
                "unexpected_count": len(result.unexpected),
                "evaluated_at": self.evaluated_at.astimezone(UTC).replace(tzinfo=None),
                "run_id": self.run_id,
            }
            for result in self.of(partition)
        ]


def evaluate(
    suite: Suite, connection: duckdb.DuckDBPyConnection, scope: Scope, *, run_id: str = ""
) -> SuiteResult:
    """Judge a suite for some partitions, each on its own.

    `connection` must have the schema `raw`, and the marts for a suite that reads the warehouse.
    Raises BrokenSuiteError if it cannot be judged.
    """
    evaluated_at = datetime.now(UTC)
    metrics = _fetch(connection, _keyed(suite.metrics, scope), scope)
    _check_metrics(suite, metrics)
    validation = _validate(suite, metrics)
    results = tuple(_results(suite, metrics, scope.partitions, validation))
    return SuiteResult(
        suite=suite,
        grid=scope.grid,
        partitions=scope.partitions,
        results=results,
        offenders=_offenders(connection, suite, results, scope),
        validation=validation,
        evaluated_at=evaluated_at,
        run_id=run_id,
    )


def _offenders(
    connection: duckdb.DuckDBPyConnection,
    suite: Suite,
    results: Sequence[ClaimResult],
    scope: Scope,
) -> tuple[Row, ...]:
    """Offending rows of what failed: some of every claim and market before more of any one."""
    broken = [
        dict(zip(_KEY, key, strict=True), claim=result.claim.name)
        for result in results
        for key in result.unexpected
    ]
    if not broken:
        return ()
    failed = replace(scope, partitions=tuple(sorted({row["partition"] for row in broken})))
    query = f"""
        select claim, venue, market, partition, place, found, expected
        from (
            select
                *,
                row_number() over (partition by partition, claim, venue, market order by place)
                    as nth,
            from ({_keyed(suite.offenders, scope)})
            semi join {_BROKEN} using (claim, venue, market, partition)
        )
        qualify row_number() over (partition by partition order by nth, claim, venue, market)
            <= {SHOWN_ROWS}
    """
    connection.register(_BROKEN, pa.Table.from_pylist(broken))
    try:
        rows = [
            {name: str(value) for name, value in row.items()}
            for row in _fetch(connection, query, failed)
        ]
    finally:
        connection.unregister(_BROKEN)
    explained = {tuple(row[name] for name in ("claim", *_KEY)) for row in rows}
    # A claim about totals has no row of its own: the totals are what there is to show.
    for result in results:
        for key in result.unexpected:
            if (result.claim.name, *key) not in explained:
                found, *expected = (
                    f"{name} {value}" for name, value in result.observed[_label(*key)].items()
                )
                rows.append(
                    {
                        "claim": result.claim.name,
                        **dict(zip(_KEY, key, strict=True)),
                        "place": f"whole {scope.grid}",
                        "found": found,
                        "expected": expected[0] if expected else result.claim.meaning,
                    }
                )
    return tuple(sorted(rows, key=itemgetter("partition", "claim", "place")))


def _fetch(connection: duckdb.DuckDBPyConnection, query: str, scope: Scope) -> list[Row]:
    """Rows of one of a suite's queries, of the scope's partitions alone."""
    rows: list[Row] = []
    for name, table in scope.relations.items():
        connection.register(name, table)
    try:
        for part in scope.parts():
            found = connection.execute(query, part.bounds)
            names = [column[0] for column in found.description]
            all_rows = (dict(zip(names, row, strict=True)) for row in found.fetchall())
            rows += [row for row in all_rows if row["partition"] in part.partitions]
    finally:
        for name in scope.relations:
            connection.unregister(name)
    return sorted(rows, key=itemgetter("partition", "venue", "market"))


def _keyed(query: str, scope: Scope) -> str:
    """The query with its partitions as keys."""
    if scope.grid == "range":
        return query
    return f"select * exclude (day), day::date::varchar as partition from ({query})"


def _check_metrics(suite: Suite, metrics: Sequence[Row]) -> None:
    """Refuse what Great Expectations would let pass: NULL is skipped, and floats are only near."""
    for claim in suite.claims:
        for column in claim.columns:
            for row in metrics:
                if not isinstance(row[column], int | Decimal | str):
                    raise BrokenSuiteError(
                        f"{suite.name}: metric {column} of {' '.join(row[k] for k in _KEY)} is "
                        f"{row[column]!r}; metrics are integers, decimals or text"
                    )


def _validate(suite: Suite, metrics: Sequence[Row]) -> dict[str, Any]:
    # Importing Great Expectations takes 3 s, which loading definitions must not pay.
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.expectations.expectation_configuration import (
        ExpectationConfiguration,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    batch = (
        context.data_sources.add_pandas("duckdb")
        .add_dataframe_asset(suite.asset)
        .add_batch_definition_whole_dataframe("partitions")
        .get_batch(
            {
                "dataframe": pd.DataFrame(
                    metrics,
                    columns=[*_KEY, *dict.fromkeys(c for x in suite.claims for c in x.columns)],
                )
            }
        )
    )
    severities = {"ERROR": FailureSeverity.CRITICAL, "WARN": FailureSeverity.WARNING}
    expectations = [
        ExpectationConfiguration(
            type=claim.expectation,
            kwargs=dict(claim.kwargs),
            meta={"claim": claim.name},
            description=f"{claim.name}: {claim.meaning}",
            severity=severities[claim.severity],
        ).to_domain_obj()
        for claim in suite.claims
    ]
    validation = batch.validate(
        gx.ExpectationSuite(name=suite.name, expectations=expectations),
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": list(_KEY),
            "return_unexpected_index_query": False,
        },
    )
    return dict(validation.to_json_dict())  # type: ignore[no-untyped-call]


def _results(
    suite: Suite, metrics: Sequence[Row], partitions: Sequence[str], validation: Mapping[str, Any]
) -> list[ClaimResult]:
    judged = {
        result["expectation_config"]["meta"]["claim"]: result for result in validation["results"]
    }
    results = []
    for claim in suite.claims:
        unexpected = _unexpected(suite, claim, judged[claim.name])
        for partition in partitions:
            observed = {
                _label(row["venue"], row["market"], partition): {
                    name: row[name] for name in claim.columns
                }
                for row in metrics
                if row["partition"] == partition
            }
            of_partition = tuple(key for key in unexpected if key[-1] == partition)
            results.append(ClaimResult(claim, partition, observed, of_partition))
    return results


def _unexpected(
    suite: Suite, claim: Claim, judged: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Key of every row for which the claim does not hold."""
    rows: list[Row] = judged["result"].get("unexpected_index_list") or []
    # An expectation that raised says nothing of the data, and neither does one without rows.
    if judged["success"] == bool(rows):
        raise BrokenSuiteError(
            f"{suite.name}: {claim.name} could not be judged: {judged['exception_info']}"
        )
    return [(row["venue"], row["market"], row["partition"]) for row in rows]


def _label(venue: str, market: str, _partition: str) -> str:
    return f"{venue} {market}".rstrip()
