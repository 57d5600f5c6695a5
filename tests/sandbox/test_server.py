"""The two ways to reach the sandbox answer alike, from many threads, and end cleanly."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import httpx
import pytest
import uvicorn

from crypto_assets.catalog import Catalog, Chain, Chains, load_catalog
from crypto_assets.errors import SettingsError
from crypto_assets.sandbox import create_app, transport
from crypto_assets.settings import Profile, Settings

from .conftest import REST, TODAY, Client, address


def test_requests_are_routed_by_path_alone(sound: httpx.Client) -> None:
    url = address("trades", "2024-01-03")
    local = url.replace("https://data.binance.vision", "http://127.0.0.1:8000")
    assert sound.get(url).content == sound.get(local).content
    assert sound.get("https://api.binance.com/api/v3/nothing").status_code == 404


def test_bodies_can_be_streamed(sound: httpx.Client) -> None:
    url = address("trades", "2024-01-03")
    with sound.stream("GET", url) as reply:
        assert b"".join(reply.iter_bytes(1000)) == sound.get(url).content
    assert sound.head(url).content == b""


def test_many_threads_share_one_client(sandbox: Client) -> None:
    client = sandbox(trades_per_day=200)
    urls = [address("trades", f"2024-01-{day:02}") for day in range(1, 21)]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda url: client.get(url).content, urls * 3))
    assert together == [client.get(url).content for url in urls] * 3


def test_closing_ends_the_thread() -> None:
    client = httpx.Client(transport=transport(create_app(load_catalog())))
    before = {thread.name for thread in threading.enumerate()}
    assert client.get(f"{REST}/time").status_code == 200
    assert "sandbox" in {thread.name for thread in threading.enumerate()}
    client.close()
    assert {thread.name for thread in threading.enumerate()} <= before


def test_clients_may_share_a_transport_that_each_closes(catalog: Catalog) -> None:
    shared = transport(create_app(catalog, today=TODAY, trades_per_day=200))

    def ask(day: int) -> int:
        with httpx.Client(transport=shared) as client:
            return client.get(address("trades", f"2024-01-{day:02}")).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(1, 25))) == {200}


def test_a_transport_that_nobody_closed_lets_the_interpreter_exit() -> None:
    script = (
        "import httpx\n"
        "from crypto_assets.catalog import load_catalog\n"
        "from crypto_assets.sandbox import create_app, transport\n"
        "client = httpx.Client(transport=transport(create_app(load_catalog())))\n"
        f"print(client.get('{REST}/time').status_code)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout == "200\n"


def test_an_exception_in_the_app_reaches_the_caller(sandbox: Client) -> None:
    with pytest.raises(ValueError, match="has no 2069-01-01"):
        sandbox(today=date(2070, 1, 1)).get(address("trades", "2069-01-01"))


def test_wrong_faults_are_refused_at_once(catalog: Catalog) -> None:
    with pytest.raises(SettingsError, match="no_such_fault"):
        create_app(catalog, faults="no_such_fault")


def test_a_socket_answers_like_the_transport(catalog: Catalog, sound: httpx.Client) -> None:
    app = create_app(catalog, today=TODAY)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        for url in (address("trades", "2024-01-03"), f"{REST}/time"):
            path = httpx.URL(url).path
            over_socket = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
            assert over_socket.content == sound.get(url).content
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def test_every_chain_of_the_catalogue_has_two_nodes_where_the_settings_look_for_them() -> None:
    chains = Chains((Chain(name="ethereum", chain_id=1), Chain(name="other_chain", chain_id=77)))
    with httpx.Client(transport=transport(create_app(Catalog(()), chains))) as client:
        for chain in chains.chains:
            ids = [
                ask(client, url.get_secret_value(), "eth_chainId")
                for url in Settings(profile=Profile.SANDBOX).urls_of(chain.name)
            ]
            assert ids == [hex(chain.chain_id)] * 2
        first, other = (
            ask(client, f"http://sandbox/{name}", "eth_getBlockByNumber", "earliest", False)
            for name in chains.names
        )
    assert first["number"] == other["number"]
    assert first["hash"] != other["hash"]


def ask(client: httpx.Client, url: str, method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return client.post(url, json=call).json()["result"]
