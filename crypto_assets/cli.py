"""The command line `crypto-assets`: thin, over the same parts that Dagster uses.

Exit codes: 0 everything asked for is proven and no check of severity ERROR failed; 1 something is
not, named on stderr; 2 wrong usage or settings. Heavy libraries are imported where they are used,
so that `status` and `sql` answer at once.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.box import MINIMAL
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from crypto_assets.catalog import load_catalog
from crypto_assets.errors import CatalogError, CryptoAssetsError, SettingsError
from crypto_assets.lake import Lake
from crypto_assets.lake.durable import storage_errors
from crypto_assets.partitions import days_between
from crypto_assets.settings import Profile, Settings, load_settings
from crypto_assets.status import coverage, failed_checks

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Crypto market data as proven partitions. Settings come from CRYPTO_ASSETS_* variables.",
)
sandbox_app = typer.Typer(no_args_is_help=True, help="The offline venues.")
app.add_typer(sandbox_app, name="sandbox")

_FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day.")
]
_ToOption = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last UTC day, inclusive.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# A clean run of a few days over the one change of format that the archive ever made:
# milliseconds until 2024-12-31, microseconds from 2025-01-01 on.
_DEMO_DAYS = (date(2024, 12, 30), date(2025, 1, 2))

_out = Console()
_err = Console(stderr=True)


def main() -> NoReturn:
    """Entry point: turns named errors into one line on stderr and an exit code."""
    try:
        app()
    except (SettingsError, CatalogError) as error:
        _complain(f"{type(error).__name__}: {error}")
        sys.exit(2)
    except CryptoAssetsError as error:
        _complain(f"{type(error).__name__}: {error}")
        sys.exit(1)
    sys.exit(0)


@app.command()
def backfill(
    target: Annotated[str, typer.Argument(help="A venue of the catalogue, or `all`.")],
    first: _FromOption = None,
    last: _ToOption = None,
    refetch: Annotated[
        bool, typer.Option("--refetch", help="Fetch proven days again, and replace them.")
    ] = False,
) -> None:
    """Bring a range of days up to date: raw data, checks, marts, publishing.

    Days that are proven already are not fetched again, so the same command resumes a killed one.
    Where a check says that a proven day is wrong at the source, fetch it again with --refetch.
    """
    settings = load_settings()
    catalog = load_catalog(settings.catalog)
    venues = catalog.venues if target == "all" else (target,)
    listings = [listing for venue in venues for listing in catalog.of_venue(venue)]
    days = _range(first or (None if last else _midnight(_yesterday())), last)
    earliest = min(listing.since for listing in catalog.listings)
    if days[0] < earliest:
        raise SettingsError(f"--from {days[0]} is before the first listing, {earliest}")
    if days[-1] > _yesterday():
        raise SettingsError(
            f"--to {days[-1]} is not over yet; the last day that can be proven is {_yesterday()}"
        )
    is_proven = _backfill(settings, venues, days, refetch=refetch)
    _print_status(coverage(Lake(settings.home), listings, days))
    if not is_proven:
        sys.exit(1)


def _backfill(
    settings: Settings, venues: Sequence[str], days: list[date], *, refetch: bool = False
) -> bool:
    """One venue in one run per chunk of days; several in one each, and one for all their marts."""
    import dagster as dg

    from crypto_assets.automation import MARTS
    from crypto_assets.definitions import build_definitions
    from crypto_assets.runs import chunks, dagster_home, end_orphaned_runs, run_range
    from crypto_assets.sources import VENUES

    definitions = build_definitions(settings)
    raw = {
        venue: [dg.AssetKey(["raw", dataset.name]) for dataset in VENUES[venue].datasets]
        for venue in venues
    }
    steps = [(venue, keys if len(raw) > 1 else None) for venue, keys in raw.items()]
    if len(raw) > 1:
        steps.append((MARTS, None))
    outcomes = []
    with (
        dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance,
        _quiet(settings.home / "logs") as console,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as progress,
    ):
        for run_id in end_orphaned_runs(instance):
            console.print(f"run {run_id} had been killed; it goes on where it stopped")
        keys = {key for keys in raw.values() for key in keys}
        task = progress.add_task("", total=len(days) * len(keys))

        def advance(event: dg.DagsterEvent) -> None:
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
                progress.advance(task, event.asset_key in keys)
            elif event.event_type is dg.DagsterEventType.STEP_START:
                progress.update(task, description=event.step_key)

        for some in chunks(days, settings.max_partitions_per_run):
            for name, assets in steps:
                ops = {
                    f"raw__{dataset.name}": {"config": {"refetch": refetch}}
                    for dataset in (VENUES[name].datasets if name in raw else ())
                }
                job = definitions.resolve_job_def(name)
                outcomes.append(
                    run_range(instance, job, some, on_event=advance, ops=ops, assets=assets)
                )
        progress.update(task, description=" ".join(venues))
    for outcome in outcomes:
        for line in (
            *outcome.problems,
            *outcome.skipped,
            *(f"check failed: {check}" for check in outcome.failed_checks),
        ):
            _complain(line)
        for line in outcome.warnings:
            _complain(f"check warns: {line}", style="yellow")
    if any(outcome.failed_checks for outcome in outcomes):
        _complain(
            f"the offending rows are in {settings.home / 'gx' / 'index.html'} and in the Dagster "
            "UI; if the source has mended them since, backfill these days with --refetch"
        )
    checks = sum(outcome.checks_passed for outcome in outcomes)
    _out.print(f"{' '.join(venues)}: {len(outcomes)} runs, {checks} checks passed")
    return all(outcome.is_proven for outcome in outcomes)


@app.command()
def status(
    target: Annotated[str, typer.Argument(help="A venue of the catalogue, or `all`.")] = "all",
    first: _FromOption = None,
    last: _ToOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Show per dataset and market what is proven, quarantined and missing.

    Without a range: from the first to the last day that the lake holds.
    """
    settings = load_settings()
    catalog = load_catalog(settings.catalog)
    listings = catalog.listings if target == "all" else catalog.of_venue(target)
    days = None if first is None and last is None else _range(first, last)
    rows = coverage(Lake(settings.home), list(listings), days)
    if as_json:
        _out.print_json(json.dumps(rows))
    else:
        _print_status(rows)
    failed = failed_checks(Lake(settings.home), days)
    for line in failed:
        _complain(f"check failed: {line}")
    if failed or not any(row["days"] for row in rows):
        sys.exit(1)
    if any(row["missing"] or row["quarantined"] for row in rows):
        sys.exit(1)


@app.command()
def verify(
    first: _FromOption = None,
    last: _ToOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Prove committed partitions again, from the files alone, and name each that fails."""
    from crypto_assets import lake
    from crypto_assets.sources import SIBLINGS

    settings = load_settings()
    days = None if first is None and last is None else _range(first, last)
    first_day, last_day = (days[0], days[-1]) if days else (date.min, date.max)
    store = lake.Lake(settings.home)
    checked = sum(first_day <= part.day <= last_day for part, _ in store.committed())
    findings: list[lake.Finding] = []
    with Progress(console=_err, transient=True) as progress:
        task = progress.add_task("verify", total=checked)
        window = (first_day, last_day) if days else None
        for _, found in lake.verify(store, SIBLINGS, days=window):
            findings += found
            progress.advance(task)
    if as_json:
        report = [
            {"partition": str(finding.part), "problem": finding.problem, "message": finding.message}
            for finding in findings
        ]
        _out.print_json(json.dumps({"checked": checked, "findings": report}))
    else:
        for finding in findings:
            _complain(f"{finding.problem}: {finding.part}")
            _complain(f"  {finding.message}", style="")
        _out.print(f"{checked} partitions checked, {len(findings)} findings")
        if findings:
            _complain("`crypto-assets backfill` over these days fetches and proves them again")
    if findings or not checked:
        sys.exit(1)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SQL statement for crypto.duckdb.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """Query the published database, for example "from markets.ohlcv_1d limit 5"."""
    import duckdb

    path = load_settings().home / "crypto.duckdb"
    if not path.exists():
        raise SettingsError(f"{path} does not exist yet; run `crypto-assets backfill` first")
    try:
        with duckdb.connect(path, read_only=True) as connection:
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchall()
    except duckdb.Error as error:
        raise SettingsError(f"DuckDB refuses the query: {error}") from error
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(rows)
        return
    table = Table(*names, box=MINIMAL)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    # As wide as it must be: a digit that is cut off is a wrong number.
    Console(width=10_000).print(table)


@app.command()
def demo() -> None:
    """Run the whole pipeline in the sandbox and say where to look."""
    os.environ["CRYPTO_ASSETS_PROFILE"] = Profile.SANDBOX.value
    settings = load_settings()
    catalog = load_catalog(settings.catalog)
    days = list(days_between(*_DEMO_DAYS))
    is_proven = _backfill(settings, catalog.venues, days)
    _print_status(coverage(Lake(settings.home), list(catalog.listings), days))
    _print_summary(settings)
    if not is_proven:
        sys.exit(1)


@sandbox_app.command("serve")
def sandbox_serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8000,
    faults: Annotated[str, typer.Option(help="Comma-separated faults, see `faults`.")] = "",
) -> None:
    """Serve the offline venues on loopback.

    Use them with PROFILE=live and the *_URL settings pointed at this server.
    """
    from crypto_assets import sandbox

    catalog = load_catalog(load_settings().catalog)
    application = sandbox.create_app(catalog, faults=faults)
    _out.print(f"offline venues on http://127.0.0.1:{port}, end with Ctrl-C")
    sandbox.serve(application, port=port)


@sandbox_app.command("faults")
def sandbox_faults() -> None:
    """List the faults that can be switched on by name."""
    from crypto_assets import sandbox

    table = Table("fault", "what the venue does")
    for name, fault in sandbox.FAULTS.items():
        table.add_row(name, fault.description)
    _out.print(table)
    _out.print(
        "switched on as name[@SYMBOL[@DATE[@trades or @klines]]][:first N requests]", markup=False
    )


def _complain(line: str, style: str = "red") -> None:
    _err.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def _range(first: datetime | None, last: datetime | None) -> list[date]:
    start = first.date() if first else None
    end = last.date() if last else _yesterday()
    if start is None:
        raise SettingsError("--to needs --from")
    if end < start:
        raise SettingsError(f"--from {start} is after --to {end}")
    return list(days_between(start, end))


def _print_status(rows: list[dict[str, str | int]]) -> None:
    if not rows or not rows[0]["days"]:
        _out.print("the lake holds nothing yet; `crypto-assets backfill` fills it")
        return
    shown = [name for name in rows[0] if name != "days"]
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in shown:
        # The dataset and the market are never cut; a header may take two lines instead.
        table.add_column(name.replace("_", " "), no_wrap=name in {"dataset", "market"})
    for row in rows:
        cells = [f"{cell:,}" if isinstance(cell := row[name], int) else cell for name in shown]
        table.add_row(*cells, style="red" if row["missing"] or row["quarantined"] else "")
    _out.print(table)


def _print_summary(settings: Settings) -> None:
    import duckdb

    with duckdb.connect(settings.home / "crypto.duckdb", read_only=True) as connection:
        trades, candles, filled, prices, checks, failed = connection.execute(
            """
            select
                (select count(*) from markets.trades),
                (select count(*) from markets.ohlcv_1m),
                (select count(*) from markets.ohlcv_1m_filled),
                (select count(*) from markets.index_prices_1m),
                (select count(*) from quality.check_results),
                (select count(*) from quality.check_results where not passed)
            """
        ).fetchall()[0]
        deviations = connection.execute(
            """
            select
                venue,
                market,
                arg_max(price, opened_at),
                arg_max(index_price_usd, opened_at),
                quantile_disc(deviation_bps, 0.5),
                max(abs(deviation_bps)),
            from markets.venue_deviations_1m
            group by all
            order by any_value(asset), venue, market
            """
        ).fetchall()
    table = Table(
        "venue", "market", "last price", "index, USD", "median bps", "farthest bps",
        box=None, padding=(0, 1, 0, 0), title="venues beside the index", title_justify="left",
    )  # fmt: skip
    for venue, market, *numbers in deviations:
        price, index, *bps = numbers
        table.add_row(
            venue, market, f"{price.normalize():f}", f"{index:.4f}", *(f"{b:+.2f}" for b in bps)
        )
    _out.print(table)
    _out.print(
        f"{trades:,} trades became {candles:,} one-minute candles ({filled:,} with quiet minutes "
        f"filled) and {prices:,} index prices; {checks:,} expectations kept, {failed:,} failed\n"
        f"  database   {settings.home / 'crypto.duckdb'}\n"
        f'  query      crypto-assets sql "from markets.ohlcv_1d limit 5"\n'
        f"  UI, docs   make ui",
        highlight=False,
    )


@contextmanager
def _quiet(folder: Path) -> Iterator[Console]:
    """Send what libraries print to a log file; yields a console that still reaches the terminal."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("wb") as file, os.fdopen(os.dup(2), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield Console(file=terminal)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(kept, start=1):
                os.dup2(original, descriptor)
                os.close(original)
