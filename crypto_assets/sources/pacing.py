"""How fast one host is asked: its policy, its weight limit, its gate, the pause before a retry.

Nothing here sends a request or sleeps; `http` does both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrate_limiter import InMemoryBucket, Rate, RateItem, SQLiteBucket
from tenacity import RetryCallState, wait_exponential_jitter, wait_random

from crypto_assets.errors import CircuitOpenError, PermanentSourceError, TransientSourceError
from crypto_assets.sources.partial import storing

_BACKOFF = wait_exponential_jitter(multiplier=0.5, max=30, jitter=1)
_JITTER = wait_random(0, 1)


@dataclass(frozen=True)
class HostPolicy:
    """How one host is treated. Times are in seconds."""

    name: str
    """Names the host in messages, and the limits that processes share."""
    limits: tuple[tuple[int, float], ...] = ()
    """Weight units per period, for example ((6000, 60.0),); none means unlimited."""
    used_weight: tuple[str, int] | None = None
    """A reply header that counts the weight used this minute, and the count to wait at."""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """The longest silence inside a reply."""
    reply_timeout: float = 600.0
    """The longest that one reply may take in all; a download cut off here resumes."""
    attempts: int = 5
    patience: float = 120.0
    """The longest that one call may pause between its attempts, all pauses together."""
    circuit_threshold: int = 10
    """Transient failures in a row, over all threads, after which the host is left alone."""
    cool_down: float = 15.0


class Gate:
    """Says whether the host may be asked now, to all threads of a client.

    Closed while the host wants a pause (Retry-After, a ban, its weight used up), and for a
    cool-down after too many failures in a row, upon which one probe goes ahead of all others.
    Our own, because pybreaker makes threads take turns for whole calls, purgatory lets all of
    them probe at once, and neither takes a Retry-After.
    """

    def __init__(self, policy: HostPolicy, monotonic: Callable[[], float]) -> None:
        self._policy = policy
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._is_probing = False
        self._closed_until = 0.0
        self._kind: type[TransientSourceError] = CircuitOpenError
        self._reason = ""

    def check(self) -> None:
        """Raise, with `retry_after`, if the gate is closed."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        left = self._closed_until - self._monotonic()
        if left > 0:
            raise self._kind(
                f"{self._policy.name}: left alone for another {left:.1f} s, because {self._reason}",
                retry_after=left,
            )
        if self._is_probing:
            raise CircuitOpenError(
                f"{self._policy.name}: one request probes whether the host is back, "
                f"because {self._reason}",
                retry_after=1.0,
            )

    def hold(self, seconds: float, kind: type[TransientSourceError], reason: str) -> None:
        """Close the gate for some seconds, or leave it closed for longer."""
        with self._lock:
            self._hold(seconds, kind, reason)

    def _hold(self, seconds: float, kind: type[TransientSourceError], reason: str) -> None:
        until = self._monotonic() + seconds
        if until > self._closed_until:
            self._closed_until, self._kind, self._reason = until, kind, reason

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Around one request: lets it through or raises, and learns from how it ends."""
        with self._lock:
            self._check()
            is_probe = self._is_probing = self._failures >= self._policy.circuit_threshold
        try:
            yield
        except TransientSourceError as error:
            with self._lock:
                self._failures += 1
                if error.retry_after is not None:
                    self._hold(error.retry_after, type(error), str(error))
                if self._failures >= self._policy.circuit_threshold:
                    reason = f"{self._failures} requests in a row failed, the last: {error}"
                    self._hold(self._policy.cool_down, CircuitOpenError, reason)
            raise
        except PermanentSourceError:
            self._host_answered()
            raise
        else:
            self._host_answered()
        finally:
            if is_probe:
                with self._lock:
                    self._is_probing = False

    def _host_answered(self) -> None:
        with self._lock:
            self._failures = 0


class WeightLimit:
    """A host's weight limits, kept by every process that shares the file, or in memory.

    Drives pyrate-limiter's buckets directly: its Limiter sleeps where no cancel can reach, and
    cleans up in a thread. A killed process leaves nothing locked: the kernel frees the file lock,
    and SQLite rolls back.
    """

    def __init__(self, policy: HostPolicy, path: Path | None) -> None:
        self._name = policy.name
        self._most = min(units for units, _ in policy.limits)
        self._path = path
        self._thread_lock = threading.Lock()
        rates = [Rate(units, round(seconds * 1000)) for units, seconds in policy.limits]
        self._longest_ms = max(rate.interval for rate in rates)
        # Any: the library types what its synchronous buckets return as awaitable too.
        self._bucket: Any = InMemoryBucket(rates)
        if path is not None:
            with storing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._bucket = SQLiteBucket.init_from_file(
                    rates, table=policy.name, db_path=str(path), use_file_lock=True
                )

    def take(self, weight: int, pause: Callable[[float], None]) -> None:
        """Wait until `weight` units are free, and spend them."""
        if weight > self._most:
            raise ValueError(f"{self._name}: weight {weight} can never fit a limit of {self._most}")
        while (wait_ms := self._try(weight)) is not None:
            pause((wait_ms + 1) / 1000)

    def _try(self, weight: int) -> int | None:
        """None if the units were free and are now spent, else milliseconds until they may be."""
        # The time is read under the file lock: a stamp older than its turn would be too early.
        with self._thread_lock, storing(self._path), self._bucket.limiter_lock() or nullcontext():
            item = RateItem(self._name, self._bucket.now(), weight)
            newest = self._bucket.peek(0)
            if newest and newest.timestamp > item.timestamp + self._longest_ms:
                self._bucket.flush()  # the clock was set back; waiting for it could take years
            self._bucket.leak(item.timestamp)
            return None if self._bucket.put(item) else int(self._bucket.waiting(item))

    def close(self) -> None:
        """Give the file back."""
        with self._thread_lock:
            self._bucket.close()


def pause_before_retry(state: RetryCallState) -> float:
    """Not before the pause that was asked for; else exponential. Never all threads at once."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, TransientSourceError) else None
    pause: float = _BACKOFF(state) if asked is None else asked + _JITTER(state)
    return pause
