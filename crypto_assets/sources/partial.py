"""A download on its way to disk, and how the disk's refusals are reported."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crypto_assets.errors import StorageError


class Partial:
    """The body of a download so far, and in a file beside it the ETag that it belongs to."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._body = target.with_name(f"{target.name}.part")
        self._etag = target.with_name(f"{target.name}.part.etag")

    def resume_point(self) -> tuple[int, str]:
        """Where to go on, and under which ETag; 0 if there is nothing to go on from.

        One byte before the end, so that a body that only lacks its renaming can be asked for too.
        Only a strong ETag stands for the same bytes (RFC 9110, 13.1.5).
        """
        with storing(self._body):
            try:
                size = self._body.stat().st_size
                etag = self._etag.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return 0, ""
        return (size - 1, etag) if size > 1 and etag.startswith('"') else (0, "")

    def fill(self, offset: int, etag: str | None, chunks: Iterator[bytes]) -> tuple[int, str]:
        """Keep the first `offset` bytes, append the chunks; the size and SHA-256 of it all."""
        with storing(self._body):
            if not offset:  # emptied first, so that no byte ever stands beside another file's ETag
                self._body.write_bytes(b"")
                self._etag.write_text(etag or "", encoding="utf-8")
            with self._body.open("r+b") as file:
                file.truncate(offset)
                digest = hashlib.file_digest(file, "sha256")
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                return file.tell(), digest.hexdigest()

    def discard(self) -> None:
        """Forget what is there: it is not what was asked for."""
        with storing(self._body):
            self._body.unlink(missing_ok=True)
            self._etag.unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the whole body to the target, at once."""
        with storing(self._target):
            self._body.replace(self._target)
            self._etag.unlink(missing_ok=True)


@contextmanager
def storing(path: Path | None) -> Iterator[None]:
    """Turn a refused write to `path` into a StorageError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise unwritable(path, error) from error


def unwritable(path: Path | None, error: Exception) -> StorageError:
    """The error to raise for a refused write."""
    return StorageError(
        f"cannot write {path}: {error}; free space or fix its owner, then run again"
    )
