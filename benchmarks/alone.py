"""Running one side of a measurement in a process of its own, so that memory and caches are its own.

A function that is measured must be importable by name and returns what pickles.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def alone(
    log: Path, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> tuple[_T, int]:
    """What a function returns when a new process runs it, and that process's peak memory in bytes.

    What it prints goes to `log`.
    """
    with worker(log) as process:
        result = process.submit(function, *args, **kwargs).result()
        return result, process.submit(peak_memory).result()


def worker(log: Path) -> ProcessPoolExecutor:
    """A process that runs what is submitted, one after the other, and keeps what it imported."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_print_to, initargs=(log,))


def peak_memory() -> int:
    """Bytes of this process's largest resident set."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux lets a process begin with the ru_maxrss of the one that started it; not with this.
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _print_to(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
