"""Running a job over a range of partitions through Dagster, in this process.

Same partitions, runs and events as from the UI; what a range comes to is read back from the events.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter
from dagster._core.utils import make_new_run_id

from crypto_assets.catalog import BlockRange
from crypto_assets.lake.durable import storage_errors
from crypto_assets.settings import PROJECT_ROOT, Settings

_T = TypeVar("_T")
_PROCESS_TAG = "crypto_assets/process"
_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


# By the failure of a step, or the evaluation of a check.
_TOLD_ALREADY = {"DagsterExecutionStepExecutionError", "DagsterAssetCheckFailedError"}


@dataclass(slots=True)
class RangeOutcome:
    """What one run over a range of partitions came to.

    `problems` are the messages of failed steps, `failed_checks` the checks of severity ERROR that
    did not pass, with the partitions they failed for.
    """

    run_id: str
    partitions: tuple[str, str]
    is_success: bool = False
    checks_passed: int = 0
    problems: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def is_proven(self) -> bool:
        """Whether everything asked for is proven and no check of severity ERROR failed."""
        return self.is_success and not self.failed_checks and not self.skipped


def dagster_home(settings: Settings) -> Path:
    """The profile's Dagster home, with the project's dagster.yaml in it."""
    home = settings.home / "dagster"
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
    return home


def tag_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remember which process a run lives in, whoever launched it."""
    instance.add_run_tags(run_id, {_PROCESS_TAG: _process_name(os.getpid())})


def run_range(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    partitions: Sequence[date] | Sequence[BlockRange],
    *,
    on_event: Callable[[dg.DagsterEvent], None] = lambda _: None,
    ops: Mapping[str, Any] | None = None,
    assets: Sequence[dg.AssetKey] | None = None,
) -> RangeOutcome:
    """Run a job once over partitions that follow each other and tell what became of it.

    `ops` is run configuration by op, as in Dagster's launchpad. With `assets`, only those of the
    job and their checks.
    """
    run_id = make_new_run_id()
    # A day and a block range are each called as their partition is.
    first, last = str(partitions[0]), str(partitions[-1])
    outcome = RangeOutcome(run_id, (first, last))

    def listen(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event is not None:
            _take_down(entry.dagster_event, outcome)
            on_event(entry.dagster_event)

    instance.add_event_listener(run_id, listen)
    result = job.execute_in_process(
        instance=instance,
        run_id=run_id,
        raise_on_error=False,
        asset_selection=assets,
        run_config={
            "loggers": {"console": {"config": {"log_level": "WARNING"}}},
            "ops": dict(ops or {}),
        },
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
            _PROCESS_TAG: _process_name(os.getpid()),
        },
    )
    outcome.is_success = result.success
    return outcome


def end_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process was killed as failed and give back their pool slots.

    Without it a killed run would look as if it were running for ever, and the next one would wait
    for the slot of pool `warehouse` that it still holds. Returns the ids of the runs ended.
    """
    ended = []
    for run in instance.get_runs(RunsFilter(statuses=_UNFINISHED)):
        process = run.tags.get(_PROCESS_TAG)
        if process is None or _process_name(int(process.split("@")[0])) == process:
            continue
        instance.report_run_failed(run, "the process of this run was killed")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended


def chunks(partitions: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """At most `size` of them at a time, in order."""
    for start in range(0, len(partitions), size):
        yield partitions[start : start + size]


def _process_name(pid: int) -> str:
    """Process id and start time, so that a reused id is not taken for the same process."""
    try:
        os.kill(pid, 0)
        # Field 22 of /proc/<pid>/stat, after the name in parentheses (man 5 proc).
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return f"{pid}@gone"
    except FileNotFoundError:
        # No /proc on this system: a living process is known by its id alone.
        return f"{pid}@running"
    return f"{pid}@{stat.rpartition(')')[2].split()[19]}"


def _take_down(event: dg.DagsterEvent, outcome: RangeOutcome) -> None:
    if event.event_type is DagsterEventType.STEP_FAILURE:
        data = event.step_failure_data
        failure = data.user_failure_data
        if failure is not None:
            outcome.problems.append(f"{event.step_key}: {failure.description}")
            outcome.problems += [
                f"  {part}: {getattr(value, 'value', value)}"
                for part, value in failure.metadata.items()
            ]
        elif data.error is not None and data.error.cls_name != "DagsterAssetCheckFailedError":
            # A failed check is told by its evaluation, with its partition.
            cause = data.error
            while cause.cause is not None:
                cause = cause.cause
            outcome.problems.append(f"{event.step_key}: {cause.message.strip()}")
    elif event.event_type is DagsterEventType.STEP_SKIPPED:
        # Dagster calls such a run a success, but what was asked for has not been made.
        outcome.skipped.append(f"{event.step_key}: skipped, for want of what it is made from")
    elif event.event_type is DagsterEventType.RUN_FAILURE and not outcome.problems:
        error = event.job_failure_data.error
        if error is not None and error.cls_name not in _TOLD_ALREADY:
            outcome.problems.append(f"the run: {error.message.strip()}")
    elif event.event_type is DagsterEventType.ASSET_OBSERVATION:
        observation = event.asset_observation_data.asset_observation
        outcome.warnings.append(observation.description or str(observation.asset_key))
    elif event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
        evaluation = event.asset_check_evaluation_data
        name = f"{evaluation.asset_key.to_user_string()} {evaluation.check_name}"
        where = f"{name} {evaluation.partition}" if evaluation.partition else name
        if evaluation.passed:
            outcome.checks_passed += 1
        elif evaluation.severity is dg.AssetCheckSeverity.ERROR:
            outcome.failed_checks.append(where)
        else:
            outcome.warnings.append(f"check warns: {where}")
