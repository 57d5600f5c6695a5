"""Killing a backfill with -9, over and over: nothing is lost, doubled or left half-written."""

from __future__ import annotations

import random
import time
from pathlib import Path

import duckdb
import pytest
from command import kill, run, start

RANGE = ("backfill", "binance", "--from", "2024-12-30", "--to", "2025-01-08")
KILLS = 20


def marts(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """A digest of every published relation, and the content digest of every raw file."""
    with duckdb.connect(home / "sandbox" / "crypto.duckdb", read_only=True) as connection:
        names = connection.execute(
            "select schema_name || '.' || view_name from duckdb_views() where view_name != "
            "'check_results' and schema_name in ('markets', 'quality') order by 1"
        ).fetchall()
        found = {
            name: connection.execute(
                "select count(*), md5(string_agg(r::varchar, ';' order by r::varchar)) "
                f"from {name} r"
            ).fetchall()
            for (name,) in names
        }
        found["proofs"] = connection.execute(
            "select dataset, market, partition, status, row_count, content_digest from raw.proofs "
            "order by all"
        ).fetchall()
        found["checks"] = connection.execute(
            "select suite, partition, expectation, passed, observed from quality.check_results "
            "order by all"
        ).fetchall()
        return found


@pytest.mark.timeout(900)
def test_twenty_kills_end_in_the_digests_of_an_undisturbed_backfill(tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    started = time.monotonic()
    done = run(calm, *RANGE)
    duration = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    moments = random.Random(20250101)
    survived = 0
    for _ in range(KILLS):
        process = start(killed, *RANGE)
        process.join(moments.uniform(0.2, duration))
        if process.exitcode is None:
            kill(process)
        else:
            assert process.exitcode == 0
            survived += 1
    assert survived <= KILLS // 2, "too few kills hit a running backfill"
    last = run(killed, *RANGE)
    assert last.returncode == 0, last.stderr
    assert marts(killed) == marts(calm)
    assert run(killed, "verify").returncode == 0
    left = [
        path.relative_to(killed)
        for path in (killed / "sandbox").rglob("*")
        if path.is_file() and (".tmp" in path.name or "inflight" in path.parts)
    ]
    assert left == []
