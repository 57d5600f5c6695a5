"""Writes that survive a power cut and a kill at any instant: flush, replace, flush the folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crypto_assets.errors import StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write below `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; nothing was committed. Free space, "
            "make the folder writable or set CRYPTO_ASSETS_DATA_DIR, then run again"
        ) from error


def replace(source: Path, target: Path) -> None:
    """Put a finished file in place of `target` atomically; durable when this returns."""
    _flush(source)
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    for folder in (target.parent, *(folder.parent for folder in missing)):
        _flush(folder)


def remove(path: Path) -> None:
    """Remove a file if it is there; it stays away when this returns."""
    if path.exists():
        path.unlink()
        _flush(path.parent)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write beside `target`: put in its place if the block ends well, else removed.

    What killed processes left unfinished beside the same target goes too. Raises StorageError.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            if not _is_running(int(leftover.name.split(".")[-2])):
                leftover.unlink(missing_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically and durably."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
