"""A node of a chain in a test: blocks that it has, what it does wrong, what it was asked."""

from __future__ import annotations

import http.server
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import msgspec

from benchmarks.evm_blocks import blocks, wire
from crypto_assets.catalog import BlockRange, Chain, LogFilter
from crypto_assets.sources.evm import Evm

CHAIN = Chain(name="ethereum", chain_id=1, range_size=10)
KEY = "0123456789abcdef0123456789abcdef"
URL = f"https://node-a.test/v3/{KEY}"
OTHER_URL = f"https://node-b.test/?dkey={KEY[::-1]}"
Json = dict[str, Any]
Blocks = Mapping[int, tuple[bytes, bytes]]


class RpcFaultError(Exception):
    """Raised by a script: the node answers the call with this error object."""

    def __init__(self, code: Any, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class ChainNode:
    """Answers calls from the blocks given, number to block and receipts.

    `act` is asked first for each call and may answer it (bytes of a result) or raise RpcFaultError;
    `batch` may answer for a whole request, given its calls and what would be answered.
    """

    def __init__(self, blocks: Blocks | None = None, *, chain_id: int = 1) -> None:
        self.blocks = dict(blocks or {})
        self.chain_id = chain_id
        self.calls: Counter[str] = Counter()
        self.sizes: list[int] = []
        """Number of calls in each request, but those for the chain id."""
        self.act: Callable[[str, list[Any]], bytes | None] = lambda method, params: None
        self.batch: Callable[[list[Json], list[Json]], Any] = lambda calls, replies: None

    def respond(self, body: bytes) -> httpx.Response:
        """The reply to a request, a single call or a batch."""
        asked = json.loads(body)
        calls = asked if isinstance(asked, list) else [asked]
        if calls[0]["method"] != "eth_chainId":
            self.sizes.append(len(calls))
        replies = [self._reply(call) for call in calls]
        scripted = self.batch(calls, replies)
        if isinstance(scripted, httpx.Response):
            return scripted
        answer = scripted or (replies if isinstance(asked, list) else replies[0])
        return httpx.Response(200, content=msgspec.json.encode(answer))

    def _reply(self, call: Json) -> Json:
        method, params = call["method"], call["params"]
        self.calls[method] += 1
        head = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            result = self.act(method, params)
            if result is None:
                result = self._result(method, params)
        except RpcFaultError as fault:
            return head | {"error": fault.error}
        return head | {"result": msgspec.Raw(result)}

    def _result(self, method: str, params: list[Any]) -> bytes:
        match method:
            case "eth_chainId":
                return json.dumps(hex(self.chain_id)).encode()
            case "eth_getBlockByNumber":
                block, _ = self._at(params[0])
                return block if params[1] or block == b"null" else hashed(block)
            case "eth_getBlockReceipts":
                return self._at(params[0])[1]
            case "eth_getTransactionReceipt":
                found = (
                    receipt
                    for _, receipts in self.blocks.values()
                    for receipt in json.loads(receipts)
                    if receipt["transactionHash"] == params[0]
                )
                return json.dumps(next(found, None)).encode()
            case "eth_getLogs":
                return json.dumps(self._logs(params[0])).encode()
        raise RpcFaultError(-32601, f"the method {method} does not exist/is not available")

    def _at(self, place: str) -> tuple[bytes, bytes]:
        number = max(self.blocks) - 2 if place == "finalized" else int(place, 16)
        return self.blocks.get(number, (b"null", b"null"))

    def _logs(self, wanted: Json) -> list[Json]:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        topics = next(iter(wanted.get("topics", [])), None)
        return [
            log
            for number in range(first, last + 1)
            for receipt in json.loads(self.blocks[number][1])
            for log in receipt["logs"]
            if log["address"] in wanted.get("address", [log["address"]])
            and (topics is None or (log["topics"][:1] and log["topics"][0] in topics))
        ]


class Network(httpx.BaseTransport):
    """Brings requests to nodes by their host, and keeps them; a node may be an error instead."""

    def __init__(self, **nodes: ChainNode | Exception) -> None:
        self.nodes = {f"{name.replace('_', '-')}.test": node for name, node in nodes.items()}
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        node = self.nodes[request.url.host]
        if isinstance(node, Exception):
            raise node
        reply = node.respond(request.read())
        # As it comes from a network: a body that is still to be read.
        return httpx.Response(
            reply.status_code, headers=reply.headers, stream=httpx.ByteStream(reply.content)
        )


def made_blocks(count: int, *, transactions: int = 4, logs: int = 9, seed: int = 0) -> Blocks:
    """Valid contiguous blocks, with their receipts, as a node gives them."""
    made = blocks(count, transactions=transactions, logs=logs, seed=seed)
    return {int(block.number, 16): (wire(block), wire(of_block)) for block, of_block in made}


def range_of(blocks: Blocks) -> BlockRange:
    """All of some contiguous blocks."""
    return BlockRange(min(blocks), max(blocks))


def changed(content: bytes, **fields: Any) -> bytes:
    """JSON of an object with other values of some fields."""
    return json.dumps(json.loads(content) | fields).encode()


def hashed(block: bytes) -> bytes:
    """A block that only names its transactions."""
    transactions = json.loads(block)["transactions"]
    return changed(
        block, transactions=[one if isinstance(one, str) else one["hash"] for one in transactions]
    )


def light(**asked: tuple[str, ...]) -> Chain:
    """The chain in its light mode."""
    return Chain(**{**CHAIN.model_dump(), "mode": "light", "logs_of": LogFilter(**asked)})


@contextmanager
def source(
    network: httpx.BaseTransport | None, *urls: str, chain: Chain = CHAIN, **options: Any
) -> Iterator[Evm]:
    """The source over those nodes, by default over the first."""
    evm = Evm(chain, urls=urls or [URL], transport=network, **options)
    try:
        yield evm
    finally:
        evm.close()


@contextmanager
def served(node: ChainNode) -> Iterator[str]:
    """The URL of a loopback server that answers for the node."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            reply = node.respond(self.rfile.read(int(self.headers["Content-Length"])))
            with suppress(ConnectionError):  # of a client that was killed
                self.send_response(reply.status_code)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v3/{KEY}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
