"""Zip files whose bytes depend on nothing but their members' names and content."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

Members = list[tuple[str, bytes]]


def zip_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A deflated zip of the members, in order, with a fixed date and origin."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            info.create_system = 3  # Python writes the platform it runs on otherwise
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()
