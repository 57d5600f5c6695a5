"""The server shows the pages and nothing else of the home folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crypto_assets.docs_site.server import create_server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for path in ("gx/index.html", "gx/suite/2024-01-01.html", "crypto.duckdb", "lake/raw/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


@pytest.fixture
def client(home: Path) -> Iterator[httpx.Client]:
    with create_server(home, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/gx/index.html", "/gx/", "/gx/suite/2024-01-01.html"])
def test_pages_are_served(client: httpx.Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html"


@pytest.mark.parametrize(
    "path",
    ["/crypto.duckdb", "/lake/raw/x", "/gx/%2e%2e/crypto.duckdb", "/gx/suite/", "/docs/", "/nope"],
)
def test_nothing_else_is(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_front_page_links_what_is_there(client: httpx.Client, home: Path) -> None:
    page = client.get("/").text
    assert 'href="gx/index.html"' in page
    assert 'href="docs/index.html"' not in page

    (home / "docs").mkdir()
    (home / "docs/index.html").touch()
    assert 'href="docs/index.html"' in client.get("/index.html").text


def test_only_this_machine_is_served(home: Path) -> None:
    with create_server(home, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
