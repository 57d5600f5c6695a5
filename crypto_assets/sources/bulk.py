"""An httpx transport for large replies, over the standard library's HTTP client.

httpx's own spends four times as much CPU on bodies of megabytes (370 MB: 0.5 s against 0.1 s),
because it reads 64 kB at a time through a parser in Python. This one is HTTP/1.1 with keep-alive,
as many connections as there are threads, and no proxies: `bulk_transport` gives None, upon which
httpx takes its own, where the environment names one.
"""

from __future__ import annotations

import http.client
import select
import ssl
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import httpx

# Most replies in one piece, which is read where it stays: nothing of it is copied.
_READ = 1 << 24
_PORTS = {"http": 80, "https": 443}
_Origin = tuple[str, str, int]


def bulk_transport() -> httpx.BaseTransport | None:
    """The transport, unless a proxy is set, which only httpx's own transport can use."""
    return None if urllib.request.getproxies() else BulkTransport()


class BulkTransport(httpx.BaseTransport):
    """Safe to share among threads; raises httpx's errors."""

    def __init__(self) -> None:
        self._idle: dict[_Origin, list[http.client.HTTPConnection]] = defaultdict(list)
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the body of the reply is read as it is asked for."""
        url, content = request.url, request.read()
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"{url.scheme} is neither http nor https")
        origin = (url.scheme, url.host, url.port or _PORTS[url.scheme])
        timeouts = request.extensions.get("timeout", {})
        connection = self._connected(origin, timeouts.get("connect"))
        try:
            with _faults(httpx.ReadTimeout, httpx.ReadError):
                if connection.sock is not None:
                    connection.sock.settimeout(timeouts.get("read"))
                target = url.raw_path.decode("ascii")
                connection.putrequest(
                    request.method, target, skip_host=True, skip_accept_encoding=True
                )
                for name, value in request.headers.raw:
                    connection.putheader(name, value)
                connection.endheaders(content)
                response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return httpx.Response(
            response.status,
            headers=response.getheaders(),
            stream=_Body(self, origin, connection, response),
            extensions={"reason_phrase": response.reason.encode()},
        )

    def close(self) -> None:
        """Close the connections that nobody uses; the others close when their reply is read."""
        with self._lock:
            idle, self._idle = self._idle, defaultdict(list)
        for connection in (one for connections in idle.values() for one in connections):
            connection.close()

    def give_back(self, origin: _Origin, connection: http.client.HTTPConnection) -> None:
        """Keep a connection, whose reply was read to its end, for the next request."""
        with self._lock:
            self._idle[origin].append(connection)

    def _connected(self, origin: _Origin, timeout: float | None) -> http.client.HTTPConnection:
        while (kept := self._take(origin)) is not None:
            if not _has_ended(kept):
                return kept
            kept.close()
        scheme, host, port = origin
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
            if scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        with _faults(httpx.ConnectTimeout, httpx.ConnectError):
            connection.connect()
        return connection

    def _take(self, origin: _Origin) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle[origin]
            return idle.pop() if idle else None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()


class _Body(httpx.SyncByteStream):
    def __init__(
        self,
        transport: BulkTransport,
        origin: _Origin,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
    ) -> None:
        self._transport, self._origin = transport, origin
        self._connection, self._response = connection, response
        self._is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        with _faults(httpx.ReadTimeout, httpx.ReadError):
            while chunk := self._response.read(_READ):
                yield chunk
        # A body that was cut short is shorter than its Content-Length, which `HttpClient` checks.
        self._is_whole = not self._response.length

    def close(self) -> None:
        self._response.close()
        if self._is_whole and not self._response.will_close:
            self._transport.give_back(self._origin, self._connection)
        else:
            self._connection.close()


@contextmanager
def _faults(
    timed_out: type[httpx.TransportError], broken: type[httpx.TransportError]
) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timed_out(str(error)) from error
    except OSError as error:
        raise broken(str(error)) from error
    except http.client.HTTPException as error:
        raise httpx.RemoteProtocolError(repr(error)) from error


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the host has closed a connection on which nothing is asked: it can be read then."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
