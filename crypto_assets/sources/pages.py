"""Pages of one partition, each kept on disk as it came: the checkpoint of a source that is paged.

A run that dies finds its pages again and asks only for the rest. Nothing here knows a venue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crypto_assets.errors import UnexpectedReplyError
from crypto_assets.sources.columns import json_rows
from crypto_assets.sources.venue import Document


class Pages:
    """The pages of one partition in the order they were asked for; memory holds one at a time.

    `read` takes a page apart; it raises UnexpectedReplyError if it cannot.
    """

    def __init__(
        self, folder: Path, what: str, read: Callable[[bytes, str], Any] = json_rows
    ) -> None:
        self._folder = folder
        self._what = what
        self._read = read
        self._paths: list[Path] = []

    def get(self, name: str, ask: Callable[[], bytes]) -> Any:
        """What `read` makes of the page with that name, from `ask` unless an earlier run kept it.

        A reply that cannot be read is not kept; a kept one that was cut off is asked for again.
        """
        path = self._folder / f"{name}.json"
        rows = self._kept(path)
        if rows is None:
            body = ask()
            rows = self._read(body, self._what)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(body)
            temporary.replace(path)
        self._paths.append(path)
        return rows

    def __iter__(self) -> Iterator[Any]:
        for path in self._paths:
            yield self._read(path.read_bytes(), self._what)

    def __reversed__(self) -> Iterator[list[Any]]:
        for path in reversed(self._paths):
            yield self._read(path.read_bytes(), self._what)

    def document(self, url: str) -> Document:
        """One entry for all pages: the SHA-256 and length of their bodies in order."""
        content, size = hashlib.sha256(), 0
        for path in self._paths:
            body = path.read_bytes()
            content.update(body)
            size += len(body)
        return Document(url, None, content.hexdigest(), size)

    def _kept(self, path: Path) -> Any:
        try:
            return self._read(path.read_bytes(), self._what)
        except (FileNotFoundError, UnexpectedReplyError):
            return None
