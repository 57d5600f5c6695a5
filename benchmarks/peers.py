"""Other programs that do what ours does, each in the Python that has it: what it costs them.

A peer is looked for in the Python that an environment variable names, beside its own command on
PATH, in the `python3` on PATH and in this one. None belongs into the project's environment:
ethereum-etl pins libraries of years ago.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from crypto_assets.catalog import BlockRange

# What it prints last: seconds and CPU seconds of the work without start-up, peak memory in bytes.
# The work finds what it is given, and its folder, in variables.
_SCRIPT = r"""
import csv, json, os, re, sys, time, zipfile
from pathlib import Path
folder = Path.cwd()
globals().update(json.loads(sys.argv[1]))
{imports}
wall, cpu = time.perf_counter(), time.process_time()
{work}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
status = Path("/proc/self/status")
highest = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
peak = int(highest[1]) * 1024 if highest else 0
print(json.dumps({{"seconds": wall, "cpu": cpu, "peak": peak}}), flush=True)
os._exit(0)  # cryo's threads now and then abort a Python that ends the usual way
"""
_CRYO = """
cryo.freeze(
    ["blocks", "transactions", "logs"],
    rpc=url, start_block=first, end_block=last + 1, output_dir=str(folder),
    chunk_size=last + 1 - first, verbose=False,
)
"""
# One of the old libraries that it pins wants a function that Python 3.11 dropped.
_IMPORT_ETHEREUM_ETL = """
import inspect
inspect.getargspec = inspect.getfullargspec
from ethereumetl.cli import cli
"""
_ETHEREUM_ETL = """
def call(command, **options):
    arguments = [part for name, value in options.items()
                 for part in ("--" + name.replace("_", "-"), str(value))]
    cli([command, *arguments], standalone_mode=False)

at = {name: folder / f"{name}.csv" for name in ("blocks", "transactions", "receipts", "logs")}
call("export_blocks_and_transactions", start_block=first, end_block=last, provider_uri=url,
     blocks_output=at["blocks"], transactions_output=at["transactions"])
with at["transactions"].open() as file, (folder / "hashes.txt").open("w") as hashes:
    hashes.writelines(row["hash"] + "\\n" for row in csv.DictReader(file))
call("export_receipts_and_logs", transaction_hashes=folder / "hashes.txt", provider_uri=url,
     receipts_output=at["receipts"], logs_output=at["logs"])
"""
# What its `download-data --dl-trades` does of a pair, but for the download itself.
_IMPORT_FREQTRADE = """
from freqtrade.data.history import get_datahandler
from freqtrade.data.history.history_utils import _download_trades_history
from freqtrade.enums import TradingMode
from freqtrade.exchange.binance_public_data import parse_trades_from_zip
"""
_FREQTRADE = """
class Exchange:
    def get_historic_trades(self, pair, **_):
        with zipfile.ZipFile(archive) as opened, opened.open(opened.namelist()[0]) as file:
            return pair, parse_trades_from_zip(file)

_download_trades_history(
    Exchange(), "BTC/USDT",
    data_handler=get_datahandler(folder, "feather"), trading_mode=TradingMode.SPOT,
)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the work took: seconds, CPU seconds of the client, and its peak in bytes."""

    seconds: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A program, the variable that names its Python, its command, and Python that calls it."""

    name: str
    variable: str
    command: str
    imports: str
    work: str

    def python(self) -> str | None:
        """The interpreter that has it, if one has."""
        named = os.environ.get(self.variable)
        beside = shutil.which(self.command)
        candidates = [
            named,
            str(Path(beside).resolve().with_name("python")) if beside else None,
            shutil.which("python3"),
            sys.executable,
        ]
        for candidate in candidates[:1] if named else candidates[1:]:
            if candidate and _runs(candidate, self.imports):
                return candidate
        return None

    @property
    def absence(self) -> str:
        """Why it is not measured, and what would change that."""
        return f"skipped: no Python here has it (pip install {self.name}; {self.variable}=<python>)"

    def fetch(self, python: str, url: str, blocks: BlockRange, folder: Path, log: Path) -> Cost:
        """Let it fetch some blocks into a new folder."""
        return self.run(python, folder, log, url=url, first=blocks.first, last=blocks.last)

    def run(self, python: str, folder: Path, log: Path, **given: str | int) -> Cost:
        """Let it do its work in a new folder."""
        folder.mkdir()
        script = _SCRIPT.format(imports=self.imports, work=self.work)
        arguments = [python, "-c", script, json.dumps(given)]
        with log.open("ab") as errors:
            done = subprocess.run(
                arguments, stdout=subprocess.PIPE, stderr=errors, cwd=folder, check=False
            )
        if done.returncode:
            said = log.read_text()[-2000:].strip()
            raise AssertionError(f"{self.name} failed ({done.returncode}): {said}")
        return Cost(**json.loads(done.stdout.splitlines()[-1]))


CRYO = Peer("cryo", "BENCHMARK_CRYO_PYTHON", "cryo", "import cryo", _CRYO)
ETHEREUM_ETL = Peer(
    "ethereum-etl",
    "BENCHMARK_ETHEREUM_ETL_PYTHON",
    "ethereumetl",
    _IMPORT_ETHEREUM_ETL,
    _ETHEREUM_ETL,
)
FREQTRADE = Peer(
    "freqtrade", "BENCHMARK_FREQTRADE_PYTHON", "freqtrade", _IMPORT_FREQTRADE, _FREQTRADE
)


def _runs(python: str, script: str) -> bool:
    try:
        done = subprocess.run([python, "-c", script], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
