"""The benchmarks work, at sizes where they measure nothing, and refuse what is no comparison."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from benchmarks import __main__ as benchmarks
from benchmarks import archive, candles, tiny
from benchmarks.alone import peak_memory, worker
from benchmarks.peers import FREQTRADE
from benchmarks.report import SCALES, Line, Scale, note, ratio, seconds, speedup
from benchmarks.tiny import Timing, best, days_from

TINY = replace(SCALES["small"], archive_trades=2_000, repeats=1)


# Reads what freqtrade reads, and keeps what it keeps.
PRETENDING = """
import pandas
names = ["id", "price", "amount", "first", "last", "timestamp", "is_buyer_maker", "is_best_match"]
trades = pandas.read_csv(archive, names=names)
trades["side"] = trades["is_buyer_maker"].map({True: "sell", False: "buy"})
trades.to_feather(folder / "trades.feather")
"""


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because starting nine takes ten seconds."""
    monkeypatch.setattr(
        archive, "alone", lambda _log, function, *args: (function(*args), 700_000_000)
    )


def pretend(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this Python and this work stand in for freqtrade."""
    peer = replace(FREQTRADE, imports="", work=work)
    monkeypatch.setattr(archive, "FREQTRADE", peer)
    monkeypatch.setenv(peer.variable, sys.executable)


@pytest.mark.usefixtures("_in_this_process")
def test_archive_is_held_against_duckdb_and_memory_without_freqtrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FREQTRADE.variable, os.devnull)
    lines = list(archive.measure(TINY, tmp_path))

    assert "2,000 trades" in lines[0].name
    assert [line.limit for line in lines] == ["<= 1.5 x", "", "", "< 600 MB"]
    assert lines[2].peer == (
        "freqtrade skipped: no Python here has it (pip install freqtrade; "
        "BENCHMARK_FREQTRADE_PYTHON=<python>)"
    )
    assert lines[3].is_within is False


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("is_real", [False, True])
def test_archive_is_held_against_freqtrade(
    *, is_real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_real:
        pretend(PRETENDING, monkeypatch)
    elif FREQTRADE.python() is None:
        pytest.skip(f"freqtrade {FREQTRADE.absence}")
    _, _, line, memory = archive.measure(TINY, tmp_path)

    assert line.limit == ">= 10 x"
    assert line.peer.startswith("freqtrade ")
    assert isinstance(line.is_within, bool)
    assert "freqtrade " in memory.peer


@pytest.mark.usefixtures("_in_this_process")
def test_freqtrade_with_other_trades_is_no_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(PRETENDING.replace("trades.to_feather", "trades[3:].to_feather"), monkeypatch)

    with pytest.raises(AssertionError, match="3 trades differ"):
        list(archive.measure(TINY, tmp_path))


def test_duckdb_with_other_trades_is_no_comparison(tmp_path: Path) -> None:
    served, home, bare = tmp_path / "served", tmp_path / "home", tmp_path / "bare.parquet"
    archive.write_archive(served, 1_000)
    archive.ingest(served, home)
    (zipped,) = served.glob("*.zip")
    archive.ingest_bare(zipped, bare, archive.inflate_isal)
    archive.compare(home, bare, 1_000)
    changed = tmp_path / "changed.parquet"
    duckdb.execute(
        f"copy (select * replace (if(id % 500 = 0, qty + 1, qty) as qty) from '{bare}') "
        f"to '{changed}'"
    )

    with pytest.raises(AssertionError, match="2 trades differ"):
        archive.compare(home, changed, 1_000)
    with pytest.raises(AssertionError, match="does not hold 999 trades"):
        archive.compare(home, bare, 999)


def test_bare_sql_builds_the_candles_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_WAREHOUSE", os.devnull)  # put back after the test
    days = list(days_from(tiny.FIRST_DAY, 2))
    candles.fill_lake(tmp_path, days, 3_000)
    model, command = candles.run_dbt(tmp_path, days)
    for order in (candles.BY_TIME, candles.BY_ID):
        candles.run_bare(tmp_path, f"{len(order)}.duckdb", order)
        candles.compare(tmp_path, f"{len(order)}.duckdb")

    assert 0 < model < command
    with duckdb.connect(tmp_path / "2.duckdb") as connection:
        connection.execute("delete from candles where opened_at::date = date '2020-01-02'")
    with pytest.raises(AssertionError, match="1440 of 2880 candles differ"):
        candles.compare(tmp_path, "2.duckdb")


def test_a_worker_hands_back_results_errors_and_its_own_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with worker(log) as process:
        assert process.submit(os.path.basename, "a/b").result() == "b"
        process.submit(print, "kept", flush=True).result()
        # This process holds hundreds of megabytes, which must not count.
        assert process.submit(peak_memory).result() < peak_memory()
        before = process.submit(peak_memory).result()
        process.submit(len, b"x" * 100_000_000).result()
        assert process.submit(peak_memory).result() - before > 90_000_000
        with pytest.raises(FileNotFoundError):
            process.submit(os.stat, tmp_path / "missing").result()

    assert log.read_text() == "kept\n"


def test_time_of_a_run_is_split_into_its_parts() -> None:
    steps = {
        "raw__binance_trades": 1.0,
        "raw__binance_klines": 2.0,
        "raw__binance_trades_trades_are_complete": 0.5,
        "markets__ohlcv_1m_candles_are_valid": 0.25,
        "dbt": 4.0,
        "crypto_duckdb__venues": 0.125,
    }
    parts = Timing(total=10.0, steps=steps, events=3.0).parts()

    assert list(parts.values()) == [3.0, 0.75, 4.0, 0.125, 2.125, 3.0]


def test_the_best_of_each_part_counts() -> None:
    runs = [Timing(10.0, {"dbt": 4.0, "a": 3.0}, 2.0), Timing(9.0, {"dbt": 5.0, "a": 2.0}, 1.0)]

    assert best(runs) == Timing(8.0, {"dbt": 4.0, "a": 2.0}, 1.0)


@pytest.mark.parametrize(
    ("line", "figure", "is_within"),
    [
        (ratio("work", 3.0, 2.0, "peer", at_most=1.5), "1.50 x", True),
        (ratio("work", 3.1, 2.0, "peer", at_most=1.5), "1.55 x", False),
        (speedup("work", 2.0, 20.0, "peer", at_least=10), "10.0 x faster", True),
        (speedup("work", 2.0, 19.0, "peer", at_least=10), "9.5 x faster", False),
        (seconds("work", 0.1, at_most=0.1), "0.100 s", True),
        (seconds("work", 0.2, at_most=0.1), "0.200 s", False),
        (note("work", "1 s"), "", None),
    ],
)
def test_limits_are_inclusive(line: Line, figure: str, is_within: bool | None) -> None:
    assert (line.figure, line.is_within) == (figure, is_within)


@pytest.mark.parametrize(
    ("spent", "scale", "exit_code"), [(1.0, "full", 0), (2.0, "full", 1), (2.0, "small", 0)]
)
def test_a_broken_limit_fails_the_command_at_full_scale(
    spent: float, scale: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def measure(_scale: Scale, folder: Path) -> Iterator[Line]:
        folders.append(folder)
        (folder / "file").touch()
        yield ratio("the work", spent, 1.0, "peer", at_most=1.5)

    monkeypatch.setitem(benchmarks.BENCHMARKS, "archive", measure)
    result = CliRunner().invoke(benchmarks.app, ["archive", "--scale", scale])

    assert result.exit_code == exit_code
    assert "the work" in result.output
    assert ("NO" in result.output) == bool(exit_code)
    assert not folders[0].exists()


@pytest.mark.parametrize("arguments", [["unheard-of"], ["--scale", "huge"]])
def test_what_is_unknown_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(benchmarks.app, arguments).exit_code == 2
