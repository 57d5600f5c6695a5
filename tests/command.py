"""Running the command line as its users do: a process of its own with a data folder of its own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

CLI = str(Path(sysconfig.get_path("scripts"), "crypto-assets"))
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


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One `crypto-assets` command, waited for."""
    return subprocess.run(
        [CLI, *arguments],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
