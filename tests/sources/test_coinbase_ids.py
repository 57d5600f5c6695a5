"""Ids that are only expected to be contiguous: holes are counted, disorder is refused."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from collecting import House

from crypto_assets.errors import NeighbourMismatchError
from crypto_assets.lake import verify
from crypto_assets.sources.coinbase import TRADES

from .coinbase_venue import DAY, Exchange, day_of_trades, instant, part, prove, trade

NEXT_DAY = timedelta(days=1)


def test_missing_ids_are_counted_not_refused(house: House) -> None:
    rows = day_of_trades(10)
    del rows[12], rows[14:16]
    proof = prove(house, TRADES, Exchange(rows))
    assert proof.row_count == 7
    assert proof.checks["ids_are_contiguous"] == "3 ids missing"


def test_missing_ids_between_days_are_counted_on_both_sides(house: House) -> None:
    days = [DAY - NEXT_DAY, DAY, DAY + NEXT_DAY]
    rows = [trade(1 + at, instant(day, at)) for day in days for at in range(2)]
    for row, trade_id in zip(rows, (1, 2, 4, 5, 8, 9), strict=True):
        row["trade_id"] = trade_id
    proofs = {day: prove(house, TRADES, Exchange(rows), day=day) for day in (*days[::2], DAY)}
    sides = [proofs[DAY].checks[f"ids_join_{side}_day"] for side in ("previous", "next")]
    assert sides == ["1 ids missing", "2 ids missing"]
    assert proofs[DAY].neighbours == {"previous": "2024-03-04", "next": "2024-03-06"}
    assert not [findings for _, findings in verify(house.lake, {}) if findings]


def test_ids_that_run_backwards_over_midnight_are_refused(house: House) -> None:
    prove(house, TRADES, Exchange(day_of_trades(5, first_id=500)))
    later = [trade(400 + at, instant(DAY + NEXT_DAY, at)) for at in range(-2, 3)]
    with pytest.raises(NeighbourMismatchError, match="ends with id 504 and 2024-03-06 starts"):
        prove(house, TRADES, Exchange(later), day=DAY + NEXT_DAY)


def test_quiet_day_tells_what_is_missing_around_it(house: House) -> None:
    """The venue has gained trades since the days around it were fetched."""
    around = [trade(1, instant(DAY, -5)), trade(2, instant(DAY, 90_000))]
    prove(house, TRADES, Exchange(around), day=DAY - NEXT_DAY)
    later = [trade(4, instant(DAY, -6)), trade(5, instant(DAY, 90_000))]
    prove(house, TRADES, Exchange(later), day=DAY + NEXT_DAY)
    proof = prove(house, TRADES, Exchange(around))
    assert proof.status == "empty"
    sides = [proof.checks[f"ids_join_{side}_day"] for side in ("previous", "next")]
    assert sides == ["3 ids missing", "3 ids missing"]


def test_days_put_together_out_of_order_are_found(house: House, tmp_path: Path) -> None:
    prove(house, TRADES, Exchange(day_of_trades(5, first_id=500)))
    kept = shutil.move(house.lake.file(part(TRADES)), tmp_path / "kept.parquet")
    later = [trade(400 + at, instant(DAY + NEXT_DAY, at)) for at in range(-2, 3)]
    prove(house, TRADES, Exchange(later), day=DAY + NEXT_DAY)
    shutil.move(kept, house.lake.file(part(TRADES)))
    (finding,) = (one for _, findings in verify(house.lake, {}) for one in findings)
    assert finding.problem == "disjoint"
    assert "ends with id 504 but 2024-03-06 starts with 400" in finding.message
