"""A node that only repeats itself: made-up blocks behind JSON-RPC, on a loopback port.

It runs in a process of its own, so that nothing of it counts as a client's, and ends with whoever
started it: `python -m benchmarks.replay COUNT` prints its port, and serves until its input closes.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.evm_blocks import FIRST_BLOCK, blocks, wire

_LONGEST = 1800.0
_NULL = b"null"


class Replay:
    """Answers of a node that has only those blocks, prepared as the JSON that it sends."""

    def __init__(self, count: int, **size: int) -> None:
        self.calls: Counter[str] = Counter()
        self._last = FIRST_BLOCK + count - 1
        self._said = {
            "eth_chainId": b'"0x1"',
            "net_version": b'"1"',
            "eth_blockNumber": json.dumps(hex(self._last)).encode(),
        }
        self._blocks: dict[int, bytes] = {}
        self._hashed: dict[int, bytes] = {}
        self._receipts: dict[int, bytes] = {}
        self._receipt: dict[str, bytes] = {}
        self._logs: dict[int, bytes] = {}
        for block, receipts in blocks(count, **size):
            number = int(block.number, 16)
            named = [each.hash for each in block.transactions]
            own = {each.transaction_hash: wire(each) for each in receipts}
            self._blocks[number] = wire(block)
            self._hashed[number] = msgspec.json.encode(
                msgspec.to_builtins(block) | {"transactions": named}
            )
            self._receipts[number] = b"[" + b",".join(own.values()) + b"]"
            self._receipt |= own
            self._logs[number] = b",".join(
                msgspec.json.encode(log) for receipt in receipts for log in receipt.logs
            )

    def reply(self, body: bytes) -> bytes:
        """The answer to a request, a single call or a batch."""
        asked = json.loads(body)
        if isinstance(asked, list):
            return b"[" + b",".join(map(self._answer, asked)) + b"]"
        return self._answer(asked)

    def _answer(self, call: dict[str, Any]) -> bytes:
        method = call["method"]
        self.calls[method] += 1
        head = b'{"jsonrpc":"2.0","id":' + json.dumps(call["id"]).encode()
        result = self._result(method, call.get("params") or [])
        if result is None:
            error = {"code": -32601, "message": f"the method {method} does not exist"}
            return head + b',"error":' + json.dumps(error).encode() + b"}"
        return head + b',"result":' + result + b"}"

    def _result(self, method: str, params: list[Any]) -> bytes | None:
        match method:
            case "eth_getBlockByNumber":
                of = self._blocks if params[1] else self._hashed
                return of.get(self._number(params[0]), _NULL)
            case "eth_getBlockReceipts":
                return self._receipts.get(self._number(params[0]), _NULL)
            case "eth_getTransactionReceipt":
                return self._receipt.get(params[0], _NULL)
            case "eth_getLogs":
                first, last = (self._number(params[0][name]) for name in ("fromBlock", "toBlock"))
                found = (self._logs.get(number) for number in range(first, last + 1))
                return b"[" + b",".join(logs for logs in found if logs) + b"]"
        return self._said.get(method)

    def _number(self, tag: str) -> int:
        return int(tag, 16) if tag.startswith("0x") else self._last


@contextmanager
def replayed(count: int, log: Path) -> Iterator[str]:
    """The URL of such a node while it runs, in a process of its own."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.replay", str(count)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            if process.stdout is None or not (port := process.stdout.readline().strip()):
                raise AssertionError(f"the replay did not start: {log.read_text()}")
            yield f"http://127.0.0.1:{port.decode()}"
        finally:
            process.terminate()


@contextmanager
def serving(replay: Replay) -> Iterator[int]:
    """The loopback port on which threads of this process answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().setup()

        def do_POST(self) -> None:
            reply = replay.reply(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response_only(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(count: int) -> None:
    """Serve until whoever started this ends, and never longer than half an hour."""
    with serving(Replay(count)) as port:
        print(port, flush=True)
        alarm = threading.Timer(_LONGEST, os._exit, (1,))
        alarm.daemon = True
        alarm.start()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
