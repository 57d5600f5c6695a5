"""Pages kept on disk: asked for once, whatever happens to the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from crypto_assets.errors import UnexpectedReplyError
from crypto_assets.sources.pages import Pages


def refuse() -> bytes:
    raise AssertionError("asked again")


def test_kept_page_is_not_asked_for_again(tmp_path: Path) -> None:
    assert Pages(tmp_path, "day").get("a", lambda: b"[1, 2]") == [1, 2]
    assert Pages(tmp_path, "day").get("a", refuse) == [1, 2]


def test_reply_that_is_no_array_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(UnexpectedReplyError, match="day: expected a JSON array"):
        Pages(tmp_path, "day").get("a", lambda: b"<html>")
    assert list(tmp_path.iterdir()) == []
    assert Pages(tmp_path, "day").get("a", lambda: b"[3]") == [3]


@pytest.mark.parametrize("torn", [b"", b"[1, 2", b"\0\0\0"])
def test_page_that_a_power_cut_tore_is_asked_for_again(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "a.json").write_bytes(torn)
    assert Pages(tmp_path, "day").get("a", lambda: b"[4]") == [4]
    assert (tmp_path / "a.json").read_bytes() == b"[4]"


def test_pages_come_back_in_order_and_as_one_document(tmp_path: Path) -> None:
    pages = Pages(tmp_path, "day")
    for name, body in (("b", b"[1]"), ("a", b"[2, 3]")):
        pages.get(name, lambda body=body: body)  # type: ignore[misc]
    assert list(pages) == [[1], [2, 3]]
    document = pages.document("https://host/path")
    assert document.sha256 == hashlib.sha256(b"[1][2, 3]").hexdigest()
    assert (document.url, document.etag, document.bytes) == ("https://host/path", None, 9)
