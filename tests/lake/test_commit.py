"""What may enter the lake, and what a refusal, a rival, a kill or a full disk leaves behind."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import JOIN_SECONDS, PROCESSES

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import (
    ConflictingDuplicateError,
    DuplicateIdError,
    IntegrityError,
    MalformedRowError,
    MissingIdError,
    NeighbourMismatchError,
    OutsidePartitionError,
    RowCountMismatchError,
    StorageError,
    UnorderedIdError,
)
from crypto_assets.lake import Lake, PartitionWriter, find_proof, read_proof, verify
from crypto_assets.lake.digest import digest_table
from crypto_assets.lake.proof import is_seal_intact
from lake.days import (
    DAY,
    PART,
    REFUSED,
    SKIPPED,
    SOURCE,
    TRADES,
    changed,
    child_commit,
    child_killed_at_lines,
    child_run,
    commit,
    files,
    inflight,
    klines,
    pieces,
    run,
    trades,
)

BEFORE, AFTER = PART.beside(-1), PART.beside(1)
MIDNIGHT = PART.starts_at.replace(tzinfo=None)
Rows = list[dict[str, Any]]


@contextmanager
def unchanged(lake: Lake) -> Iterator[None]:
    """The lake is the same afterwards, and no writer left anything."""
    before = files(lake.raw)
    yield
    assert files(lake.raw) == before
    assert inflight(lake) == []


def findings(lake: Lake) -> list[str]:
    return [found.message for _, several in verify(lake, {}) for found in several]


def put(rows: Rows, at: int, **values: Any) -> None:
    rows[at] = {**rows[at], **values}


# A committed day


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_file_holds_the_rows_and_their_proof(lake: Lake, size: int) -> None:
    batch = trades(rows=1000, first_id=500)
    proof = commit(lake, pieces(batch, size))
    stored = pq.read_table(lake.file(PART), partitioning=None)
    assert stored.schema.equals(TRADES.schema)
    assert stored == pa.Table.from_batches([batch])
    assert proof == read_proof(lake.file(PART))
    assert proof.content_digest == digest_table(stored, TRADES.key)
    assert (proof.first_id, proof.last_id, proof.row_count) == (500, 1499, 1000)
    assert proof.first_at == PART.starts_at
    assert proof.last_at == PART.starts_at + timedelta(microseconds=999 * 86_400_000)
    assert proof.source == (SOURCE,)
    assert is_seal_intact(lake.file(PART))
    assert inflight(lake) == []


@pytest.mark.parametrize("size", [10_000, 400_000])
def test_row_groups_do_not_follow_the_batches(lake: Lake, size: int) -> None:
    batch = trades(rows=600_000)
    proof = commit(lake, pieces(batch, size))
    groups = pq.read_metadata(lake.file(PART))
    assert [groups.row_group(at).num_rows for at in range(groups.num_row_groups)] == [
        262_144,
        262_144,
        75_712,
    ]
    stored = pq.read_table(lake.file(PART), partitioning=None)
    assert digest_table(stored, TRADES.key) == proof.content_digest
    assert stored == pa.Table.from_batches([batch])


def test_the_same_rows_have_the_same_digest_however_often(lake: Lake) -> None:
    first = commit(lake, trades(rows=100))
    again = commit(lake, pieces(trades(rows=100), 9))
    assert again.content_digest == first.content_digest
    assert again.fetched_at > first.fetched_at


def test_the_whole_day_belongs_and_nothing_else(lake: Lake) -> None:
    last = MIDNIGHT + timedelta(days=1, microseconds=-1)
    batch = changed(trades(), lambda rows: put(rows, -1, time=last))
    proof = commit(lake, batch)
    assert proof.first_at == PART.starts_at
    assert proof.last_at == PART.ends_at - timedelta(microseconds=1)


def test_times_may_run_backwards_while_ids_do_not(lake: Lake) -> None:
    late = MIDNIGHT + timedelta(hours=23)
    proof = commit(lake, pieces(changed(trades(), lambda rows: put(rows, 0, time=late)), 1))
    assert proof.first_at is not None
    assert proof.last_at is not None
    assert proof.first_at < proof.last_at == late.replace(tzinfo=proof.last_at.tzinfo)


@pytest.mark.parametrize("status", ["empty", "not_listed"])
def test_a_day_without_rows_has_a_file_too(lake: Lake, status: Any) -> None:
    proof = commit(lake, [], status=status)
    assert (proof.status, proof.row_count, proof.first_id) == (status, 0, None)
    assert pq.read_table(lake.file(PART), partitioning=None) == TRADES.schema.empty_table()
    assert findings(lake) == []


def test_rows_without_ids_may_leave_holes(lake: Lake) -> None:
    part = MarketDay("binance_klines", "BTC-USDT", DAY)
    batch = changed(klines(part), lambda rows: rows.pop(4))
    proof = commit(lake, batch, part)
    assert (proof.id_rule, proof.row_count, proof.neighbours) == ("none", 9, {})


# Refusals

Breaks: dict[str, tuple[type[IntegrityError], Callable[[Rows], object]]] = {
    "same row twice": (DuplicateIdError, lambda rows: rows.insert(5, rows[4])),
    "same id, other row": (
        ConflictingDuplicateError,
        lambda rows: rows.insert(5, {**rows[4], "price": Decimal("0.00000001")}),
    ),
    "backwards": (UnorderedIdError, lambda rows: rows.insert(5, rows[2])),
    "hole": (MissingIdError, lambda rows: rows.pop(5)),
    "empty price": (MalformedRowError, lambda rows: put(rows, 5, price=None)),
    "empty id": (MalformedRowError, lambda rows: put(rows, 5, id=None)),
    "empty time": (MalformedRowError, lambda rows: put(rows, 5, time=None)),
    "the day before": (
        OutsidePartitionError,
        lambda rows: put(rows, 0, time=MIDNIGHT - timedelta(microseconds=1)),
    ),
    "24:00": (OutsidePartitionError, lambda rows: put(rows, 9, time=MIDNIGHT + timedelta(days=1))),
}


@pytest.mark.parametrize("size", [1, 3, 100], ids=lambda size: f"batches of {size}")
@pytest.mark.parametrize("name", Breaks)
def test_broken_rows_are_refused_by_name(lake: Lake, name: str, size: int) -> None:
    error, change = Breaks[name]
    commit(lake, trades(rows=5))
    with unchanged(lake), pytest.raises(IntegrityError, match=f"{PART}: ") as caught:
        commit(lake, pieces(changed(trades(), change), size))
    assert type(caught.value) is error


def test_evidence_shows_both_rows(lake: Lake) -> None:
    rows = changed(trades(), Breaks["same id, other row"][1])
    with pytest.raises(ConflictingDuplicateError, match=r"id 5 \(row 6\)") as caught:
        commit(lake, pieces(rows, 5))
    assert caught.value.evidence["rows"] == rows.to_pylist()[4:6]


def test_a_candle_twice_is_refused(lake: Lake) -> None:
    part = MarketDay("binance_klines", "BTC-USDT", DAY)
    batch = changed(klines(part), lambda rows: rows.insert(5, rows[4]))
    with unchanged(lake), pytest.raises(DuplicateIdError) as caught:
        commit(lake, pieces(batch, 5), part)
    assert caught.value.evidence["rows"] == batch.to_pylist()[4:6]


@pytest.mark.parametrize("instant", [2**63 - 1, -(2**63), 1_709_251_200_000_000_000])
def test_an_instant_beyond_the_calendar_is_outside(lake: Lake, instant: int) -> None:
    times = pa.array([instant]).cast(pa.timestamp("us"))
    batch = trades(rows=1).set_column(4, TRADES.schema.field("time"), times)
    with unchanged(lake), pytest.raises(OutsidePartitionError):
        commit(lake, batch)


@pytest.mark.parametrize(
    "schema",
    [
        TRADES.schema.remove(6),
        TRADES.schema.append(pa.field("ignore", pa.int64())),
        TRADES.schema.set(1, pa.field("price", pa.decimal128(20, 8), nullable=False)),
        TRADES.schema.set(4, pa.field("time", pa.timestamp("us", "UTC"), nullable=False)),
        TRADES.schema.set(1, TRADES.schema.field("price").with_nullable(True)),
    ],
)
def test_other_columns_are_refused(lake: Lake, schema: pa.Schema) -> None:
    rows = [{name: row.get(name, 1) for name in schema.names} for row in trades().to_pylist()]
    with unchanged(lake), pytest.raises(MalformedRowError, match="the dataset has"):
        commit(lake, pa.RecordBatch.from_pylist(rows, schema=schema))


@pytest.mark.parametrize("told", [9, 11, 0])
def test_another_row_count_than_the_source_has_is_refused(lake: Lake, told: int) -> None:
    with unchanged(lake), pytest.raises(RowCountMismatchError, match="10 rows were read"):
        commit(lake, trades(), source_row_count=told)


@pytest.mark.parametrize(("rows", "status"), [(0, "complete"), (10, "empty"), (10, "not_listed")])
def test_a_status_that_the_rows_belie_is_refused(lake: Lake, rows: int, status: Any) -> None:
    with (
        unchanged(lake),
        pytest.raises(RowCountMismatchError, match=f"cannot have status {status}"),
    ):
        commit(lake, [trades(rows=rows)], status=status)


def test_leaving_without_a_commit_leaves_nothing(lake: Lake) -> None:
    commit(lake, trades())
    with unchanged(lake), PartitionWriter(lake, TRADES, PART) as writer:
        writer.write(trades(rows=300_000))


# Neighbours


def test_ids_that_join_are_remembered(lake: Lake) -> None:
    commit(lake, trades(BEFORE, first_id=1), BEFORE)
    commit(lake, trades(AFTER, first_id=21), AFTER)
    proof = commit(lake, trades(first_id=11))
    assert proof.neighbours == {"previous": BEFORE.partition, "next": AFTER.partition}
    assert proof.checks["ids_join_previous_day"] == proof.checks["ids_join_next_day"] == "passed"


@pytest.mark.parametrize("first_id", [10, 12])
@pytest.mark.parametrize("size", [1, 100])
def test_ids_that_do_not_follow_the_day_before_are_refused(
    lake: Lake, first_id: int, size: int
) -> None:
    commit(lake, trades(BEFORE, first_id=1), BEFORE)
    told = f"{BEFORE.day} ends with id 10 and {DAY} starts with {first_id}"
    with unchanged(lake), pytest.raises(NeighbourMismatchError, match=told):
        commit(lake, pieces(trades(first_id=first_id), size))


@pytest.mark.parametrize("first_id", [10, 12])
@pytest.mark.parametrize("size", [1, 100])
def test_ids_that_do_not_lead_into_the_day_after_are_refused(
    lake: Lake, first_id: int, size: int
) -> None:
    commit(lake, trades(AFTER, first_id=21), AFTER)
    told = f"{DAY} ends with id {first_id + 9} and {AFTER.day} starts with 21"
    with unchanged(lake), pytest.raises(NeighbourMismatchError, match=told):
        commit(lake, pieces(trades(first_id=first_id), size))


def test_ids_join_over_days_without_a_trade(lake: Lake) -> None:
    commit(lake, [], PART)
    commit(lake, [], AFTER)
    commit(lake, trades(BEFORE, first_id=1), BEFORE)
    late = AFTER.beside(1)
    with unchanged(lake), pytest.raises(NeighbourMismatchError):
        commit(lake, trades(late, first_id=12), late)
    assert commit(lake, trades(late, first_id=11), late).neighbours == {
        "previous": BEFORE.partition
    }


def test_a_day_is_not_empty_when_the_ids_around_it_leave_a_hole(lake: Lake) -> None:
    commit(lake, trades(BEFORE, first_id=1), BEFORE)
    commit(lake, trades(AFTER, first_id=12), AFTER)
    with unchanged(lake), pytest.raises(NeighbourMismatchError):
        commit(lake, [])
    commit(lake, trades(AFTER, first_id=11), AFTER)
    assert commit(lake, []).neighbours == {"previous": BEFORE.partition, "next": AFTER.partition}


def test_days_on_which_a_market_was_not_listed_join_nothing(lake: Lake) -> None:
    commit(lake, trades(BEFORE, first_id=1), BEFORE)
    assert commit(lake, [], status="not_listed").neighbours == {}
    assert commit(lake, trades(AFTER, first_id=500), AFTER).neighbours == {}


def test_other_markets_are_no_neighbours(lake: Lake) -> None:
    other = MarketDay(TRADES.name, "ETH-USDT", BEFORE.day)
    commit(lake, trades(other, first_id=900), other)
    assert commit(lake, trades()).neighbours == {}


@pytest.mark.parametrize("kind", ["foreign", "another day's"])
def test_a_file_that_is_not_the_neighbours_own_does_not_count(lake: Lake, kind: str) -> None:
    if kind == "foreign":
        lake.file(BEFORE).parent.mkdir(parents=True)
        lake.file(BEFORE).write_text("not Parquet")
    else:
        far = PART.beside(-9)
        commit(lake, trades(far, first_id=900), far)
        lake.file(far).parent.rename(lake.file(BEFORE).parent)
    assert commit(lake, trades()).neighbours == {}


def test_the_commit_replaces_a_file_that_is_not_proven(lake: Lake) -> None:
    lake.file(PART).parent.mkdir(parents=True)
    lake.file(PART).write_text("not Parquet")
    assert find_proof(lake, PART) is None
    assert run(lake, [trades()])
    assert findings(lake) == []


# Rivals


def test_of_two_days_in_two_threads_that_do_not_join_one_gets_in(tmp_path: Path) -> None:
    def enter(lake: Lake, part: MarketDay, first_id: int, start: threading.Barrier) -> bool:
        with PartitionWriter(lake, TRADES, part) as writer:
            writer.write(trades(part, first_id=first_id))
            start.wait()
            try:
                writer.commit(status="complete", source_row_count=10, source=(), checks={})
            except NeighbourMismatchError:
                return False
        return True

    for attempt in range(10):
        lake, start = Lake(tmp_path / str(attempt)), threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(enter, lake, PART, 1, start)
            other = pool.submit(enter, lake, AFTER, 12, start)
        assert one.result() != other.result()
        assert [part for part, _ in lake.committed()] == [PART if one.result() else AFTER]
        assert inflight(lake) == []


def together(*runs: tuple[Path, pa.RecordBatch, MarketDay]) -> list[int | None]:
    """Exit codes of processes that begin at the same moment."""
    start = PROCESSES.Barrier(len(runs))
    children = [PROCESSES.Process(target=child_run, args=(*each, start)) for each in runs]
    for child in children:
        child.start()
    for child in children:
        child.join(JOIN_SECONDS)
    return sorted(child.exitcode for child in children)


def test_of_two_days_in_two_processes_that_do_not_join_one_gets_in(tmp_path: Path) -> None:
    for attempt in range(4):
        lake = Lake(tmp_path / str(attempt))
        codes = together(
            (lake.home, trades(), PART), (lake.home, trades(AFTER, first_id=12), AFTER)
        )
        assert codes == [0, REFUSED]
        assert len(list(lake.committed())) == 1
        assert findings(lake) == []


def test_two_processes_on_one_day_commit_it_once(tmp_path: Path) -> None:
    for attempt in range(4):
        lake = Lake(tmp_path / str(attempt))
        rows = trades(rows=1000)
        assert together((lake.home, rows, PART), (lake.home, rows, PART)) == [0, SKIPPED]
        assert list(files(lake.raw)) == [str(lake.file(PART).relative_to(lake.raw))]
        assert inflight(lake) == []
        assert findings(lake) == []


# Kills


def check_survival(lake: Lake, old: str | None, rows: list[pa.RecordBatch], new: str) -> bool:
    """After a kill the day is whole, old or new, and a normal run ends well; whether it was new."""
    found = find_proof(lake, PART)
    assert lake.file(PART).exists() == (found is not None)
    assert findings(lake) == []
    digest = None if found is None else found.content_digest
    assert digest in (old, new)
    if digest == new:
        assert not run(lake, rows)
    elif old is None:
        assert run(lake, rows)
    else:
        commit(lake, rows)
    assert read_proof(lake.file(PART)).content_digest == new
    assert inflight(lake) == []
    assert findings(lake) == []
    return digest == new


@pytest.mark.parametrize("is_replacing", [False, True], ids=["first commit", "replacing"])
def test_killed_at_any_line_the_day_is_whole(tmp_path: Path, is_replacing: bool) -> None:
    rows = [trades(rows=20)]
    new = commit(Lake(tmp_path / "new"), rows).content_digest
    homes = [tmp_path / str(number) for number in range(300)]
    old = None
    if is_replacing:
        old = commit(Lake(homes[0]), trades(rows=5)).content_digest
        for home in homes[1:]:
            shutil.copytree(homes[0], home)
    child = PROCESSES.Process(target=child_killed_at_lines, args=(homes, rows, 3))
    child.start()
    child.join(JOIN_SECONDS)
    outcomes = [check_survival(Lake(home), old, rows, new) for home in homes[: child.exitcode]]
    # Up to one line the day is old, from there on it is new, and both were seen.
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 50
    assert outcomes.count(True) > 3


def test_killed_at_any_moment_the_day_is_whole(tmp_path: Path) -> None:
    # Long enough that kills land inside Arrow, SHA-256 and fsync, where no line is executed.
    rows = pieces(trades(rows=200_000), 20_000)
    began = time.monotonic()
    new = commit(Lake(tmp_path / "new"), rows).content_digest
    took = time.monotonic() - began
    dice = random.Random(20240301)
    lake = Lake(tmp_path / "home")
    for _ in range(10):
        old = commit(lake, trades(rows=5)).content_digest
        started = PROCESSES.Event()
        child = PROCESSES.Process(target=child_commit, args=(lake.home, 200_000, started))
        child.start()
        assert started.wait(JOIN_SECONDS)
        time.sleep(dice.uniform(0, 1.2 * took))
        child.kill()
        child.join(JOIN_SECONDS)
        check_survival(lake, old, rows, new)


# Disks that refuse


@pytest.mark.parametrize("folder", ["lake", "inflight", "locks"])
def test_a_folder_that_cannot_be_made_is_a_storage_error(lake: Lake, folder: str) -> None:
    lake.home.mkdir()
    (lake.home / folder).write_text("in the way")
    before = files(lake.home)
    with pytest.raises(StorageError, match=f"cannot write {lake.home}") as caught:
        commit(lake, trades())
    assert "nothing was committed" in str(caught.value)
    assert {name for name in files(lake.home) if not name.startswith("locks/")} == set(before)


def test_a_file_size_limit_anywhere_in_the_file_is_a_storage_error(
    lake: Lake, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    commit(lake, trades(rows=5))
    batch = trades(rows=300_000)
    elsewhere = Lake(lake.home / "elsewhere")
    commit(elsewhere, batch)
    whole = elsewhere.file(PART).stat().st_size
    # From nothing at all, over the middle of a row group, to the last bytes of the footer.
    for limit in (0, 3, whole // 2, whole - 1500, whole - 1):
        with (
            unchanged(lake),
            small_files(limit),
            pytest.raises(StorageError, match=f"cannot write {lake.inflight(PART)}"),
        ):
            commit(lake, pieces(batch, 50_000))
    commit(lake, batch)
    assert findings(lake) == []


def test_a_disk_that_fills_up_does_not_hide_a_refusal(
    lake: Lake, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    def refuse() -> None:
        with ExitStack() as disk, PartitionWriter(lake, TRADES, PART) as writer:
            writer.write(trades(rows=262_144))
            disk.enter_context(small_files(1))
            writer.write(trades(first_id=900_000))

    with unchanged(lake), pytest.raises(MissingIdError):
        refuse()


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    home = tmp_path / "small disk"
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(home)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        lake = Lake(home)
        commit(lake, trades(rows=5))
        with unchanged(lake), pytest.raises(StorageError, match="No space left on device"):
            commit(lake, pieces(trades(rows=600_000), 50_000))
        assert commit(lake, trades(rows=6)).row_count == 6
    finally:
        subprocess.run(["umount", str(home)], check=True)
