"""What a download leaves on disk when writing stops between two steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_assets.errors import StorageError
from crypto_assets.sources.partial import Partial


def test_old_bytes_never_stand_beside_a_new_etag(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"old bytes")
    (tmp_path / "x.part.etag").mkdir()  # so that writing stops at the ETag
    with pytest.raises(StorageError, match=r"x\.part"):
        Partial(tmp_path / "x").fill(0, '"new"', iter([b"new"]))
    assert (tmp_path / "x.part").read_bytes() == b""


def test_bytes_without_their_etag_are_not_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"old bytes")
    assert Partial(tmp_path / "x").resume_point() == (0, "")
    (tmp_path / "x.part.etag").write_text('"v1"')
    assert Partial(tmp_path / "x").resume_point() == (8, '"v1"')
