"""Several nodes of one chain: which of them is asked, and what is made of those that fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from crypto_assets.errors import IntegrityError, SourceError
from crypto_assets.sources.evm_rpc import Endpoint, urgency

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_E = TypeVar("_E", bound=Endpoint)


class Endpoints(Generic[_E]):
    """The nodes of one chain, in order of preference: asked in turn until one delivers.

    A node whose data cannot be proven is set aside. Once all are, that error is raised and all are
    asked again: one bad block must not cost every other one.
    """

    def __init__(self, endpoints: Sequence[_E]) -> None:
        self.all = tuple(endpoints)
        self._aside: dict[_E, IntegrityError] = {}
        self._preferred = self.all[0]
        self._lock = threading.Lock()

    @property
    def set_aside(self) -> dict[str, str]:
        """Why a node is not asked, by its name."""
        with self._lock:
            return {endpoint.name: str(error) for endpoint, error in self._aside.items()}

    def ask(self, question: Callable[[_E], _T]) -> _T:
        """What `question` makes of the first node that answers it.

        It raises SourceError for a node that does not deliver, IntegrityError for one that is
        wrong; one of them is raised if there is no other node.
        """
        failures: dict[_E, SourceError] = {}
        wrong: dict[_E, IntegrityError] = {}
        while (endpoint := self._next(failures)) is not None:
            try:
                answer = question(endpoint)
            except IntegrityError as error:
                wrong[endpoint] = error
                self.put_aside(endpoint, error)
            except SourceError as error:
                failures[endpoint] = error
            else:
                self._preferred = endpoint
                return answer
        if failures:
            raise self._failure(failures)
        with self._lock:
            errors = list({**self._aside, **wrong}.items())
            self._aside.clear()
        if not errors:  # another thread has just given all of them a new chance
            return self.ask(question)
        *others, (last, cause) = [(one.name, error) for one, error in errors]
        evidence = {**cause.evidence, "endpoint": last}
        if others:
            evidence["other_endpoints"] = [f"{name}: {error}" for name, error in others]
        raise type(cause)(f"{last}: {cause}", **evidence) from cause

    def ask_several(
        self,
        question: Callable[[_E], _T],
        count: int,
        *,
        excused: type[SourceError] | tuple[()] = (),
    ) -> list[tuple[_E, _T]]:
        """What each of the first `count` nodes that answer makes of it, and which nodes they are.

        Of fewer nodes all are asked. Raises SourceError if one that is needed does not deliver,
        unless what it raises is `excused`.
        """
        found: list[tuple[_E, _T]] = []
        failures: dict[_E, SourceError] = {}
        with self._lock:
            in_order = sorted(
                self.all, key=lambda one: (one in self._aside, one != self._preferred)
            )
        for endpoint in in_order:
            try:
                found.append((endpoint, question(endpoint)))
            except SourceError as error:
                failures[endpoint] = error
            if len(found) == min(count, len(self.all)):
                return found
        needed = {one: error for one, error in failures.items() if not isinstance(error, excused)}
        if needed:
            raise self._failure(needed)
        return found

    def put_aside(self, endpoint: _E, error: IntegrityError) -> None:
        """Ask others from now on."""
        with self._lock:
            self._aside[endpoint] = error
        if len(self.all) > 1:
            _log.warning("%s is set aside: %s", endpoint.name, error)

    def close(self) -> None:
        """Close all of them."""
        for endpoint in self.all:
            endpoint.close()

    def _next(self, failed: Mapping[_E, SourceError]) -> _E | None:
        with self._lock:
            left = [one for one in self.all if one not in self._aside and one not in failed]
        return self._preferred if self._preferred in left else next(iter(left), None)

    def _failure(self, failures: Mapping[_E, SourceError]) -> SourceError:
        """What to raise: a failure that time may heal, if one is, and what the others said."""
        errors = sorted(failures.values(), key=urgency, reverse=True)
        others = [str(error) for error in errors[1:]]
        others += [f"{name} is set aside: {reason}" for name, reason in self.set_aside.items()]
        if not others:
            return errors[0]
        return type(errors[0])(f"{errors[0]} (other endpoints: {'; '.join(others)})")
