"""The command line as a person or a scheduler uses it: real processes, exit codes, files.

Every test has a data folder of its own; the slow ones share the one filled by `filled`.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import duckdb
import pytest
from command import CATALOG, environment, run, write_catalog

# Whole backfills in processes of their own, on machines that do other things too.
pytestmark = pytest.mark.timeout(900)


def query(home: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(home / "sandbox" / "crypto.duckdb", read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with four proven days, the first before the listing."""
    home = tmp_path_factory.mktemp("filled")
    write_catalog(home, CATALOG.replace("2024-12-30", "2024-12-31"))
    done = run(home, "backfill", "binance", "--from", "2024-12-31", "--to", "2025-01-02")
    assert done.returncode == 0, done.stderr
    return home


def test_a_backfill_ends_in_marts_that_agree_with_the_venue(filled: Path) -> None:
    trades, candles = query(
        filled,
        "select (select count(*) from markets.trades), "
        "(select sum(trade_count) from markets.ohlcv_1d)",
    )[0]
    assert trades == candles > 0
    failed = query(filled, "select * from quality.check_results where not passed")
    assert failed == []
    suites = query(
        filled,
        "select distinct suite from quality.check_results where observed <> '{}' order by all",
    )
    assert suites == [
        ("candles_are_valid",),
        ("candles_equal_klines",),
        ("candles_equal_rest",),
        ("trades_are_complete",),
        ("venues_agree",),
    ]


def test_status_tells_counts_as_json(filled: Path) -> None:
    done = run(filled, "status", "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert {row["dataset"] for row in rows} == {
        "binance_trades",
        "binance_klines",
        "binance_rest_klines",
    }
    assert all(row["complete"] == 3 and row["missing"] == 0 for row in rows)


def test_status_names_missing_days_and_fails(filled: Path) -> None:
    done = run(filled, "status", "--from", "2025-01-02", "--to", "2025-01-04", "--json")
    assert done.returncode == 1
    assert all(row["missing"] == 2 for row in json.loads(done.stdout))


def test_verify_finds_a_flipped_byte_a_removed_and_a_swapped_file(
    filled: Path, tmp_path: Path
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(filled, home)
    assert run(home, "verify").returncode == 0
    raw = home / "sandbox" / "lake" / "raw"
    trades = sorted(raw.glob("binance_trades/*/*/*.parquet"))
    klines = sorted(raw.glob("binance_klines/*/*/*.parquet"))
    content = bytearray(trades[0].read_bytes())
    content[len(content) // 2] ^= 1
    trades[0].write_bytes(content)
    klines[2].unlink()
    kept = klines[0].read_bytes()
    klines[0].write_bytes(klines[1].read_bytes())
    klines[1].write_bytes(kept)
    done = run(home, "verify", "--json")
    assert done.returncode == 1
    healed = run(home, "backfill", "binance", "--from", "2024-12-31", "--to", "2025-01-02")
    assert healed.returncode == 0, healed.stderr
    assert run(home, "verify").returncode == 0
    findings = json.loads(done.stdout)["findings"]
    problems = {(f["problem"], f["partition"]) for f in findings}
    assert ("changed", "binance_trades BTC-USDT 2024-12-31") in problems
    assert ("removed", "binance_klines BTC-USDT 2025-01-02") in problems
    assert ("swapped", "binance_klines BTC-USDT 2024-12-31") in problems
    assert ("swapped", "binance_klines BTC-USDT 2025-01-01") in problems


def test_the_installed_script_is_the_command(tmp_path: Path) -> None:
    """All other tests call what it calls, in a process that is ready sooner."""
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts"), "crypto-assets"), "backfill", "bitfenix"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "bitfenix" in done.stderr


def test_sql_prints_rows_and_names_a_wrong_query(filled: Path) -> None:
    done = run(filled, "sql", "--csv", "select market, trade_count from markets.ohlcv_1d limit 1")
    assert done.stdout.splitlines()[0] == "market,trade_count"
    wrong = run(filled, "sql", "select nothing from nowhere")
    assert wrong.returncode == 2
    assert "nowhere" in wrong.stderr


def test_sql_prints_hashes_and_addresses_as_hex(tmp_path: Path) -> None:
    home = tmp_path / "sandbox"
    home.mkdir()
    with duckdb.connect(home / "crypto.duckdb") as connection:
        connection.execute(
            "create view made as select 1 as n, unhex('00a0ff') as hash, null::blob as nothing, "
            "''::blob as empty, [unhex('ab')] as several, {'to': unhex('cd')} as inside, 'b' as b"
        )
    query = "select hash, nothing, empty, several, inside, n, b from made"
    done = run(tmp_path, "sql", "--csv", query)
    assert done.returncode == 0, done.stderr
    assert list(csv.reader(done.stdout.splitlines())) == [
        ["hash", "nothing", "empty", "several", "inside", "n", "b"],
        ["0x00a0ff", "", "0x", "['0xab']", "{'to': '0xcd'}", "1", "b"],
    ]
    shown = run(tmp_path, "sql", query).stdout
    assert "0x00a0ff" in shown
    assert "'0xab'" in shown


@pytest.mark.parametrize("command", ["backfill", "status"])
def test_a_target_that_is_neither_venue_nor_chain_is_told_what_there_is(
    tmp_path: Path, command: str
) -> None:
    told = (
        "CatalogError: 'nosuch' is neither a venue of markets.yaml (binance) nor a chain of "
        "chains.yaml (%s)\n"
    )
    done = run(tmp_path, command, "nosuch")
    assert (done.returncode, done.stderr) == (2, told % "ethereum")
    (tmp_path / "catalog" / "chains.yaml").write_text("{}")
    done = run(tmp_path, command, "nosuch")
    assert (done.returncode, done.stderr) == (2, told % "none")


def test_a_venue_cannot_be_registered(tmp_path: Path) -> None:
    done = run(tmp_path, "register", "binance")
    assert (done.returncode, done.stderr) == (
        2,
        "CatalogError: chain 'binance' is not in chains.yaml; it lists ethereum\n",
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (["backfill", "kraken"], {}, "kraken"),
        (["backfill", "binance", "--from", "2025-01-02", "--to", "2025-01-01"], {}, "--from"),
        (["backfill", "binance", "--from", "2010-01-01", "--to", "2010-01-02"], {}, "2024-12-30"),
        (["backfill", "binance", "--from", "2025-01-01", "--to", "2999-01-01"], {}, "not over"),
        (["status"], {"PROFILE": "paper"}, "CRYPTO_ASSETS_PROFILE"),
        (["status"], {"FETCH_WORKERS": "none"}, "CRYPTO_ASSETS_FETCH_WORKERS"),
        (["status"], {"CATALOG": "/nowhere"}, "markets.yaml"),
        (["sql", "select 1"], {}, "crypto.duckdb"),
        (["backfill"], {}, "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], named: str
) -> None:
    done = run(tmp_path, *arguments, **variables)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sandbox" / "lake").exists()


def test_a_fault_is_quarantined_named_and_healed_by_the_next_run(tmp_path: Path) -> None:
    arguments = ("backfill", "binance", "--from", "2024-12-31", "--to", "2025-01-01")
    broken = run(tmp_path, *arguments, SANDBOX_FAULTS="gap@BTCUSDT@2025-01-01@trades")
    assert broken.returncode == 1
    assert "MissingIdError" in broken.stderr
    evidence = list(tmp_path.glob("sandbox/quarantine/**/evidence.json"))
    assert len(evidence) == 1
    assert json.loads(evidence[0].read_text())["reason"] == "MissingIdError"
    rows = json.loads(run(tmp_path, "status", "--json").stdout)
    assert {row["dataset"]: row["quarantined"] for row in rows} == {
        "binance_trades": 1,
        "binance_klines": 0,
        "binance_rest_klines": 0,
    }
    healed = run(tmp_path, *arguments)
    assert healed.returncode == 0, healed.stderr


def test_candles_that_differ_from_the_venue_in_the_last_digit_block_the_day(
    tmp_path: Path,
) -> None:
    done = run(
        tmp_path,
        "backfill",
        "binance",
        "--from",
        "2025-01-01",
        "--to",
        "2025-01-01",
        SANDBOX_FAULTS="shifted_kline@BTCUSDT@2025-01-01",
    )
    assert done.returncode == 1
    assert "candles_equal_klines" in done.stderr
    assert not (tmp_path / "sandbox" / "crypto.duckdb").exists(), "a wrong number was published"
    shown = run(tmp_path, "status")
    assert shown.returncode == 1
    assert "candles_equal_klines 2025-01-01" in shown.stderr
    again = ("backfill", "binance", "--from", "2025-01-01", "--to", "2025-01-01", "--refetch")
    healed = run(tmp_path, *again)
    assert healed.returncode == 0, healed.stderr
    assert run(tmp_path, "status").returncode == 0


def test_adding_a_market_fetches_only_the_new_one(filled: Path, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(filled, home)
    file = home / "sandbox/lake/raw/binance_trades/market=BTC-USDT/date=2025-01-01"
    before = (file / "binance_trades.parquet").stat().st_mtime_ns
    with (home / "catalog" / "markets.yaml").open("a") as catalog:
        catalog.write("  - {market: ETH-USDT, symbol: ETHUSDT, since: 2025-01-01}\n")
    done = run(home, "backfill", "binance", "--from", "2024-12-31", "--to", "2025-01-02")
    assert done.returncode == 0, done.stderr
    assert (file / "binance_trades.parquet").stat().st_mtime_ns == before
    states = dict(
        query(
            home,
            "select partition, status from raw.proofs where market = 'ETH-USDT' "
            "and dataset = 'binance_trades'",
        )
    )
    assert states == {
        "2024-12-31": "not_listed",
        "2025-01-01": "complete",
        "2025-01-02": "complete",
    }


def test_a_reader_in_another_process_and_ten_runs_do_not_disturb_each_other(
    filled: Path, tmp_path: Path
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(filled, home)
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(home / "sandbox" / "crypto.duckdb")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        done = run(
            home,
            *("backfill", "binance", "--from", "2025-01-03", "--to", "2025-01-12"),
            MAX_PARTITIONS_PER_RUN="1",
        )
        assert done.returncode == 0, done.stderr
        assert "10 runs" in done.stdout
    finally:
        reader.send_signal(signal.SIGTERM)
        _, errors = reader.communicate(timeout=30)
    assert errors == ""
    assert query(home, "select count(*) from markets.ohlcv_1d") == [(13,)]


# Holds the database open for reading and writing, as DuckDB's own shell does by default, and keeps
# asking until it is told to stop.
_READER = """
import signal, sys, time, duckdb
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
last = 0
while not stop:
    days = connection.execute("select count(*) from markets.ohlcv_1d").fetchall()[0][0]
    assert days >= last, (days, last)
    last = days
    time.sleep(0.02)
"""
