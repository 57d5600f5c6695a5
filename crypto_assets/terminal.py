"""What the command line shows: tables, progress, complaints, and nothing that libraries print."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from crypto_assets.lake.durable import storage_errors
from crypto_assets.settings import Settings

if TYPE_CHECKING:
    # Each takes long to import.
    import duckdb

    from crypto_assets.backfill import Backfill

out = Console()
err = Console(stderr=True)


def complain(line: str, style: str = "red") -> None:
    """Say on stderr what is wrong."""
    err.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def backfilling(settings: Settings, *, refetch: bool) -> Iterator[Backfill]:
    """Runs of one command with a progress bar over the raw partitions that they record."""
    import dagster as dg

    from crypto_assets.backfill import Backfill
    from crypto_assets.runs import dagster_home, end_orphaned_runs

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
        task = progress.add_task("", total=None)

        def advance(event: dg.DagsterEvent) -> None:
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
                is_raw = event.asset_key is not None and event.asset_key.path[0] == "raw"
                progress.advance(task, is_raw)
            elif event.event_type is dg.DagsterEventType.STEP_START:
                progress.update(task, description=event.step_key)

        def expect(partitions: int) -> None:
            expected = progress.tasks[task].total or 0
            progress.update(task, total=expected + partitions)

        yield Backfill(settings, instance, refetch=refetch, on_event=advance, expect=expect)
        progress.update(task, description="done")


def tell_outcomes(settings: Settings, runs: Backfill, what: str) -> None:
    """Say what some runs came to, and on stderr everything that is not proven."""
    for outcome in runs.outcomes:
        for line in (
            *outcome.problems,
            *outcome.skipped,
            *(f"check failed: {check}" for check in outcome.failed_checks),
        ):
            complain(line)
        for line in outcome.warnings:
            complain(line, style="yellow")
    if any(outcome.failed_checks for outcome in runs.outcomes):
        complain(
            f"the offending rows are in {settings.home / 'gx' / 'index.html'} and in the Dagster "
            "UI; if the source has mended them since, backfill these partitions with --refetch"
        )
    checks = sum(outcome.checks_passed for outcome in runs.outcomes)
    out.print(f"{what}: {len(runs.outcomes)} runs, {checks} checks passed")


def print_status(rows: list[dict[str, str | int]]) -> None:
    """One line per dataset; red where something is missing."""
    if not rows or not rows[0].get("days", rows[0].get("ranges")):
        out.print("the lake holds nothing yet; `crypto-assets backfill` fills it")
        return
    shown = [name for name in rows[0] if name not in {"days", "ranges"}]
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in shown:
        # The dataset and the market are never cut; a header may take two lines instead.
        table.add_column(name.replace("_", " "), no_wrap=name in {"dataset", "market"})
    for row in rows:
        cells = [f"{cell:,}" if isinstance(cell := row[name], int) else cell for name in shown]
        table.add_row(*cells, style="red" if is_wanting(row) else "")
    out.print(table)


def is_wanting(row: dict[str, str | int]) -> bool:
    """Whether a line of `print_status` tells of something that is not there."""
    return any(row.get(state) for state in ("missing", "quarantined", "stale"))


def shown(value: Any) -> Any:
    """A value of DuckDB as it is printed: hashes and addresses, alone or inside, as 0x hex."""
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, list | tuple):
        return type(value)(map(shown, value))
    if isinstance(value, dict):
        return {name: shown(item) for name, item in value.items()}
    return value


def print_summary(settings: Settings, *, has_chains: bool) -> None:
    """What the demo made, and where to look."""
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
        days, pools, events = _of_chains(connection) if has_chains else ([], [], [])
    table = Table(
        "venue", "market", "last price", "index, USD", "median bps", "farthest bps",
        box=None, padding=(0, 1, 0, 0), title="venues beside the index", title_justify="left",
    )  # fmt: skip
    for venue, market, *numbers in deviations:
        price, index, *bps = numbers
        table.add_row(
            venue, market, f"{price.normalize():f}", f"{index:.4f}", *(f"{b:+.2f}" for b in bps)
        )
    out.print(table)
    for chain, day, blocks, transactions, logs in days:
        out.print(f"{chain} {day}: {blocks:,} blocks, {transactions:,} transactions, {logs:,} logs")
    if pools:
        table = Table(
            "pool", "pair", "swaps", "volume, USD", "fee, bps", "given over got, median bps",
            box=None, padding=(0, 1, 0, 0), title="DEX trades at the venues' index prices",
            title_justify="left",
        )  # fmt: skip
        for pool, pair, swaps, usd, fee, bps in pools:
            table.add_row(pool, pair, f"{swaps:,}", f"{usd:,.0f}", f"{fee / 100:g}", f"{bps:+.2f}")
        out.print(table)
        out.print(", ".join(f"{count:,} {what}" for what, count in events))
    out.print(
        f"{trades:,} trades became {candles:,} one-minute candles ({filled:,} with quiet minutes "
        f"filled) and {prices:,} index prices; {checks:,} expectations kept, {failed:,} failed\n"
        f"  database   {settings.home / 'crypto.duckdb'}\n"
        f'  query      crypto-assets sql "from markets.ohlcv_1d limit 5"\n'
        f"  UI, docs   make ui",
        highlight=False,
    )


_POOLS = """
    select
        trades.project || ' v' || trades.version as pool,
        any_value(trades.token_pair),
        count(*),
        sum(amount_usd),
        any_value(trades.fee_pips),
        quantile_disc(
            try_cast(
                (token_sold_amount::double * sold.price_usd::double
                    / (token_bought_amount::double * bought.price_usd::double) - 1) * 10000
                as decimal(18, 2)
            ),
            0.5
        ),
    from defi.dex_trades as trades
    join defi.token_prices_1m as bought
        on trades.blockchain = bought.chain
        and trades.token_bought_address = bought.token_address
        and date_trunc('minute', trades.block_time) = bought.opened_at
    join defi.token_prices_1m as sold
        on trades.blockchain = sold.chain
        and trades.token_sold_address = sold.token_address
        and date_trunc('minute', trades.block_time) = sold.opened_at
    where bought.source = 'venue_index' and sold.source = 'venue_index'
    group by trades.project, trades.version, trades.blockchain, trades.pool
    order by sum(amount_usd) desc
"""
_EVENTS = """
    select 'DEX trades', count(*) from defi.dex_trades
    union all select 'pools', count(*) from defi.dex_pools
    union all select 'lending events',
        (select count(*) from defi.lending_supply) + (select count(*) from defi.lending_borrow)
    union all select 'token prices', count(*) from defi.token_prices_1m
"""


def _of_chains(connection: duckdb.DuckDBPyConnection) -> tuple[list[Any], list[Any], list[Any]]:
    """Days of chains, pools beside the venues, and how much else was made."""
    days = connection.execute(
        "select chain, day, block_count, transaction_count, log_count "
        "from network.blocks_daily order by all"
    ).fetchall()
    return days, connection.execute(_POOLS).fetchall(), connection.execute(_EVENTS).fetchall()


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
