"""What was refused is kept once, whole, with its reason, and never counts as committed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from processes import JOIN_SECONDS, PROCESSES

from crypto_assets.errors import (
    ChecksumMismatchError,
    ConflictingDuplicateError,
    IntegrityError,
    StorageError,
)
from crypto_assets.lake import Lake, find_proof, quarantine
from crypto_assets.lake.quarantine import EVIDENCE_FILE, quarantined
from lake import chain
from lake.chain import PART as RANGE
from lake.days import PART, changed, commit, files, inflight, trades

ERROR = ChecksumMismatchError("the bytes differ", url="https://example.org/day.zip", tries=2)


def deliver(lake: Lake, **contents: str) -> None:
    for name, content in contents.items():
        path = lake.inflight(PART) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_delivered_files_are_kept_with_the_reason(lake: Lake) -> None:
    deliver(lake, **{"day.zip": "PK", "pages/1.json": "[1]", "more/1.json": "[2]"})
    folder = quarantine(lake, PART, ERROR)
    assert folder.parent == lake.quarantine(PART)
    assert folder.name.startswith("ChecksumMismatchError-")
    kept = {name: (folder / name).read_text() for name in files(folder)}
    told = json.loads(kept.pop(EVIDENCE_FILE))
    assert kept == {"day.zip": "PK", "pages/1.json": "[1]", "more/1.json": "[2]"}
    assert datetime.fromisoformat(told.pop("quarantined_at")) <= datetime.now(UTC)
    assert told == {
        "reason": "ChecksumMismatchError",
        "message": "the bytes differ",
        "dataset": "binance_trades",
        "market": "BTC-USDT",
        "partition": "2024-03-01",
        "evidence": {"url": "https://example.org/day.zip", "tries": 2},
    }
    assert not lake.inflight(PART).exists()
    assert quarantined(lake, PART) == [folder / EVIDENCE_FILE]


def test_a_range_is_refused_as_a_whole(lake: Lake) -> None:
    chain.deliver(lake)
    folder = quarantine(lake, RANGE, ERROR)
    assert folder.parent == lake.quarantine(RANGE)
    assert list(files(folder)) == [EVIDENCE_FILE, "page-1.json"]
    told = json.loads((folder / EVIDENCE_FILE).read_text())
    assert (told["chain"], told["partition"]) == ("ethereum", RANGE.partition)
    assert quarantined(lake, RANGE) == [folder / EVIDENCE_FILE]
    assert not lake.inflight(RANGE).exists()


def test_evidence_keeps_every_digit(lake: Lake) -> None:
    twice = changed(trades(), lambda rows: rows.insert(5, {**rows[4], "qty": Decimal("1E-8")}))
    with pytest.raises(ConflictingDuplicateError) as refused:
        commit(lake, twice)
    told = json.loads((quarantine(lake, PART, refused.value) / EVIDENCE_FILE).read_text())
    first, second = told["evidence"]["rows"]
    assert first["price"] == str(twice.to_pylist()[4]["price"])
    assert first["time"] == str(twice.to_pylist()[4]["time"])
    assert Decimal(second["qty"]) == Decimal("0.00000001")


def test_nothing_delivered_is_evidence_too(lake: Lake) -> None:
    assert list(files(quarantine(lake, PART, ERROR))) == [EVIDENCE_FILE]


def test_the_same_failure_is_kept_once(lake: Lake) -> None:
    deliver(lake, **{"day.zip": "PK"})
    first = quarantine(lake, PART, ERROR)
    before = json.loads((first / EVIDENCE_FILE).read_text())
    other = quarantine(lake, PART, ChecksumMismatchError("other bytes"))
    os.utime(first / EVIDENCE_FILE, (0, 0))
    os.utime(other / EVIDENCE_FILE, (1, 1))
    deliver(lake, **{"day.zip": "PK"})
    assert quarantine(lake, PART, ERROR) == first
    after = json.loads((first / EVIDENCE_FILE).read_text())
    assert after.pop("quarantined_at") > before.pop("quarantined_at")
    assert after == before
    assert list(files(first)) == ["day.zip", EVIDENCE_FILE]
    assert quarantined(lake, PART) == [other / EVIDENCE_FILE, first / EVIDENCE_FILE]
    assert inflight(lake) == []


def test_another_delivery_is_kept_beside_it(lake: Lake) -> None:
    folders = set()
    for content in ("PK1", "PK2"):
        deliver(lake, **{"day.zip": content})
        folders.add(quarantine(lake, PART, ERROR))
    assert len(folders) == len(quarantined(lake, PART)) == 2


def test_the_lake_does_not_see_it(lake: Lake) -> None:
    old = commit(lake, trades())
    deliver(lake, **{"binance_trades.parquet": "looks committed"})
    quarantine(lake, PART, ERROR)
    assert find_proof(lake, PART) == old
    assert [part for part, _ in lake.committed()] == [PART]
    assert list(lake.strays()) == []
    assert quarantined(lake, PART.beside(1)) == []


def test_a_disk_that_refuses_is_a_storage_error(lake: Lake) -> None:
    deliver(lake, **{"day.zip": "PK"})
    (lake.home / "quarantine").write_text("in the way")
    with pytest.raises(StorageError, match=f"cannot write {lake.quarantine(PART)}"):
        quarantine(lake, PART, ERROR)
    assert inflight(lake) == ["binance_trades/market=BTC-USDT/date=2024-03-01/day.zip"]


def test_a_full_disk_leaves_no_entry(
    lake: Lake, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    deliver(lake, **{"day.zip": "PK"})
    with small_files(10), pytest.raises(StorageError):
        quarantine(lake, PART, ERROR)
    assert quarantined(lake, PART) == []
    assert len(inflight(lake)) == 1
    assert len(files(quarantine(lake, PART, ERROR))) == 2


def die_at_move(home: Path, move: int) -> None:
    """Quarantines in a process that dies before its n-th move of a file or folder."""
    moves = iter(range(10))

    def audit(event: str, _: tuple[object, ...]) -> None:
        if event == "os.rename" and next(moves) == move:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    quarantine(Lake(home), PART, ERROR)


# The moves are evidence.json's, one a delivered file, and the finished folder's.
@pytest.mark.parametrize("move", range(5))
def test_killed_on_the_way_there_is_no_half_entry(lake: Lake, move: int) -> None:
    delivered = {"day.zip": "PK", "page.json": "[]"}
    deliver(lake, **delivered)
    child = PROCESSES.Process(target=die_at_move, args=(lake.home, move))
    child.start()
    child.join(JOIN_SECONDS)
    assert child.exitcode == (0 if move == 4 else -signal.SIGKILL)
    assert len(quarantined(lake, PART)) == (1 if move == 4 else 0)
    # The next run fetches again what is not there any more, and is refused again.
    deliver(lake, **delivered)
    folder = quarantine(lake, PART, ERROR)
    assert list(files(lake.quarantine(PART))) == [
        f"{folder.name}/{name}" for name in ("day.zip", EVIDENCE_FILE, "page.json")
    ]


@pytest.mark.parametrize("kind", IntegrityError.__subclasses__())
def test_reasons_are_class_names(lake: Lake, kind: type[IntegrityError]) -> None:
    folder = quarantine(lake, PART, kind("refused"))
    assert folder.name.split("-")[0] == kind.__name__
