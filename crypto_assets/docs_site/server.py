"""A server for the pages on this machine alone, and the front page over them."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from crypto_assets.docs_site.pages import render

# What is shown of the home folder, which also holds the data.
_SHOWN = {"docs", "gx"}


def serve(home: Path, port: int) -> None:
    """Serve dbt docs and Data Docs at 127.0.0.1 until interrupted."""
    with create_server(home, port) as server:
        server.serve_forever()


def create_server(home: Path, port: int) -> ThreadingHTTPServer:
    """A server that is bound but not running yet; port 0 takes a free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(home)))


class _Handler(SimpleHTTPRequestHandler):
    """Pages below the folders that are shown; everything else of the folder does not exist."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        path = self.path.partition("?")[0].partition("#")[0]
        if path in {"/", "/index.html"}:
            return self._front_page()
        file = Path(self.translate_path(path)).resolve()
        home = Path(self.directory).resolve()
        if not file.is_relative_to(home) or file.relative_to(home).parts[:1] not in {
            (name,) for name in _SHOWN
        }:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: object) -> None:  # noqa: ARG002
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests of one's own browser are not worth a line."""

    def _front_page(self) -> BytesIO:
        shown = {name: (Path(self.directory) / name / "index.html").exists() for name in _SHOWN}
        page = render("front.html", shown=shown).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        return BytesIO(page)
