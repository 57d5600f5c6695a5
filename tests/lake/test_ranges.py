"""A range is there as a whole or not; a stale one is not; and those around an hour are found."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_assets.catalog import KINDS, Kind
from crypto_assets.errors import StorageError
from crypto_assets.lake import (
    Lake,
    Proof,
    StaleRange,
    find_range,
    find_stale,
    is_range_intact,
    mark_stale,
    ranges_between,
    read_proof,
    stale_ranges,
    tidy_range,
)
from lake.chain import CHAIN, PART, STARTED_AT, commit, part_of, rows_of

AFTER = PART.beside(1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_that_lacks_a_file_is_not_there(lake: Lake, kind: Kind) -> None:
    assert find_range(lake, PART) is None
    commit(lake)
    lake.file(PART.of(kind)).unlink()
    assert find_range(lake, PART) is None
    assert not is_range_intact(lake, PART)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_commit_does_not_belong(lake: Lake, kind: Kind) -> None:
    other = Lake(lake.home / "other")
    commit(other, rows_of(fork=1))
    commit(lake)
    shutil.copy(other.file(PART.of(kind)), lake.file(PART.of(kind)))
    assert is_range_intact(lake, PART), "each file by itself is sound"
    assert find_range(lake, PART) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_range_does_not_belong(lake: Lake, kind: Kind) -> None:
    commit(lake)
    commit(lake, part=AFTER)
    shutil.copy(lake.file(AFTER.of(kind)), lake.file(PART.of(kind)))
    assert find_range(lake, PART) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_seen(lake: Lake, kind: Kind) -> None:
    commit(lake)
    path = lake.file(PART.of(kind))
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    assert find_range(lake, PART) is not None, "its proof is"
    assert not is_range_intact(lake, PART)
    path.write_bytes(b"")
    assert not is_range_intact(lake, PART)


# Stale


def test_a_stale_range_is_not_there_until_it_is_replaced(lake: Lake) -> None:
    proofs = commit(lake)
    commit(lake, part=AFTER)
    stale = mark_stale(lake, proofs["blocks"], "reorganised out", block=109, chain_has="0xab")
    assert stale == StaleRange(PART, "reorganised out", {"block": 109, "chain_has": "0xab"})
    assert find_stale(lake, PART) == stale
    assert stale_ranges(lake, CHAIN.name) == [stale]
    assert find_range(lake, PART) is None
    assert find_range(lake, AFTER) is not None
    told = json.loads((lake.home / "stale/ethereum/range=000000100-000000109.json").read_text())
    assert (told["chain"], told["partition"]) == ("ethereum", "000000100-000000109")
    assert datetime.fromisoformat(told["marked_at"]) <= datetime.now(UTC)
    # The same content proven again is a commit of its own.
    commit(lake)
    assert find_range(lake, PART) is not None
    assert stale_ranges(lake, CHAIN.name) == []
    assert not lake.stale(PART).exists()


def test_a_mark_is_of_one_commit(lake: Lake) -> None:
    first = commit(lake)["blocks"]
    second = commit(lake)["blocks"]
    mark_stale(lake, first, "told too late")
    assert find_range(lake, PART) is not None
    assert not lake.stale(PART).exists()
    stale = mark_stale(lake, second, "reorganised out")
    mark_stale(lake, first, "told too late")
    assert find_stale(lake, PART) == stale


def test_a_mark_waits_for_a_commit_and_is_of_the_one_that_it_was_told_of(lake: Lake) -> None:
    first = commit(lake)["blocks"]
    with ThreadPoolExecutor(1) as pool:
        with lake.commit_lock(PART):
            marking = pool.submit(mark_stale, lake, first, "told while it was replaced")
            time.sleep(0.05)
            assert not marking.done()
            # What a commit does under this lock.
            other = Lake(lake.home / "other")
            commit(other, rows_of(fork=1))
            for kind in reversed(KINDS):
                shutil.copy(other.file(PART.of(kind)), lake.file(PART.of(kind)))
        marking.result()
    assert find_range(lake, PART) is not None
    assert not lake.stale(PART).exists()


def test_a_stale_range_stays_so_while_it_is_being_replaced(lake: Lake) -> None:
    stale = mark_stale(lake, commit(lake)["blocks"], "reorganised out")
    lake.file(PART.of("blocks")).unlink()
    assert stale_ranges(lake, CHAIN.name) == [stale]
    tidy_range(lake, PART)
    assert stale_ranges(lake, CHAIN.name) == [stale]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"message": "x", "evidence": {}}'])
def test_a_mark_that_cannot_be_read_counts(lake: Lake, content: str) -> None:
    commit(lake)
    lake.stale(PART).parent.mkdir(parents=True)
    lake.stale(PART).write_text(content)
    assert find_range(lake, PART) is None
    (stale,) = stale_ranges(lake, CHAIN.name)
    assert "cannot be read; fetch the range again" in stale.message
    commit(lake)
    assert find_range(lake, PART) is not None


def test_marks_are_listed_in_block_order_by_chain(lake: Lake) -> None:
    parts = [part_of(block) for block in (990, 100, 110)]
    for part in parts:
        mark_stale(lake, commit(lake, part=part)["blocks"], "x")
    (lake.home / "stale" / "ethereum" / "range=x.json").touch()
    assert [stale.part for stale in stale_ranges(lake, CHAIN.name)] == sorted(parts)
    assert stale_ranges(lake, "base") == []


def test_a_disk_that_refuses_a_mark_is_a_storage_error(lake: Lake) -> None:
    proof = commit(lake)["blocks"]
    (lake.home / "stale").write_text("in the way")
    with pytest.raises(StorageError, match="stale"):
        mark_stale(lake, proof, "x")


# In time


def numbers(found: list[dict[Kind, Proof]]) -> list[int | None]:
    return [proofs["blocks"].first_id for proofs in found]


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Twenty ranges of ten blocks, one block an hour, without the range of blocks 60 to 69."""
    lake = Lake(tmp_path_factory.mktemp("hourly"))
    for first in range(0, 200, 10):
        part = part_of(first)
        if first != 60:
            commit(lake, rows_of(part.blocks, seconds=3600), part)
    return lake


@settings(deadline=None, max_examples=60)
@given(start=st.integers(-20, 220), hours=st.integers(1, 60))
def test_ranges_of_a_time_are_found_with_those_beside(hourly: Lake, start: int, hours: int) -> None:
    found = ranges_between(
        hourly, CHAIN.name, STARTED_AT + start * HOUR, STARTED_AT + (start + hours) * HOUR
    )
    firsts = [first for first in range(0, 200, 10) if first != 60]
    inside = [first for first in firsts if first < start + hours and first + 9 >= start]
    before = [first for first in firsts if first + 9 < start][-1:]
    after = [first for first in firsts if first >= start + hours][:1]
    assert numbers(found) == before + inside + after


def test_a_range_that_is_damaged_or_stale_does_not_hide_others(
    tmp_path: Path, hourly: Lake
) -> None:
    lake = Lake(tmp_path)
    shutil.copytree(hourly.home, lake.home, dirs_exist_ok=True)
    lake.file(part_of(90).of("blocks")).write_bytes(b"")
    lake.file(part_of(100).of("logs")).unlink()
    found = find_range(lake, part_of(110))
    assert found is not None
    mark_stale(lake, found["blocks"], "x")
    day = ranges_between(lake, CHAIN.name, STARTED_AT + 84 * HOUR, STARTED_AT + 125 * HOUR)
    assert numbers(day) == [70, 80, 120, 130]


def test_an_empty_lake_has_no_ranges(lake: Lake) -> None:
    assert ranges_between(lake, CHAIN.name, STARTED_AT, STARTED_AT + HOUR) == []
    assert lake.ranges(CHAIN.name) == []
    assert lake.range_size(CHAIN.name) is None


# Many


def test_figures_for_25_000_ranges(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """Every range of mainnet. Prints what a run or a sensor waits for; asserts no time."""
    commit(lake, rows_of(PART.blocks, seconds=3600))
    fill(lake, "blocks", range(25_000))
    for kind in KINDS[1:]:
        fill(lake, kind, range(12_300, 12_400))
    hour = STARTED_AT + 123_456 * HOUR
    told = []

    def measure(what: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = call()
        told.append(f"{what} {1000 * (time.perf_counter() - started):.0f} ms")
        return result

    assert len(measure("all by name", lambda: lake.ranges(CHAIN.name))) == 25_000
    assert measure("size of a range", lambda: lake.range_size(CHAIN.name)) == 10
    assert measure("one proof", lambda: find_range(lake, PART)) is not None
    around = measure(
        "around a day", lambda: ranges_between(lake, CHAIN.name, hour, hour + 24 * HOUR)
    )
    assert [proofs["blocks"].partition for proofs in around] == [
        part_of(at).partition for at in range(123_440, 123_481, 10)
    ]
    last = part_of(250_000)
    measure("one more commit", lambda: commit(lake, part=last))
    with capsys.disabled():
        print(f"\n25,000 ranges in the lake: {', '.join(told)}")


def fill(lake: Lake, kind: Kind, places: range) -> None:
    """Files whose proofs say of other ranges what that of one says of itself."""
    template = lake.file(PART.of(kind)).read_bytes()
    proof = read_proof(lake.file(PART.of(kind)))
    names = [PART.partition, *(f"{at:%FT%TZ}" for at in (proof.first_at, proof.last_at) if at)]
    assert all(template.count(name.encode()) == 1 for name in names)
    for number in places:
        part = part_of(10 * number)
        content = template
        of_part = [part.partition]
        of_part += [
            f"{STARTED_AT + block * HOUR:%FT%TZ}" for block in (10 * number, 10 * number + 9)
        ]
        for name, other in zip(names, of_part, strict=False):
            content = content.replace(name.encode(), other.encode())
        path = lake.file(part.of(kind))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
