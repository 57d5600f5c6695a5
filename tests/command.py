"""Running the command line as its users do: a process of its own with a data folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from processes import PROCESSES, become_command

_SECONDS = 600
CATALOG = "binance:\n  - {market: BTC-USDT, symbol: BTCUSDT, since: 2024-12-30}\n"


def write_catalog(home: Path, text: str = CATALOG) -> None:
    """The catalogue that `environment` points to."""
    (home / "catalog").mkdir(parents=True, exist_ok=True)
    (home / "catalog" / "markets.yaml").write_text(text)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """This process's environment with settings for a data folder; `variables` have no prefix."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("CRYPTO_ASSETS_", "DBT_"))
    }
    if not (home / "catalog" / "markets.yaml").exists():
        write_catalog(home)
    return {
        **inherited,
        "CRYPTO_ASSETS_DATA_DIR": str(home),
        "CRYPTO_ASSETS_CATALOG": str(home / "catalog"),
        **{f"CRYPTO_ASSETS_{name}": value for name, value in variables.items()},
    }


def start(
    home: Path,
    *arguments: str,
    out: Path = Path(os.devnull),
    err: Path = Path(os.devnull),
    **variables: str,
) -> ForkServerProcess:
    """One `crypto-assets` command that goes on by itself; see `kill`."""
    process = PROCESSES.Process(
        target=become_command, args=(arguments, environment(home, **variables), out, err)
    )
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """End a command with -9, and all that it has started."""
    assert process.pid is not None
    with suppress(ProcessLookupError):  # it may have no session of its own yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One `crypto-assets` command, waited for."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(home, *arguments, out=out, err=err, **variables)
        process.join(_SECONDS)
        if process.exitcode is None:
            kill(process)
            raise TimeoutError(f"{arguments}: {err.read_text()}")
        return subprocess.CompletedProcess(
            arguments, process.exitcode, out.read_text(), err.read_text()
        )
