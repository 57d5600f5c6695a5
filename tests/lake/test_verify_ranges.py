"""Whatever is done to committed ranges by other hands is found, and nothing else is."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crypto_assets.catalog import KINDS, BlockRange, ChainRange, Kind, RangePart
from crypto_assets.lake import Lake, mark_stale, read_proof, verify, verify_ranges
from crypto_assets.lake.proof import METADATA_KEY, UNSEALED, seal
from crypto_assets.lake.verify_ranges import EVERYTHING
from lake.chain import CHAIN, PART, Rows, changed, commit, deliver, rows_of

NEXT, LAST = PART.beside(1), PART.beside(2)
PARTS = [PART, NEXT, LAST]
Named = RangePart | ChainRange


@pytest.fixture
def ranges(lake: Lake) -> Lake:
    for part in PARTS:
        commit(lake, part=part)
    return lake


def problems(lake: Lake, within: BlockRange = EVERYTHING) -> set[tuple[Any, str]]:
    found = [
        each for _, several in verify_ranges(lake, CHAIN.name, within=within) for each in several
    ]
    assert len({(each.part, each.problem) for each in found}) == len(found)
    assert all(each.message for each in found)
    return {(each.part, each.problem) for each in found}


def store(lake: Lake, part: RangePart, rows: pa.RecordBatch, **claims: Any) -> None:
    """Other rows or claims in place of a file, under a seal of their own."""
    path = lake.file(part)
    proof = read_proof(path).model_copy(update={**claims, "file_sha256": UNSEALED})
    with pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_batch(rows)
        writer.add_key_value_metadata({METADATA_KEY: proof.model_dump_json()})
    seal(path)


def test_nothing_is_found_where_nothing_is_wrong(ranges: Lake) -> None:
    assert list(verify_ranges(ranges, CHAIN.name)) == [(part, []) for part in PARTS]
    assert list(verify(ranges, {})) == []


def test_another_chain_has_nothing_to_verify(ranges: Lake, tmp_path: Path) -> None:
    assert list(verify_ranges(ranges, "base")) == []
    assert list(verify_ranges(Lake(tmp_path / "empty"), CHAIN.name)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_found(ranges: Lake, kind: Kind) -> None:
    path = ranges.file(NEXT.of(kind))
    sound = path.read_bytes()
    for at in range(0, len(sound), 397):
        flipped = bytearray(sound)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        (found,) = problems(ranges)
        assert found in {(NEXT.of(kind), "changed"), (NEXT.of(kind), "unreadable")}, at


@pytest.mark.parametrize("kind", KINDS)
def test_other_rows_under_a_seal_of_their_own_are_found(ranges: Lake, kind: Kind) -> None:
    other: pa.RecordBatch = getattr(rows_of(NEXT.blocks, fork=1), kind)
    store(ranges, NEXT.of(kind), other)
    assert problems(ranges) == {(NEXT.of(kind), "altered")}


@pytest.mark.parametrize("field", ["parent_hash", "first_hash", "last_hash"])
def test_other_hashes_in_the_proof_are_found(ranges: Lake, field: str) -> None:
    store(ranges, NEXT.of("blocks"), rows_of(NEXT.blocks).blocks, **{field: "0x00"})
    assert problems(ranges) == {(NEXT.of("blocks"), "altered")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_commit_is_found(ranges: Lake, kind: Kind) -> None:
    other = Lake(ranges.home / "other")
    rows: Rows = changed(
        rows_of(NEXT.blocks),
        kind,
        lambda items: (
            items.pop() if kind != "blocks" else items[0].update(timestamp=items[1]["timestamp"])
        ),
    )
    commit(other, rows, NEXT)
    shutil.copy(other.file(NEXT.of(kind)), ranges.file(NEXT.of(kind)))
    assert problems(ranges) == {(NEXT, "torn")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_range_is_found(ranges: Lake, kind: Kind) -> None:
    shutil.copy(ranges.file(PART.of(kind)), ranges.file(NEXT.of(kind)))
    assert problems(ranges) == {(NEXT.of(kind), "swapped")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_file_is_found(ranges: Lake, kind: Kind) -> None:
    ranges.file(NEXT.of(kind)).unlink()
    assert problems(ranges) == {(NEXT.of(kind), "removed")}


def test_a_removed_range_is_remembered_by_its_neighbours(ranges: Lake) -> None:
    for kind in KINDS:
        shutil.rmtree(ranges.file(NEXT.of(kind)).parent)
    assert problems(ranges) == {(NEXT, "removed")}
    assert problems(ranges, BlockRange(115, 116)) == {(NEXT, "removed")}
    assert problems(ranges, BlockRange(100, 109)) == set()


def test_the_newest_range_is_remembered_too(lake: Lake) -> None:
    for part in reversed(PARTS):
        commit(lake, part=part)
    for kind in KINDS:
        shutil.rmtree(lake.file(LAST.of(kind)).parent)
    assert problems(lake) == {(LAST, "removed")}


def test_a_range_that_is_being_replaced_is_no_finding(ranges: Lake) -> None:
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            commit(ranges, part=NEXT)

    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(replace)
        try:
            for _ in range(30):
                assert problems(ranges) == set()
        finally:
            stop.set()
        replacing.result()


def test_a_commit_that_was_cut_off_is_no_finding_while_it_can_be_resumed(ranges: Lake) -> None:
    ranges.file(NEXT.of("blocks")).unlink()
    deliver(ranges, NEXT)
    assert problems(ranges) == set()


def test_ranges_that_do_not_join_are_found(lake: Lake) -> None:
    commit(lake, rows_of(NEXT.blocks, fork=1), NEXT)
    other = Lake(lake.home / "other")
    commit(other)
    for kind in KINDS:
        shutil.copytree(other.file(PART.of(kind)).parent, lake.file(PART.of(kind)).parent)
    assert problems(lake) == {(PART, "disjoint")}
    assert problems(lake, PART.blocks) == {(PART, "disjoint")}
    assert problems(lake, NEXT.blocks) == set()


def test_a_stale_range_is_found_until_it_is_replaced(ranges: Lake) -> None:
    mark_stale(ranges, read_proof(ranges.file(NEXT.of("blocks"))), "reorganised out")
    assert problems(ranges) == {(NEXT, "stale")}
    commit(ranges, part=NEXT)
    assert problems(ranges) == set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["copy.parquet", ".hidden.parquet", "x.bak"])
def test_a_file_beside_the_committed_one_is_found(ranges: Lake, kind: Kind, name: str) -> None:
    path = ranges.file(NEXT.of(kind))
    shutil.copy(path, path.with_name(name))
    assert problems(ranges) == {(NEXT.of(kind), "foreign")}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: pq.write_table(pa.Table.from_batches([rows_of(NEXT.blocks).blocks]), path),
        lambda path: path.write_text("not Parquet"),
        lambda path: path.mkdir(),
    ],
    ids=["without proof", "not Parquet", "a folder"],
)
def test_a_file_of_another_hand_is_found(ranges: Lake, make: Callable[[Path], None]) -> None:
    ranges.file(NEXT.of("blocks")).unlink()
    make(ranges.file(NEXT.of("blocks")))
    assert problems(ranges) == {(NEXT.of("blocks"), "unreadable")}


def test_only_the_blocks_asked_for_are_verified(ranges: Lake) -> None:
    for part in (PART, LAST):
        ranges.file(part.of("logs")).write_bytes(b"")
    assert problems(ranges, BlockRange(110, 119)) == set()
    checked = [part for part, _ in verify_ranges(ranges, CHAIN.name, within=BlockRange(112, 113))]
    assert checked == [NEXT]
    assert problems(ranges, BlockRange(0, 100)) == {(PART.of("logs"), "unreadable")}
    assert problems(ranges, BlockRange(0, 99)) == set()
