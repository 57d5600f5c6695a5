"""A range enters as one or not at all: refusals, neighbours, rivals, kills and full disks."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import JOIN_SECONDS, PROCESSES

from crypto_assets.catalog import KINDS, ChainRange, Kind
from crypto_assets.errors import (
    CatalogError,
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
from crypto_assets.lake import (
    Lake,
    RangeWriter,
    find_range,
    is_range_intact,
    mark_stale,
    stale_ranges,
    verify_ranges,
)
from crypto_assets.lake.digest import digest_table
from lake.chain import (
    CHAIN,
    DATASETS,
    PART,
    REFUSED,
    SOURCE,
    Rows,
    block_hash,
    changed,
    child_commit,
    child_killed_at_lines,
    child_killed_at_move,
    child_run,
    commit,
    rows_of,
    run,
)
from lake.days import files, inflight

BEFORE, AFTER = PART.beside(-1), PART.beside(1)
Items = list[dict[str, Any]]


@contextmanager
def unchanged(lake: Lake) -> Iterator[None]:
    """The lake is the same afterwards, and no writer left anything."""
    before = files(lake.raw)
    yield
    assert files(lake.raw) == before
    assert inflight(lake) == []


def findings(lake: Lake) -> list[str]:
    return [found.message for _, several in verify_ranges(lake, CHAIN.name) for found in several]


def digests(lake: Lake, part: ChainRange = PART) -> dict[Kind, str] | None:
    found = find_range(lake, part)
    return None if found is None else found["blocks"].group


def put(items: Items, at: int, **values: Any) -> None:
    items[at] = {**items[at], **values}


# A committed range


@pytest.mark.parametrize("parts", [1, 3, 10])
def test_the_files_hold_the_rows_and_their_proofs(lake: Lake, parts: int) -> None:
    rows = rows_of()
    proofs = commit(lake, parts=parts)
    assert find_range(lake, PART) == proofs
    assert is_range_intact(lake, PART)
    for kind, dataset, batch in zip(KINDS, DATASETS, rows, strict=True):
        stored = pq.read_table(lake.file(PART.of(kind)), partitioning=None)
        assert stored == pa.Table.from_batches([batch])
        proof = proofs[kind]
        assert proof.content_digest == digest_table(stored, dataset.key) == proof.group[kind]
        assert (proof.dataset, proof.venue, proof.market) == (dataset.name, CHAIN.name, "")
        assert (proof.partition, proof.first_id, proof.last_id) == ("000000100-000000109", 100, 109)
        assert proof.row_count == batch.num_rows
        assert proof.checks["roots"] == "passed"
    assert len({str(proof.group) for proof in proofs.values()}) == 1
    blocks = proofs["blocks"]
    assert blocks.parent_hash == "0x" + block_hash(99).hex()
    assert blocks.first_hash == "0x" + block_hash(100).hex()
    assert blocks.last_hash == "0x" + block_hash(109).hex()
    assert inflight(lake) == []
    assert lake.ranges(CHAIN.name) == [PART]


def test_a_range_without_a_transaction_has_its_files_too(lake: Lake) -> None:
    rows = rows_of()
    proofs = commit(lake, Rows(rows.blocks, rows.transactions[:0], rows.logs[:0]))
    assert [proof.status for proof in proofs.values()] == ["complete", "empty", "empty"]
    assert find_range(lake, PART) is not None
    assert findings(lake) == []


def test_memory_is_bounded_by_bytes_as_well_as_rows(lake: Lake) -> None:
    # 24 logs of 8 MB each: written in groups of 64 MB, not at the end.
    commit(lake, rows_of(padding=8 << 20), parts=10)
    path = lake.file(PART.of("logs"))
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert sum(groups) == 24
    assert max(groups) <= 11
    assert findings(lake) == []


# Refusals

Breaks: dict[str, tuple[type[IntegrityError], Kind, Callable[[Items], object]]] = {
    "a log twice": (DuplicateIdError, "logs", lambda items: items.insert(5, items[4])),
    "another log in its place": (
        ConflictingDuplicateError,
        "logs",
        lambda items: items.insert(5, {**items[4], "data": b"x"}),
    ),
    "logs of a block backwards": (
        UnorderedIdError,
        "logs",
        lambda items: items.insert(4, items.pop(5)),
    ),
    "a log of an earlier block": (
        UnorderedIdError,
        "logs",
        lambda items: put(items, 5, block_number=101, log_index=9),
    ),
    "a transaction twice": (
        DuplicateIdError,
        "transactions",
        lambda items: items.insert(1, items[0]),
    ),
    "a block twice": (DuplicateIdError, "blocks", lambda items: items.insert(5, items[4])),
    "a block of the range before": (
        OutsidePartitionError,
        "blocks",
        lambda items: put(items, 0, number=99),
    ),
    "a log of the range after": (
        OutsidePartitionError,
        "logs",
        lambda items: put(items, -1, block_number=110),
    ),
    "no hash": (MalformedRowError, "blocks", lambda items: put(items, 4, hash=None)),
    "the first block is missing": (MissingIdError, "blocks", lambda items: items.pop(0)),
    "a block is missing": (MissingIdError, "blocks", lambda items: items.pop(4)),
    "the last block is missing": (MissingIdError, "blocks", lambda items: items.pop()),
    "no block at all": (MissingIdError, "blocks", lambda items: items.clear()),
}


@pytest.mark.parametrize("parts", [1, 4], ids=lambda parts: f"{parts} parts")
@pytest.mark.parametrize("name", Breaks)
def test_broken_rows_are_refused_by_name(lake: Lake, name: str, parts: int) -> None:
    error, kind, change = Breaks[name]
    commit(lake)
    with unchanged(lake), pytest.raises(IntegrityError, match=str(PART.blocks)) as caught:
        commit(lake, changed(rows_of(fork=1), kind, change), parts=parts)
    assert type(caught.value) is error


def test_the_key_and_both_rows_are_shown(lake: Lake) -> None:
    rows = changed(rows_of(), "logs", Breaks["another log in its place"][2])
    with pytest.raises(ConflictingDuplicateError) as caught:
        commit(lake, rows, parts=10)
    assert "block_number 102, log_index 1 (row 6)" in str(caught.value)
    assert caught.value.evidence["rows"] == rows.logs.to_pylist()[4:6]


@pytest.mark.parametrize("instant", [2**63 - 1, -(2**63), 10**18])
def test_an_instant_beyond_the_calendar_is_outside(lake: Lake, instant: int) -> None:
    rows = rows_of()
    times = pa.array([instant] * rows.blocks.num_rows).cast(pa.timestamp("us"))
    blocks = rows.blocks.set_column(1, DATASETS[0].schema.field("timestamp"), times)
    with unchanged(lake), pytest.raises(OutsidePartitionError, match="outside the calendar"):
        commit(lake, rows._replace(blocks=blocks))


@pytest.mark.parametrize("kind", KINDS)
def test_another_row_count_than_the_source_has_is_refused(lake: Lake, kind: Kind) -> None:
    counts = {"blocks": 10, "transactions": 16, "logs": 24}
    with unchanged(lake), pytest.raises(RowCountMismatchError, match=f"{CHAIN.dataset(kind)} "):
        commit(lake, counts={**counts, kind: counts[kind] + 1})  # type: ignore[dict-item]
    commit(lake, counts=counts)  # type: ignore[arg-type]


def test_what_was_asked_for_is_in_each_proof(lake: Lake) -> None:
    assert {proof.asked for proof in commit(lake).values()} == {None}
    commit(lake, asked='[1,"light"]')
    proofs = find_range(lake, PART)
    assert proofs is not None
    assert [proof.asked for proof in proofs.values()] == ['[1,"light"]'] * 3


def test_leaving_without_a_commit_leaves_nothing(lake: Lake) -> None:
    commit(lake)
    with unchanged(lake), RangeWriter(lake, DATASETS, PART) as writer:
        writer.write(rows_of())


def test_ranges_of_another_size_would_hold_blocks_twice(lake: Lake) -> None:
    commit(lake)
    other = ChainRange(CHAIN.name, CHAIN.model_copy(update={"range_size": 20}).range_of(200))
    with unchanged(lake), pytest.raises(CatalogError, match="in ranges of 10 blocks, not of 20"):
        commit(lake, part=other)


def test_datasets_in_another_order_are_a_mistake_of_the_caller(lake: Lake) -> None:
    with pytest.raises(ValueError, match="is no dataset of blocks of ethereum"):
        RangeWriter(lake, DATASETS[::-1], PART)


# Neighbours


def test_hashes_that_join_are_remembered(lake: Lake) -> None:
    commit(lake, part=BEFORE)
    commit(lake, part=AFTER)
    blocks = commit(lake)["blocks"]
    assert blocks.neighbours == {"previous": BEFORE.partition, "next": AFTER.partition}
    assert blocks.checks["hashes_join_previous_range"] == "passed"
    assert blocks.checks["hashes_join_next_range"] == "passed"
    assert findings(lake) == []


@pytest.mark.parametrize(
    ("beside", "side", "block"), [(BEFORE, "previous", 99), (AFTER, "next", 110)]
)
def test_hashes_that_do_not_join_are_refused(
    lake: Lake, beside: ChainRange, side: str, block: int
) -> None:
    commit(lake, part=beside)
    with unchanged(lake), pytest.raises(NeighbourMismatchError, match="as its parent") as caught:
        commit(lake, rows_of(fork=1))
    assert caught.value.evidence == {
        "side": side,
        "neighbour": beside.partition,
        "neighbour_block": block,
        "neighbour_hash": "0x" + block_hash(block).hex(),
    }


@pytest.mark.parametrize("beside", [BEFORE, AFTER])
def test_the_same_rows_enter_once_the_neighbour_is_known_to_be_stale(
    lake: Lake, beside: ChainRange
) -> None:
    stale = commit(lake, part=beside)["blocks"]
    rows = rows_of(fork=1)
    with RangeWriter(lake, DATASETS, PART) as writer:
        writer.write(rows)
        counts = dict(zip(KINDS, (batch.num_rows for batch in rows), strict=True))
        with pytest.raises(NeighbourMismatchError):
            writer.commit(source_row_counts=counts, source=(SOURCE,), checks={})
        mark_stale(lake, stale, "reorganised out", seen="0x00")
        proofs = writer.commit(source_row_counts=counts, source=(SOURCE,), checks={})
    assert proofs["blocks"].neighbours == {}
    assert find_range(lake, PART) == proofs
    assert find_range(lake, beside) is None
    commit(lake, rows_of(beside.blocks, fork=1), beside)
    assert find_range(lake, beside) is not None
    assert findings(lake) == []


def test_a_neighbour_that_is_not_whole_does_not_count(lake: Lake) -> None:
    commit(lake, part=BEFORE)
    lake.file(BEFORE.of("logs")).unlink()
    assert commit(lake, rows_of(fork=1))["blocks"].neighbours == {}


# Rivals


def together(home: Path, *runs: tuple[int, int]) -> list[int | None]:
    """Exit codes of processes that commit (fork, block) and begin at the same moment."""
    start = PROCESSES.Barrier(len(runs))
    children = [PROCESSES.Process(target=child_run, args=(home, *each, start)) for each in runs]
    for child in children:
        child.start()
    for child in children:
        child.join(JOIN_SECONDS)
    return sorted(child.exitcode for child in children)


def test_two_processes_on_one_range_commit_it_once(tmp_path: Path) -> None:
    for attempt in range(4):
        lake = Lake(tmp_path / str(attempt))
        # Each has other rows, so that a mixture of both would not go unnoticed.
        assert together(lake.home, (0, 100), (1, 100)) == [0, 0]
        assert digests(lake) is not None
        assert len(files(lake.raw)) == 3
        assert inflight(lake) == []
        assert findings(lake) == []


def test_of_two_ranges_that_do_not_join_one_gets_in(tmp_path: Path) -> None:
    for attempt in range(4):
        lake = Lake(tmp_path / str(attempt))
        assert together(lake.home, (0, 100), (1, 110)) == [0, REFUSED]
        assert len(lake.ranges(CHAIN.name)) == 1
        assert findings(lake) == []


def test_ranges_that_join_all_get_in(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert together(lake.home, (0, 100), (0, 110), (0, 120)) == [0, 0, 0]
    assert lake.ranges(CHAIN.name) == [PART, AFTER, AFTER.beside(1)]
    assert findings(lake) == []


# Kills


Digests = dict[Kind, str]


def check_survival(lake: Lake, old: Digests | None, new: Digests) -> str:
    """After a kill the range is there as it was, as it is now, or not at all; then a run ends well.

    Returns which of the three it was.
    """
    found = digests(lake)
    assert found in (old, None, new)
    state = "new" if found == new else "old" if found is not None else "nothing"
    if found is None:
        # What the source delivered is still there, and nothing is wrong that a run cannot mend.
        assert state == "nothing"
        assert (lake.inflight(PART) / "page-1.json").exists()
    else:
        assert is_range_intact(lake, PART)
    assert findings(lake) == []
    if state == "old":
        commit(lake, rows_of(fork=1))
    else:
        assert run(lake, rows_of(fork=1)) is (state == "nothing")
    assert digests(lake) == new
    assert len(files(lake.raw)) == 3
    assert inflight(lake) == []
    assert files(lake.home / "stale") == {}
    assert findings(lake) == []
    return state


@pytest.mark.parametrize(
    ("is_replacing", "states"),
    [
        (False, ["nothing", "nothing", "nothing", "new"]),
        (True, ["old", "nothing", "nothing", "nothing", "new"]),
    ],
    ids=["first commit", "replacing"],
)
def test_killed_before_any_move_of_a_file_the_range_is_whole_or_not_there(
    tmp_path: Path, is_replacing: bool, states: list[str]
) -> None:
    new = commit(Lake(tmp_path / "new"), rows_of(fork=1))["blocks"].group
    seen = []
    for move in range(len(states)):
        lake = Lake(tmp_path / str(move))
        old = commit(lake)["blocks"].group if is_replacing else None
        child = PROCESSES.Process(target=child_killed_at_move, args=(lake.home, 1, move))
        child.start()
        child.join(JOIN_SECONDS)
        assert child.exitcode == (0 if move == len(states) - 1 else -signal.SIGKILL)
        seen.append(check_survival(lake, old, new))
    assert seen == states


@pytest.mark.parametrize("is_replacing", [False, True], ids=["first commit", "replacing"])
def test_killed_at_any_line_the_range_is_whole_or_not_there(
    tmp_path: Path, is_replacing: bool
) -> None:
    new = commit(Lake(tmp_path / "new"), rows_of(fork=1))["blocks"].group
    homes = [tmp_path / str(number) for number in range(200)]
    old = None
    if is_replacing:
        proofs = commit(Lake(homes[0]))
        old = proofs["blocks"].group
        for home in homes[1:]:
            shutil.copytree(homes[0], home)
    child = PROCESSES.Process(target=child_killed_at_lines, args=(homes, 1, 11))
    child.start()
    child.join(JOIN_SECONDS)
    outcomes = [check_survival(Lake(home), old, new) for home in homes[: child.exitcode]]
    # Up to one line the range is old, up to another it is not there, from there on it is new.
    order = ["old", "nothing", "new"] if is_replacing else ["nothing", "new"]
    assert [order.index(state) for state in outcomes] == sorted(map(order.index, outcomes))
    assert set(outcomes) == set(order)
    assert len(outcomes) > 50


def test_killed_at_any_moment_the_range_is_whole_or_not_there(tmp_path: Path) -> None:
    # Long enough that kills land inside Arrow, SHA-256 and fsync, where no line is executed.
    padding = 1 << 20
    began = time.monotonic()
    new = commit(Lake(tmp_path / "new"), rows_of(fork=1, padding=padding), parts=5)["blocks"].group
    took = time.monotonic() - began
    dice = random.Random(20240301)
    lake = Lake(tmp_path / "home")
    for _ in range(10):
        old = commit(lake)["blocks"].group
        started = PROCESSES.Event()
        child = PROCESSES.Process(target=child_commit, args=(lake.home, padding, started))
        child.start()
        assert started.wait(JOIN_SECONDS)
        time.sleep(dice.uniform(0, 1.2 * took))
        child.kill()
        child.join(JOIN_SECONDS)
        assert digests(lake) in (old, None, new)
        commit(lake, rows_of(fork=1, padding=padding))
        assert digests(lake) == new
        assert inflight(lake) == []
        assert findings(lake) == []


def test_a_stale_mark_ends_with_the_commit_even_if_killed_right_after(tmp_path: Path) -> None:
    """A rename is not followed by anything that the range's being there depends on."""
    lake = Lake(tmp_path)
    mark_stale(lake, commit(lake)["blocks"], "reorganised out")
    mark = lake.stale(PART).read_bytes()
    commit(lake, rows_of(fork=1))
    lake.stale(PART).write_bytes(mark)
    assert find_range(lake, PART) is not None
    assert stale_ranges(lake, CHAIN.name) == []
    assert not run(lake, rows_of(fork=1))
    assert not lake.stale(PART).exists()


# Disks that refuse


@pytest.mark.parametrize("folder", ["lake", "inflight", "locks"])
def test_a_folder_that_cannot_be_made_is_a_storage_error(lake: Lake, folder: str) -> None:
    lake.home.mkdir()
    (lake.home / folder).write_text("in the way")
    with pytest.raises(StorageError, match=f"cannot write {lake.home}") as caught:
        commit(lake)
    assert "nothing was committed" in str(caught.value)
    assert find_range(lake, PART) is None


def test_a_file_size_limit_anywhere_in_a_file_is_a_storage_error(
    lake: Lake, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    commit(lake)
    elsewhere = Lake(lake.home / "elsewhere")
    commit(elsewhere, rows_of(fork=1, padding=5000))
    whole = elsewhere.file(PART.of("logs")).stat().st_size
    for limit in (0, 3, whole // 2, whole - 1):
        with (
            unchanged(lake),
            small_files(limit),
            pytest.raises(StorageError, match=f"cannot write {lake.inflight(PART)}"),
        ):
            commit(lake, rows_of(fork=1, padding=5000))
    commit(lake, rows_of(fork=1, padding=5000))
    assert findings(lake) == []
