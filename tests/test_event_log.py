"""The event log holds what Dagster's own would hold, whoever writes, follows, deletes or dies."""

import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._core.storage.event_log import SqliteEventLogStorage

from crypto_assets.event_log import EventLog
from crypto_assets.runs import dagster_home, run_range
from crypto_assets.settings import Settings

Kind = dg.DagsterEventType
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
ASSETS = [dg.AssetKey(["raw", "trades"]), dg.AssetKey("candles")]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(Settings(data_dir=tmp_path / "data"))


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with Dagster's own event log."""
    folder = tmp_path / "stock"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        yield instance


def entry(run_id: str, kind: Kind | None, data: Any = None, at: float = 1e9) -> dg.EventLogEntry:
    """An event of a run; without a kind, a line of its log."""
    event = kind and DagsterEvent(
        kind.value, "job", step_key="step", event_specific_data=data, message=kind.value
    )
    return dg.EventLogEntry(
        None, 20, "said", run_id, at, step_key="step", job_name="job", dagster_event=event
    )


def materialized(
    run_id: str, day: str, asset: dg.AssetKey = ASSETS[0], at: float = 1e9, **tags: str
) -> dg.EventLogEntry:
    made = dg.AssetMaterialization(asset, partition=day, metadata={"at": at}, tags=tags)
    return entry(run_id, Kind.ASSET_MATERIALIZATION, StepMaterializationData(made), at)


def tables(instance: dg.DagsterInstance) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every file, but for the moment of its insertion."""
    found = {}
    for path in sorted(Path(instance.root_directory, "history", "runs").glob("*.db")):
        with sqlite3.connect(path) as connection:
            for table in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"):
                columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
                kept = ", ".join(name for name in columns if name != "create_timestamp")
                rows = connection.execute(f"select {kept} from {table} order by id").fetchall()
                found[f"{path.stem}.{table}"] = rows
        connection.close()
    return found


def history(moves: random.Random, count: int) -> Iterator[dg.EventLogEntry]:
    """Events of all kinds that Dagster stores, of some runs and of none, in a random order."""
    planned: set[tuple[str, dg.AssetKey]] = set()
    days = dg.StaticPartitionsDefinition(DAYS)
    run_id = "run-a"
    for nth in range(count):
        if moves.random() < 0.1:
            run_id = moves.choice(["run-a", "run-b", ""])
        asset, day = moves.choice(ASSETS), moves.choice([*DAYS, None])
        at = 1.7e9 + nth + moves.random()
        match moves.randrange(9):
            case 0:
                yield entry(run_id, None, at=at)
            case 1:
                yield entry(run_id, Kind.STEP_START, at=at)
            case 2:
                kinds = [Kind.RUN_START, Kind.RUN_ENQUEUED, Kind.RUN_FAILURE, Kind.RUN_SUCCESS]
                yield entry(run_id, moves.choice(kinds), at=at)
            case 3:
                plan = AssetMaterializationPlannedData(asset, partition=day)
                yield entry(run_id, Kind.ASSET_MATERIALIZATION_PLANNED, plan, at)
            case 4:
                seen = dg.AssetObservation(asset, partition=day, tags={"seen": "yes"})
                yield entry(run_id, Kind.ASSET_OBSERVATION, AssetObservationData(seen), at)
            case 5 if (run_id, asset) not in planned:
                planned.add((run_id, asset))
                subset = moves.choice([None, days.subset_with_partition_keys(DAYS[:2])])
                check = AssetCheckEvaluationPlanned(
                    asset_key=asset, check_name="check", partitions_subset=subset
                )
                yield entry(run_id, Kind.ASSET_CHECK_EVALUATION_PLANNED, check, at)
            case 6:
                planned.add((run_id, asset))
                result = dg.AssetCheckEvaluation(
                    asset_key=asset,
                    check_name="check",
                    passed=moves.random() < 0.5,
                    partition=day if run_id else f"{nth}",
                    target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                        storage_id=nth, run_id=run_id, timestamp=at
                    ),
                )
                yield entry(run_id, Kind.ASSET_CHECK_EVALUATION, result, at)
            case _:
                yield materialized(run_id, day, asset, at, batch=str(nth))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_batches_leave_the_rows_of_dagsters_own_log(
    seed: int, instance: dg.DagsterInstance, stock: dg.DagsterInstance
) -> None:
    moves = random.Random(seed)
    events = list(history(moves, 300))
    at = 0
    while at < len(events):
        batch = events[at : at + moves.choice([1, 1, 2, 7, 30])]
        at += len(batch)
        if len(batch) == 1:
            instance.event_log_storage.store_event(batch[0])
        else:
            instance.event_log_storage.store_event_batch(batch)
        for event in batch:
            stock.event_log_storage.store_event(event)
        assert tables(instance) == tables(stock)
    assert len({event.dagster_event_type for event in events}) == 11


def test_a_run_is_recorded_as_in_dagsters_own_log(
    instance: dg.DagsterInstance, stock: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = dg.DailyPartitionsDefinition("2024-01-01")
    single = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=days, backfill_policy=single)
    def trades(context: dg.AssetExecutionContext) -> None:
        context.log.warning("a line of the log")

    @dg.asset(partitions_def=days, backfill_policy=single, deps=[trades])
    def candles(context: dg.AssetExecutionContext) -> None:
        for day in context.partition_keys:
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=day))

    @dg.asset(partitions_def=days, backfill_policy=single, deps=[trades])
    def breaks() -> None:
        raise dg.Failure("on purpose")

    @dg.asset_check(asset=candles, partitions_def=days)
    def holds(context: dg.AssetCheckExecutionContext) -> Any:
        for day in context.partition_keys:
            yield dg.AssetCheckEvaluation(
                asset_key=candles.key, check_name="holds", passed=True, partition=day, metadata={}
            )
        yield dg.Output(None)

    job = dg.Definitions(
        assets=[trades, candles, breaks],
        asset_checks=[holds],
        jobs=[dg.define_asset_job("all")],
        executor=dg.in_process_executor,
    ).resolve_job_def("all")
    stored: list[Sequence[dg.EventLogEntry]] = []
    store = EventLog.store_event_batch

    def recording(log: EventLog, events: Sequence[dg.EventLogEntry]) -> None:
        stored.append(events)
        store(log, events)

    monkeypatch.setattr(EventLog, "store_event_batch", recording)
    outcome = run_range(instance, job, [date.fromisoformat(day) for day in DAYS])
    assert outcome.problems == ["breaks: on purpose"]
    assert outcome.checks_passed == len(DAYS)
    assert max(map(len, stored)) >= 3 * len(DAYS), "Dagster does not hand over batches"
    for events in stored:
        for event in events:
            stock.event_log_storage.store_event(event)

    assert tables(instance) == tables(stock)
    assert instance.get_materialized_partitions(trades.key) == set(DAYS)
    assert instance.get_materialized_partitions(breaks.key) == set()
    assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
    latest = instance.get_latest_materialization_event(candles.key)
    assert latest is not None
    assert latest.run_id == outcome.run_id


def test_a_batch_that_fails_leaves_nothing(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = instance.event_log_storage
    log.store_event(materialized("run", DAYS[0]))
    before = tables(instance)
    with monkeypatch.context() as patched:
        patched.setattr(EventLog, "_store_assets", _refuse)
        with pytest.raises(RuntimeError):
            log.store_event_batch([materialized("run", day) for day in DAYS])
    assert tables(instance) == before
    log.store_event_batch([materialized("run", day) for day in DAYS])
    assert len(log.get_logs_for_run("run")) == 4


def test_two_processes_write_at_once(home: Path, instance: dg.DagsterInstance) -> None:
    each = 200
    writers = [SPAWN.Process(target=_write, args=(str(home), f"run-{n}", each)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    found = tables(instance)
    for nth in range(2):
        assert [row[0] for row in found[f"run-{nth}.event_logs"]] == list(range(1, each + 1))
    assert len(found["index.event_logs"]) == 2 * each
    ((last,),) = _query(home, "select last_materialization from asset_keys")
    assert json.loads(last)["storage_id"] == 2 * each


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_process_has_stored_what_it_was_told(
    seed: int, home: Path, instance: dg.DagsterInstance
) -> None:
    receives, sends = SPAWN.Pipe(duplex=False)
    writer = SPAWN.Process(target=_write, args=(str(home), "run", 100_000, sends))
    writer.start()
    sends.close()
    told = receives.recv()
    until = time.monotonic() + random.Random(seed).uniform(0.05, 0.5)
    while time.monotonic() < until:
        told = receives.recv()
    writer.kill()
    writer.join()
    while receives.poll():
        try:
            told = receives.recv()
        except EOFError:
            break
    log = instance.event_log_storage
    of_run = len(log.get_logs_for_run("run"))
    ((of_all,),) = _query(home, "select count(*) from event_logs")
    assert told <= of_all <= of_run <= told + 3
    log.store_event(materialized("run", DAYS[0]))
    assert len(log.get_logs_for_run("run")) == of_run + 1
    for name in ("run", "index"):
        assert _query(home, "pragma integrity_check", name) == [("ok",)]


def test_threads_store_and_read_at_once(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    errors: list[BaseException] = []

    def work(nth: int) -> None:
        try:
            for _ in range(10):
                log.store_event_batch([materialized(f"run-{nth}", day) for day in DAYS])
                log.get_logs_for_run(f"run-{(nth + 1) % 4}")
                log.get_materialized_partitions(ASSETS[0])
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(nth,)) for nth in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [len(log.get_logs_for_run(f"run-{nth}")) for nth in range(4)] == [30] * 4


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(home: Path) -> None:
    process = SPAWN.Process(target=_fork, args=(str(home),))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert len(instance.event_log_storage.get_logs_for_run("run")) == 3
    for name in ("run", "index"):
        assert _query(home, "pragma integrity_check", name) == [("ok",)]


def test_who_follows_a_run_sees_each_event_while_it_goes_on(
    home: Path, instance: dg.DagsterInstance
) -> None:
    log = instance.event_log_storage
    log.store_event(materialized("run", DAYS[0]))
    seen: list[str] = []
    with dg.DagsterInstance.from_config(str(home)) as other:
        other.watch_event_logs("run", None, lambda event, cursor: seen.append(cursor))
        for count in range(2, 5):
            log.store_event(materialized("run", DAYS[0]))
            _wait(lambda count=count: len(seen) >= count)
    assert len(seen) == len(set(seen)) == 4


@pytest.mark.parametrize("delete", ["wipe", "wipe and go on", "rmtree"])
def test_files_may_vanish_while_they_are_open(
    delete: str, home: Path, instance: dg.DagsterInstance
) -> None:
    log = instance.event_log_storage
    log.store_event_batch([materialized("run", day) for day in DAYS])
    kept = []
    if delete == "rmtree":
        shutil.rmtree(home / "history" / "runs")
        (home / "history" / "runs").mkdir()
    else:
        with dg.DagsterInstance.from_config(str(home)) as other:
            other.wipe()
            if delete == "wipe and go on":
                kept = [DAYS[0]]
                other.event_log_storage.store_event(materialized("run", DAYS[0]))
    log.store_event(materialized("run", DAYS[1]))
    assert len(log.get_logs_for_run("run")) == len(kept) + 1
    assert log.get_materialized_partitions(ASSETS[0]) == {*kept, DAYS[1]}


def test_a_deleted_run_and_a_wiped_asset_are_gone(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    for run_id, asset in zip(["run-a", "run-b"], ASSETS, strict=True):
        log.store_event(materialized(run_id, DAYS[0], asset, batch="1"))
    log.delete_events("run-a")
    log.wipe_asset(ASSETS[1])
    assert log.get_logs_for_run("run-a") == []
    assert log.get_materialized_partitions(ASSETS[1]) == set()
    log.store_event(materialized("run-b", DAYS[1], ASSETS[1], at=time.time() + 1))
    assert log.get_materialized_partitions(ASSETS[1]) == {DAYS[1]}
    instance.wipe()
    assert log.all_asset_keys() == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts handles in /proc")
def test_two_hundred_runs_leave_no_handles(home: Path, instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    template = home / "history" / "runs" / "first.db"
    most = 0
    for nth in range(200):
        run_id = f"run-{nth}"
        if nth:
            # As a new file of a run, which takes Dagster a tenth of a second to make.
            shutil.copyfile(template, log.path_for_shard(run_id))  # type: ignore[attr-defined]
        log.store_event(entry(run_id if nth else "first", Kind.STEP_START))
        if not nth:
            instance.dispose()
        log.store_event(materialized(run_id, DAYS[0]))
        assert log.get_logs_for_run(run_id)
        assert log.get_materialized_partitions(ASSETS[0])
        most = max(most, len(_handles(home)))
    # Two databases, each with a log and an index, and a handle that SQLite keeps for the next read.
    assert 0 < most <= 8
    instance.dispose()
    assert _handles(home) == []


def test_only_what_dagster_relies_on_waits_for_the_disk(instance: dg.DagsterInstance) -> None:
    log: Any = instance.event_log_storage

    def level(shard: str) -> object:
        return log._open[shard].connection.exec_driver_sql("pragma synchronous").scalar()

    normal, full = 1, 2
    log.store_event(materialized("run", DAYS[0]))
    assert (level("run"), level("index")) == (normal, normal)
    log.store_event(entry("run", Kind.RUN_SUCCESS))
    assert (level("run"), level("index")) == (full, full)
    log.store_event(materialized("run", DAYS[0]))
    assert (level("run"), level("index")) == (normal, normal)
    log.store_event(materialized("", DAYS[0]))
    assert (level(""), level("index")) == (full, full)


def test_the_log_is_below_the_home_of_its_instance(home: Path, tmp_path: Path) -> None:
    named = yaml.safe_load((home / "dagster.yaml").read_text())["event_log_storage"]
    assert named["config"] == {"base_dir": "history/runs"}
    moved = tmp_path / "moved"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.event_log_storage) is EventLog
        instance.event_log_storage.store_event(materialized("run", DAYS[0]))
    home.rename(moved)
    with dg.DagsterInstance.from_config(str(moved)) as instance:
        assert len(instance.event_log_storage.get_logs_for_run("run")) == 1
        instance.upgrade(print_fn=lambda _: None)
        assert len(instance.event_log_storage.get_logs_for_run("run")) == 1


def _refuse(*_: object) -> None:
    raise RuntimeError("refused")


def _write(home: str, run_id: str, count: int, told: Connection | None = None) -> None:
    """Store so many events of a run, one at a time and in threes."""
    with dg.DagsterInstance.from_config(home) as instance:
        done = 0
        while done < count:
            size = min(random.choice([1, 3]), count - done)
            events = [materialized(run_id, DAYS[n], at=1e9 + done + n) for n in range(size)]
            instance.event_log_storage.store_event_batch(events)
            done += size
            if told is not None:
                told.send(done)


def _fork(home: str) -> None:
    with dg.DagsterInstance.from_config(home) as instance:
        log: Any = instance.event_log_storage
        log.store_event(materialized("run", DAYS[0]))
        opened = dict(log._open)
        child = os.fork()
        log.store_event(materialized("run", DAYS[1]))
        shared = [shard for shard in opened if log._open[shard] is opened[shard]]
        if child == 0:
            instance.dispose()
            os._exit(len(shared))
        assert len(shared) == 2
        assert os.waitpid(child, 0)[1] == 0


def _query(home: Path, sql: str, shard: str = "index") -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(home / "history" / "runs" / f"{shard}.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _handles(folder: Path) -> list[str]:
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            target = str(handle.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(f"{folder}/"):
            found.append(target)
    return found


def _wait(is_done: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
