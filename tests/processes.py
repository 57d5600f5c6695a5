"""Processes of their own, forked from one that has imported everything: ready in milliseconds.

Python keeps a single such process for all of a test run's contexts, so what it imports first is
said here, once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "pytest",
        "crypto_assets.cli",
        "crypto_assets.backfill",
        "crypto_assets.lake",
        "crypto_assets.sources.binance",
        "crypto_assets.ui",
        "great_expectations",
    ]
)
JOIN_SECONDS = 60


def become_command(
    arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
) -> None:
    """The command line with these arguments, in a session of its own, as a shell would start it."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["crypto-assets", *arguments]
    from crypto_assets.cli import main

    main()
