"""The sandbox as one ASGI app, and the two ways to reach it: in-process, or over a socket.

A venue's face is a list of routes; paths of venues are disjoint, so that live addresses and
`http://127.0.0.1:8000` reach the same face. Each chain has two nodes, which answer at paths such as
`/ethereum` and `/ethereum-b`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import httpx
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette
from starlette.routing import Route

from crypto_assets.catalog import Catalog, Chains
from crypto_assets.sandbox import binance, bitstamp, coinbase, kraken
from crypto_assets.sandbox.chain_world import ChainSpec
from crypto_assets.sandbox.ethereum import Node
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
    chains: Chains | None = None,
    *,
    seed: int = 0,
    faults: str = "",
    today: date | None = None,
    trades_per_day: int = 5_000,
    chain: ChainSpec | None = None,
) -> Starlette:
    """All venues of the catalogue that have a face, and two nodes for each of its chains.

    `today` fixes the clock at noon of that day. Without `chains` there is ethereum alone. `chain`
    is what each of them is like but for its id, by default that of the seed. Apps of equal chains
    share their blocks. `app.state` has `faults`, `clock` and `nodes` (by name), to
    change what is broken, what time it is and how high the chain is while the app runs. Raises
    SettingsError for wrong `faults`.
    """
    world = World(seed, trades_per_day)
    clock = Clock(today)
    chain = chain or ChainSpec(seed)
    specs = {
        node: replace(chain, chain_id=chain_id)
        for name, chain_id in _chain_ids(chains, chain).items()
        for node in (name, f"{name}-b")
    }
    switched = Faults(faults, {listing.symbol for listing in catalog.listings} | set(specs))
    nodes = {name: Node(name, spec, switched) for name, spec in specs.items()}
    app = Starlette(
        routes=[
            route
            for venue, face in FACES.items()
            if venue in catalog.venues
            for route in face(catalog.of_venue(venue), world, clock, switched)
        ]
        + [node.route() for node in nodes.values()]
    )
    app.state.clock, app.state.faults, app.state.nodes = clock, switched, nodes
    return app


def _chain_ids(chains: Chains | None, chain: ChainSpec) -> dict[str, int]:
    if chains is None:
        return {"ethereum": chain.chain_id}
    return {entry.name: entry.chain_id for entry in chains.chains}


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
