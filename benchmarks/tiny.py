"""A home with one market of ten trades a day, on which only the fixed cost of a day shows.

Everything is the real thing, from the sandbox's archives to the published database; the functions
run in a worker process, which has one home at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb

from crypto_assets import sandbox
from crypto_assets.assets.collect import Collector
from crypto_assets.assets.dbt import (
    DBT_BUILD,
    OF_CHAINS,
    OF_RANGES,
    days_window,
    dbt_cli,
    prepare_manifest,
    rebuilding,
)
from crypto_assets.catalog import load_catalog
from crypto_assets.checks.asset_checks import SUITES
from crypto_assets.definitions import build_definitions
from crypto_assets.lake import Lake
from crypto_assets.publishing import publish
from crypto_assets.runs import dagster_home, run_range
from crypto_assets.settings import Profile, Settings, export_to_dbt
from crypto_assets.sources.binance import Binance
from crypto_assets.warehouse import load_raw

FIRST_DAY = date(2020, 1, 1)
WHOLE, RAW_ALONE = "binance", "raw_alone"

_VENUE = "binance"
_TRADES_PER_DAY = 10
_RAW_STEPS = {f"raw__{dataset.name}" for dataset in Binance.datasets}
_CHECK_STEPS = tuple(suite.name for suite in SUITES)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run: in all, of each step, and of storing events, which is part of both."""

    total: float
    steps: dict[str, float]
    events: float

    def parts(self) -> dict[str, float]:
        """Where the time went, in words."""
        checks = [name for name in self.steps if name.endswith(_CHECK_STEPS)]
        groups = {
            "raw assets": [name for name in self.steps if name in _RAW_STEPS],
            "checks": checks,
            "dbt": ["dbt"],
            "publishing": ["crypto_duckdb__venues"],
        }
        parts = {
            group: sum(self.steps.get(name, 0.0) for name in names)
            for group, names in groups.items()
        }
        return {
            **parts,
            "Dagster outside of steps": self.total - sum(self.steps.values()),
            "storing events, part of the above": self.events,
        }


def best(timings: Sequence[Timing]) -> Timing:
    """The best of each part, as these come one after the other: a rare thing that all are quiet."""
    steps = {name: min(timing.steps[name] for timing in timings) for name in timings[0].steps}
    outside = min(timing.total - sum(timing.steps.values()) for timing in timings)
    return Timing(sum(steps.values()) + outside, steps, min(timing.events for timing in timings))


class _Home:
    """One profile's home in a folder, with its definitions and its Dagster instance."""

    def __init__(self, folder: Path) -> None:
        listing = f"{{market: BTC-USDT, symbol: BTCUSDT, since: {FIRST_DAY}}}"
        (folder / "catalog").mkdir(parents=True)
        (folder / "catalog" / "markets.yaml").write_text(f"{_VENUE}:\n  - {listing}\n")
        self.settings = Settings(
            profile=Profile.SANDBOX, data_dir=folder / "data", catalog=folder / "catalog"
        )
        catalog = load_catalog(self.settings.catalog)
        app = sandbox.create_app(catalog, trades_per_day=_TRADES_PER_DAY)
        binance = Binance(
            archive_url=self.settings.binance_archive_url,
            rest_url=self.settings.binance_rest_url,
            limits_folder=self.settings.home / "limits",
            transport=sandbox.transport(app),
        )
        self.collector = Collector(
            Lake(self.settings.home),
            catalog,
            lambda _: binance,
            workers=self.settings.fetch_workers,
        )
        definitions = build_definitions(self.settings, collector=self.collector)
        raw = dg.AssetSelection.assets(*(["raw", dataset.name] for dataset in Binance.datasets))
        raw_alone = dg.define_asset_job(RAW_ALONE, raw.without_checks())
        both = dg.Definitions.merge(definitions, dg.Definitions(jobs=[raw_alone]))
        self.jobs = {name: both.resolve_job_def(name) for name in (WHOLE, RAW_ALONE)}
        self.instance = dg.DagsterInstance.from_config(str(dagster_home(self.settings)))
        self.seconds_in_events = 0.0
        storage = self.instance.event_log_storage
        store = storage.store_event_batch

        def timed(events: Sequence[dg.EventLogEntry]) -> None:
            started = time.perf_counter()
            store(events)
            self.seconds_in_events += time.perf_counter() - started

        storage.store_event_batch = timed  # type: ignore[method-assign]


_open: dict[str, _Home] = {}


def open_home(folder: Path) -> None:
    """Make the home that this process works on from now."""
    _open["home"] = _Home(folder)


def run(job: str, first: date, count: int) -> Timing:
    """Run a job once over some days and see that all of them are proven."""
    home = _open["home"]
    started_at: dict[str, float] = {}
    steps: dict[str, float] = {}

    def listen(event: dg.DagsterEvent) -> None:
        if event.event_type is dg.DagsterEventType.STEP_START:
            started_at[str(event.step_key)] = time.perf_counter()
        elif event.event_type is dg.DagsterEventType.STEP_SUCCESS:
            step = str(event.step_key)
            steps[step] = time.perf_counter() - started_at[step]

    home.seconds_in_events = 0.0
    started = time.perf_counter()
    outcome = run_range(home.instance, home.jobs[job], days_from(first, count), on_event=listen)
    total = time.perf_counter() - started
    if not outcome.is_proven:
        raise AssertionError("\n".join([*outcome.problems, *outcome.failed_checks]))
    return Timing(total, steps, home.seconds_in_events)


def fill(count: int) -> None:
    """Give the home a history: lake, warehouse and published marts, but no Dagster runs."""
    home = _open["home"]
    days = days_from(FIRST_DAY, count)
    for dataset in Binance.datasets:
        for day in home.collector.collect(dataset, days):
            for failure in day.failures:
                raise failure.error
    warehouse = home.settings.home / "warehouse.duckdb"
    with duckdb.connect(warehouse) as connection:
        load_raw(connection, home.collector.lake, days)
    export_to_dbt(home.settings)
    target = home.settings.home / "dbt" / "run"
    of_venues = [*DBT_BUILD, "--exclude", f"{OF_CHAINS} {OF_RANGES}"]
    with rebuilding(days_window(days)):
        command = dbt_cli().cli(of_venues, target_path=target)
    command.wait()
    manifest = json.loads(prepare_manifest(home.settings).read_text(encoding="utf-8"))
    with duckdb.connect(warehouse) as connection:
        publish(connection, home.collector.lake, manifest, days)


def days_from(first: date, count: int) -> Sequence[date]:
    """So many days in a row."""
    return [first + timedelta(days=nth) for nth in range(count)]
