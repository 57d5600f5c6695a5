"""The real client over scripted transports, and over a loopback server where sockets matter."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from crypto_assets import __version__
from crypto_assets.errors import (
    BannedError,
    CircuitOpenError,
    ConnectionFaultError,
    NotFoundError,
    PermanentSourceError,
    RateLimitedError,
    ServerFaultError,
    SettingsError,
    SourceError,
    StorageError,
    TransientSourceError,
    UnexpectedReplyError,
)
from crypto_assets.sources.http import HostPolicy, HttpClient, judge

BODY = b"PK" + bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()
SECRET = "s3cret-api-key"  # noqa: S105 - what must never be shown


class Clock:
    """A monotonic clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Scripted(httpx.BaseTransport):
    """Gives one scripted answer per request, the last one for good, and keeps the requests."""

    def __init__(self, *answers: Callable[[httpx.Request], httpx.Response] | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request)


def reply(
    status: int = 200, body: bytes = b"{}", **headers: str
) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, headers=named, stream=httpx.ByteStream(body))


def client_of(
    transport: httpx.BaseTransport | None = None,
    *,
    clock: Clock | None = None,
    base_url: str = "https://venue.test",
    limits_path: Path | None = None,
    headers: dict[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    **policy: Any,
) -> HttpClient:
    clock = clock or Clock()
    return HttpClient(
        base_url=base_url,
        policy=HostPolicy("venue", **policy),
        limits_path=limits_path,
        headers=headers,
        secrets=secrets,
        transport=transport,
        monotonic=clock,
        sleep=clock.sleep,
    )


def get(client: HttpClient, path: str = "/thing", **options: Any) -> bytes:
    return client.get_bytes(path, max_bytes=1 << 20, **options).body


class Server:
    """A loopback server that answers like `Scripted`; `ranges` are the Range headers it saw."""

    def __init__(self) -> None:
        self.answers: list[Callable[[http.server.BaseHTTPRequestHandler], None]] = [serve_file()]
        self.ranges: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.ranges.append(self.headers.get("Range"))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                with suppress(ConnectionError):  # a client that stops reading is part of the tests
                    answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def serve_file(
    body: bytes = BODY,
    etag: str | None = '"v1"',
    *,
    with_ranges: bool = True,
    cut_at: int | None = None,
    pause: float = 0.0,
) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """One file as S3 serves it; `cut_at` ends the connection after so many bytes of the body."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        start = 0
        asked = handler.headers.get("Range")
        if with_ranges and asked and handler.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if etag:
            handler.send_header("ETag", etag)
        handler.send_header("Last-Modified", "Tue, 02 Jan 2024 03:04:05 GMT")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        sent = body[start:] if cut_at is None else body[start : start + cut_at]
        for at in range(0, len(sent), 65536):
            handler.wfile.write(sent[at : at + 65536])
            time.sleep(pause)

    return answer


# What is worth a retry


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, RateLimitedError),
        (418, BannedError),
        (408, ServerFaultError),
        (425, ServerFaultError),
        (500, ServerFaultError),
        (502, ServerFaultError),
        (503, ServerFaultError),
        (404, NotFoundError),
        (400, PermanentSourceError),
        (401, PermanentSourceError),
        (403, PermanentSourceError),
        (410, PermanentSourceError),
        (451, PermanentSourceError),
        (204, UnexpectedReplyError),
        (304, UnexpectedReplyError),
    ],
)
def test_a_status_is_judged(status: int, kind: type[SourceError]) -> None:
    error = judge(httpx.Response(status), "https://venue.test/x", "why")
    assert type(error) is kind
    assert f"https://venue.test/x: {status}" in str(error)
    assert "why" in str(error)


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (httpx.ConnectError("refused"), ConnectionFaultError),
        (httpx.ReadError("reset"), ConnectionFaultError),
        (httpx.ConnectTimeout("slow"), ConnectionFaultError),
        (httpx.ReadTimeout("slow"), ConnectionFaultError),
        (httpx.RemoteProtocolError("cut short"), ConnectionFaultError),
        (httpx.DecodingError("bad gzip"), ConnectionFaultError),
        (httpx.UnsupportedProtocol("gopher"), PermanentSourceError),
        (httpx.LocalProtocolError("bad header"), PermanentSourceError),
        (httpx.TooManyRedirects("loop"), PermanentSourceError),
        (httpx.InvalidURL("no"), PermanentSourceError),
    ],
)
def test_an_exception_is_judged(cause: Exception, kind: type[SourceError]) -> None:
    error = judge(cause, "https://venue.test/x")
    assert type(error) is kind
    assert type(cause).__name__ in str(error)


def test_a_date_in_retry_after_counts_from_the_servers_own_clock() -> None:
    date = datetime(2020, 1, 1, tzinfo=UTC)
    headers = {
        "Date": format_datetime(date, usegmt=True),
        "Retry-After": format_datetime(date + timedelta(seconds=90), usegmt=True),
    }
    error = judge(httpx.Response(503, headers=headers), "u")
    assert isinstance(error, ServerFaultError)
    assert error.retry_after == 90


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("Wed, 01 Jan 2020 00:00:00 -0000", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after_is_read_or_left_alone(value: str, seconds: float | None) -> None:
    error = judge(httpx.Response(429, headers={"Retry-After": value}), "u")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == seconds


def test_a_date_in_retry_after_counts_from_now_if_the_server_tells_no_time() -> None:
    until = datetime.now(UTC) + timedelta(seconds=60)
    response = httpx.Response(429, headers={"Retry-After": format_datetime(until, usegmt=True)})
    error = judge(response, "u")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == pytest.approx(60, abs=3)


# Replies


def test_a_reply_has_its_body_headers_and_url() -> None:
    transport = Scripted(reply(body=b"abc", Cb_After="17"))
    got = client_of(transport).get_bytes("/a", params={"symbol": "X", "limit": 3}, max_bytes=3)
    assert (got.body, got.headers["CB-AFTER"]) == (b"abc", "17")
    assert got.url == "https://venue.test/a?symbol=X&limit=3"
    assert transport.requests[0].headers["User-Agent"] == f"crypto-assets/{__version__}"


def test_headers_of_one_request_are_sent_with_it_only() -> None:
    transport = Scripted(reply())
    client = client_of(transport)
    get(client, headers={"X-MBX-TIME-UNIT": "MICROSECOND"})
    get(client)
    units = [request.headers.get("X-MBX-TIME-UNIT") for request in transport.requests]
    assert units == ["MICROSECOND", None]


def test_json_numbers_are_exact() -> None:
    body = b'{"price": 0.10000000000000000001, "id": 123456789012345678901}'
    got = client_of(Scripted(reply(body=body))).get_bytes("/a", max_bytes=100).json()
    assert got == {"price": Decimal("0.10000000000000000001"), "id": 123456789012345678901}


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    got = client_of(Scripted(reply(body=body))).get_bytes("/a", max_bytes=1 << 20)
    with pytest.raises(UnexpectedReplyError, match=r"https://venue.test/a: no JSON"):
        got.json()


@pytest.mark.parametrize("declared", [{}, {"Content_Length": "11"}])
def test_a_reply_longer_than_expected_is_refused(declared: dict[str, Any]) -> None:
    client = client_of(Scripted(reply(body=b"x" * 11, **declared)))
    assert client.get_bytes("/a", max_bytes=11).body == b"x" * 11
    with pytest.raises(UnexpectedReplyError, match="longer than the 10 bytes"):
        client.get_bytes("/a", max_bytes=10)


def test_a_reply_declared_too_long_is_refused_unread() -> None:
    class Unreadable(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            pytest.fail("the body was read")

    headers = {"Content-Length": "11"}
    transport = Scripted(lambda _: httpx.Response(200, headers=headers, stream=Unreadable()))
    with pytest.raises(UnexpectedReplyError, match="longer than the 10 bytes"):
        client_of(transport).get_bytes("/a", max_bytes=10)


def test_a_body_shorter_than_declared_is_asked_for_again() -> None:
    transport = Scripted(reply(body=b"ab", Content_Length="3"), reply(body=b"abc"))
    assert get(client_of(transport)) == b"abc"
    assert len(transport.requests) == 2


def test_a_refusal_shows_the_start_of_the_body() -> None:
    body = b'{"code":-1121,"msg":"Invalid symbol."}' + b"x" * 10_000
    with pytest.raises(PermanentSourceError, match=r"400 Bad Request: .*-1121") as caught:
        get(client_of(Scripted(reply(400, body))))
    assert len(str(caught.value)) < 500


def test_a_secret_at_the_edge_of_the_excerpt_is_not_shown() -> None:
    body = b"x" * (300 - len(SECRET) // 2) + SECRET.encode()
    client = client_of(
        Scripted(reply(400, body), reply(body=body)), headers={"X-MBX-APIKEY": SECRET}
    )
    with pytest.raises(PermanentSourceError) as refused:
        get(client)
    with pytest.raises(UnexpectedReplyError) as unread:
        client.get_bytes("/a", max_bytes=1000).json()
    for caught in (refused, unread):
        assert "x***" in str(caught.value)
        assert SECRET[:4] not in str(caught.value)


@pytest.mark.parametrize("url", ["venue.test", "ftp://venue.test", "https://", ""])
def test_a_base_url_that_cannot_be_asked_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="venue: its URL must begin with http"):
        client_of(base_url=url)


def test_an_address_that_cannot_be_asked_is_permanent() -> None:
    with pytest.raises(PermanentSourceError, match="InvalidURL"):
        get(client_of(Scripted(reply())), "/a\x00b")


# Retries


def test_a_transient_fault_is_retried_with_growing_pauses() -> None:
    clock = Clock()
    fault = httpx.ConnectError("refused")
    transport = Scripted(fault, reply(500), fault, reply(502), reply(body=b"ok"))
    assert get(client_of(transport, clock=clock)) == b"ok"
    bounds = [(0.5, 1.5), (1, 2), (2, 3), (4, 5)]
    assert len(clock.slept) == 4
    assert all(low <= s <= high for s, (low, high) in zip(clock.slept, bounds, strict=True))


def test_attempts_are_limited() -> None:
    transport = Scripted(reply(500))
    with pytest.raises(ServerFaultError):
        get(client_of(transport, attempts=3))
    assert len(transport.requests) == 3


def test_a_permanent_fault_is_not_retried() -> None:
    transport = Scripted(reply(404))
    with pytest.raises(NotFoundError):
        get(client_of(transport))
    assert len(transport.requests) == 1


def test_retry_after_is_a_lower_bound() -> None:
    clock = Clock()
    transport = Scripted(reply(429, Retry_After="20"), reply(body=b"ok"))
    assert get(client_of(transport, clock=clock)) == b"ok"
    assert 20 <= sum(clock.slept) <= 21


@pytest.mark.parametrize("status", [429, 418, 503])
def test_a_pause_beyond_patience_is_left_to_the_caller(status: int) -> None:
    clock = Clock()
    transport = Scripted(reply(status, Retry_After="1000"))
    with pytest.raises(TransientSourceError) as caught:
        get(client_of(transport, clock=clock, patience=100))
    assert caught.value.retry_after == 1000
    assert (len(transport.requests), clock.slept) == (1, [])


def test_patience_bounds_all_pauses_of_a_call_together() -> None:
    clock = Clock()
    transport = Scripted(reply(503, Retry_After="30"))
    with pytest.raises(ServerFaultError):
        get(client_of(transport, clock=clock, patience=70))
    assert len(transport.requests) == 3
    assert sum(clock.slept) <= 70


def test_a_short_ban_is_waited_out() -> None:
    clock = Clock()
    transport = Scripted(reply(418, Retry_After="60"), reply(body=b"ok"))
    assert get(client_of(transport, clock=clock)) == b"ok"
    assert sum(clock.slept) >= 60


def test_a_banned_host_is_not_asked_again_by_anyone_until_the_ban_ends() -> None:
    clock = Clock()
    transport = Scripted(reply(418), reply(body=b"ok"))
    client = client_of(transport, clock=clock, patience=100)
    for _ in range(2):
        with pytest.raises(BannedError) as caught:
            get(client)
    assert caught.value.retry_after == pytest.approx(120)
    assert len(transport.requests) == 1
    clock.now += 60
    assert get(client) == b"ok"
    assert clock.now >= 1000 + 120


def test_a_pause_that_one_call_was_asked_for_holds_for_all() -> None:
    clock = Clock()
    transport = Scripted(reply(429, Retry_After="50"), reply(body=b"ok"))
    client = client_of(transport, clock=clock, attempts=1)
    with pytest.raises(RateLimitedError):
        get(client)
    assert get(client) == b"ok"
    assert clock.now >= 1000 + 50


def test_a_retry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    get(client_of(Scripted(reply(503), reply())))
    assert "https://venue.test/thing: 503" in caplog.text


# Weight that the host counts itself


def test_a_host_whose_weight_is_nearly_used_is_left_alone_until_its_next_minute() -> None:
    clock = Clock()
    nearly = reply(X_MBX_USED_WEIGHT_1M="5400", Date="Tue, 02 Jan 2024 03:04:48 GMT")
    transport = Scripted(reply(X_MBX_USED_WEIGHT_1M="5399"), nearly, reply())
    client = client_of(transport, clock=clock, used_weight=("X-MBX-USED-WEIGHT-1M", 5400))
    get(client)
    get(client)
    assert clock.slept == []
    get(client)
    assert 12 <= sum(clock.slept) <= 13


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    clock = Clock()
    busy = reply(429, Retry_After="1", X_Used="100", Date="Tue, 02 Jan 2024 03:04:48 GMT")
    client = client_of(Scripted(busy, reply()), clock=clock, used_weight=("X-Used", 100))
    get(client)
    assert 12 <= sum(clock.slept) <= 14


def test_without_patience_a_used_up_weight_is_an_error() -> None:
    transport = Scripted(reply(X_Used="100"))
    client = client_of(transport, used_weight=("X-Used", 100), patience=0)
    get(client)
    with pytest.raises(RateLimitedError, match="X-Used is 100"):
        get(client)
    assert len(transport.requests) == 1


# Circuit


def test_the_circuit_opens_then_probes_then_closes() -> None:
    clock = Clock()
    transport = Scripted(*[reply(500)] * 4, reply(body=b"ok"))
    client = client_of(
        transport, clock=clock, attempts=1, patience=0, circuit_threshold=3, cool_down=10
    )
    for _ in range(3):
        with pytest.raises(ServerFaultError):
            get(client)
    clock.now += 4
    with pytest.raises(CircuitOpenError, match=r"3 requests in a row failed.*500") as caught:
        get(client)
    assert caught.value.retry_after == pytest.approx(6)
    assert len(transport.requests) == 3

    clock.now += 6
    with pytest.raises(ServerFaultError):  # the probe fails, and the circuit is open again
        get(client)
    with pytest.raises(CircuitOpenError):
        get(client)
    assert len(transport.requests) == 4

    clock.now += 10
    assert [get(client), get(client)] == [b"ok", b"ok"]


def test_a_call_waits_out_an_open_circuit_within_its_patience() -> None:
    clock = Clock()
    transport = Scripted(reply(500), reply(500), reply(body=b"ok"))
    assert get(client_of(transport, clock=clock, circuit_threshold=2, cool_down=30)) == b"ok"
    assert 30 <= sum(clock.slept) <= 33


def test_any_answer_of_the_host_breaks_the_row_of_failures() -> None:
    transport = Scripted(reply(500), reply(404), reply(500), reply(404))
    client = client_of(transport, attempts=1, patience=0, circuit_threshold=2)
    for kind in (ServerFaultError, NotFoundError) * 2:
        with pytest.raises(kind):
            get(client)


def test_one_probe_goes_ahead_of_all_threads() -> None:
    clock = Clock()
    arrived, release = threading.Event(), threading.Event()

    def slow(_: httpx.Request) -> httpx.Response:
        arrived.set()
        assert release.wait(10)
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))

    transport = Scripted(reply(500), slow)
    client = client_of(transport, clock=clock, attempts=1, patience=0, circuit_threshold=1)
    with pytest.raises(ServerFaultError):
        get(client)
    clock.now += 15
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(get, client)
        assert arrived.wait(10)
        with pytest.raises(CircuitOpenError, match="one request probes") as caught:
            get(client)
        assert caught.value.retry_after == 1
        release.set()
        assert probe.result(10) == b"ok"
    assert get(client) == b"ok"
    assert len(transport.requests) == 3


def test_a_probe_that_ends_in_a_fault_of_ours_frees_its_place() -> None:
    clock = Clock()
    transport = Scripted(reply(500), RuntimeError("a bug"), reply(body=b"ok"))
    client = client_of(transport, clock=clock, attempts=1, patience=0, circuit_threshold=1)
    with pytest.raises(ServerFaultError):
        get(client)
    clock.now += 15
    with pytest.raises(RuntimeError, match="a bug"):
        get(client)
    assert get(client) == b"ok"


# Cancelling


def test_cancel_ends_a_pause_of_another_thread() -> None:
    transport = Scripted(reply(503, Retry_After="60"))
    client = HttpClient(
        base_url="https://venue.test",
        policy=HostPolicy("venue"),
        limits_path=None,
        transport=transport,
    )
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(get, client)
        while not transport.requests:
            time.sleep(0.005)
        client.cancel()
        with pytest.raises(TransientSourceError, match="cancelled"):
            call.result(5)
    with pytest.raises(TransientSourceError, match="venue: cancelled"):
        get(client)
    assert len(transport.requests) == 1


def test_cancel_ends_a_wait_for_weight() -> None:
    client = HttpClient(
        base_url="https://venue.test",
        policy=HostPolicy("venue", limits=((1, 60.0),)),
        limits_path=None,
        transport=Scripted(reply()),
    )
    get(client)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(get, client)
        time.sleep(0.05)
        client.cancel()
        with pytest.raises(TransientSourceError, match="cancelled"):
            call.result(5)


def test_cancel_ends_a_download_and_keeps_its_part(server: Server, tmp_path: Path) -> None:
    server.answers = [serve_file(pause=0.1)]
    target, part = tmp_path / "x.zip", tmp_path / "x.zip.part"
    with client_of(base_url=server.url) as client, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.download, "/x", target, max_bytes=1 << 30) for _ in range(2)]
        while not part.exists() or not part.stat().st_size:
            time.sleep(0.005)
        client.cancel()
        for call in calls:  # one is in the body, the other waits for its turn
            with pytest.raises(TransientSourceError, match="cancelled"):
                call.result(5)
    assert part.stat().st_size < len(BODY)


# Redirects, origins and secrets


def test_a_redirect_is_followed_and_gets_no_secret_elsewhere() -> None:
    transport = Scripted(
        reply(302, Location="/other"), reply(302, Location="https://cdn.test/x"), reply(body=b"ok")
    )
    assert get(client_of(transport, headers={"X-MBX-APIKEY": SECRET})) == b"ok"
    keys = [request.headers.get("X-MBX-APIKEY") for request in transport.requests]
    assert keys == [SECRET, SECRET, None]


@pytest.mark.parametrize("location", ["http://venue.test/x", "ftp://venue.test/x"])
def test_a_redirect_out_of_tls_is_refused(location: str) -> None:
    transport = Scripted(reply(301, Location=location))
    with pytest.raises(PermanentSourceError, match=r"redirected to .*, which is not followed"):
        get(client_of(transport))
    assert len(transport.requests) == 1


def test_a_plain_host_may_redirect_to_tls_but_not_to_another_scheme() -> None:
    transport = Scripted(reply(301, Location="https://venue.test/x"), reply(body=b"ok"))
    assert get(client_of(transport, base_url="http://venue.test")) == b"ok"
    with pytest.raises(PermanentSourceError, match="not followed"):
        get(client_of(Scripted(reply(301, Location="ftp://x/y")), base_url="http://venue.test"))


def test_a_redirect_loop_is_permanent() -> None:
    with pytest.raises(PermanentSourceError, match="TooManyRedirects"):
        get(client_of(Scripted(reply(302, Location="/thing"))))


@pytest.mark.parametrize(
    "answer",
    [
        reply(400, body=f"bad key {SECRET}".encode()),
        reply(503, body=SECRET.encode()),
        reply(301, Location=f"http://elsewhere.test/?api_key={SECRET}"),
        httpx.ConnectError("refused"),
    ],
)
def test_no_secret_is_shown(answer: Any) -> None:
    client = client_of(
        Scripted(answer),
        base_url="https://user:pass-word@venue.test/v3/path-key-2",
        headers={"X-MBX-APIKEY": SECRET},
        secrets=("path-key", "path-key-2", "sl/ash"),
    )
    with pytest.raises(SourceError) as caught:
        get(client, params={"symbol": "X", "signature": "sig-nature", "echo": "sl/ash"})
    for text in (str(caught.value), repr(caught.value), repr(client), client.url("/a?token=t0ken")):
        assert "venue.test" in text
        for secret in (SECRET, "pass-word", "path-key", "sig-nature", "t0ken", "ash"):
            assert secret not in text
    assert client.url("/a") == "https://venue.test/v3/***/a"


@pytest.mark.parametrize("value", [f"{SECRET}\n", f" {SECRET}", f"{SECRET}\x00", f"{SECRET}é"])
def test_a_header_that_cannot_be_sent_is_refused_unseen(value: str) -> None:
    with pytest.raises(SettingsError, match="X-MBX-APIKEY") as caught:
        client_of(headers={"X-MBX-APIKEY": value})
    assert SECRET not in str(caught.value)


# Sockets


def test_threads_share_one_client(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "limits.sqlite"
    client = client_of(base_url=server.url, limits=((1000, 1.0),), limits_path=path)
    with client, ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: client.get_bytes("/x", max_bytes=1 << 30), range(80)):
            assert got.body == BODY


def test_a_body_cut_short_on_the_wire_is_asked_for_again(server: Server) -> None:
    server.answers = [serve_file(cut_at=1000), serve_file(cut_at=0), serve_file()]
    with client_of(base_url=server.url) as client:
        assert client.get_bytes("/x", max_bytes=1 << 30).body == BODY
    assert len(server.ranges) == 3


def test_a_closed_port_is_a_connection_fault(server: Server) -> None:
    server.http.socket.close()
    with (
        client_of(base_url=server.url, attempts=2) as client,
        pytest.raises(ConnectionFaultError, match="ConnectError"),
    ):
        get(client)


def test_silence_is_a_connection_fault(server: Server) -> None:
    done = threading.Event()
    server.answers = [lambda _: assert_set(done)]
    with client_of(base_url=server.url, attempts=1, read_timeout=0.05) as client:
        with pytest.raises(ConnectionFaultError, match="ReadTimeout"):
            get(client)
        done.set()


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def test_a_reply_that_trickles_is_ended(server: Server) -> None:
    server.answers = [serve_file(pause=0.02)]
    client = HttpClient(
        base_url=server.url,
        policy=HostPolicy("venue", attempts=1, reply_timeout=0.05),
        limits_path=None,
    )
    with client, pytest.raises(ConnectionFaultError, match="not done after"):
        client.get_bytes("/x", max_bytes=1 << 30)


def test_a_certificate_that_does_not_verify_is_permanent(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="needed to make a certificate")
    server.http.socket = _self_signed(tmp_path).wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with (
        client_of(base_url=url) as client,
        pytest.raises(PermanentSourceError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        get(client)
    assert server.ranges == []


def _self_signed(folder: Path) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.pem").write_bytes(pem + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


# Downloads


def test_a_download_is_whole_and_described(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.zip"
    with client_of(base_url=server.url) as client:
        got = client.download("/x.zip", target, max_bytes=len(BODY), expect=b"PK")
    assert target.read_bytes() == BODY
    assert (got.url, got.sha256, got.bytes) == (f"{server.url}/x.zip", SHA256, len(BODY))
    assert (got.etag, got.last_modified) == ('"v1"', "Tue, 02 Jan 2024 03:04:05 GMT")
    assert not list(target.parent.glob("*.part*"))


def test_a_download_cut_short_is_resumed_and_equal(server: Server, tmp_path: Path) -> None:
    server.answers = [serve_file(cut_at=300_000), serve_file(cut_at=400_000), serve_file()]
    with client_of(base_url=server.url) as client:
        got = client.download("/x", tmp_path / "x", max_bytes=len(BODY))
    assert (got.sha256, got.bytes) == (SHA256, len(BODY))
    assert (tmp_path / "x").read_bytes() == BODY
    assert server.ranges == [None, "bytes=299999-", "bytes=699998-"]


def test_a_killed_download_is_resumed_by_the_next_process(server: Server, tmp_path: Path) -> None:
    server.answers = [serve_file(pause=0.05)]
    target, part = tmp_path / "x", tmp_path / "x.part"
    killed = subprocess.Popen([sys.executable, "-c", _DOWNLOAD, server.url, target])
    try:
        while not part.exists() or part.stat().st_size < 100_000:
            assert killed.poll() is None
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.wait()
    at_hand = part.stat().st_size
    assert not target.exists()

    server.answers = [serve_file()]
    with client_of(base_url=server.url) as client:
        assert client.download("/x", target, max_bytes=1 << 30).sha256 == SHA256
    assert server.ranges == [None, f"bytes={at_hand - 1}-"]


_DOWNLOAD = """
import sys, pathlib
from crypto_assets.sources.http import HostPolicy, HttpClient
client = HttpClient(base_url=sys.argv[1], policy=HostPolicy("venue"), limits_path=None)
client.download("/x", pathlib.Path(sys.argv[2]), max_bytes=1 << 30)
"""


def leave_part(server: Server, target: Path, cut_at: int, etag: str | None = '"v1"') -> None:
    """What an attempt on another version of the file left behind."""
    server.answers = [serve_file(body=b"PK" + b"old" * 400_000, etag=etag, cut_at=cut_at)]
    with client_of(base_url=server.url, attempts=1) as client, pytest.raises(ConnectionFaultError):
        client.download("/x", target, max_bytes=1 << 30)
    server.ranges.clear()


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        ('"v0"', serve_file(), "bytes=299999-"),  # changed: If-Range makes it start again
        ('"v1"', serve_file(with_ranges=False), "bytes=299999-"),
        ('W/"v1"', serve_file(etag='W/"v1"'), None),  # a weak ETag promises no equal bytes
        (None, serve_file(etag=None), None),
    ],
)
def test_a_part_of_unknown_content_is_not_continued(
    server: Server,
    tmp_path: Path,
    old: str | None,
    new: Callable[[http.server.BaseHTTPRequestHandler], None],
    asked: str | None,
) -> None:
    leave_part(server, tmp_path / "x", 300_000, old)
    server.answers = [new]
    with client_of(base_url=server.url) as client:
        assert client.download("/x", tmp_path / "x", max_bytes=1 << 30).sha256 == SHA256
    assert server.ranges == [asked]


@pytest.mark.parametrize(
    "wrong",
    [
        reply(206, ETag='"v2"', Content_Range="bytes 299999-1199999/1200000"),
        reply(206, ETag='"v1"', Content_Range="bytes 0-9/1200000"),
        reply(206, ETag='"v1"'),
        reply(416, Content_Range="bytes */10"),
    ],
)
def test_a_wrong_answer_to_a_resume_starts_again(
    server: Server, tmp_path: Path, wrong: Callable[[httpx.Request], httpx.Response]
) -> None:
    leave_part(server, tmp_path / "x", 300_000)
    transport = Scripted(wrong, reply(body=BODY))
    got = client_of(transport).download("/x", tmp_path / "x", max_bytes=1 << 30)
    assert got.sha256 == SHA256
    ranges = [request.headers.get("Range") for request in transport.requests]
    assert ranges == ["bytes=299999-", None]


def test_a_resumed_range_that_ends_early_is_resumed_again(server: Server, tmp_path: Path) -> None:
    leave_part(server, tmp_path / "x", 300_000)
    half = reply(206, b"o" * 10, ETag='"v1"', Content_Range="bytes 299999-300008/1200002")
    transport = Scripted(half, reply(404))
    with pytest.raises(NotFoundError):
        client_of(transport).download("/x", tmp_path / "x", max_bytes=1 << 30)
    assert transport.requests[1].headers["Range"] == "bytes=300008-"


def test_a_whole_part_that_lacks_only_its_renaming_is_confirmed(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "x.part").write_bytes(BODY)
    (tmp_path / "x.part.etag").write_text('"v1"')
    with client_of(base_url=server.url) as client:
        assert client.download("/x", tmp_path / "x", max_bytes=1 << 30).sha256 == SHA256
    assert server.ranges == [f"bytes={len(BODY) - 1}-"]


@pytest.mark.parametrize("body", [b"<html>", b"P", b""])
def test_an_unexpected_beginning_is_refused_and_forgotten(tmp_path: Path, body: bytes) -> None:
    transport = Scripted(reply(body=body))
    with pytest.raises(UnexpectedReplyError, match="begins with"):
        client_of(transport).download("/x", tmp_path / "x", max_bytes=100, expect=b"PK")
    assert len(transport.requests) == 1
    assert not list(tmp_path.glob("x.part*"))


@pytest.mark.parametrize("declared", [{}, {"Content_Length": "11"}])
def test_a_download_longer_than_expected_is_refused(
    tmp_path: Path, declared: dict[str, Any]
) -> None:
    client = client_of(Scripted(reply(body=b"x" * 11, **declared)))
    with pytest.raises(UnexpectedReplyError, match="longer than the 10 bytes"):
        client.download("/x", tmp_path / "x", max_bytes=10)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


def test_a_missing_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        client_of(Scripted(reply(404))).download("/x", tmp_path / "x", max_bytes=10)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


def test_two_downloads_to_one_target_take_turns(server: Server, tmp_path: Path) -> None:
    server.answers = [serve_file(pause=0.005)]
    with client_of(base_url=server.url) as client, ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(client.download, "/x", tmp_path / "x", max_bytes=1 << 30) for _ in range(2)
        ]
        assert {call.result(10).sha256 for call in calls} == {SHA256}
    assert server.ranges == [None, None]
    assert (tmp_path / "x").read_bytes() == BODY


def test_memory_does_not_grow_with_the_file(server: Server, tmp_path: Path) -> None:
    size = 24 << 20
    server.answers = [serve_file(body=bytes(size))]
    with client_of(base_url=server.url) as client:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        assert client.download("/x", tmp_path / "x", max_bytes=size).bytes == size
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    assert peak < 4 << 20


# Disks that refuse


def test_a_write_that_the_disk_refuses_names_the_path(server: Server, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    ended = subprocess.run(
        [sys.executable, "-c", limited + _DOWNLOAD, server.url, tmp_path / "x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "StorageError: cannot write" in ended.stderr
    assert f"{tmp_path / 'x'}.part: [Errno 27]" in ended.stderr
    assert not (tmp_path / "x").exists()
    assert len(server.ranges) == 1


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    transport = Scripted(reply())
    with pytest.raises(StorageError, match=r"cannot write .*/file/x"):
        client_of(transport).download("/x", tmp_path / "file" / "x", max_bytes=10)
    assert transport.requests == []


# Weight


@pytest.mark.parametrize("in_file", ["limits.sqlite", None])
def test_requests_wait_for_their_weight(tmp_path: Path, in_file: str | None) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        raise InterruptedError

    client = HttpClient(
        base_url="https://venue.test",
        policy=HostPolicy("venue", limits=((10, 60.0),)),
        limits_path=tmp_path / in_file if in_file else None,
        transport=Scripted(reply()),
        sleep=sleep,
    )
    with client:
        get(client, weight=4)
        client.download("/x", tmp_path / "x", max_bytes=10, weight=6)
        with pytest.raises(InterruptedError):
            get(client)
    assert waits == [pytest.approx(60, abs=2)]


def test_a_closed_gate_costs_no_weight() -> None:
    client = client_of(
        Scripted(reply(500)), limits=((1, 60.0),), attempts=1, patience=0, circuit_threshold=1
    )
    with pytest.raises(ServerFaultError):
        get(client)
    with pytest.raises(CircuitOpenError):  # at once, although the weight is used up
        get(client)
