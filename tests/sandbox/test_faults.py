"""Every fault by its effect on the wire, and the text that switches faults on."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from itertools import pairwise

import httpx
import pytest

from crypto_assets.catalog import Catalog
from crypto_assets.errors import SettingsError
from crypto_assets.sandbox import FAULT_SYNTAX, FAULTS, create_app, transport
from crypto_assets.sandbox.chain_faults import CHAINED
from crypto_assets.sandbox.faults import BOMB_BYTES, Faults, ReplyFault
from crypto_assets.sandbox.paged import PAGED

from .conftest import REST, TODAY, Client, Csv, address, rows_of

TRADES, KLINES = address("trades", "2024-01-03"), address("1m", "2024-01-03")
TIME = f"{REST}/time"


def is_rate_limited(client: httpx.Client) -> bool:
    replies = [client.get(url) for url in (TIME, TRADES, f"{TRADES}.CHECKSUM")]
    return {(reply.status_code, reply.headers["retry-after"]) for reply in replies} == {(429, "1")}


def is_banned(client: httpx.Client) -> bool:
    reply = client.get(TIME)
    return reply.status_code == 418 and reply.json()["code"] == -1003


def is_slow(client: httpx.Client) -> bool:
    with pytest.raises(httpx.ReadTimeout):
        client.get(TIME, timeout=0.1)
    return True


def is_html(client: httpx.Client) -> bool:
    reply = client.get(TRADES)
    return reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")


def is_cut(client: httpx.Client) -> bool:
    whole, sound = client.get(TRADES), client.get(f"{TRADES}.CHECKSUM").text[:64]
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert hashlib.sha256(whole.content).hexdigest() != sound
    return not zipfile.is_zipfile(io.BytesIO(whole.content))


def has_other_checksum(client: httpx.Client) -> bool:
    digest, _, name = client.get(f"{TRADES}.CHECKSUM").text.partition("  ")
    return (
        len(digest) == 64
        and name == "BTCUSDT-trades-2024-01-03.zip\n"
        and digest != hashlib.sha256(client.get(TRADES).content).hexdigest()
    )


REPLIES: dict[str, Callable[[httpx.Client], bool]] = {
    "rate_limit": is_rate_limited,
    "ban": is_banned,
    "server_error": lambda client: client.get(TIME).status_code == 503,
    "slow": is_slow,
    "html_body": is_html,
    "json_error_body": lambda client: client.get(TIME).json()["code"] == -1000,
    "unknown_product": lambda client: client.get(TIME).json() == {"message": "NotFound"},
    "error_array": lambda client: client.get(TIME).json() == {"error": ["EService:Unavailable"]},
    "error_array_limit": lambda client: "Too many" in client.get(TIME).json()["error"][0],
    "unknown_pair": lambda client: "Unknown asset" in client.get(TIME).json()["error"][0],
    "missing_archive": lambda client: (
        client.get(TIME).status_code == 200 and "NoSuchKey" in client.get(TRADES).text
    ),
    "truncated": is_cut,
    "wrong_checksum": has_other_checksum,
}


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if isinstance(f, ReplyFault)])
def test_reply_faults_show_on_the_wire(sandbox: Client, sound: httpx.Client, name: str) -> None:
    assert REPLIES[name](sandbox(name))
    assert sound.get(TIME).status_code == sound.get(TRADES).status_code == 200


def members(archive: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(archive)).namelist()


def is_bomb(archive: bytes) -> bool:
    (info,) = zipfile.ZipFile(io.BytesIO(archive)).infolist()
    with zipfile.ZipFile(io.BytesIO(archive)).open(info) as inflated:
        is_zeros = inflated.read(1 << 20) == b"0" * (1 << 20)
    return is_zeros and info.file_size == BOMB_BYTES and len(archive) < BOMB_BYTES // 500


ARCHIVES: dict[str, Callable[[bytes], bool]] = {
    "zip_wrong_member": lambda body: members(body) == ["OTHER-BTCUSDT-trades-2024-01-03.csv"],
    "zip_extra_member": lambda body: (
        members(body)[1:] == ["__MACOSX/._BTCUSDT-trades-2024-01-03.csv"]
    ),
    "zip_path_traversal": lambda body: members(body) == ["../../BTCUSDT-trades-2024-01-03.csv"],
    "zip_bomb": is_bomb,
    "empty_archive": lambda body: rows_of(body) == [],
}


def changed(sound: Csv, rows: Csv) -> list[tuple[list[str], list[str]]]:
    return [(a, b) for a, b in zip(sound, rows, strict=True) if a != b]


def one_price(sound: Csv, rows: Csv) -> str:
    ((before, after),) = changed(sound, rows)
    assert before[0] == after[0]
    assert before[2:] == after[2:]
    return after[1]


def is_doubled(before: list[str], after: list[str]) -> bool:
    return len(before) == len(after) and any(
        0 < 2 * Decimal(a) == Decimal(b) for a, b in zip(before, after, strict=True) if a != b
    )


def is_later_by_a_day(sound: Csv, rows: Csv) -> bool:
    ((before, after),) = changed(sound, rows)
    shifts = {int(b) - int(a) for a, b in zip(before, after, strict=True) if a != b}
    return before == sound[-1] and shifts == {86_400_000}


def has_repeat(sound: Csv, rows: Csv, *, same: bool) -> bool:
    pairs = [(a, b) for a, b in pairwise(rows) if a[0] == b[0]]
    ((first, second),) = pairs
    return len(rows) == len(sound) + 1 and (first == second if same else is_doubled(first, second))


def has_times_of(rows: Csv, column: int, *lengths: int) -> bool:
    half = len(rows) // 2
    return [{len(row[column]) for row in part} for part in (rows[:half], rows[half:])] == [
        {length} for length in lengths
    ]


# Each is given the sound rows, those of the fault, and which column holds the time.
ROWS: dict[str, Callable[[Csv, Csv, int], bool]] = {
    "header_row": lambda sound, rows, _: rows[1:] == sound and not rows[0][0].isdigit(),
    "extra_column": lambda sound, rows, _: [row[:-1] for row in rows] == sound,
    "wrong_unit": lambda _, rows, at: has_times_of(rows, at, 10, 10),
    "unit_flip": lambda _, rows, at: has_times_of(rows, at, 13, 16),
    "other_day": lambda sound, rows, _: is_later_by_a_day(sound, rows),
    "duplicate": lambda sound, rows, _: has_repeat(sound, rows, same=True),
    "conflicting_duplicate": lambda sound, rows, _: has_repeat(sound, rows, same=False),
    "gap": lambda sound, rows, _: (
        len(rows) == len(sound) - 3 and rows[0] == sound[0] and rows[-1] == sound[-1]
    ),
    "unordered": lambda sound, rows, _: rows != sound and sorted(rows) == sorted(sound),
    "too_many_digits": lambda sound, rows, _: len(one_price(sound, rows).partition(".")[2]) == 9,
    "negative_price": lambda sound, rows, _: Decimal(one_price(sound, rows)) < 0,
    "zero_price": lambda sound, rows, _: Decimal(one_price(sound, rows)) == 0,
    "nan_price": lambda sound, rows, _: Decimal(one_price(sound, rows)).is_nan(),
    "restated": lambda sound, rows, _: all(is_doubled(*pair) for pair in changed(sound, rows)),
    "shifted_kline": lambda sound, rows, _: (
        [
            (Decimal(b[5]) - Decimal(a[5]), a[:5] == b[:5], a[6:] == b[6:])
            for a, b in changed(sound, rows)
        ]
        == [(Decimal("0.00000001"), True, True)]
    ),
}


def proven(client: httpx.Client, url: str) -> bytes:
    """The archive, which its checksum file must confirm."""
    body = client.get(url).content
    assert client.get(f"{url}.CHECKSUM").text.startswith(hashlib.sha256(body).hexdigest())
    return body


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_faults_keep_their_checksum(
    sandbox: Client, sound: httpx.Client, name: str
) -> None:
    assert ARCHIVES[name](proven(sandbox(name), TRADES))
    assert not ARCHIVES[name](proven(sound, TRADES))


@pytest.mark.parametrize("url", [TRADES, KLINES], ids=["trades", "klines"])
@pytest.mark.parametrize("name", ROWS)
def test_row_faults_keep_their_checksum(
    sandbox: Client, sound: httpx.Client, name: str, url: str
) -> None:
    whole, rows = (rows_of(proven(client, url)) for client in (sound, sandbox(name)))
    if name == "shifted_kline" and url == TRADES:
        assert rows == whole
    else:
        assert rows != whole
        assert ROWS[name](whole, rows, 4 if url == TRADES else 0)


def test_a_restated_trade_still_multiplies_exactly(sandbox: Client, sound: httpx.Client) -> None:
    rows = rows_of(sandbox("restated").get(TRADES).content)
    assert all(Decimal(row[1]) * Decimal(row[2]) == Decimal(row[3]) for row in rows)
    assert sandbox("restated").get(TRADES).headers["etag"] != sound.get(TRADES).headers["etag"]


def test_every_fault_has_a_test_and_a_description() -> None:
    # Those of pages and of the chain are held against their venues and nodes, beside this file.
    assert {*REPLIES, *ARCHIVES, *ROWS, *PAGED, *CHAINED} == set(FAULTS)
    assert all(fault.description for fault in FAULTS.values())


def test_a_fault_is_limited_to_symbol_day_and_dataset(sandbox: Client, sound: httpx.Client) -> None:
    other_symbol = address("trades", "2024-01-03", "USDCUSDT")
    other_day = address("trades", "2024-01-04")
    everything = (TRADES, KLINES, other_symbol, other_day)
    wholes = [sound.get(url).content for url in everything]
    for faults, hit in (
        ("duplicate", [True, True, True, True]),
        ("duplicate@BTCUSDT", [True, True, False, True]),
        ("duplicate@BTCUSDT@2024-01-03", [True, True, False, False]),
        ("duplicate@*@2024-01-03", [True, True, True, False]),
        ("duplicate@BTCUSDT@2024-01-03@trades", [True, False, False, False]),
        ("duplicate@*@*@klines, gap@USDCUSDT", [False, True, True, False]),
    ):
        client = sandbox(faults)
        bodies = [client.get(url).content for url in everything]
        assert [body != whole for body, whole in zip(bodies, wholes, strict=True)] == hit
    assert sandbox("server_error@BTCUSDT@2024-01-03").get(TIME).status_code == 200
    assert sandbox("server_error@*@*@time").get(TIME).status_code == 503


def test_a_fault_with_a_number_heals(sandbox: Client, sound: httpx.Client) -> None:
    client = sandbox("rate_limit:2")
    assert [client.get(url).status_code for url in (TIME, TRADES, TIME)] == [429, 429, 200]
    client = sandbox("gap:1")
    whole = sound.get(TRADES).content
    assert proven(client, TRADES) != whole
    assert proven(client, TRADES) == whole


def test_faults_add_up(sandbox: Client, sound: httpx.Client) -> None:
    client = sandbox("header_row,duplicate,server_error:1")
    assert client.get(TRADES).status_code == 503
    assert len(rows_of(proven(client, TRADES))) == len(rows_of(sound.get(TRADES).content)) + 2


@pytest.mark.parametrize(
    "text",
    [
        "gpa",
        "gap@BTCUSDT@yesterday",
        "gap@BTCUSDT@2024-02-30",
        "gap:0",
        "gap:many",
        "gap@a@*@b@c",
        "null_block@*@200-100",
        "null_block@*@-100",
    ],
)
def test_unreadable_text_is_a_settings_error_that_names_the_faults(text: str) -> None:
    with pytest.raises(SettingsError, match=r"Known faults: .*, ban, ") as raised:
        Faults(text, {"BTCUSDT"})
    assert text in str(raised.value)
    assert FAULT_SYNTAX in str(raised.value)


def test_the_examples_of_the_syntax_can_be_read() -> None:
    examples = FAULT_SYNTAX.partition("For example ")[2].replace(" or ", ", ").split(", ")
    assert len(examples) == 3
    for text in examples:
        Faults(text, {"BTCUSDT", "ethereum"})


def test_an_unknown_symbol_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"BTCUSTD.*known are BTCUSDT"):
        Faults("gap@BTCUSTD", {"BTCUSDT"})


def test_rules_and_clock_can_be_changed_while_the_sandbox_runs(catalog: Catalog) -> None:
    app = create_app(catalog, faults="ban", today=TODAY)
    with httpx.Client(transport=transport(app)) as client:
        assert client.get(TIME).status_code == 418
        app.state.faults.switch("")
        assert client.get(TRADES).status_code == 200
        app.state.clock.fixed = date(2024, 1, 3)
        assert client.get(TRADES).status_code == 404
