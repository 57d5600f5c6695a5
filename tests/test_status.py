"""The state of every block range, as the lake alone tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lake.chain import CHAIN, PART, Rows, commit, deliver, rows_of

from crypto_assets.catalog import KINDS
from crypto_assets.errors import ReceiptsRootMismatchError
from crypto_assets.lake import Lake, mark_stale, quarantine
from crypto_assets.status import chain_coverage, coverage

NOTHING = {"complete": 0, "empty": 0, "stale": 0, "quarantined": 0, "missing": 0}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Ranges 100 (sound), 110 (torn, refused), 120 (stale), 130 (no logs)."""
    lake = Lake(tmp_path)
    parts = [PART.beside(step) for step in range(4)]
    proofs = [commit(lake, part=part) for part in parts[:3]]
    rows = rows_of(parts[3].blocks)
    commit(lake, Rows(rows.blocks, rows.transactions[:0], rows.logs[:0]), parts[3])
    lake.file(parts[1].of("logs")).unlink()
    deliver(lake, parts[1])
    quarantine(lake, parts[1], ReceiptsRootMismatchError("refused"))
    mark_stale(lake, proofs[2]["blocks"], "reorganised out")
    return lake


def test_every_range_is_in_one_state_and_counts_as_a_whole(lake: Lake) -> None:
    states = {"ranges": 4, **NOTHING, "stale": 1, "quarantined": 1}
    expected = [
        {"dataset": "ethereum_blocks", **states, "complete": 2, "rows": 20},
        {"dataset": "ethereum_transactions", **states, "complete": 1, "empty": 1, "rows": 16},
        {"dataset": "ethereum_logs", **states, "complete": 1, "empty": 1, "rows": 24},
    ]
    assert chain_coverage(lake, CHAIN, None) == expected
    assert coverage(lake, [], None) == []


def test_ranges_that_are_asked_for_may_be_missing(lake: Lake) -> None:
    told = chain_coverage(lake, CHAIN, CHAIN.ranges(70, 105))
    assert [row["missing"] for row in told] == [3, 3, 3]
    assert [row["complete"] for row in told] == [1, 1, 1]


@pytest.mark.parametrize("steps", [(-3,), (6,), (-3, 6)])
def test_a_refused_range_beside_those_that_are_committed_is_counted(
    lake: Lake, steps: tuple[int, ...]
) -> None:
    before = chain_coverage(lake, CHAIN, None)[0]
    for step in steps:
        deliver(lake, PART.beside(step))
        quarantine(lake, PART.beside(step), ReceiptsRootMismatchError("refused"))
    # Moved there by a run that was killed before it said why.
    (lake.quarantine(PART.beside(50)) / ".torn").mkdir(parents=True)
    missing = {(-3,): 2, (6,): 2, (-3, 6): 4}[steps]
    assert chain_coverage(lake, CHAIN, None)[0] == {
        **before,
        "ranges": 4 + missing + len(steps),
        "quarantined": 1 + len(steps),
        "missing": missing,
    }


def test_a_chain_of_which_all_was_refused_is_not_empty(tmp_path: Path) -> None:
    quarantine(Lake(tmp_path), PART, ReceiptsRootMismatchError("refused"))
    told = chain_coverage(Lake(tmp_path), CHAIN, None)
    assert [(row["ranges"], row["quarantined"]) for row in told] == [(1, 1)] * 3


def test_an_empty_lake_has_no_ranges(tmp_path: Path) -> None:
    told = chain_coverage(Lake(tmp_path), CHAIN, None)
    assert told == [
        {"dataset": CHAIN.dataset(kind), "ranges": 0, **NOTHING, "rows": 0} for kind in KINDS
    ]
