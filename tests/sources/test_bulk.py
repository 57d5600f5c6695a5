"""The transport for large replies, over real sockets: what httpx's own would do, it does too."""

from __future__ import annotations

import gzip
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from crypto_assets.errors import (
    ConnectionFaultError,
    PermanentSourceError,
    ServerFaultError,
    SourceError,
    UnexpectedReplyError,
)
from crypto_assets.sources.bulk import BulkTransport, bulk_transport
from crypto_assets.sources.http import HostPolicy, HttpClient

from .test_http import _self_signed

BODY = bytes(range(256)) * 20_000
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server:
    """Answers POST by `answer`; knows how many connections were opened and what was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = send(BODY)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.path, dict(self.headers), content))
                with suppress(ConnectionError):
                    outer.answer(self)

            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers), b""))
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        if context:
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://localhost:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    yield from running(Server())


def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def send(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | named).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def in_turn(*answers: Answer) -> Answer:
    left = list(answers)

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        left.pop(0)(handler)

    return answer


def client_of(url: str, **policy: float) -> HttpClient:
    return HttpClient(
        base_url=url,
        policy=HostPolicy("host", **{"attempts": 1, **policy}),  # type: ignore[arg-type]
        limits_path=None,
        transport=BulkTransport(),
    )


def post(client: HttpClient, content: bytes = b"{}", *, most: int = 1 << 30) -> bytes:
    return client.post_bytes("/v3/x?y=z", content, max_bytes=most).body


def test_body_comes_whole_over_one_connection(server: Server) -> None:
    with client_of(server.url) as client:
        for at in range(5):
            assert post(client, b"%d" % at) == BODY
        assert client.get_bytes("/page", params={"a": 1}, max_bytes=1 << 30).body == BODY
    assert server.connections == 1
    path, headers, content = server.asked[0]
    assert (path, content) == ("/v3/x?y=z", b"0")
    assert headers["Host"] == server.url.removeprefix("http://")
    assert headers["User-Agent"].startswith("crypto-assets/")
    assert "gzip" in headers["Accept-Encoding"]
    assert list(map(str.lower, headers)).count("host") == 1
    assert server.asked[5][0] == "/page?a=1"


def test_threads_have_connections_of_their_own(server: Server) -> None:
    with client_of(server.url) as client, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: post(client), range(40))) == {BODY}
    assert 1 <= server.connections <= 4


def test_compressed_and_chunked_bodies_are_read(server: Server) -> None:
    packed = gzip.compress(BODY, 1)
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part)
        for part in (packed[at : at + 70_000] for at in range(0, len(packed), 70_000))
    )

    def chunked(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(chunks + b"0\r\n\r\n")

    with client_of(server.url) as client:
        server.answer = send(packed, Content_Encoding="gzip")
        assert post(client) == BODY
        server.answer = chunked
        assert post(client) == BODY
        assert post(client) == BODY
    assert server.connections == 1


@pytest.mark.parametrize("status", [204, 404, 503])
def test_status_leaves_the_connection_usable(server: Server, status: int) -> None:
    with client_of(server.url) as client:
        server.answer = send(b"" if status == 204 else b"no such thing", status)
        with pytest.raises(SourceError, match=f" {status} "):
            post(client)
        server.answer = send(BODY)
        assert post(client) == BODY
    assert server.connections == 1


def test_connection_that_the_host_closed_is_replaced(server: Server) -> None:
    def closing(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(b"[]")(handler)
        handler.close_connection = True  # without saying so

    with client_of(server.url) as client:
        server.answer = closing
        for _ in range(3):
            assert post(client) == b"[]"
            time.sleep(0.05)
        server.answer = send(b"[]", Connection="close")
        assert post(client) == b"[]"
        assert post(client) == b"[]"
    assert server.connections == 5


def test_body_without_a_length_ends_with_the_connection(server: Server) -> None:
    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)
        handler.close_connection = True

    server.answer = endless
    with client_of(server.url) as client:
        assert post(client) == BODY


@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_cut_short_is_a_connection_fault(server: Server, is_chunked: bool) -> None:
    def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if is_chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"3e8\r\nabc" if is_chunked else b"abc")
        handler.close_connection = True

    server.answer = cut
    with client_of(server.url) as client:
        with pytest.raises(ConnectionFaultError):
            post(client)
        server.answer = send(BODY)
        assert post(client) == BODY


def test_body_longer_than_expected_is_not_read(server: Server) -> None:
    with client_of(server.url) as client:
        with pytest.raises(UnexpectedReplyError, match="longer than"):
            post(client, most=1000)
        assert post(client) == BODY  # over a new connection: the old one still holds the rest
    assert server.connections == 2


def test_silence_is_a_fault_that_is_retried(server: Server) -> None:
    server.answer = in_turn(lambda _: time.sleep(1), send(BODY))
    with client_of(server.url, read_timeout=0.2, attempts=2) as client:
        assert post(client) == BODY


def test_what_is_not_http_is_a_connection_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 smtp.example ESMTP\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with (
            client_of(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(ConnectionFaultError, match="RemoteProtocolError"),
        ):
            post(client)
        thread.join()


def test_host_that_is_not_there_is_a_connection_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"http://[::1]:{port}", "http://[::1]"):
        with client_of(url) as client, pytest.raises(ConnectionFaultError, match="ConnectError"):
            post(client)


def test_certificate_that_nobody_signed_is_refused_for_good(tmp_path: Path) -> None:
    server = Server(_self_signed(tmp_path))
    server.http.handle_error = lambda *_: None  # type: ignore[method-assign]
    for started in running(server):
        with client_of(started.url) as client, pytest.raises(PermanentSourceError, match="CA cert"):
            post(client)
        trusting = BulkTransport()
        trusting.__dict__["_tls"] = ssl.create_default_context(cafile=tmp_path / "server.pem")
        trusting._tls.check_hostname = False
        with HttpClient(
            base_url=started.url, policy=HostPolicy("host"), limits_path=None, transport=trusting
        ) as client:
            assert post(client) == post(client) == BODY
    assert server.connections == 1


def test_scheme_other_than_http_is_refused() -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        BulkTransport().handle_request(httpx.Request("GET", "ftp://host/file"))


def test_server_error_is_retried_over_the_same_connection(server: Server) -> None:
    server.answer = in_turn(send(b"busy", 503), send(b"busy", 503), send(BODY))
    with client_of(server.url, attempts=3) as client:
        assert post(client) == BODY
    assert server.connections == 1
    with client_of(server.url, attempts=1) as client:
        server.answer = send(b"busy", 500)
        with pytest.raises(ServerFaultError, match="busy"):
            post(client)


def test_proxy_is_left_to_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert isinstance(bulk_transport(), BulkTransport)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    assert bulk_transport() is None
