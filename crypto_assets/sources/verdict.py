"""What a refused request or a broken exchange means: which of them time heals, and when."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from crypto_assets.errors import (
    AskedTooMuchError,
    BannedError,
    ConnectionFaultError,
    NotFoundError,
    PermanentSourceError,
    RateLimitedError,
    ServerFaultError,
    SourceError,
    UnexpectedReplyError,
)

# Assumed for a ban that does not say how long it lasts: "IP bans are tracked and scale in duration
# for repeat offenders, from 2 minutes to 3 days" (binance-spot-api-docs, rest-api.md).
BAN_SECONDS = 120.0

_ADVICE = {
    401: "check the API key",
    403: "check the API key, and whether the host refuses this address",
    451: "the host refuses this location: set the URL of a host that serves it",
}


def judge(  # noqa: PLR0911 - one return per line of the table
    cause: httpx.Response | Exception, url: str, said: str = ""
) -> SourceError:
    """The error to raise for a refused request or a broken exchange: does time heal it?

    `said` is the start of the reply's body, or what the exception says, without secrets.

    - 429 and 418 (Binance: banned for going on after 429): yes, and not before Retry-After.
    - 408, 425 and every 5xx: yes, the host was busy; nothing is wrong with the request.
    - 404: no, the host has nothing there; callers read meaning into it (not listed, not yet).
    - 413: no, but a request for less may do.
    - Any other 4xx: no, the same request is wrong again, whoever repeats it.
    - Any other status (a 204, a redirect to nowhere): no, the host is not what it should be.
    - Connection refused, reset, timed out, cut off, or a broken encoding: yes.
    - A certificate that does not verify, an address that cannot be asked, a redirect loop: no.
    """
    if isinstance(cause, httpx.Response):
        status = cause.status_code
        text = f"{url}: {status} {cause.reason_phrase}".rstrip()
        text += f": {said}" if said else ""
        pause = _pause_asked(cause.headers)
        if status == 429:
            return RateLimitedError(f"{text}; lower the rate limit", retry_after=pause)
        if status == 418:
            pause = BAN_SECONDS if pause is None else pause
            return BannedError(f"{text}; banned for {pause:.0f} s", retry_after=pause)
        if status in (408, 425) or status >= 500:
            return ServerFaultError(f"{text}; try again later", retry_after=pause)
        if status == 404:
            return NotFoundError(text)
        if status == 413:
            return AskedTooMuchError(f"{text}; ask for less at once")
        if status >= 400:
            advice = _ADVICE.get(status, "the request itself is refused: check what it asks for")
            return PermanentSourceError(f"{text}; {advice}")
        return UnexpectedReplyError(f"{text}; is this the right address?")
    text = f"{url}: {type(cause).__name__}: {said or cause}"
    if _is_certificate_fault(cause):
        return PermanentSourceError(f"{text}; check the URL, the clock and the CA certificates")
    if isinstance(
        cause,
        httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.TooManyRedirects
        | httpx.InvalidURL,
    ):  # fmt: skip
        return PermanentSourceError(f"{text}; check the URL")
    return ConnectionFaultError(f"{text}; check the connection, or try again later")


def instant(http_date: str | None) -> datetime | None:
    """The time in an HTTP header; None if absent or unreadable."""
    try:
        found = parsedate_to_datetime(http_date or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _pause_asked(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds, from either of its forms; None if absent or unreadable."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    if (until := instant(value)) is None:
        return None
    now = instant(headers.get("Date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _is_certificate_fault(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
