"""What a suite is, and evaluating one: DuckDB computes, Great Expectations judges.

A suite's `metrics` query gives one row per venue, market and day, counted in one pass over the data
and with equality decided on exact decimals; the small frame of counts goes to Great Expectations.
(Its own SQL expectations fail on DuckDB: it reads the rows after it gave the connection back,
great_expectations #11579.) No Dagster and no file here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import duckdb
import pyarrow as pa

from crypto_assets.catalog import Catalog
from crypto_assets.errors import CryptoAssetsError

Severity = Literal["ERROR", "WARN"]
Row = Mapping[str, Any]

# Offending rows shown for one day; the count of all of them is in the metrics.
SHOWN_ROWS = 50

_KEY = ("venue", "market", "day")
_MARKET_DAYS = "market_days"
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
    """Claims about one asset, judged for each partition.

    Both queries see the relation `market_days` (venue, market, day: what the catalogue lists on the
    days asked for) and must use `$from_day` and `$to_day` (inclusive), so that only files of those
    days are read. `metrics` gives venue, market, day and integers. `offenders` gives the rows that
    break a claim: claim, venue, market, day, place (where in the day), found, expected.
    `also_reads` are assets, other than the one it guards, that must be there before it is judged.
    A broken claim of severity ERROR blocks what is built on the asset.
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
    """One claim judged for one day.

    `observed` maps each market to the metrics it was judged by; `unexpected` holds (venue, market,
    day) of those for which the claim does not hold.
    """

    claim: Claim
    day: date
    observed: Mapping[str, Row]
    unexpected: tuple[tuple[str, str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether the claim holds for every market of the day."""
        return not self.unexpected


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """A suite judged for some days. `validation` is Great Expectations' own result, as JSON."""

    suite: Suite
    days: tuple[date, ...]
    results: tuple[ClaimResult, ...]
    offenders: tuple[Row, ...]
    validation: Mapping[str, Any]
    evaluated_at: datetime
    run_id: str

    @property
    def passed(self) -> bool:
        """Whether every claim holds on every day."""
        return all(result.passed for result in self.results)

    @property
    def failed_days(self) -> tuple[date, ...]:
        """Days on which a claim of severity ERROR does not hold."""
        return tuple(day for day in self.days if self.verdict(day) == "ERROR")

    @property
    def warned_days(self) -> tuple[date, ...]:
        """Days on which only claims of severity WARN do not hold."""
        return tuple(day for day in self.days if self.verdict(day) == "WARN")

    def verdict(self, day: date) -> Severity | None:
        """The gravest severity among the claims that do not hold on a day; None if all do."""
        broken = {result.claim.severity for result in self.of_day(day) if not result.passed}
        return "ERROR" if "ERROR" in broken else "WARN" if broken else None

    def of_day(self, day: date) -> tuple[ClaimResult, ...]:
        """The results of one partition."""
        return tuple(result for result in self.results if result.day == day)

    def offenders_of(self, day: date) -> tuple[Row, ...]:
        """The offending rows of one partition, at most SHOWN_ROWS."""
        return tuple(row for row in self.offenders if row["day"] == day.isoformat())

    def rows_to_keep(self, day: date) -> list[dict[str, Any]]:
        """The results of one partition as rows of CHECK_RESULTS."""
        return [
            {
                "suite": self.suite.name,
                "asset": self.suite.asset,
                "partition": day.isoformat(),
                "expectation": result.claim.name,
                "passed": result.passed,
                "severity": result.claim.severity,
                "blocking": result.claim.severity == "ERROR",
                "observed": json.dumps(result.observed, default=str),
                "unexpected_count": len(result.unexpected),
                "evaluated_at": self.evaluated_at.astimezone(UTC).replace(tzinfo=None),
                "run_id": self.run_id,
            }
            for result in self.of_day(day)
        ]


def evaluate(
    suite: Suite,
    connection: duckdb.DuckDBPyConnection,
    days: Sequence[date],
    *,
    catalog: Catalog,
    run_id: str = "",
) -> SuiteResult:
    """Judge a suite for some days, each on its own; raises BrokenSuiteError if it cannot be judged.

    `connection` must have the schema `raw`, and the marts for a suite that reads the warehouse.
    """
    evaluated_at = datetime.now(UTC)
    days = tuple(sorted(set(days)))
    metrics = _fetch(connection, suite.metrics, days, catalog)
    _check_metrics(suite, metrics)
    validation = _validate(suite, metrics)
    results = tuple(_results(suite, metrics, days, validation))
    return SuiteResult(
        suite=suite,
        days=days,
        results=results,
        offenders=_offenders(connection, suite, results, catalog),
        validation=validation,
        evaluated_at=evaluated_at,
        run_id=run_id,
    )


def _offenders(
    connection: duckdb.DuckDBPyConnection,
    suite: Suite,
    results: Sequence[ClaimResult],
    catalog: Catalog,
) -> tuple[Row, ...]:
    """Offending rows of failed days: some of every claim and market before more of any one."""
    broken: list[dict[str, Any]] = [
        dict(zip(_KEY, key, strict=True), claim=result.claim.name, day=result.day)
        for result in results
        for key in result.unexpected
    ]
    if not broken:
        return ()
    days = sorted({row["day"] for row in broken})
    connection.register(_BROKEN, pa.Table.from_pylist(broken))
    query = f"""
        select claim, venue, market, day, place, found, expected
        from (
            select
                *,
                row_number() over (partition by day, claim, venue, market order by place) as nth,
            from ({suite.offenders})
            semi join {_BROKEN} using (claim, venue, market, day)
        )
        qualify row_number() over (partition by day order by nth, claim, venue, market)
            <= {SHOWN_ROWS}
    """
    try:
        rows = [
            {name: str(value) for name, value in row.items()}
            for row in _fetch(connection, query, days, catalog)
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
                        "place": "whole day",
                        "found": found,
                        "expected": expected[0] if expected else result.claim.meaning,
                    }
                )
    return tuple(sorted(rows, key=lambda row: [row[name] for name in ("day", "claim", "place")]))


def _fetch(
    connection: duckdb.DuckDBPyConnection, query: str, days: Sequence[date], catalog: Catalog
) -> list[Row]:
    """Rows of one of a suite's queries on these days alone; `day` as ISO text."""
    listed = [
        {"venue": listing.venue, "market": listing.market, "day": day}
        for day in days
        for listing in catalog.listings
        if listing.is_listed_on(day)
    ]
    schema = pa.schema([("venue", pa.string()), ("market", pa.string()), ("day", pa.date32())])
    connection.register(_MARKET_DAYS, pa.Table.from_pylist(listed, schema=schema))
    try:
        found = connection.execute(query, {"from_day": days[0], "to_day": days[-1]})
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        connection.unregister(_MARKET_DAYS)
    wanted = set(days)
    kept = [{**row, "day": row["day"].isoformat()} for row in rows if row["day"] in wanted]
    return sorted(kept, key=lambda row: (row["day"], row["venue"], row["market"]))


def _check_metrics(suite: Suite, metrics: Sequence[Row]) -> None:
    """Refuse what Great Expectations would let pass: NULL is skipped, and floats are only near."""
    for claim in suite.claims:
        for column in claim.columns:
            for row in metrics:
                if not isinstance(row[column], int | Decimal | str):
                    raise BrokenSuiteError(
                        f"{suite.name}: metric {column} of {row['venue']} {row['market']} "
                        f"{row['day']} is {row[column]!r}; metrics are integers, decimals or text"
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
        .add_batch_definition_whole_dataframe("market_days")
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
    suite: Suite, metrics: Sequence[Row], days: Sequence[date], validation: Mapping[str, Any]
) -> list[ClaimResult]:
    judged = {
        result["expectation_config"]["meta"]["claim"]: result for result in validation["results"]
    }
    results = []
    for claim in suite.claims:
        unexpected = _unexpected(suite, claim, judged[claim.name])
        for day in days:
            observed = {
                _label(row["venue"], row["market"], row["day"]): {
                    name: row[name] for name in claim.columns
                }
                for row in metrics
                if row["day"] == day.isoformat()
            }
            of_day = tuple(key for key in unexpected if key[-1] == day.isoformat())
            results.append(ClaimResult(claim, day, observed, of_day))
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
    return [(row["venue"], row["market"], row["day"]) for row in rows]


def _label(venue: str, market: str, _day: str) -> str:
    return f"{venue} {market}"
