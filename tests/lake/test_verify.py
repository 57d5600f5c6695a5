"""Whatever is done to committed files by other hands is found, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crypto_assets.catalog import MarketDay
from crypto_assets.lake import Lake, read_proof, verify
from crypto_assets.lake.proof import METADATA_KEY, UNSEALED, seal
from lake.days import DAY, PART, SIBLINGS, TRADES, commit, klines, trades

NEXT = PART.beside(1)
FOUR_DAYS = [PART.beside(step) for step in range(4)]


def candles_of(part: MarketDay) -> MarketDay:
    return MarketDay("binance_klines", part.market, part.day)


@pytest.fixture
def days(lake: Lake) -> Lake:
    """Four days of two datasets; on the third nothing was traded."""
    for part, first_id in zip(FOUR_DAYS, (1, 11, None, 21), strict=True):
        commit(lake, [] if first_id is None else trades(part, first_id=first_id), part)
        commit(lake, klines(part), candles_of(part))
    return lake


def problems(lake: Lake, days: tuple[date, date] | None = None) -> set[tuple[MarketDay, str]]:
    found = [each for _, several in verify(lake, SIBLINGS, days=days) for each in several]
    assert len({(each.part, each.problem) for each in found}) == len(found)
    return {(each.part, each.problem) for each in found}


def store(lake: Lake, part: MarketDay, rows: pa.RecordBatch, like: MarketDay) -> None:
    """Other rows in place of a partition, under another's proof and a seal of their own."""
    proof = read_proof(lake.file(like)).model_copy(update={"file_sha256": UNSEALED})
    path = lake.file(part)
    with pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_batch(rows)
        writer.add_key_value_metadata({METADATA_KEY: proof.model_dump_json()})
    seal(path)


def test_nothing_is_found_where_nothing_is_wrong(days: Lake) -> None:
    checked = [part for part, found in verify(days, SIBLINGS) if not found]
    assert checked == [part for part, _ in days.committed()]
    assert len(checked) == 8


def test_an_empty_lake_has_no_findings(lake: Lake) -> None:
    assert list(verify(lake, SIBLINGS)) == []


def test_any_flipped_byte_is_found(lake: Lake) -> None:
    commit(lake, trades(rows=3))
    path = lake.file(PART)
    sound = path.read_bytes()
    for at in range(len(sound)):
        flipped = bytearray(sound)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        assert len(problems(lake) & {(PART, "changed"), (PART, "unreadable")}) == 1, at
    path.write_bytes(sound)
    assert problems(lake) == {(candles_of(PART), "removed")}


@pytest.mark.parametrize("kept", [0, 1, 4, 1000, -8, -1])
def test_a_cut_file_is_found(days: Lake, kept: int) -> None:
    path = days.file(NEXT)
    path.write_bytes(path.read_bytes()[:kept])
    ((part, problem),) = problems(days)
    assert (part, problem) in {(NEXT, "changed"), (NEXT, "unreadable")}


def test_an_appended_byte_is_found(days: Lake) -> None:
    path = days.file(NEXT)
    path.write_bytes(path.read_bytes() + b"\0")
    assert problems(days) == {(NEXT, "changed")}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: pq.write_table(pa.Table.from_batches([trades()]), path),
        lambda path: path.write_text("not Parquet"),
        lambda path: path.mkdir(),
    ],
    ids=["without proof", "not Parquet", "a folder"],
)
def test_a_file_of_another_hand_is_found(days: Lake, make: Callable[[Path], None]) -> None:
    days.file(NEXT).unlink()
    make(days.file(NEXT))
    assert problems(days) == {(NEXT, "unreadable")}


@pytest.mark.parametrize("name", ["copy.parquet", ".hidden.parquet", "binance_trades.parquet.bak"])
def test_a_file_beside_the_committed_one_is_found(days: Lake, name: str) -> None:
    shutil.copy(days.file(NEXT), days.file(NEXT).with_name(name))
    assert problems(days) == {(NEXT, "foreign")}


def test_other_rows_under_a_seal_of_their_own_are_found(days: Lake) -> None:
    store(days, PART, trades(rows=10, first_id=2), like=PART)
    assert problems(days) == {(PART, "altered")}


def test_lost_rows_under_a_seal_of_their_own_are_found(days: Lake) -> None:
    store(days, PART, trades(rows=9), like=PART)
    assert problems(days) == {(PART, "altered")}


def test_the_same_rows_from_another_writer_are_what_was_proven(days: Lake) -> None:
    store(days, PART, trades(rows=10).take(pa.array(range(9, -1, -1))), like=PART)
    assert problems(days) == set()


def test_two_days_exchanged_are_found(days: Lake) -> None:
    one, other, aside = days.file(PART), days.file(NEXT), days.home / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert problems(days) == {(PART, "swapped"), (NEXT, "swapped")}


def test_another_markets_file_is_found(days: Lake) -> None:
    other = MarketDay(TRADES.name, "ETH-USDT", DAY)
    commit(days, trades(other), other)
    commit(days, klines(candles_of(other)), candles_of(other))
    shutil.copy(days.file(other), days.file(PART))
    assert problems(days) == {(PART, "swapped")}


def test_another_datasets_file_is_found(days: Lake) -> None:
    shutil.copy(days.file(candles_of(PART)), days.file(PART))
    assert problems(days) == {(PART, "swapped")}


def test_a_removed_file_is_remembered_by_its_neighbours(days: Lake) -> None:
    for part in (NEXT, candles_of(NEXT)):
        shutil.rmtree(days.file(part).parent)
    assert problems(days) == {(NEXT, "removed")}


def test_a_removed_file_is_remembered_by_its_sibling(days: Lake) -> None:
    days.file(candles_of(PART)).unlink()
    assert problems(days) == {(candles_of(PART), "removed")}


def test_a_removed_last_day_is_remembered_by_its_sibling(days: Lake) -> None:
    days.file(FOUR_DAYS[-1]).unlink()
    assert problems(days) == {(FOUR_DAYS[-1], "removed")}


@pytest.mark.parametrize("first_id", [2, 900])
def test_days_that_do_not_join_are_found(lake: Lake, first_id: int) -> None:
    far = MarketDay(TRADES.name, "ETH-USDT", NEXT.day)
    commit(lake, trades(), PART)
    commit(lake, trades(far, first_id=first_id), far)
    proof = read_proof(lake.file(far)).model_copy(
        update={"market": PART.market, "file_sha256": UNSEALED}
    )
    lake.file(NEXT).parent.mkdir(parents=True)
    with pq.ParquetWriter(lake.file(NEXT), TRADES.schema) as writer:
        writer.write_batch(trades(far, first_id=first_id))
        writer.add_key_value_metadata({METADATA_KEY: proof.model_dump_json()})
    seal(lake.file(NEXT))
    found = [each for _, several in verify(lake, {}) for each in several]
    assert [(each.part, each.problem) for each in found] == [(PART, "disjoint")]
    assert found[0].message == f"{PART} ends with id 10 but {NEXT.day} starts with {first_id}"


def test_ids_that_do_not_join_over_an_empty_day_are_found(days: Lake) -> None:
    last = FOUR_DAYS[3]
    other = Lake(days.home / "elsewhere")
    commit(other, trades(last, first_id=22), last)
    shutil.copy(other.file(last), days.file(last))
    assert problems(days) == {(FOUR_DAYS[1], "disjoint")}


def test_only_the_range_is_verified(days: Lake) -> None:
    for part in (FOUR_DAYS[0], FOUR_DAYS[3]):
        days.file(part).write_bytes(b"")
    middle = (DAY + timedelta(days=1), DAY + timedelta(days=2))
    assert problems(days, middle) == set()
    checked = {part.day for part, _ in verify(days, SIBLINGS, days=middle)}
    assert checked == set(middle)
    assert problems(days, (DAY, DAY)) == {(PART, "unreadable")}


def test_a_day_gone_from_the_range_is_remembered_from_outside(days: Lake) -> None:
    for part in (NEXT, candles_of(NEXT)):
        days.file(part).unlink()
    assert problems(days, (NEXT.day, NEXT.day)) == {(NEXT, "removed")}
    assert problems(days, (FOUR_DAYS[3].day, FOUR_DAYS[3].day)) == set()
