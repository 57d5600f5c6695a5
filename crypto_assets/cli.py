"""The command line `crypto-assets`: thin, over the same parts that Dagster uses.

Exit codes: 0 everything asked for is proven and no check of severity ERROR failed; 1 something is
not, named on stderr; 2 wrong usage or settings. Heavy libraries are imported where they are used,
so that `status` and `sql` answer at once.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, NoReturn

import typer
from rich.box import MINIMAL
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from crypto_assets.catalog import KINDS, BlockRange, Catalog, Chain, load_catalog, load_chains
from crypto_assets.checks.results import failures
from crypto_assets.errors import CatalogError, CryptoAssetsError, SettingsError, SourceError
from crypto_assets.lake import Lake
from crypto_assets.partitions import days_between
from crypto_assets.settings import Profile, Settings, load_settings
from crypto_assets.status import chain_coverage, coverage
from crypto_assets.terminal import (
    backfilling,
    complain,
    err,
    is_wanting,
    out,
    print_status,
    print_summary,
    shown,
    tell_outcomes,
)

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
_BlocksOption = Annotated[
    str | None, typer.Option(help="Of a chain: first and last block, as 18426000:18426999.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# A clean run of a few days over the one change of format that the archive ever made:
# milliseconds until 2024-12-31, microseconds from 2025-01-01 on.
_DEMO_DAYS = (date(2024, 12, 30), date(2025, 1, 2))
# The days that three block ranges of the sandbox chain cover.
_DEMO_CHAIN_DAYS = (date(2024, 12, 31), date(2025, 1, 1))


def main() -> NoReturn:
    """Entry point: turns named errors into one line on stderr and an exit code."""
    try:
        app()
    except (SettingsError, CatalogError) as error:
        complain(f"{type(error).__name__}: {error}")
        sys.exit(2)
    except CryptoAssetsError as error:
        complain(f"{type(error).__name__}: {error}")
        sys.exit(1)
    sys.exit(0)


@app.command()
def backfill(
    target: Annotated[str, typer.Argument(help="A venue or a chain of the catalogue, or `all`.")],
    first: _FromOption = None,
    last: _ToOption = None,
    blocks: _BlocksOption = None,
    refetch: Annotated[
        bool, typer.Option("--refetch", help="Fetch what is proven again, and replace it.")
    ] = False,
) -> None:
    """Bring a range up to date: raw data, checks, marts, publishing.

    Days are UTC days, and like blocks inclusive; blocks are widened to whole ranges. What is proven
    already is not fetched again, so the same command resumes a killed one. Where a check says that
    something proven is wrong at the source, fetch it again with --refetch.
    """
    settings = load_settings()
    catalog = load_catalog(settings.catalog)
    chains = _chains(settings, catalog, target)
    venues = catalog.venues if target == "all" else () if chains else (target,)
    listings = [listing for venue in venues for listing in catalog.of_venue(venue)]
    span = _span(blocks, target, chains, is_of_days=bool(first or last))
    days = [] if span else _range(first or (None if last else _midnight(_yesterday())), last)
    if days and listings and days[0] < (since := min(each.since for each in catalog.listings)):
        raise SettingsError(f"--from {days[0]} is before the first listing, {since}")
    if days and days[-1] > _yesterday():
        raise SettingsError(
            f"--to {days[-1]} is not over yet; the last day that can be proven is {_yesterday()}"
        )
    with backfilling(settings, refetch=refetch) as runs:
        if venues:
            runs.venues(venues, days)
        ranges: dict[Chain, list[BlockRange]] = {}
        made_whole: list[date] = []
        for chain in chains:
            try:
                ranges[chain] = (
                    runs.ranges_of_blocks(chain, *span)
                    if span
                    else runs.ranges_of_days(chain, days[0], days[-1])
                )
            except SourceError as error:
                if target != "all":
                    raise
                # What else was asked for is brought, and told of, all the same.
                runs.fail(error)
            else:
                made_whole += runs.chain(chain, ranges[chain])
        runs.network(made_whole)
    tell_outcomes(settings, runs, " ".join([*venues, *(chain.name for chain in chains)]))
    store = Lake(settings.home)
    if listings:
        print_status(coverage(store, listings, days))
    for chain, asked in ranges.items():
        print_status(chain_coverage(store, chain, asked))
    if not runs.is_proven:
        sys.exit(1)


@app.command()
def register(
    target: Annotated[str, typer.Argument(help="A chain of the catalogue.")],
    blocks: _BlocksOption = None,
) -> None:
    """Make a chain's block ranges known to Dagster as partitions, without fetching them.

    Without --blocks, all of its history: from its `first_block` in chains.yaml to its last
    finalized block. The Dagster job `register_<chain>` does the same.
    """
    import dagster as dg

    from crypto_assets.backfill import final_ranges
    from crypto_assets.definitions import connect_chains
    from crypto_assets.partitions import check_grid, register_ranges
    from crypto_assets.runs import dagster_home

    settings = load_settings()
    chain = load_chains(settings.catalog).named(target)
    span = _span(blocks, target, [chain])
    ranges = connect_chains(settings, load_catalog(settings.catalog))
    if span is None:
        found = ranges.finalized_ranges(chain, chain.first_block)
    else:
        found = final_ranges(chain, *span, ranges.source(chain).finalized())
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        check_grid(instance, ranges.lake, chain)
        new = register_ranges(instance, chain.name, found)
    named = f", {found[0]} to {found[-1]}" if found else ""
    out.print(f"{target}: {len(found):,} final ranges{named}; {len(new):,} of them are new")


@app.command()
def status(
    target: Annotated[str, typer.Argument(help="A venue or a chain, or `all`.")] = "all",
    first: _FromOption = None,
    last: _ToOption = None,
    blocks: _BlocksOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Show per dataset what is proven, quarantined, stale and missing.

    Without a range: from the first to the last day, or block, that the lake holds.
    """
    settings = load_settings()
    catalog = load_catalog(settings.catalog)
    store = Lake(settings.home)
    chains = _chains(settings, catalog, target)
    listings = catalog.listings if target == "all" else () if chains else catalog.of_venue(target)
    days = None if first is None and last is None else _range(first, last)
    if (span := _span(blocks, target, chains, is_of_days=days is not None)) is None and days:
        # Days say nothing of blocks that are not there.
        chains = chains if target != "all" else []
    of_days = coverage(store, list(listings), days) if listings else []
    of_ranges = [
        row
        for chain in chains
        for row in chain_coverage(store, chain, chain.ranges(*span) if span else None)
        # One that nobody has asked for yet is not missing.
        if row["ranges"] or target != "all"
    ]
    rows = [*of_days, *of_ranges]
    if as_json:
        out.print_json(json.dumps(rows))
    else:
        for some in (of_days, of_ranges):
            if some:
                print_status(some)
    failed = failures(store, "day", map(str, days or "*")) if listings else []
    ranges = ["*"] if span is None else [blocks.key for blocks in chains[0].ranges(*span)]
    assets = {f"raw/{chain.dataset(kind)}" for chain in chains for kind in KINDS}
    failed += failures(store, "range", ranges, assets=assets)
    for line in failed:
        complain(f"check failed: {line}")
    if failed or not any(row.get("days") or row.get("ranges") for row in rows):
        sys.exit(1)
    if any(is_wanting(row) for row in rows):
        sys.exit(1)


@app.command()
def verify(
    first: _FromOption = None,
    last: _ToOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Prove committed partitions again, from the files alone, and name each that fails.

    With days, those of venues and the block ranges that may hold a block of them.
    """
    from crypto_assets import lake
    from crypto_assets.sources import SIBLINGS

    settings = load_settings()
    days = None if first is None and last is None else _range(first, last)
    window = (days[0], days[-1]) if days else None
    checked, proving = lake.verify_lake(lake.Lake(settings.home), SIBLINGS, days=window)
    findings: list[lake.Finding] = []
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("verify", total=checked)
        for _, found in proving:
            findings += found
            progress.advance(task)
    if as_json:
        report = [
            {"partition": str(finding.part), "problem": finding.problem, "message": finding.message}
            for finding in findings
        ]
        out.print_json(json.dumps({"checked": checked, "findings": report}))
    else:
        for finding in findings:
            complain(f"{finding.problem}: {finding.part}")
            complain(f"  {finding.message}", style="")
        out.print(f"{checked} partitions checked, {len(findings)} findings")
        if findings:
            complain("`crypto-assets backfill` over these fetches and proves them again")
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
            rows = [[shown(value) for value in row] for row in cursor.fetchall()]
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
    chains = _chains(settings, catalog, "all")
    with backfilling(settings, refetch=False) as runs:
        runs.venues(catalog.venues, days)
        ranges = {chain: runs.ranges_of_days(chain, *_DEMO_CHAIN_DAYS) for chain in chains}
        runs.network([day for chain in chains for day in runs.chain(chain, ranges[chain])])
    tell_outcomes(settings, runs, " ".join([*catalog.venues, *(each.name for each in chains)]))
    store = Lake(settings.home)
    print_status(coverage(store, list(catalog.listings), days))
    for chain in chains:
        print_status(chain_coverage(store, chain, ranges[chain]))
    if not runs.is_proven:
        sys.exit(1)
    print_summary(settings, has_chains=bool(chains))


@sandbox_app.command("serve")
def sandbox_serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8000,
    faults: Annotated[str, typer.Option(help="Comma-separated faults, see `faults`.")] = "",
) -> None:
    """Serve the offline venues on loopback.

    Use them with PROFILE=live and the *_URL settings pointed at this server.
    """
    from crypto_assets import sandbox

    folder = load_settings().catalog
    chains = load_chains(folder)
    application = sandbox.create_app(load_catalog(folder), chains, faults=faults)
    out.print(f"offline venues on http://127.0.0.1:{port}, end with Ctrl-C")
    for name in chains.names:
        out.print(f"nodes of {name} on http://127.0.0.1:{port}/{name} and …/{name}-b")
    sandbox.serve(application, port=port)


@sandbox_app.command("faults")
def sandbox_faults() -> None:
    """List the faults that can be switched on by name."""
    from crypto_assets import sandbox

    table = Table("fault", "what the venue or the node does")
    for name, fault in sandbox.FAULTS.items():
        table.add_row(name, fault.description)
    out.print(table)
    out.print(f"switched on as {sandbox.FAULT_SYNTAX}", markup=False)


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


def _chains(settings: Settings, catalog: Catalog, target: str) -> list[Chain]:
    """The chain of that name, or for `all` those that have nodes; none if it is a venue."""
    chains = load_chains(settings.catalog)
    if target == "all":
        return [chain for chain in chains.chains if settings.has_nodes(chain.name)]
    if target in catalog.venues:
        return []
    if target not in chains.names:
        raise CatalogError(
            f"{target!r} is neither a venue of markets.yaml ({', '.join(catalog.venues)}) nor a "
            f"chain of chains.yaml ({', '.join(chains.names) or 'none'})"
        )
    return [chains.named(target)]


def _span(
    blocks: str | None, target: str, chains: Sequence[Chain], *, is_of_days: bool = False
) -> tuple[int, int] | None:
    """First and last block asked for."""
    if blocks is None:
        return None
    if target == "all" or not chains or is_of_days:
        raise SettingsError("--blocks is for one chain, and instead of --from and --to")
    match = re.fullmatch(r"(\d+):(\d+)", blocks)
    if match is None or int(match[1]) > int(match[2]):
        raise SettingsError(
            f"--blocks {blocks} is not a first and a last block, as 18426000:18426999"
        )
    first, last = int(match[1]), int(match[2])
    if first < (earliest := chains[0].first_block):
        raise SettingsError(f"--blocks {blocks}: {target} is collected from block {earliest} on")
    return first, last
