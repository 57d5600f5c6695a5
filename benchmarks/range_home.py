"""A home of a chain with many block ranges: registered, recorded as materialized, in the lake.

What is in it costs nothing to make: the files of one range, with the names, times and hashes of
others in their proofs. The functions run in a worker process, which has one home at a time.
"""

import asyncio
import hashlib
import sys
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster_graphql.schema import create_schema

from crypto_assets import sandbox
from crypto_assets.catalog import KINDS, BlockRange, Catalog, Chain, ChainRange, Kind
from crypto_assets.lake import (
    Lake,
    Proof,
    RangeWriter,
    find_range,
    ranges_between,
    stale_ranges,
    verify_lake,
)
from crypto_assets.partitions import days_covered, range_partitions, register_ranges
from crypto_assets.runs import dagster_home
from crypto_assets.settings import Profile, Settings
from crypto_assets.sources.evm import Evm
from crypto_assets.status import chain_coverage

# Small ranges, whose files are as good as large ones where only their ends are read; in time they
# are as far apart as those of a thousand blocks on mainnet.
CHAIN = Chain(name="ethereum", chain_id=1, first_block=21_516_000, range_size=10)
RANGE_TIME = timedelta(seconds=12_000)
BLOCK_TIME = timedelta(seconds=12)
STARTED_AT = datetime(2015, 7, 30, tzinfo=UTC)

ASSETS = [dg.AssetKey(["raw", CHAIN.dataset(kind)]) for kind in KINDS]
PARTITIONS_PER_RUN = 20
_CHECK = "is_complete"
_RANGES_PER_FILE = 1_000


@dg.multi_asset(
    specs=[dg.AssetSpec(key) for key in ASSETS],
    partitions_def=range_partitions(CHAIN.name),
    backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN),
)
def fetch(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
    """As the raw assets of a chain are to Dagster, but for the fetching."""
    context.log.info(f"{len(context.partition_keys)} ranges")
    for key in ASSETS:
        yield dg.MaterializeResult(asset_key=key)


def _evaluations(
    instance: dg.DagsterInstance, run_id: str, keys: Collection[str]
) -> Iterator[dg.AssetCheckEvaluation]:
    """One that passed for each partition, of what was materialized last."""
    targets = instance.event_log_storage.get_latest_storage_id_by_partition(
        ASSETS[0], dg.DagsterEventType.ASSET_MATERIALIZATION, set(keys)
    )
    for key, target in targets.items():
        yield dg.AssetCheckEvaluation(
            ASSETS[0],
            _CHECK,
            passed=True,
            partition=key,
            target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                storage_id=target, run_id=run_id, timestamp=time.time()
            ),
        )


def _check(context: dg.AssetCheckExecutionContext) -> Any:
    yield from _evaluations(context.instance, context.run.run_id, context.partition_keys)
    yield dg.Output(None)


with warnings.catch_warnings():
    # Partitioned checks are a preview.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    # As the checks of a chain are to Dagster, but for the checking.
    is_complete = dg.asset_check(
        asset=ASSETS[0], name=_CHECK, partitions_def=range_partitions(CHAIN.name), blocking=True
    )(_check)


definitions = dg.Definitions(
    assets=[fetch],
    asset_checks=[is_complete],
    jobs=[dg.define_asset_job(CHAIN.name, dg.AssetSelection.assets(*ASSETS))],
    executor=dg.in_process_executor,
)


class _Home(NamedTuple):
    lake: Lake
    instance: dg.DagsterInstance
    ranges: list[BlockRange]


_open: dict[str, _Home] = {}


def open_home(folder: Path, count: int) -> None:
    """Make a home for so many ranges that this process works on from now."""
    settings = Settings(profile=Profile.SANDBOX, data_dir=folder)
    instance = dg.DagsterInstance.from_config(str(dagster_home(settings)))
    last = CHAIN.first_block + CHAIN.range_size * count - 1
    _open["home"] = _Home(Lake(settings.home), instance, CHAIN.ranges(CHAIN.first_block, last))


# --- Dagster -------------------------------------------------------------------------------------


def register() -> dict[str, float]:
    """Seconds of registering all ranges in the ways in which they are."""
    _, instance, ranges = _open["home"]
    half = len(ranges) // 2
    steps: dict[str, list[BlockRange]] = {
        "registering the newer half": ranges[half:-1],
        "registering the older half below it": ranges[:half],
        "registering one more": ranges[-1:],
        "finding that nothing is new": ranges[-2:],
    }
    seconds: dict[str, float] = {}
    for name, some in steps.items():
        with _timed(seconds, name):
            register_ranges(instance, CHAIN.name, some)
    return seconds


def record() -> None:
    """Give every range the events that a run leaves for each asset."""
    _, instance, ranges = _open["home"]
    for start in range(0, len(ranges), _RANGES_PER_FILE):
        _record(instance, ranges[start : start + _RANGES_PER_FILE])


def grow() -> None:
    """Add a range after the newest one, to Dagster alone."""
    _, instance, ranges = _open["home"]
    ranges.append(ranges[-1].beside(1))
    register_ranges(instance, CHAIN.name, ranges[-1:])
    _record(instance, ranges[-1:])


def _record(instance: dg.DagsterInstance, ranges: list[BlockRange]) -> None:
    run_id = make_new_run_id()
    kind = dg.DagsterEventType
    events = []
    for asset in ASSETS:
        for blocks in ranges:
            planned = AssetMaterializationPlannedData(asset, partition=blocks.key)
            done = StepMaterializationData(dg.AssetMaterialization(asset, partition=blocks.key))
            events += [
                _entry(run_id, kind.ASSET_MATERIALIZATION_PLANNED, planned),
                _entry(run_id, kind.ASSET_MATERIALIZATION, done),
            ]
    storage = instance.event_log_storage
    storage.store_event_batch(events)
    keys = {blocks.key for blocks in ranges}
    planned_check = AssetCheckEvaluationPlanned(
        asset_key=ASSETS[0], check_name=_CHECK, partitions_subset=DefaultPartitionsSubset(keys)
    )
    events = [_entry(run_id, kind.ASSET_CHECK_EVALUATION_PLANNED, planned_check)]
    events += [
        _entry(run_id, kind.ASSET_CHECK_EVALUATION, passed)
        for passed in _evaluations(instance, run_id, keys)
    ]
    storage.store_event_batch(events)


def _entry(run_id: str, kind: dg.DagsterEventType, data: Any) -> dg.EventLogEntry:
    event = dg.DagsterEvent(kind.value, CHAIN.name, step_key=CHAIN.name, event_specific_data=data)
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=20,
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        step_key=CHAIN.name,
        job_name=CHAIN.name,
        dagster_event=event,
    )


def run(count: int) -> float:
    """Seconds of one run over the newest ranges."""
    _, instance, ranges = _open["home"]
    job = definitions.resolve_job_def(CHAIN.name)
    tags = {
        "dagster/asset_partition_range_start": ranges[-count].key,
        "dagster/asset_partition_range_end": ranges[-1].key,
    }
    config = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}

    started = time.perf_counter()
    ended = job.execute_in_process(instance=instance, tags=tags, run_config=config)
    _expect(ended.success, True)
    return time.perf_counter() - started


# What the UI of this version of dagster-webserver asks, cut down to what grows with partitions.
QUERIES = {
    "the page of an asset, all ranges and their states": """
        query PartitionHealthQuery($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
          ... on AssetNode {
            id partitionKeysByDimension { name type partitionKeys }
            assetPartitionStatuses { ... on DefaultPartitionStatuses {
              materializedPartitions materializingPartitions failedPartitions } } } } }""",
    "the graph of assets, numbers of ranges by state": """
        query AssetGraphLiveQuery($keys: [AssetKeyInput!]!) {
          assetNodes(assetKeys: $keys, loadMaterializations: true) {
            id assetMaterializations(limit: 1) { timestamp runId partition }
            partitionStats { numMaterialized numMaterializing numPartitions numFailed } } }""",
    "a check, all ranges and their states": """
        query AssetCheckPartitionHealthQuery($key: AssetKeyInput!, $check: String!) {
          assetNodeOrError(assetKey: $key) { ... on AssetNode {
            id assetCheckOrError(checkName: $check) { ... on AssetCheck {
              executionForLatestMaterialization { id status }
              partitionKeysByDimension { name type partitionKeys }
              partitionStatuses { ... on AssetCheckDefaultPartitionStatuses {
                succeededPartitions failedPartitions inProgressPartitions skippedPartitions
                executionFailedPartitions } } } } } } }""",
    "the page of one range": """
        query AssetPartitionDetailQuery($key: AssetKeyInput!, $partition: String!) {
          assetNodeOrError(assetKey: $key) { ... on AssetNode {
            id latestMaterializationByPartition(partitions: [$partition]) { timestamp partition }
            latestRunForPartition(partition: $partition) { id }
            staleStatus(partition: $partition) } } }""",
}


def ask() -> dict[str, float]:
    """Seconds of each query of the UI."""
    _, instance, ranges = _open["home"]
    origin = LoadableTargetOrigin(
        executable_path=sys.executable, module_name=__name__, attribute="definitions"
    )
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin))
    schema = create_schema()
    keys = [{"path": asset.path} for asset in ASSETS]
    variables = {
        "key": keys[0],
        "keys": keys,
        "check": _CHECK,
        "partition": ranges[-1].key,
    }
    seconds: dict[str, float] = {}
    told = []
    with WorkspaceProcessContext(instance, target) as process:
        for name, query in QUERIES.items():
            context = process.create_request_context()
            with _timed(seconds, name):
                asking = schema.execute_async(
                    query, context_value=context, variable_values=variables
                )
                found = asyncio.run(asking)
            _expect(found.errors, None)
            told.append(found.data)
    page, graph, checked, detail = told
    states = page["assetNodeOrError"]["assetPartitionStatuses"]
    _expect(len(states["materializedPartitions"]), len(ranges))
    _expect(graph["assetNodes"][0]["partitionStats"]["numMaterialized"], len(ranges))
    states = checked["assetNodeOrError"]["assetCheckOrError"]["partitionStatuses"]
    _expect(len(states["succeededPartitions"]), len(ranges))
    (newest,) = detail["assetNodeOrError"]["latestMaterializationByPartition"]
    _expect(newest["partition"], ranges[-1].key)
    return seconds


# --- the lake ------------------------------------------------------------------------------------


def fill() -> None:
    """Commit the first range for real, and give all others files that differ only in the proof."""
    lake, _, ranges = _open["home"]
    proofs = _commit(lake, ChainRange(CHAIN.name, ranges[0]))
    for kind, proof in proofs.items():
        template = lake.file(ChainRange(CHAIN.name, ranges[0]).of(kind)).read_bytes()
        told = proof.model_dump_json().encode()
        if template.count(told) != 1:
            raise AssertionError("the proof is not in its file as it is written")
        for nth, blocks in enumerate(ranges):
            content = template.replace(told, _proof(proof, nth, blocks).model_dump_json().encode())
            if len(content) != len(template):
                raise AssertionError("a proof of another length would shift what follows")
            path = lake.file(ChainRange(CHAIN.name, blocks).of(kind))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _commit(lake: Lake, part: ChainRange) -> dict[Kind, Proof]:
    """A range of the sandbox, as it is committed in earnest."""
    transport = sandbox.transport(sandbox.create_app(Catalog(())))
    workdir = lake.inflight(part)
    workdir.mkdir(parents=True)
    with closing(Evm(CHAIN, urls=["http://sandbox/ethereum"], transport=transport)) as source:
        extract = source.fetch(part.blocks, workdir)
        with RangeWriter(lake, source.datasets, part) as writer:
            for rows in extract:
                writer.write(rows)
            return writer.commit(source_row_counts=extract.counts, source=(), checks=extract.checks)


def _proof(proof: Proof, nth: int, blocks: BlockRange) -> Proof:
    starts_at = STARTED_AT + nth * RANGE_TIME
    return proof.model_copy(
        update={
            "partition": blocks.key,
            "first_id": blocks.first,
            "last_id": blocks.last,
            "first_at": starts_at,
            "last_at": starts_at + RANGE_TIME - BLOCK_TIME,
            "parent_hash": _hash(nth - 1),
            "last_hash": _hash(nth),
        }
    )


def _hash(nth: int) -> str:
    return "0x" + hashlib.sha256(str(nth).encode()).hexdigest()


def look() -> dict[str, float]:
    """Seconds of what runs, sensors and commands ask the lake."""
    lake, _, ranges = _open["home"]
    newest = ChainRange(CHAIN.name, ranges[-1])
    middle = STARTED_AT + len(ranges) // 2 * RANGE_TIME
    starts_at = datetime.combine(middle.date(), datetime.min.time(), UTC)
    ends_at = starts_at + timedelta(days=1)
    seconds: dict[str, float] = {}
    with _timed(seconds, "every range by name"):
        _expect(len(lake.ranges(CHAIN.name)), len(ranges))
    with _timed(seconds, "the newest range and its proofs"):
        _expect(find_range(lake, newest) is not None, True)
    with _timed(seconds, "which ranges are stale"):
        _expect(stale_ranges(lake, CHAIN.name), [])
    with _timed(seconds, "the ranges of a day, and whether they cover it"):
        around = ranges_between(lake, CHAIN.name, starts_at, ends_at)
        _expect(days_covered(proofs["blocks"] for proofs in around), [starts_at.date()])
    with _timed(seconds, "what there is to verify of a day"):
        day = starts_at.date()
        count, _ = verify_lake(lake, {}, days=(day, day))
        _expect(8 <= count <= 9, True)
    with _timed(seconds, "status of the newest 1,000"):
        chain_coverage(lake, CHAIN, ranges[-1000:])
    with _timed(seconds, "status of all of them"):
        rows = chain_coverage(lake, CHAIN, None)
        _expect([row["missing"] for row in rows], [0, 0, 0])
    return seconds


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


def _expect(found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{found} instead of {expected}")
