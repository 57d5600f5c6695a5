"""One verification over all that the lake holds: days of markets and ranges of chains."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from crypto_assets.catalog import Unit
from crypto_assets.lake import Lake, verify_lake
from lake import days
from lake.chain import STARTED_AT, commit, part_of, rows_of

DAY = STARTED_AT.date()
Days = tuple[date, date]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """Blocks 0 to 99 of two chains, one an hour, and one trading day of the same time."""
    for first in range(0, 100, 10):
        part = part_of(first)
        commit(lake, rows_of(part.blocks, seconds=3600), part)
    day = days.PART.beside((DAY - days.DAY).days)
    days.commit(lake, days.trades(day), day)
    return lake


def checked(lake: Lake, asked: Days | None = None) -> list[Unit]:
    count, found = verify_lake(lake, {}, days=asked)
    units = list(found)
    assert all(findings == [] for _, findings in units)
    assert len(units) == count
    return [unit for unit, _ in units]


def problems(lake: Lake, asked: Days | None = None) -> list[tuple[str, str]]:
    _, found = verify_lake(lake, {}, days=asked)
    return [(str(each.part), each.problem) for _, several in found for each in several]


def firsts(units: list[Unit]) -> list[int]:
    return [10 * unit.number for unit in units if unit.family == "ethereum"]


def test_everything_is_proven_again(filled: Lake) -> None:
    units = checked(filled)
    assert firsts(units) == list(range(0, 100, 10))
    assert len(units) == 11
    assert filled.chains() == ["ethereum"]


def test_an_empty_lake_has_nothing_to_verify(lake: Lake) -> None:
    assert checked(lake) == []
    assert checked(lake, (DAY, DAY)) == []


@pytest.mark.parametrize(
    ("first", "last", "blocks"),
    [
        # 24 blocks a day: the first day ends within the range from 20 on.
        (0, 0, [0, 10, 20]),
        (1, 1, [20, 30, 40]),
        (1, 2, [20, 30, 40, 50, 60, 70]),
        (4, 4, [90]),
        (-3, -1, []),
        (5, 9, []),
    ],
)
def test_of_some_days_the_ranges_that_may_hold_their_blocks(
    filled: Lake, first: int, last: int, blocks: list[int]
) -> None:
    asked = DAY + timedelta(days=first), DAY + timedelta(days=last)
    units = checked(filled, asked)
    assert firsts(units) == blocks
    assert len(units) == len(blocks) + (first <= 0 <= last)


@pytest.mark.parametrize(
    ("block", "found_on"), [(10, [0]), (20, [0, 1]), (30, [1]), (40, [1]), (0, [0]), (90, [3, 4])]
)
def test_a_damaged_range_is_found_on_its_days(
    filled: Lake, block: int, found_on: list[int]
) -> None:
    """Of a damaged range no time is known, so a day beside it may look at it as well."""
    filled.file(part_of(block).of("blocks")).write_bytes(b"")
    told = (f"ethereum_blocks {part_of(block).blocks}", "unreadable")
    days_on_which = {
        step
        for step in range(5)
        if told in problems(filled, (DAY + timedelta(days=step), DAY + timedelta(days=step)))
    }
    assert set(found_on) <= days_on_which
    assert days_on_which <= {day + step for day in found_on for step in (-1, 0, 1)}
    assert problems(filled) == [told]


def test_a_range_without_its_commit_record_is_found_wherever_it_is(filled: Lake) -> None:
    for block, day in ((0, 0), (30, 1), (90, 3)):
        lake = Lake(filled.home)
        path = lake.file(part_of(block).of("blocks"))
        content = path.read_bytes()
        path.unlink()
        asked = DAY + timedelta(days=day), DAY + timedelta(days=day)
        assert (f"ethereum_blocks {part_of(block).blocks}", "removed") in problems(lake, asked)
        path.write_bytes(content)


def test_findings_of_days_and_ranges_come_together(filled: Lake) -> None:
    for path in (*filled.raw.glob("*/market=*/*/*"), filled.file(part_of(50).of("logs"))):
        content = bytearray(path.read_bytes())
        content[10] ^= 1
        path.write_bytes(content)
    assert sorted(problems(filled)) == [
        (f"binance_trades BTC-USDT {DAY}", "changed"),
        (f"ethereum_logs {part_of(50).blocks}", "changed"),
    ]
    assert sorted(problems(filled, (DAY, DAY))) == [(f"binance_trades BTC-USDT {DAY}", "changed")]
