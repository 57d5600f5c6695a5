"""Writes that survive a power cut and a kill at any instant: flush, replace, flush the folder."""

from __future__ import annotations

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


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
