"""The states of partitioned asset checks, which the UI shows: those that Dagster tells, sooner.

Dagster's own code copies all partitions found so far for each one more, which takes minutes for
tens of thousands, and fails for a dynamic definition, as nobody tells it which partitions there
are; the UI then shows an error in place of every check. What is told here is held against it by
tests/test_check_states.py, should a release change it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
from dagster._core.asset_graph_view.serializable_entity_subset import SerializableEntitySubset
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.instance.types import CachingDynamicPartitionsLoader
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionResolvedStatus,
    AssetCheckPartitionInfo,
)
from dagster._core.storage.asset_check_state import AssetCheckState
from dagster._core.storage.dagster_run import FINISHED_STATUSES

_PLANNED = AssetCheckExecutionRecordStatus.PLANNED
_State = AssetCheckExecutionResolvedStatus
_JUDGED = {
    AssetCheckExecutionRecordStatus.SUCCEEDED: _State.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED: _State.FAILED,
}


def check_states(
    instance: dg.DagsterInstance,
    keys: Sequence[tuple[dg.AssetCheckKey, dg.PartitionsDefinition | None]],
) -> dict[dg.AssetCheckKey, AssetCheckState]:
    """The state of each check over its partitions."""
    infos: defaultdict[dg.AssetCheckKey, list[AssetCheckPartitionInfo]] = defaultdict(list)
    for info in instance.event_log_storage.get_asset_check_partition_info([key for key, _ in keys]):
        infos[info.check_key].append(info)
    ended = _ended(instance, (info for some in infos.values() for info in some))
    with partition_loading_context(
        dynamic_partitions_store=CachingDynamicPartitionsLoader(instance)
    ):
        return {key: _state(key, partitions, infos[key], ended) for key, partitions in keys}


def _ended(
    instance: dg.DagsterInstance, infos: Iterable[AssetCheckPartitionInfo]
) -> dict[str, dg.DagsterRunStatus]:
    """How those runs ended that planned a check and did not come to it, if they ended."""
    runs = {
        info.latest_planned_run_id for info in infos if info.latest_execution_status == _PLANNED
    }
    if not runs:
        return {}
    filters = dg.RunsFilter(run_ids=sorted(runs), statuses=FINISHED_STATUSES)
    return {run.run_id: run.status for run in instance.get_runs(filters)}


def _state(
    key: dg.AssetCheckKey,
    partitions: dg.PartitionsDefinition | None,
    infos: Sequence[AssetCheckPartitionInfo],
    ended: Mapping[str, dg.DagsterRunStatus],
) -> AssetCheckState:
    listed: set[str | None] = {None} if partitions is None else {*partitions.get_partition_keys()}
    found: dict[_State, set[str | None]] = {state: set() for state in _State}
    in_progress: defaultdict[str, set[str | None]] = defaultdict(set)
    for info in infos:
        state = _state_of(info, ended)
        if state is None or info.partition_key not in listed:
            continue
        found[state].add(info.partition_key)
        if state is _State.IN_PROGRESS:
            in_progress[info.latest_planned_run_id].add(info.partition_key)
    return AssetCheckState(
        latest_storage_id=max(
            (
                max(info.latest_check_event_storage_id, info.latest_materialization_storage_id or 0)
                for info in infos
            ),
            default=0,
        ),
        subsets={state: _subset(key, partitions, some) for state, some in found.items()},
        in_progress_runs={
            run_id: _subset(key, partitions, some) for run_id, some in in_progress.items()
        },
    )


def _state_of(
    info: AssetCheckPartitionInfo, ended: Mapping[str, dg.DagsterRunStatus]
) -> _State | None:
    """The state of a check of one partition; None if what it judged was replaced since."""
    if info.latest_execution_status != _PLANNED:
        return _JUDGED[info.latest_execution_status] if info.is_current else None
    end = ended.get(info.latest_planned_run_id)
    if end is None:
        return _State.IN_PROGRESS
    return _State.EXECUTION_FAILED if end is dg.DagsterRunStatus.FAILURE else _State.SKIPPED


def _subset(
    key: dg.AssetCheckKey, partitions: dg.PartitionsDefinition | None, found: set[str | None]
) -> SerializableEntitySubset[dg.AssetCheckKey]:
    if partitions is None:
        return SerializableEntitySubset(key, bool(found))
    keys = [partition for partition in found if partition is not None]
    return SerializableEntitySubset(key, partitions.subset_with_partition_keys(keys))
