"""A real node in a test: Foundry's anvil, which mines, reorganises and dies on demand."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

_VERSION = "1.7.1"
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# Emits a log with its caller as topic and 42 as data when it is called: MSTORE, CALLER, LOG1.
_RUNTIME = "602a5f52336020" + "5fa100"
# Emits a log with a topic alone, and returns the code above.
CREATION = "0x7f" + "ab" * 32 + "5f5fa1" + "69" + _RUNTIME + "5f52600a6016f3"


class Anvil:
    """One running node. Transactions wait until `mine`."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.accounts: list[str] = self("eth_accounts")
        self("anvil_setBlockTimestampInterval", 12)

    def __call__(self, method: str, *params: Any) -> Any:
        """The result of a call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        request = urllib.request.Request(  # noqa: S310 - a loopback address
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            answer = json.load(reply)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def send(self, **transaction: Any) -> str:
        """Hash of a transaction that waits to be mined, from the first account."""
        return str(self("eth_sendTransaction", {"from": self.accounts[0], **transaction}))

    def mine(self, count: int, *, value: int = 1) -> None:
        """Blocks with a legacy and a typed transfer, a creation, and a call, which both log."""
        contract = self._contract()
        for nth in range(count):
            amount = hex(value + nth)
            self.send(to=self.accounts[1], value=amount, gasPrice=hex(10**10), gas="0x5208")
            self.send(
                to=self.accounts[2],
                value=amount,
                gas="0x10000",
                maxFeePerGas=hex(10**10),
                maxPriorityFeePerGas="0x1",
                accessList=[{"address": contract, "storageKeys": ["0x" + "01" * 32]}],
            )
            self.send(data=CREATION, gas="0x30000")
            self.send(to=contract, gas="0x10000")
            self("evm_mine")

    def _contract(self) -> str:
        created = self.send(data=CREATION, gas="0x30000")
        self("evm_mine")
        return str(self("eth_getTransactionReceipt", created)["contractAddress"])


def binary(cache: pytest.Cache) -> Path:
    """The node's program, installed by npm into pytest's cache; skips where that cannot be."""
    package = _package()
    npm = shutil.which("npm")
    if npm is None or package is None:
        pytest.skip("a real node is installed by npm, which is not here or has none for this one")
    folder = cache.mkdir("anvil")
    found = folder / "node_modules" / package / "bin" / "anvil"
    with FileLock(folder / "lock"):
        if not found.exists():
            options = ["--no-save", "--no-audit", "--no-fund", "--fetch-retries=0"]
            asked = [npm, "install", *options, "--prefix", folder, f"{package}@{_VERSION}"]
            try:
                subprocess.run(asked, check=True, capture_output=True, timeout=120, text=True)
            except (subprocess.SubprocessError, OSError) as error:
                said = str(getattr(error, "stderr", "") or error).strip()
                pytest.skip(f"npm does not deliver {package} {_VERSION} here: {said[-200:]}")
    if not found.exists():
        pytest.skip(f"{package} {_VERSION} has no program at {found.name}")
    return found


def _package() -> str | None:
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine())
    return f"@foundry-rs/anvil-{system}-{machine}" if system and machine else None


@contextmanager
def running(program: Path, *options: str) -> Iterator[Anvil]:
    """A node on a free loopback port, ended at the end if the test has not."""
    arguments = [program, "--host", "127.0.0.1", "--port", "0", "--chain-id", "1", "--no-mining"]
    # Every block but the newest two is final.
    arguments += ["--slots-in-an-epoch", "1", *options]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Listening on "):
                yield Anvil(process, f"http://{line.split()[-1]}")
                return
        pytest.skip(f"{program.name} does not run here: {said[-300:]}")
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
