"""The one HTTP client that every source uses: rate limit, retries, circuit, verified downloads.

What a reply means is the caller's business; here lives only what is true of every host. All faults
leave as errors of `crypto_assets.errors`, and `judge` alone decides which of them time heals.
Tests and the sandbox plug in at the httpx transport, so they run this client as it is.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import httpx
from filelock import FileLock, Timeout
from tenacity import RetryCallState, Retrying, retry_if_exception

from crypto_assets import __version__
from crypto_assets.errors import (
    ConnectionFaultError,
    PermanentSourceError,
    RateLimitedError,
    SettingsError,
    SourceError,
    TransientSourceError,
    UnexpectedReplyError,
)
from crypto_assets.sources.pacing import Gate, HostPolicy, WeightLimit, pause_before_retry
from crypto_assets.sources.partial import Partial, unwritable
from crypto_assets.sources.verdict import instant, judge

_EXCERPT_BYTES = 300
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&]*(?:key|token|secret|signature|password)[^=&]*)=[^&]*", re.IGNORECASE
)

__all__ = ["Download", "HostPolicy", "HttpClient", "Reply", "judge"]

_log = logging.getLogger(__name__)
_concealed: set[str] = set()
"""Secrets of all clients of this process."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Reply:
    """A whole reply in memory; `headers` ignore case.

    `url` and `excerpt`, the start of the body as text, show no secret: they are for messages.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    excerpt: str

    def json(self) -> Any:
        """The body with every number exact: int or Decimal. Raises UnexpectedReplyError."""
        try:
            return json.loads(self.body, parse_float=Decimal, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise UnexpectedReplyError(f"{self.url}: no JSON ({error}): {self.excerpt}") from error


@dataclass(frozen=True)
class Download:
    """A finished download: what a proof says of its source, and Last-Modified."""

    url: str
    sha256: str
    bytes: int
    etag: str | None
    last_modified: str | None


class HttpClient:
    """Asks one host. Share one among all threads, and close it after they are done.

    `headers` go to the origin of `base_url` only, never along with a redirect elsewhere. Their
    values and `secrets` never appear in an error. `limits_path` is the file through which all
    processes stay within the limits together; without it the limits hold for this client alone.
    """

    def __init__(
        self,
        *,
        base_url: str,
        policy: HostPolicy,
        limits_path: Path | None,
        headers: Mapping[str, str] | None = None,
        secrets: Collection[str] = (),
        transport: httpx.BaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        if not re.match(r"https?://[^/]", base_url):
            raise SettingsError(f"{policy.name}: its URL must begin with http:// or https://")
        self.policy = policy
        self._own_headers = dict(headers or {})
        for name, value in self._own_headers.items():
            # httpx and h11 would show the value in their own message.
            if not (value.isascii() and value.isprintable() and value == value.strip()):
                raise SettingsError(f"{policy.name}: header {name} must be plain text on one line")
        hidden = {text for text in (*secrets, *self._own_headers.values()) if text}
        hidden |= {quote(text, safe="") for text in hidden}
        self._secrets = sorted(hidden, key=len, reverse=True)
        _concealed.update(hidden)
        self._cancelled = threading.Event()
        self._monotonic = monotonic
        self._sleep = sleep or self._cancelled.wait
        self._gate = Gate(policy, monotonic)
        self._limit = WeightLimit(policy, limits_path) if policy.limits else None
        self._client = httpx.Client(
            base_url=base_url,
            headers={"User-Agent": f"crypto-assets/{__version__}"},
            timeout=httpx.Timeout(policy.read_timeout, connect=policy.connect_timeout),
            transport=transport,
            follow_redirects=True,
            event_hooks={"request": [self._prepare_hop]},
        )

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HttpClient({self.policy.name!r}, {self._shown(self._client.base_url)!r})"

    def cancel(self) -> None:
        """End every call of every thread at its next pause or chunk, as TransientSourceError."""
        self._cancelled.set()

    def close(self) -> None:
        """Cancel, and give connections and files back."""
        self.cancel()
        self._client.close()
        if self._limit:
            self._limit.close()

    def url(self, path: str) -> str:
        """The whole URL of a path, as messages and proofs show it: without secrets."""
        return self._shown(self._client.build_request("GET", path).url)

    def redacted(self, text: str) -> str:
        """A text without the secrets in it."""
        return _without(text, self._secrets)

    def get_bytes(
        self,
        path: str,
        *,
        max_bytes: int,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        weight: int = 1,
        check: Callable[[Reply], object] = lambda _: None,
    ) -> Reply:
        """The whole reply in memory: a page of an API, a small document.

        `check` may raise for a body that is a refusal though its status is 200; what is transient
        of it is asked for again.
        """

        def ask() -> Reply:
            with self._exchange(path, params, headers) as (response, url):
                if response.status_code != 200:
                    raise self._refusal(response, url)
                reply = self._whole(response, url, max_bytes)
            check(reply)
            return reply

        return self._retried(ask, weight)

    def post_bytes(
        self,
        path: str,
        content: bytes,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        weight: int = 1,
        check: Callable[[Reply], object] = lambda _: None,
    ) -> Reply:
        """The whole reply to a question that may be asked again, such as a read over JSON-RPC.

        `check` is given refusals too, since their bodies may say more than their status does; what
        it lets pass is then judged by its status, unless it returns true: an answer is an answer.
        Only "slow down" is never a matter of the body.
        """

        def ask() -> Reply:
            with self._exchange(path, None, headers, content) as (response, url):
                if response.status_code in (418, 429):
                    raise self._refusal(response, url)
                reply = self._whole(response, url, max_bytes)
                if not check(reply) and reply.status != 200:
                    raise judge(response, url, reply.excerpt)
            return reply

        return self._retried(ask, weight)

    def download(
        self, path: str, target: Path, *, max_bytes: int, weight: int = 1, expect: bytes = b""
    ) -> Download:
        """Stream a file to `target`, which appears only once it is whole.

        An attempt that ends early leaves `<target>.part` and, written before it, the ETag it
        belongs to. The next attempt, in this process or a later one, continues if the host still
        has that ETag and starts again if not. `expect` are the bytes that the file must begin
        with (b"PK": an archive, not an error page). Downloads to one target take turns, by the
        lock in `<target>.lock`, which stays.
        """
        partial = Partial(target)

        def ask() -> Download:
            offset, known_etag = partial.resume_point()
            asked = {"Accept-Encoding": "identity"}
            if offset:
                asked |= {"Range": f"bytes={offset}-", "If-Range": known_etag}
            with self._exchange(path, None, asked) as (response, url):
                etag = response.headers.get("ETag")
                if response.status_code == 200:
                    offset, total = 0, None
                elif offset and response.status_code in (206, 416):
                    total = _total_if_resumed(response, offset)
                    if total is None or etag != known_etag:
                        partial.discard()
                        raise ConnectionFaultError(f"{url}: changed during the download")
                else:
                    raise self._refusal(response, url)
                chunks = self._chunks(response, url, response.iter_raw(), max_bytes, offset)
                checked = chunks if offset else _beginning(chunks, url, expect)
                try:
                    size, sha256 = partial.fill(offset, etag, checked)
                except UnexpectedReplyError:
                    partial.discard()
                    raise
                if total not in (None, size):
                    raise ConnectionFaultError(f"{url}: ended after {size} of {total} bytes")
                partial.finish()
                return Download(url, sha256, size, etag, response.headers.get("Last-Modified"))

        with self._turn(target):
            return self._retried(ask, weight)

    def _retried(self, ask: Callable[[], _T], weight: int) -> _T:
        """Ask until it works, may not be repeated, or attempts or patience are used up.

        A request that the gate held back was not an attempt: it costs patience only.
        """
        attempts = 0

        def once() -> _T:
            nonlocal attempts
            self._stop_if_cancelled()
            self._gate.check()
            if self._limit:
                self._limit.take(weight, self._pause)
            with self._gate.passage():
                attempts += 1
                return ask()

        def is_over(state: RetryCallState) -> bool:
            waited = state.idle_for + state.upcoming_sleep
            return attempts >= self.policy.attempts or waited > self.policy.patience

        retrying = Retrying(
            retry=retry_if_exception(
                lambda error: (
                    isinstance(error, TransientSourceError) and not self._cancelled.is_set()
                )
            ),
            wait=pause_before_retry,
            stop=is_over,
            sleep=self._pause,
            before_sleep=_log_retry,
            reraise=True,
        )
        return retrying(once)

    @contextmanager
    def _exchange(
        self,
        path: str,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None = None,
    ) -> Iterator[tuple[httpx.Response, str]]:
        """One request and its reply, read by the caller; faults of either leave judged."""
        url, method = self.redacted(path), "GET" if content is None else "POST"
        try:
            request = self._client.build_request(
                method, path, params=params, headers=headers, content=content
            )
            url = self._shown(request.url)
            response = self._client.send(request, stream=True)
            try:
                self._heed_used_weight(response)
                yield response, url
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = self.redacted(str(error))
            raise judge(error, url, said) from (error if said == str(error) else None)

    def _whole(self, response: httpx.Response, url: str, max_bytes: int) -> Reply:
        body = b"".join(self._chunks(response, url, response.iter_bytes(), max_bytes))
        return Reply(url, response.status_code, response.headers, body, self._excerpt(body))

    def _chunks(
        self,
        response: httpx.Response,
        url: str,
        stream: Iterator[bytes],
        max_bytes: int,
        offset: int = 0,
    ) -> Iterator[bytes]:
        """The body, proven as long as its Content-Length says and no longer than `max_bytes`."""
        declared = int(response.headers.get("Content-Length", 0))
        too_long = UnexpectedReplyError(f"{url}: longer than the {max_bytes} bytes expected here")
        if offset + declared > max_bytes:
            raise too_long
        deadline, size = self._monotonic() + self.policy.reply_timeout, offset
        for chunk in stream:
            self._stop_if_cancelled()
            size += len(chunk)
            if size > max_bytes:
                raise too_long
            yield chunk
            if self._monotonic() > deadline:
                raise ConnectionFaultError(
                    f"{url}: not done after {self.policy.reply_timeout:.0f} s"
                )
        # httpx's own transport checks this, one that works in memory need not.
        if response.num_bytes_downloaded < declared:
            raise ConnectionFaultError(
                f"{url}: body cut short, {response.num_bytes_downloaded} of {declared} bytes"
            )

    def _refusal(self, response: httpx.Response, url: str) -> SourceError:
        body = b""
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) >= 2 * _EXCERPT_BYTES:
                break
        return judge(response, url, self._excerpt(body))

    def _excerpt(self, body: bytes) -> str:
        # Redacted before it is cut, lest the cut go through a secret and hide it from redaction.
        text = self.redacted(body[: 2 * _EXCERPT_BYTES].decode(errors="replace"))
        return text[:_EXCERPT_BYTES].strip()

    def _prepare_hop(self, request: httpx.Request) -> None:
        """Run by httpx before every hop: httpx alone would redirect an API key anywhere."""
        base, url = self._client.base_url, request.url
        if url.scheme not in ({"https"} if base.scheme == "https" else {"http", "https"}):
            raise PermanentSourceError(
                f"{self._shown(base)}: redirected to {self._shown(url)}, which is not followed"
            )
        if (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port):
            request.headers.update(self._own_headers)
        else:
            for name in self._own_headers:
                request.headers.pop(name, None)

    def _heed_used_weight(self, response: httpx.Response) -> None:
        """Wait for the host's next minute once others on this address have used up most of it."""
        name, most = self.policy.used_weight or ("", 0)
        used = response.headers.get(name, "")
        if used.isdecimal() and int(used) >= most:
            now = instant(response.headers.get("Date")) or datetime.now(UTC)
            reason = f"{name} is {used}"
            self._gate.hold(60.0 - now.second, RateLimitedError, reason)

    @contextmanager
    def _turn(self, target: Path) -> Iterator[None]:
        lock = FileLock(f"{target}.lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(cancel_check=self._cancelled.is_set)
        except Timeout as error:  # only a cancel ends this wait
            raise self._cancellation() from error
        except OSError as error:
            raise unwritable(target, error) from error
        try:
            yield
        finally:
            lock.release()

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        self._stop_if_cancelled()

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise self._cancellation()

    def _cancellation(self) -> TransientSourceError:
        return TransientSourceError(f"{self.policy.name}: cancelled; run again to continue")

    def _shown(self, url: httpx.URL) -> str:
        return self.redacted(_SECRET_PARAMETER.sub(r"\1=***", str(url.copy_with(userinfo=b""))))


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _conceal(record: logging.LogRecord) -> bool:
    """A filter of httpx's own log, where every URL is written out."""
    text = _without(record.getMessage(), sorted(_concealed, key=len, reverse=True))
    record.msg, record.args = text, ()
    return True


logging.getLogger("httpx").addFilter(_conceal)


def _beginning(chunks: Iterator[bytes], url: str, expect: bytes) -> Iterator[bytes]:
    """The same chunks, which together must begin with `expect`."""
    start = b""
    for chunk in chunks:
        start += chunk[: len(expect) - len(start)]
        if not expect.startswith(start):
            break
        yield chunk
    if start != expect:
        raise UnexpectedReplyError(f"{url}: begins with {start!r}, not {expect!r}")


def _total_if_resumed(response: httpx.Response, offset: int) -> int | None:
    """The size of the whole file, if the reply goes on exactly at `offset`."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    return int(found[2]) if found and int(found[1]) == offset else None


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("%s (asking again in %.1f s)", error, state.upcoming_sleep)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
