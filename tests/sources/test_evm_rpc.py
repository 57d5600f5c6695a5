"""JSON-RPC through the real client over scripted nodes: envelopes, sizes, failover, secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from crypto_assets.errors import (
    AskedTooMuchError,
    BlockMissingError,
    ConnectionFaultError,
    CryptoAssetsError,
    HeaderHashMismatchError,
    HistoryPrunedError,
    IntegrityError,
    MethodMissingError,
    MismatchedReplyError,
    PermanentSourceError,
    RateLimitedError,
    RpcRefusedError,
    ServerFaultError,
    SettingsError,
    SourceError,
    TransientSourceError,
    UnexpectedReplyError,
    WrongChainError,
)
from crypto_assets.sources.evm_endpoints import Endpoints
from crypto_assets.sources.evm_rpc import Call, Endpoint

from .chain_node import KEY, OTHER_URL, URL, ChainNode, Json, Network, RpcFaultError
from .test_evm_refusals import TOO_WIDE


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto_assets.sources.http.pause_before_retry", lambda _: 0.01)


@pytest.fixture
def node() -> ChainNode:
    """Answers a call of `echo` with its parameter, and eth_getLogs with its bounds."""
    node = ChainNode()

    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "echo":
            return json.dumps(params[0]).encode()
        if method == "eth_getLogs":
            bounds = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            return json.dumps([bounds]).encode()
        return None

    node.act = act
    return node


@pytest.fixture
def endpoint(node: ChainNode) -> Iterator[Endpoint]:
    with_node = endpoint_of(node)
    yield with_node
    with_node.close()


def endpoint_of(node: ChainNode, url: str = URL, **options: Any) -> Endpoint:
    return Endpoint(
        url, chain_id=1, **{"batch_size": 50, "transport": Network(node_a=node), **options}
    )


def echoes(count: int) -> list[Call]:
    return [Call("echo", [at], f"thing {at}") for at in range(count)]


def ask(endpoint: Endpoint, count: int) -> list[Any]:
    return [msgspec.json.decode(result) for result in endpoint.batch(echoes(count))]


def logs(endpoint: Endpoint, first: int, last: int) -> list[tuple[int, int]]:
    found = endpoint.logs({"address": ["0xa"]}, first, last)
    return [tuple(bounds) for raw in found for bounds in msgspec.json.decode(raw)]


def fail_first(node: ChainNode, times: int, code: Any, message: str) -> None:
    """The first calls of `echo` are answered with that error."""
    sound, left = node.act, [times]

    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "echo" and left[0] > 0:
            left[0] -= 1
            raise RpcFaultError(code, message)
        return sound(method, params)

    node.act = act


def refuse_above(node: ChainNode, most: int, answer: Callable[[list[Json]], Any]) -> None:
    node.batch = lambda calls, _: answer(calls) if len(calls) > most else None


# --- one reply for each call ---------------------------------------------------------------------


def test_replies_are_matched_by_id_in_any_order(endpoint: Endpoint, node: ChainNode) -> None:
    node.batch = lambda calls, replies: replies[::-1]
    assert ask(endpoint, 120) == list(range(120))
    assert node.sizes == [50, 50, 20]


def test_single_call_is_no_batch(endpoint: Endpoint, node: ChainNode) -> None:
    network = endpoint._http._client._transport
    assert isinstance(network, Network)
    assert ask(endpoint, 1) == [0]
    assert all(isinstance(json.loads(sent.content), dict) for sent in network.requests)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda replies: replies[:-1], "left out 1 of 3 replies: thing 2"),
        (lambda replies: [*replies, replies[0]], "answers id 0 twice"),
        (lambda replies: [*replies, replies[0] | {"id": 7}], "id 7 though it was not asked"),
        (lambda replies: [*replies[:-1], {"id": None, "result": 1}], "id None though"),
        (lambda replies: [*replies[:-1], replies[-1] | {"id": "2"}], "id '2' though"),
        (lambda replies: [*replies[:-1], {"id": 2}], "thing 2: neither result nor error"),
        (lambda replies: replies[0], "answers a batch of 3 calls with one reply"),
        (lambda replies: b"[]", "left out 3 of 3"),
    ],
)
def test_replies_that_are_not_one_for_each_call_are_refused(
    endpoint: Endpoint, node: ChainNode, spoil: Callable[[list[Json]], Any], words: str
) -> None:
    def batch(calls: list[Json], replies: list[Json]) -> Any:
        if len(calls) == 1:
            return None
        spoiled = spoil(replies)
        return httpx.Response(200, content=spoiled) if isinstance(spoiled, bytes) else spoiled

    node.batch = batch
    with pytest.raises(MismatchedReplyError, match=words):
        ask(endpoint, 3)


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"", b"[1]", b'"x"', b'[{"id": 1', b"\xff"]
)
def test_body_that_is_no_json_rpc_is_unexpected(
    endpoint: Endpoint, node: ChainNode, body: bytes
) -> None:
    refuse_above(node, 1, lambda _: httpx.Response(200, content=body))
    with pytest.raises(UnexpectedReplyError, match=r"https://node-a\.test: no JSON-RPC"):
        ask(endpoint, 3)


def test_error_beside_a_null_result_is_an_error(endpoint: Endpoint, node: ChainNode) -> None:
    def batch(calls: list[Json], replies: list[Json]) -> Any:
        error = {"code": 4444, "message": "pruned history unavailable"}
        return [reply | {"result": None, "error": error} for reply in replies]

    node.batch = batch
    endpoint._is_of_chain = True
    with pytest.raises(HistoryPrunedError, match=r"thing 0 is refused: pruned .* \(code 4444\)"):
        ask(endpoint, 2)


def test_null_where_a_result_must_be_is_asked_for_again(
    endpoint: Endpoint, node: ChainNode
) -> None:
    sound, nulls = node.act, [2]

    def act(method: str, params: list[Any]) -> bytes | None:
        if params == [1] and nulls[0] > 0:
            nulls[0] -= 1
            return b"null"
        return sound(method, params)

    node.act = act
    assert ask(endpoint, 3) == [0, 1, 2]
    assert node.sizes == [3, 1, 1]
    nulls[0] = 10**6
    with pytest.raises(BlockMissingError, match="has no thing 1; it is not that far yet, or"):
        ask(endpoint, 3)
    assert endpoint.call(Call("echo", [1], "thing 1")) == msgspec.Raw(b"null")
    assert node.sizes.count(50) == 0


# --- asking for less -----------------------------------------------------------------------------


def error(code: int, message: str, call_id: Any = None) -> Json:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}


@pytest.mark.parametrize(
    ("answer", "sizes"),
    [
        # geth: one error, in a list, under the id of the first call
        (
            lambda calls: [error(-32600, "batch too large", calls[0]["id"])],
            [50, 25, 12, *[6] * 8, 2],
        ),
        (
            lambda calls: error(-32000, "batch limit 7 exceeded: 50 requests given"),
            [50, *[7] * 7, 1],
        ),
        (lambda calls: [error(-32005, "Batch size limit exceeded")], [50, 25, 12, *[6] * 8, 2]),
        (lambda calls: httpx.Response(413), [50, 25, 12, *[6] * 8, 2]),
        (lambda calls: httpx.Response(413, content=b"<html>"), [50, 25, 12, *[6] * 8, 2]),
        (
            lambda calls: httpx.Response(400, json=error(31, "Batch of more than 7 requests")),
            [50, *[7] * 7, 1],
        ),
    ],
)
def test_refused_batch_shrinks_and_its_size_is_remembered(
    endpoint: Endpoint, node: ChainNode, answer: Callable[[list[Json]], Any], sizes: list[int]
) -> None:
    refuse_above(node, 7, answer)
    assert ask(endpoint, 50) == list(range(50))
    assert node.sizes == sizes
    node.sizes.clear()
    assert ask(endpoint, 14) == list(range(14))
    assert max(node.sizes) <= 7


def test_node_that_knows_no_batches_is_asked_one_by_one(
    endpoint: Endpoint, node: ChainNode
) -> None:
    refuse_above(node, 1, lambda _: error(-32600, "batch requests are not supported"))
    assert ask(endpoint, 5) == list(range(5))
    assert node.sizes == [5, 2, 1, 1, 1, 1, 1]


def test_what_fits_a_response_is_kept_and_the_rest_asked_for(
    endpoint: Endpoint, node: ChainNode
) -> None:
    """geth answers calls until its limit of bytes, and each of the others with an error."""

    def batch(calls: list[Json], replies: list[Json]) -> Any:
        return [
            reply if at < 3 else error(-32003, "response too large", reply["id"])
            for at, reply in enumerate(replies)
        ]

    node.batch = batch
    endpoint._is_of_chain = True
    assert ask(endpoint, 10) == list(range(10))
    assert node.sizes == [10, 5, 2, 2]


def test_single_call_that_is_too_large_is_refused(endpoint: Endpoint, node: ChainNode) -> None:
    fail_first(node, 10**6, -32003, "response too large")
    with pytest.raises(AskedTooMuchError, match="thing 0 is refused: response too large"):
        ask(endpoint, 4)


@pytest.mark.parametrize("refusal", TOO_WIDE, ids=lambda refusal: refusal[1][:40])
def test_logs_span_shrinks_to_what_the_provider_says(
    endpoint: Endpoint, node: ChainNode, refusal: tuple[int, str, Any, int | None]
) -> None:
    code, message, data, limit = refusal
    most, sound, refusals = limit or 4000, node.act, [0]

    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "eth_getLogs":
            first, last = (int(params[0][bound], 16) for bound in ("fromBlock", "toBlock"))
            if last - first + 1 > most:
                refusals[0] += 1
                raise RpcFaultError(code, message, data)
        return sound(method, params)

    node.act = act
    found = logs(endpoint, 1_000_000, 1_019_999)
    assert [first for first, _ in found] == [1_000_000, *(last + 1 for _, last in found[:-1])]
    assert found[-1][1] == 1_019_999
    assert max(last - first + 1 for first, last in found) <= most
    assert limit is None or refusals[0] == 1
    refusals[0] = 0
    logs(endpoint, 0, 19_999)
    assert (refusals[0] == 0) is (limit is not None)  # what a provider states is remembered


def test_status_of_a_refused_span_does_not_matter(endpoint: Endpoint, node: ChainNode) -> None:
    """QuickNode and Base answer 413, Alchemy 400."""

    def batch(calls: list[Json], replies: list[Json]) -> Any:
        (asked,) = calls
        if asked["method"] != "eth_getLogs" or int(asked["params"][0]["toBlock"], 16) < 5:
            return None
        refusal = error(-32614, "eth_getLogs is limited to a 5 range", asked["id"])
        return httpx.Response(413, json=refusal)

    node.batch = batch
    with pytest.raises(RpcRefusedError, match="logs of blocks 5 to 5 is refused"):
        logs(endpoint, 0, 9)
    assert node.calls["eth_getLogs"] == 1 + 1 + 3  # 10, 5, then 5, 2 and 1 from block 5 on


def test_rate_limit_is_never_taken_for_a_limit_of_blocks(
    endpoint: Endpoint, node: ChainNode
) -> None:
    def act(method: str, params: list[Any]) -> bytes | None:
        if method == "eth_getLogs":
            raise RpcFaultError(-32000, "requests are limited to a maximum of 10 per second")
        return None

    node.act = act
    with pytest.raises(RateLimitedError):
        logs(endpoint, 0, 999)
    assert node.calls["eth_getLogs"] == 5  # attempts at the same span


# --- faults that heal ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32005, "daily request count exceeded, request rate limited"),
        (429, "Too Many Requests"),
        (-32603, "Internal error"),
        (-32000, "header not found"),
    ],
)
def test_fault_inside_a_body_is_retried(
    endpoint: Endpoint, node: ChainNode, code: int, message: str
) -> None:
    fail_first(node, 6, code, message)
    assert ask(endpoint, 3) == [0, 1, 2]
    assert node.sizes[:3] == [3, 3, 3]


def test_calls_that_were_answered_are_not_asked_again(endpoint: Endpoint, node: ChainNode) -> None:
    """A provider that limits calls refuses the later ones of a batch."""
    fail_first(node, 3, 429, "Your app has exceeded its compute units per second capacity")
    assert ask(endpoint, 8) == list(range(8))
    assert node.sizes == [8, 3]
    node.sizes.clear()
    assert ask(endpoint, 8) == list(range(8))
    assert node.sizes == [4, 4]


def test_rate_limit_that_stays_is_raised_and_less_is_asked_next_time(
    endpoint: Endpoint, node: ChainNode
) -> None:
    fail_first(node, 10**6, -32005, "rate limit exceeded")
    with pytest.raises(RateLimitedError, match="thing 0 is refused: rate limit exceeded"):
        ask(endpoint, 8)
    assert node.sizes == [8] * 5
    node.sizes.clear()
    with pytest.raises(RateLimitedError):
        ask(endpoint, 8)
    assert set(node.sizes) == {4}


def test_status_that_heals_is_retried(endpoint: Endpoint, node: ChainNode) -> None:
    answers = [httpx.Response(429), httpx.Response(503), httpx.Response(502, content=b"<html>")]
    node.batch = lambda calls, _: answers.pop() if answers else None
    assert ask(endpoint, 2) == [0, 1]


def test_error_in_the_body_of_a_refusal_says_more_than_its_status(
    endpoint: Endpoint, node: ChainNode
) -> None:
    refusal = error(-32601, "the method echo does not exist/is not available")
    refuse_above(node, 1, lambda _: httpx.Response(500, json=refusal))
    with pytest.raises(MethodMissingError):
        ask(endpoint, 2)
    refuse_above(node, 1, lambda _: httpx.Response(403, content=b"Forbidden"))
    with pytest.raises(PermanentSourceError, match="403"):
        ask(endpoint, 2)


def test_node_of_another_chain_is_refused(node: ChainNode) -> None:
    node.chain_id = 10
    endpoint = endpoint_of(node)
    for _ in range(2):
        with pytest.raises(WrongChainError, match=r"a\.test: is of chain 10, expected 1; correct"):
            ask(endpoint, 2)
    node.chain_id = 1
    assert ask(endpoint, 2) == [0, 1]
    assert ask(endpoint, 2) == [0, 1]
    assert node.calls["eth_chainId"] == 3
    endpoint.close()


@pytest.mark.parametrize("answer", [b'"one"', b"{}", b"1"])
def test_chain_id_that_is_none_is_unexpected(node: ChainNode, answer: bytes) -> None:
    node.act = lambda method, params: answer
    with pytest.raises(UnexpectedReplyError, match="for its chain id; is it a node"):
        ask(endpoint_of(node), 1)


def test_gateway_that_says_its_error_as_a_text_alone_is_understood(
    endpoint: Endpoint, node: ChainNode
) -> None:
    said = ["rate limit exceeded", "batch too large", "no such method: method not found"]
    texts = iter(said)

    def batch(calls: list[Json], replies: list[Json]) -> Any:
        return {"error": text} if len(calls) > 1 and (text := next(texts, None)) else None

    node.batch = batch
    with pytest.raises(MethodMissingError, match="no such method"):
        ask(endpoint, 40)
    assert node.sizes == [40, 40, 20]
    assert ask(endpoint, 10) == list(range(10))


def test_calls_in_a_second_are_limited(node: ChainNode, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "crypto_assets.sources.evm_rpc.bulk_transport", lambda: Network(node_a=node)
        )
        endpoint = endpoint_of(
            node, transport=None, calls_per_second=10, limits_folder=tmp_path / "limits"
        )
    assert ask(endpoint, 11) == list(range(11))
    assert node.sizes == [10, 1]
    assert [path.name for path in (tmp_path / "limits").glob("*.sqlite")] == [
        "rpc-node-a.test.sqlite"
    ]
    endpoint.close()


# --- several nodes -------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[Endpoints[Endpoint]]:
    network = Network(node_a=ChainNode(), node_b=ChainNode())
    endpoints = Endpoints(
        [
            Endpoint(
                url, chain_id=1, batch_size=5, transport=network, number=number, has_others=True
            )
            for number, url in enumerate((URL, OTHER_URL), start=1)
        ]
    )
    yield endpoints
    endpoints.close()


class Question:
    """Asks each endpoint; raises what is scripted for it, by its place."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.asked: list[str] = []

    def __call__(self, endpoint: Endpoint) -> str:
        name = endpoint.name.split("//node-")[1][0]
        self.asked.append(name)
        if name in self.errors:
            raise self.errors[name]
        return name


@pytest.mark.parametrize(
    "failure", [ServerFaultError("down"), HistoryPrunedError("pruned"), WrongChainError("other")]
)
def test_next_node_is_asked_where_one_fails_and_stays(
    pair: Endpoints[Endpoint], failure: SourceError
) -> None:
    question = Question(a=failure)
    assert pair.ask(question) == "b"
    assert pair.ask(question) == "b"
    assert question.asked == ["a", "b", "b"]
    assert pair.set_aside == {}
    question.errors = {"b": failure}
    assert pair.ask(question) == "a"


def test_where_all_fail_the_failure_that_may_heal_is_raised(pair: Endpoints[Endpoint]) -> None:
    question = Question(a=HistoryPrunedError("pruned"), b=ServerFaultError("busy"))
    with pytest.raises(ServerFaultError, match=r"^busy \(other endpoints: pruned\)$"):
        pair.ask(question)


def test_node_with_wrong_data_is_set_aside_with_its_reason(
    pair: Endpoints[Endpoint], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = HeaderHashMismatchError("block 7: hash", block=7)
    question = Question(a=wrong)
    assert pair.ask(question) == "b"
    assert pair.ask(question) == "b"
    assert pair.set_aside == {"https://node-a.test": "block 7: hash"}
    assert "https://node-a.test is set aside: block 7: hash" in caplog.text
    question.errors["b"] = ServerFaultError("busy")
    with pytest.raises(ServerFaultError, match=r"busy \(.*node-a.test is set aside: block 7"):
        pair.ask(question)
    assert question.asked == ["a", "b", "b", "b"]


def test_where_all_are_set_aside_the_error_is_raised_and_all_are_asked_again(
    pair: Endpoints[Endpoint],
) -> None:
    question = Question(
        a=HeaderHashMismatchError("block 7: hash", block=7),
        b=HeaderHashMismatchError("block 8: hash", block=8),
    )
    with pytest.raises(
        HeaderHashMismatchError, match=r"^https://node-b.test \(2\): block 8: hash$"
    ) as raised:
        pair.ask(question)
    assert raised.value.evidence == {
        "block": 8,
        "endpoint": "https://node-b.test (2)",
        "other_endpoints": ["https://node-a.test: block 7: hash"],
    }
    assert pair.set_aside == {}
    question.errors = {}
    assert pair.ask(question) == "a"


def test_error_that_is_not_of_a_source_goes_through(pair: Endpoints[Endpoint]) -> None:
    question = Question(a=SettingsError("wrong"))
    with pytest.raises(SettingsError):
        pair.ask(question)
    assert question.asked == ["a"]


# --- secrets -------------------------------------------------------------------------------------

SECRETS = ["Pa55word-of-somebody", "user-name-of-somebody", KEY, KEY[::-1], "t0ken/part"]
SECRET_URLS = [
    f"https://node-a.test/v3/{KEY}",
    f"https://node-a.test/{KEY}/",
    f"https://node-a.test/rpc?apikey={KEY}&x={KEY[::-1]}",
    f"https://user-name-of-somebody:Pa55word-of-somebody@node-a.test/{KEY}",
    f"https://node-a.test/t0ken%2Fpart/{KEY}",
]


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("how", ["status", "html", "error", "batch", "timeout", "refused", "chain"])
def test_nothing_of_a_url_but_its_host_is_shown(
    url: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Providers echo keys ("project <key> has been disabled"), and so do libraries."""
    caplog.set_level(logging.DEBUG)
    echo = f"key {KEY} of {url} is disabled"
    node = ChainNode(chain_id=5 if how == "chain" else 1)
    network = Network(node_a=node)
    if how == "status":
        node.batch = lambda calls, _: httpx.Response(401, content=echo.encode())
    elif how == "html":
        node.batch = lambda calls, _: httpx.Response(200, content=f"<p>{echo}".encode())
    elif how == "error":
        node.act = _refusing(-32000, echo)
    elif how == "batch":
        node.batch = lambda calls, _: error(-32600, f"no batch for {echo}")
    elif how == "timeout":
        network.nodes["node-a.test"] = httpx.ReadTimeout(f"no answer from {url}")
    elif how == "refused":
        network.nodes["node-a.test"] = httpx.ConnectError(f"cannot reach {url}")
    endpoint = Endpoint(url, chain_id=1, batch_size=5, transport=network)
    with pytest.raises(CryptoAssetsError) as raised:
        endpoint.batch(echoes(3))
    shown = [repr(endpoint), repr(endpoint._http), endpoint.name, endpoint.origin]
    shown += [str(raised.value), repr(raised.value), _own_records(caplog)]
    assert "https://node-a.test" in shown[4]
    for text in shown:
        assert not [secret for secret in SECRETS if secret in text], text
    endpoint.close()


def _refusing(code: int, message: str) -> Callable[[str, list[Any]], bytes | None]:
    def act(method: str, params: list[Any]) -> bytes | None:
        raise RpcFaultError(code, message, {"request": message})

    return act


def _own_records(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "url", ["", "node.test", "ftp://x/" + KEY, "https:///" + KEY, "http://h:x"]
)
def test_url_that_is_none_is_a_setting_to_correct(url: str) -> None:
    with pytest.raises(SettingsError, match="an RPC URL must begin with") as raised:
        Endpoint(url, chain_id=1, batch_size=1)
    assert KEY not in str(raised.value)


def test_request_goes_to_the_whole_url() -> None:
    node = ChainNode()
    for url in SECRET_URLS:
        network = Network(node_a=node)
        endpoint = Endpoint(url, chain_id=1, batch_size=1, transport=network)
        endpoint._check_chain()
        (request,) = network.requests
        without_user = url.replace("user-name-of-somebody:Pa55word-of-somebody@", "")
        assert str(request.url.copy_with(userinfo=b"")) == without_user
        assert ("Authorization" in request.headers) is (without_user != url)
        assert request.headers["Content-Type"] == "application/json"
        endpoint.close()


def test_kinds_of_error_are_where_callers_expect_them() -> None:
    assert issubclass(BlockMissingError, TransientSourceError)
    assert issubclass(MismatchedReplyError, UnexpectedReplyError)
    assert not issubclass(ConnectionFaultError, IntegrityError)
