"""Kept results: read back as they were written, and replaced as a whole."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb

from crypto_assets.checks.results import CHECK_RESULTS, write_results
from crypto_assets.lake import Lake

ROW = {
    "suite": "trades_are_complete",
    "asset": "raw/binance_trades",
    "partition": "2024-01-01",
    "expectation": "ids_leave_no_hole",
    "passed": True,
    "severity": "ERROR",
    "blocking": True,
    "observed": '{"binance BTC-USDT": {"rows_in_file": 5}}',
    "unexpected_count": 0,
    "evaluated_at": datetime(2024, 1, 2, 3, 4, 5, 678901),
    "run_id": "",
}


def test_checking_a_day_again_replaces_its_results(tmp_path: Path) -> None:
    lake = Lake(tmp_path)

    for rows in ([ROW, {**ROW, "expectation": "gone"}], [{**ROW, "passed": False}]):
        write_results(lake, "trades_are_complete", "day", "2024-01-01", rows)

    files = [
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ]
    assert files == ["checks/trades_are_complete/date=2024-01-01.parquet"]
    found = duckdb.execute(f"from read_parquet('{tmp_path}/checks/*/*.parquet')")
    assert [column[0] for column in found.description] == CHECK_RESULTS.names
    assert found.fetchall() == [tuple({**ROW, "passed": False}.values())]


def test_results_of_a_block_range_are_named_by_it(tmp_path: Path) -> None:
    write_results(
        Lake(tmp_path), "ethereum_blocks_are_complete", "range", "018426000-018426999", []
    )

    kept = tmp_path / "checks/ethereum_blocks_are_complete/range=018426000-018426999.parquet"
    assert kept.exists()
