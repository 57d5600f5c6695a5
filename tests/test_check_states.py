"""States of partitioned checks are those that Dagster's own code tells, of block ranges too."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import StepMaterializationData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.test_utils import create_run_for_test

from crypto_assets.check_states import check_states
from crypto_assets.event_log import EventLog
from crypto_assets.settings import PROJECT_ROOT

ASSET = dg.AssetKey("blocks")
CHECK = dg.AssetCheckKey(ASSET, "is_complete")
KIND = dg.DagsterEventType
RANGES = dg.DynamicPartitionsDefinition(name="ethereum_ranges")
DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-06-01")
Event = tuple[dg.DagsterEventType, Any]
RUN_ENDS = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copy(PROJECT_ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def test_states_are_those_that_dagster_tells_of_a_random_history(
    instance: dg.DagsterInstance,
) -> None:
    keys = [f"{number:09}-{number + 9:09}" for number in range(0, 2500, 10)]
    instance.add_dynamic_partitions(str(RANGES.name), keys[:-5])
    write_history(instance, keys)
    told = check_states(instance, [(CHECK, RANGES)])
    assert told == dagsters(instance, RANGES)
    subsets = told[CHECK].subsets
    found = {status: set(one.subset_value.get_partition_keys()) for status, one in subsets.items()}
    assert set(found) == set(AssetCheckExecutionResolvedStatus)
    assert all(found.values()), "every state is met"
    assert set().union(*found.values()) <= set(keys[:-5]), "what is not registered is left out"


def test_states_of_days_are_those_that_dagster_tells(instance: dg.DagsterInstance) -> None:
    write_history(instance, list(DAYS.get_partition_keys()))
    assert check_states(instance, [(CHECK, DAYS)]) == dagsters(instance, DAYS)


def test_a_check_that_never_ran_and_one_without_partitions(instance: dg.DagsterInstance) -> None:
    assert check_states(instance, [(CHECK, RANGES)]) == dagsters(instance, RANGES)
    assert check_states(instance, [(CHECK, None)]) == dagsters(instance, None)
    run = create_run_for_test(instance, job_name="job")
    passed = dg.AssetCheckEvaluation(ASSET, CHECK.name, passed=True)
    store(
        instance,
        run.run_id,
        (KIND.ASSET_CHECK_EVALUATION_PLANNED, planned(None)),
        (KIND.ASSET_CHECK_EVALUATION, passed),
    )
    found = check_states(instance, [(CHECK, None)])
    assert found == dagsters(instance, None)
    assert found[CHECK].subsets[AssetCheckExecutionResolvedStatus.SUCCEEDED].bool_value


def test_the_event_log_tells_them(instance: dg.DagsterInstance) -> None:
    """Without the list of partitions Dagster's own fails; should it learn, all this can go."""
    instance.add_dynamic_partitions(str(RANGES.name), ["a"])
    write_history(instance, ["a"])
    storage = instance.event_log_storage
    assert isinstance(storage, EventLog)
    with pytest.raises(Exception, match="The instance is not available to load partitions"):
        SqliteEventLogStorage.get_asset_check_state(storage, [(CHECK, RANGES)])
    assert storage.get_asset_check_state([(CHECK, RANGES)]) == dagsters(instance, RANGES)


def dagsters(instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition[str] | None) -> Any:
    """What Dagster's own code tells if it knows of the partitions."""
    storage: Any = instance.event_log_storage
    with partition_loading_context(dynamic_partitions_store=instance):
        return SqliteEventLogStorage.get_asset_check_state(storage, [(CHECK, partitions)])


def write_history(instance: dg.DagsterInstance, keys: list[str]) -> None:
    """Runs over some partitions each: materialized or not, checked or not, passed or not."""
    dice = random.Random(20240301)
    for number, at in enumerate(range(0, len(keys) * 2, 35)):
        run = create_run_for_test(instance, job_name="job", status=RUN_ENDS[number % 4])
        what = {keys[place % len(keys)]: dice.random() for place in range(at, at + 50)}
        store(
            instance,
            run.run_id,
            (KIND.ASSET_CHECK_EVALUATION_PLANNED, planned(set(what))),
            *(materialization(key) for key, much in what.items() if much < 0.8),
        )
        targets = instance.event_log_storage.get_latest_storage_id_by_partition(
            ASSET, KIND.ASSET_MATERIALIZATION, set(what)
        )
        store(
            instance,
            run.run_id,
            *(
                evaluation(run.run_id, key, targets[key], passed=much < 0.4)
                for key, much in what.items()
                if much < 0.6
            ),
            *(materialization(key) for key, much in what.items() if much < 0.1),
        )


def materialization(key: str) -> Event:
    return KIND.ASSET_MATERIALIZATION, StepMaterializationData(
        dg.AssetMaterialization(ASSET, partition=key)
    )


def evaluation(run_id: str, key: str, target: int, *, passed: bool) -> Event:
    return KIND.ASSET_CHECK_EVALUATION, dg.AssetCheckEvaluation(
        ASSET,
        CHECK.name,
        passed=passed,
        partition=key,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=target, run_id=run_id, timestamp=0.0
        ),
    )


def planned(keys: set[str] | None) -> AssetCheckEvaluationPlanned:
    subset = None if keys is None else DefaultPartitionsSubset(keys)
    return AssetCheckEvaluationPlanned(
        asset_key=ASSET, check_name=CHECK.name, partitions_subset=subset
    )


def store(instance: dg.DagsterInstance, run_id: str, *events: Event) -> None:
    instance.event_log_storage.store_event_batch(
        [
            dg.EventLogEntry(  # type: ignore[no-untyped-call]
                error_info=None,
                level=20,
                user_message="",
                run_id=run_id,
                timestamp=time.time(),
                step_key="step",
                job_name="job",
                dagster_event=dg.DagsterEvent(
                    kind.value, "job", step_key="step", event_specific_data=data
                ),
            )
            for kind, data in events
        ]
    )
