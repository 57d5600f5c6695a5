"""Calls enter the lake beside their range, go with its logs, and are proven again."""

from __future__ import annotations

import shutil
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crypto_assets.catalog import CALLS, KINDS, Dataset
from crypto_assets.errors import (
    ConflictingDuplicateError,
    DuplicateIdError,
    LogsMissingError,
    MalformedRowError,
    RowCountMismatchError,
    UnorderedIdError,
)
from crypto_assets.lake import (
    Lake,
    Proof,
    commit_calls,
    committed_logs,
    find_calls,
    find_range,
    is_part_intact,
    mark_stale,
    read_proof,
    verify_lake,
    verify_ranges,
)
from crypto_assets.lake.proof import METADATA_KEY, UNSEALED, seal
from lake.chain import CHAIN, PART, SOURCE, child_killed_at_move, commit, deliver, rows_of

SCHEMA = pa.schema(
    [
        pa.field("address", pa.binary(20), nullable=False),
        pa.field("call", pa.string(), nullable=False),
        pa.field("result", pa.binary()),
    ]
)
DATASET = Dataset(
    name=CHAIN.dataset(CALLS),
    venue=CHAIN.name,
    description="",
    schema=SCHEMA,
    key=("address", "call"),
    time_column=None,
)
PATH_OF = PART.of(CALLS)
ROWS = [(b"\x01" * 20, "b()", b"\x02"), (b"\x01" * 20, "ba()", None), (b"\xff" * 20, "a()", b"")]


def rows(*given: tuple[Any, ...]) -> pa.RecordBatch:
    found = [dict(zip(SCHEMA.names, row, strict=True)) for row in given or ROWS]
    return pa.RecordBatch.from_pylist(found, schema=SCHEMA)


def commit_some(lake: Lake, batch: pa.RecordBatch | None = None, **claims: Any) -> Proof:
    given = rows() if batch is None else batch
    claims = {"logs_digest": committed_logs(lake, PART).content_digest} | claims
    return commit_calls(
        lake,
        DATASET,
        PART,
        given,
        asked_count=claims.pop("asked_count", given.num_rows),
        source=(SOURCE,),
        checks={"calls_are_answered": "passed"},
        asked="[1]",
        **claims,
    )


def problems(lake: Lake) -> set[tuple[Any, str]]:
    found = [each for _, several in verify_ranges(lake, CHAIN.name) for each in several]
    assert all(each.message for each in found)
    return {(each.part, each.problem) for each in found}


@pytest.fixture
def held(lake: Lake) -> Lake:
    commit(lake)
    commit_some(lake)
    return lake


def test_calls_are_one_proven_file_that_names_its_logs(held: Lake) -> None:
    digest = committed_logs(held, PART).content_digest
    proof = find_calls(held, PART, digest)
    assert proof is not None
    assert proof == read_proof(held.file(PATH_OF))
    assert (proof.row_count, proof.status, proof.asked) == (3, "complete", "[1]")
    assert proof.group == {"logs": digest}
    assert (proof.first_id, proof.last_id, proof.first_at) == (100, 109, None)
    assert proof.checks == {
        "rows_equal_source": "passed",
        "key_is_unique_and_ordered": "passed",
        "calls_are_answered": "passed",
    }
    assert is_part_intact(held, PATH_OF)
    assert not held.inflight(PATH_OF).exists()
    assert pq.read_table(held.file(PATH_OF), partitioning=None).to_batches()[0].equals(rows())
    assert held.chains() == [CHAIN.name]
    assert held.ranges(CHAIN.name, CALLS) == [PART]
    assert problems(held) == set()
    count, found = verify_lake(held, {})
    assert (count, list(found)) == (1, [(PART, [])])


def test_a_range_without_calls_is_there_all_the_same(lake: Lake) -> None:
    commit(lake)
    assert find_range(lake, PART) is not None
    assert find_calls(lake, PART, committed_logs(lake, PART).content_digest) is None
    assert problems(lake) == set()


def test_a_range_that_asks_nothing_is_empty(lake: Lake) -> None:
    commit(lake)
    proof = commit_some(lake, rows().slice(0, 0))
    assert (proof.status, proof.row_count) == ("empty", 0)
    assert problems(lake) == set()


def test_calls_of_a_range_that_is_not_there_are_refused(lake: Lake) -> None:
    with pytest.raises(LogsMissingError, match="collect the range first"):
        commit_some(lake, logs_digest="0")
    blocks = commit(lake)["blocks"]
    mark_stale(lake, blocks, "reorganised")
    with pytest.raises(LogsMissingError):
        commit_some(lake, logs_digest=blocks.group["logs"])
    assert not lake.file(PATH_OF).exists()
    assert list(lake.inflight(PATH_OF).glob(".*")) == []


def test_calls_of_logs_that_were_replaced_meanwhile_are_refused(lake: Lake) -> None:
    old = commit(lake)["logs"].content_digest
    commit(lake, rows_of(fork=1))
    with pytest.raises(LogsMissingError, match="replaced while"):
        commit_some(lake, logs_digest=old)
    assert not lake.file(PATH_OF).exists()


@pytest.mark.parametrize(
    ("batch", "kind"),
    [
        (rows(*ROWS[::-1]), UnorderedIdError),
        (rows(ROWS[1], ROWS[0]), UnorderedIdError),
        (rows(ROWS[0], ROWS[0]), DuplicateIdError),
        (rows(ROWS[0], (*ROWS[0][:2], b"")), ConflictingDuplicateError),
        (rows((None, "a()", b"")), MalformedRowError),
    ],
)
def test_rows_that_break_a_claim_change_nothing(
    held: Lake, batch: pa.RecordBatch, kind: type[Exception]
) -> None:
    before = held.file(PATH_OF).read_bytes()
    with pytest.raises(kind):
        commit_some(held, batch)
    with pytest.raises(RowCountMismatchError):
        commit_some(held, asked_count=4)
    assert held.file(PATH_OF).read_bytes() == before


def test_calls_go_with_the_logs_that_they_follow_from(held: Lake) -> None:
    commit(held)  # the same again
    assert held.file(PATH_OF).exists()
    commit(held, rows_of(fork=1))
    assert not held.file(PATH_OF).exists()
    assert find_range(held, PART) is not None
    assert problems(held) == set()


def test_a_kill_on_the_way_leaves_no_calls_of_other_logs(tmp_path: Path) -> None:
    sound = Lake(tmp_path / "sound")
    commit(sound)
    commit_some(sound)
    spawn = get_context("spawn")
    for move in range(5):
        home = tmp_path / f"home-{move}"
        shutil.copytree(sound.home, home)
        child = spawn.Process(target=child_killed_at_move, args=(home, 1, move))
        child.start()
        child.join(120)
        lake = Lake(home)
        found = {each for each in problems(lake) if each[0] == PATH_OF}
        assert not found, move
        if find_range(lake, PART) is not None and lake.file(PATH_OF).exists():
            assert find_calls(lake, PART, committed_logs(lake, PART).content_digest), move
    assert child.exitcode != 0


def test_a_flipped_byte_is_found(held: Lake) -> None:
    path = held.file(PATH_OF)
    sound = path.read_bytes()
    for at in range(0, len(sound), 197):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        (found,) = problems(held)
        assert found in {(PATH_OF, "changed"), (PATH_OF, "unreadable")}, at
        assert not is_part_intact(held, PATH_OF)


def store(lake: Lake, batch: pa.RecordBatch, **claims: Any) -> None:
    path = lake.file(PATH_OF)
    proof = read_proof(path).model_copy(update={**claims, "file_sha256": UNSEALED})
    with pq.ParquetWriter(path, batch.schema) as writer:
        writer.write_batch(batch)
        writer.add_key_value_metadata({METADATA_KEY: proof.model_dump_json()})
    seal(path)


def test_other_rows_and_other_logs_under_a_seal_of_their_own_are_found(held: Lake) -> None:
    store(held, rows(ROWS[0], ROWS[1], (*ROWS[2][:2], b"\x07")))
    assert problems(held) == {(PATH_OF, "altered")}
    store(held, rows(), group={"logs": "0" * 64})
    assert problems(held) == {(PATH_OF, "outdated")}
    store(held, rows(), partition=PART.beside(1).partition)
    assert problems(held) == {(PATH_OF, "swapped")}
    assert find_calls(held, PART, committed_logs(held, PART).content_digest) is None


def test_calls_whose_range_is_gone_are_found(held: Lake) -> None:
    for kind in KINDS:
        shutil.rmtree(held.file(PART.of(kind)).parent)
    assert held.chains() == [CHAIN.name]
    assert problems(held) == {(PATH_OF, "orphaned")}
    # Unless the range is about to be fetched again.
    deliver(held)
    assert problems(held) == set()


def test_other_files_beside_calls_are_found(held: Lake) -> None:
    (held.file(PATH_OF).parent / "copy.parquet").write_bytes(b"")
    assert problems(held) == {(PATH_OF, "foreign")}


def test_a_dataset_of_another_kind_is_refused(held: Lake) -> None:
    with pytest.raises(ValueError, match="is not of the calls"):
        commit_calls(
            held, DATASET, PART.__class__("base", PART.blocks), rows(),
            logs_digest="", asked_count=3, source=(), checks={}, asked="",
        )  # fmt: skip
