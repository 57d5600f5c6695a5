"""Weight limits among threads and real processes; the gate is tested through the client."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crypto_assets.errors import StorageError
from crypto_assets.sources.pacing import HostPolicy, WeightLimit


def limit_of(path: Path | None, *limits: tuple[int, float], name: str = "venue") -> WeightLimit:
    return WeightLimit(HostPolicy(name, limits=limits), path)


def is_free(limit: WeightLimit, weight: int = 1) -> bool:
    """Whether the weight could be taken without waiting."""

    def interrupt(_: float) -> None:
        raise InterruptedError

    try:
        limit.take(weight, interrupt)
    except InterruptedError:
        return False
    return True


def assert_paced(start: float, stamps: list[float], most: int, seconds: float) -> None:
    """A busy machine can only make a stamp later, so this holds on any."""
    for at, stamp in enumerate(sorted(stamps)):
        assert stamp - start > at // most * seconds - 0.01


@pytest.mark.parametrize("file", ["limits.sqlite", None])
def test_threads_together_stay_within_the_limit(tmp_path: Path, file: str | None) -> None:
    limit = limit_of(tmp_path / file if file else None, (10, 0.3))
    stamps: list[float] = []

    def spend(_: int) -> None:
        limit.take(2, time.sleep)
        stamps.append(time.monotonic())

    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(spend, range(18)))
    assert_paced(start, stamps, 5, 0.3)
    assert max(stamps) - start < 5


def test_two_processes_together_stay_within_the_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SPEND, str(tmp_path / "limits.sqlite"), "10"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=30)[0] for process in running]
    (start_a, *stamps_a), (start_b, *stamps_b) = ([*map(float, out.split())] for out in outputs)
    assert len(stamps_a) == len(stamps_b) == 10
    assert_paced(min(start_a, start_b), stamps_a + stamps_b, 8, 0.7)


_SPEND = """
import sys, pathlib, time
from crypto_assets.sources.pacing import HostPolicy, WeightLimit
limit = WeightLimit(HostPolicy("venue", limits=((8, 0.7),)), pathlib.Path(sys.argv[1]))
print(time.monotonic())
for _ in range(int(sys.argv[2])):
    limit.take(1, time.sleep)
    print(time.monotonic(), flush=True)
"""


def test_a_process_killed_inside_the_limiter_leaves_nothing_locked(tmp_path: Path) -> None:
    path = tmp_path / "limits.sqlite"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, path], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "inside\n"
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: is_free(limit_of(path, (1, 60.0))))
        time.sleep(0.2)
        assert not call.done()
        os.kill(holder.pid, signal.SIGKILL)
        assert call.result(5)  # the unit that was not committed is free, too
    holder.wait()
    holder.stdout.close()


# Opens the limiter as a client does, then stops between the insert and its commit.
_HOLD = """
import sys, pathlib, time
from crypto_assets.sources.pacing import HostPolicy, WeightLimit
bucket = WeightLimit(HostPolicy("venue", limits=((1, 60.0),)), pathlib.Path(sys.argv[1]))._bucket
with bucket.limiter_lock():
    bucket.conn.execute("INSERT INTO venue VALUES ('venue', ?)", (bucket.now(),))
    print("inside", flush=True)
    time.sleep(60)
"""


def test_units_spent_before_a_restart_still_count(tmp_path: Path) -> None:
    limit = limit_of(tmp_path / "limits.sqlite", (1, 60.0))
    assert is_free(limit)
    limit.close()
    assert not is_free(limit_of(tmp_path / "limits.sqlite", (1, 60.0)))


def test_hosts_that_share_a_file_have_limits_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "limits.sqlite"
    assert is_free(limit_of(path, (1, 60.0), name="binance-rest"))
    assert is_free(limit_of(path, (1, 60.0), name="kraken"))


def test_every_period_holds(tmp_path: Path) -> None:
    limit = limit_of(None, (10, 0.05), (15, 60.0))
    assert is_free(limit, 10)
    assert not is_free(limit, 5)
    time.sleep(0.06)
    assert is_free(limit, 5)
    time.sleep(0.06)
    assert not is_free(limit, 1)


def test_the_file_does_not_grow_with_what_is_long_past(tmp_path: Path) -> None:
    path = tmp_path / "limits.sqlite"
    limit = limit_of(path, (5, 0.05))
    for _ in range(4):
        limit.take(5, time.sleep)
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from venue").fetchone()[0] <= 10
    connection.close()


def test_a_clock_that_was_set_back_does_not_stop_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "limits.sqlite"
    with monkeypatch.context() as patched:
        next_year = time.time_ns() + 365 * 86_400 * 10**9
        patched.setattr("pyrate_limiter.buckets.sqlite_bucket.time_ns", lambda: next_year)
        assert is_free(limit_of(path, (1, 60.0)))
    assert is_free(limit_of(path, (1, 60.0)))
    assert not is_free(limit_of(path, (1, 60.0)))


def test_a_weight_that_can_never_fit_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="weight 11 can never fit a limit of 10"):
        limit_of(None, (10, 1.0), (50, 60.0)).take(11, time.sleep)


def test_a_file_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "limits").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match=r"cannot write .*/limits: "):
        limit_of(tmp_path / "limits", (1, 1.0))
