"""Asking contracts in a test: the sandbox's nodes, with answers that a test may replace."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette

from crypto_assets.sandbox import transport as sandbox_transport
from crypto_assets.sandbox.chain_contracts import answers

Json = dict[str, Any]


class RefusedError(Exception):
    """Raised by a script: the node answers the call with this error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message}


Script = Callable[[str, bytes, bytes, int], bytes | str | None]


class Contracts(httpx.BaseTransport):
    """Answers eth_call, and brings any other request to the sandbox.

    `say` is asked first, with the node's name, the contract, the input and the block; it may answer
    (with bytes, or text in place of the hex), raise RefusedError, or leave it to the sandbox's
    contracts with None. `asked` counts by node, and `calls` holds what each was asked.
    """

    def __init__(self, app: Starlette) -> None:
        self._sandbox = sandbox_transport(app)
        self.say: Script = lambda node, to, data, number: None
        self.asked: Counter[str] = Counter()
        self.calls: list[tuple[str, bytes, bytes, int]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.read())
        calls = body if isinstance(body, list) else [body]
        if calls[0]["method"] != "eth_call":
            return self._sandbox.handle_request(request)
        node = request.url.path.strip("/")
        replies = [self._reply(node, call) for call in calls]
        content = msgspec.json.encode(replies if isinstance(body, list) else replies[0])
        return httpx.Response(200, stream=httpx.ByteStream(content))

    def _reply(self, node: str, call: Json) -> Json:
        asked, block = call["params"]
        to, data = (bytes.fromhex(asked[name][2:]) for name in ("to", "data"))
        number = int(block, 16)
        self.asked[node] += 1
        self.calls.append((node, to, data, number))
        head = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            said = self.say(node, to, data, number)
        except RefusedError as refused:
            return head | {"error": refused.error}
        if said is None and (said := answers(to, data, number)) is None:
            return head | {"error": {"code": 3, "message": "execution reverted"}}
        return head | {"result": said if isinstance(said, str) else f"0x{said.hex()}"}
