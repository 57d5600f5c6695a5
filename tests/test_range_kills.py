"""Killed at any moment of a commit, a range is old or new or not there, for views as for runs."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pytest
from lake.chain import CHAIN, DATASETS, PART, child_commit_alone, commit, rows_of, run
from processes import JOIN_SECONDS, PROCESSES

from crypto_assets.lake import Lake, find_range, mark_stale, verify_ranges
from crypto_assets.warehouse import attach_raw_views

_KILLS = 40
State = Literal["old", "nothing", "new"]
CONTENT: dict[State, list[pa.Table]] = {
    "old": [pa.Table.from_batches([batch]) for batch in rows_of()],
    "nothing": [pa.Table.from_batches([batch[:0]]) for batch in rows_of()],
    "new": [pa.Table.from_batches([batch]) for batch in rows_of(fork=1)],
}


def shown(connection: duckdb.DuckDBPyConnection) -> State:
    """Which of them the views show: all three the same one, to the last byte."""
    tables = [
        connection.execute(
            f"select {', '.join(dataset.schema.names)} from raw.{dataset.name} "
            f"where \"range\" = '{PART.partition}' order by all"
        ).to_arrow_table()
        for dataset in DATASETS
    ]
    (state,) = [
        state
        for state, content in CONTENT.items()
        if all(
            table.equals(expected.cast(table.schema))
            for table, expected in zip(tables, content, strict=True)
        )
    ]
    return state


def there(lake: Lake) -> State:
    found = find_range(lake, PART)
    if found is None:
        return "nothing"
    digests = {kind: proof.content_digest for kind, proof in found.items()}
    assert digests == found["blocks"].group
    forked = found["blocks"].first_hash == "0x" + CONTENT["new"][0]["hash"][0].as_py().hex()
    return "new" if forked else "old"


@pytest.mark.parametrize("is_stale", [False, True], ids=["refetched", "stale"])
def test_killed_while_a_range_is_replaced(tmp_path: Path, is_stale: bool) -> None:
    """A stale range is not there for runs, and still shown whole, until another one is."""
    lake = Lake(tmp_path)
    # Not a neighbour, which would not let another fork in.
    commit(lake, part=PART.beside(2))
    commit(lake)
    began = time.monotonic()
    commit(Lake(tmp_path / "elsewhere"), rows_of(fork=1))
    took = time.monotonic() - began
    dice = random.Random(20240301)
    seen: set[tuple[State, State]] = set()
    with duckdb.connect() as opened:
        attach_raw_views(opened, lake, chains=DATASETS)
        for _ in range(_KILLS):
            proofs = commit(lake)
            if is_stale:
                mark_stale(lake, proofs["blocks"], "reorganised out")
            started = PROCESSES.Event()
            child = PROCESSES.Process(target=child_commit_alone, args=(lake.home, started))
            child.start()
            assert started.wait(JOIN_SECONDS)
            time.sleep(dice.uniform(0, took))
            child.kill()
            child.join(JOIN_SECONDS)
            seen.add((there(lake), shown(opened)))
            if there(lake) == "nothing":
                assert run(lake, rows_of(fork=1))
                assert (there(lake), shown(opened)) == ("new", "new")
                assert [found for _, found in verify_ranges(lake, CHAIN.name) if found] == []
                assert not lake.stale(PART).exists()
    before: tuple[State, State] = ("nothing", "old") if is_stale else ("old", "old")
    assert seen <= {before, ("nothing", "nothing"), ("new", "new")}
    assert len(seen) > 1, "kills fell before and after the middle of a commit"
