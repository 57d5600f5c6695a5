"""Runs in this process: killed ones are ended and their pool slots come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from crypto_assets.runs import chunks, dagster_home, end_orphaned_runs, run_range
from crypto_assets.settings import Settings

DAYS = [date(2024, 1, 1), date(2024, 1, 2)]

_HANGING_JOB = """
import sys, time
from datetime import date
import dagster as dg
from crypto_assets.runs import run_range

@dg.asset(pool="warehouse", partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
def hangs():
    print("holds the slot", flush=True)
    time.sleep(600)

definitions = dg.Definitions(assets=[hangs], executor=dg.in_process_executor)
job = definitions.resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    run_range(instance, job, [date(2024, 1, 1)])
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(Settings(data_dir=tmp_path))


def test_a_killed_run_is_ended_and_gives_back_its_slot(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HANGING_JOB, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "holds the slot" in line:
            break
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert end_orphaned_runs(instance) == [], "a living run was ended"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(end_orphaned_runs(instance)) == 1
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
        info = instance.event_log_storage.get_concurrency_info("warehouse")
        assert (info.slot_count, info.active_slot_count) == (1, 0)


def test_a_range_tells_its_failures_and_failed_checks(home: Path) -> None:
    days = dg.DailyPartitionsDefinition("2024-01-01")

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def fine() -> None: ...

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def broken() -> None:
        raise dg.Failure("two days are not proven", metadata={"BTC-USDT 2024-01-01": "a hole"})

    @dg.asset_check(asset=fine)
    def holds() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset_check(asset=fine)
    def breaks() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    @dg.asset_check(asset=fine)
    def warns() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    job = dg.Definitions(
        assets=[fine, broken],
        asset_checks=[holds, breaks, warns],
        jobs=[dg.define_asset_job("both")],
        executor=dg.in_process_executor,
    ).resolve_job_def("both")
    events = []
    with dg.DagsterInstance.from_config(str(home)) as instance:
        outcome = run_range(instance, job, DAYS, on_event=events.append)
    assert not outcome.is_proven
    assert outcome.problems == [
        "broken: two days are not proven",
        "  BTC-USDT 2024-01-01: a hole",
    ]
    assert outcome.failed_checks == ["fine breaks"]
    assert outcome.warnings == ["check warns: fine warns"]
    assert outcome.checks_passed == 1
    assert events


def test_chunks_cover_a_range_once() -> None:
    days = [date(2024, 1, day) for day in range(1, 8)]
    runs = list(chunks(days, 3))
    assert [len(run) for run in runs] == [3, 3, 1]
    assert [day for run in runs for day in run] == days
