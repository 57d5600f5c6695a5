"""The sandbox as one ASGI app, and the two ways to reach it: in-process, or over a socket.

A venue's face is a list of routes; paths of venues are disjoint, so that live addresses and
`http://127.0.0.1:8000` reach the same face.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from datetime import date

import httpx
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette
from starlette.routing import Route

from crypto_assets.catalog import Catalog
from crypto_assets.sandbox import binance, bitstamp, coinbase, kraken
from crypto_assets.sandbox.faults import Faults
from crypto_assets.sandbox.world import Clock, World

FACES: dict[str, Callable[..., list[Route]]] = {
    "binance": binance.routes,
    "coinbase": coinbase.routes,
    "kraken": kraken.routes,
    "ccxt": bitstamp.routes,
}


def create_app(
    catalog: Catalog,
    *,
    seed: int = 0,
    faults: str = "",
    today: date | None = None,
    trades_per_day: int = 5_000,
) -> Starlette:
    """All venues of the catalogue that have a face; raises SettingsError for wrong `faults`.

    `today` fixes the clock at noon of that day. `app.state` has `faults` and `clock`, to change
    what is broken and what time it is while the app runs.
    """
    world = World(seed, trades_per_day)
    clock = Clock(today)
    switched = Faults(faults, {listing.symbol for listing in catalog.listings})
    app = Starlette(
        routes=[
            route
            for venue, face in FACES.items()
            if venue in catalog.venues
            for route in face(catalog.of_venue(venue), world, clock, switched)
        ]
    )
    app.state.clock, app.state.faults = clock, switched
    return app


class InProcessTransport(httpx.BaseTransport):
    """Lets a blocking httpx client call the app without a port, from any number of threads.

    The event loop's thread starts with a request and ends with `close`, so that clients may share
    a transport that each of them closes. Bodies are buffered. The client's read timeout counts;
    an exception in the app reaches the caller.
    """

    def __init__(self, app: Starlette) -> None:
        self._asgi = httpx.ASGITransport(app)
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._end: Callable[[], object] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        request.read()
        # Under the lock: the thread must not end between finding it and giving it the task.
        with self._lock:
            answer = self._running().start_task_soon(_answer, self._asgi, request)
        timeout = request.extensions.get("timeout", {}).get("read")
        try:
            return answer.result(timeout)
        except TimeoutError as error:
            answer.cancel()
            raise httpx.ReadTimeout("the sandbox was slower than the timeout") from error

    def close(self) -> None:
        """End the thread, after the answers under way."""
        with self._lock:
            end, self._end, self._portal = self._end, None, None
        if end is not None:
            end()

    def _running(self) -> BlockingPortal:
        if self._portal is None:
            context = start_blocking_portal(name="sandbox")
            self._portal = context.__enter__()
            # A transport that nobody closed must not keep the interpreter from exiting.
            self._end = weakref.finalize(self, context.__exit__, None, None, None)
        return self._portal


async def _answer(asgi: httpx.ASGITransport, request: httpx.Request) -> httpx.Response:
    response = await asgi.handle_async_request(request)
    body = await response.aread()
    return httpx.Response(
        response.status_code, headers=response.headers, stream=httpx.ByteStream(body)
    )


def transport(app: Starlette) -> httpx.BaseTransport:
    """A transport for `httpx.Client(transport=...)` that answers from the app."""
    return InProcessTransport(app)


def serve(app: Starlette, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answer on a socket until interrupted."""
    uvicorn.run(app, host=host, port=port, log_level="warning")
