"""Macros of evm.sql, compiled by dbt and run in DuckDB, against Python's integers and fractions.

Each expression runs over many values in one query, as it does in a model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt_warehouse import PROJECT, Warehouse, messages

from crypto_assets.sources.trie import keccak256

Evaluate = Callable[[str, Sequence[tuple[Any, ...]]], list[Any]]

MAX_AMOUNT = 10**38 - 1
EDGES = [
    0,
    1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    2**112 - 1,
    MAX_AMOUNT - 1,
    MAX_AMOUNT,
    MAX_AMOUNT + 1,
    2**127 - 1,
    2**127,
    2**127 + 1,
    2**128 - 1,
    2**128,
    2**128 + 1,
    2**129 - 1,
    2**160 - 1,
    2**255 - 1,
    2**255,
    2**256 - 2,
    2**256 - 1,
]
SIGNED_EDGES = [value for edge in EDGES if edge < 2**255 for value in (edge, -edge, -edge - 1)]

EVENTS = {
    "erc20_transfer": "Transfer(address,address,uint256)",
    "uniswap_v2_pair_created": "PairCreated(address,address,address,uint256)",
    "uniswap_v2_swap": "Swap(address,uint256,uint256,uint256,uint256,address)",
    "uniswap_v2_sync": "Sync(uint112,uint112)",
    "uniswap_v3_pool_created": "PoolCreated(address,address,uint24,int24,address)",
    "uniswap_v3_swap": "Swap(address,address,int256,int256,uint160,uint128,int24)",
    "uniswap_v4_initialize": (
        "Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)"
    ),
    "uniswap_v4_swap": "Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)",
    "aave_v3_supply": "Supply(address,address,address,uint256,uint16)",
    "aave_v3_withdraw": "Withdraw(address,address,address,uint256)",
    "aave_v3_borrow": "Borrow(address,address,address,uint256,uint8,uint256,uint16)",
    "aave_v3_repay": "Repay(address,address,address,uint256,bool)",
    "aave_v3_liquidation_call": (
        "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
    ),
    "aave_v3_reserve_data_updated": (
        "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)"
    ),
    "aave_v3_deficit_created": "DeficitCreated(address,address,uint256)",
    "usdt_issue": "Issue(uint256)",
    "usdt_redeem": "Redeem(uint256)",
    "usdt_destroyed_black_funds": "DestroyedBlackFunds(address,uint256)",
}


@pytest.fixture
def evaluate(warehouse: Warehouse) -> Evaluate:
    """Evaluate an expression with macros over rows whose columns are a, b and c."""

    def evaluated(expression: str, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        compiled = warehouse.dbt(
            "compile", "--inline", f"select {expression} from input order by row_number"
        )
        assert compiled.success, messages(compiled)
        query = compiled.result.results[0].node.compiled_code  # type: ignore[union-attr]
        kinds = {str: "varchar", bytes: "blob", int: "hugeint"}
        columns = [
            f"unnest($values{place})::{kinds[type(value)]} as {name}"
            for place, (name, value) in enumerate(zip("abc", rows[0], strict=False))
        ]
        values = {
            f"values{place}": [str(value) if isinstance(value, int) else value for value in column]
            for place, column in enumerate(zip(*rows, strict=True))
        }
        with duckdb.connect() as connection:
            connection.execute(
                "create table input as select unnest(range($count)) as row_number, "
                + ", ".join(columns),
                {"count": len(rows), **values},
            )
            return [row[0] for row in connection.execute(str(query)).fetchall()]

    return evaluated


def word(value: int) -> str:
    """A word of 64 hex digits; a negative number in two's complement."""
    return f"{value % 2**256:064x}"


def words(values: Sequence[int]) -> list[tuple[str]]:
    return [(word(value),) for value in values]


def unscaled(value: Decimal | None) -> int | None:
    """A DECIMAL(38,18) in units of its last digit."""
    with localcontext(prec=60):
        return None if value is None else int(value * 10**18)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_word_is_cut_out_of_data_that_is_long_enough(evaluate: Evaluate, n: int) -> None:
    data = [bytes(range(length)) for length in (0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 160)]
    assert evaluate(f"{{{{ word('a', {n}) }}}}", [(each,) for each in data]) == [
        each[32 * n : 32 * n + 32].hex() if len(each) >= 32 * n + 32 else None for each in data
    ]


def test_a_topic_is_a_word_if_there_is_one(evaluate: Evaluate) -> None:
    assert evaluate("{{ topic_word('a') }}", [(b"\xab" * 32,), (None,)]) == ["ab" * 32, None]


def test_unsigned_words(evaluate: Evaluate) -> None:
    dice = random.Random(1)
    values = [*EDGES, *(dice.getrandbits(dice.randrange(1, 257)) for _ in range(2000))]
    rows = words(values)
    assert evaluate("{{ word_fits_uint128('a') }}", rows) == [value < 2**128 for value in values]
    assert evaluate("{{ word_to_uint128('a') }}", rows) == [
        value if value < 2**128 else None for value in values
    ]
    assert evaluate("{{ word_to_amount('a') }}", rows) == [
        value if value <= MAX_AMOUNT else None for value in values
    ]
    assert evaluate("{{ word_overflow('a') }}", rows) == [
        None if value <= MAX_AMOUNT else f"0x{value:064x}" for value in values
    ]


def test_signed_words(evaluate: Evaluate) -> None:
    dice = random.Random(2)
    values = [
        *SIGNED_EDGES,
        *(dice.choice((1, -1)) * dice.getrandbits(dice.randrange(1, 256)) for _ in range(2000)),
    ]
    rows = words(values)
    fits = [-(2**127) <= value < 2**127 for value in values]
    assert evaluate("{{ word_fits_int128('a') }}", rows) == fits
    assert evaluate("{{ word_to_int128('a') }}", rows) == [
        value if fit else None for value, fit in zip(values, fits, strict=True)
    ]
    assert evaluate("{{ word_to_signed_amount('a') }}", rows) == [
        value if abs(value) <= MAX_AMOUNT else None for value in values
    ]
    assert evaluate("{{ word_signed_overflow('a') }}", rows) == [
        None if abs(value) <= MAX_AMOUNT else f"0x{word(value)}" for value in values
    ]


def test_minus_one_is_all_ones(evaluate: Evaluate) -> None:
    assert evaluate("{{ word_to_signed_amount('a') }}", [("f" * 64,)]) == [-1]
    assert evaluate("{{ word_to_amount('a') }}", [("f" * 64,)]) == [None]


def test_numbers_keep_their_types(evaluate: Evaluate) -> None:
    kinds = {
        "word_to_uint128": "UHUGEINT",
        "word_to_int128": "HUGEINT",
        "word_to_amount": "DECIMAL(38,0)",
        "word_to_signed_amount": "DECIMAL(38,0)",
    }
    for macro, kind in kinds.items():
        assert evaluate(f"typeof({{{{ {macro}('a') }}}})", words([7])) == [kind]
    for price in ("to_units('12', '6')", "sqrt_price_to_price('a', '6', '18')"):
        assert evaluate(f"typeof({{{{ {price} }}}})", words([7])) == ["DECIMAL(38,18)"]


@pytest.mark.parametrize(
    "macro",
    [
        "fits_uint128",
        "fits_int128",
        "to_uint128",
        "to_int128",
        "to_amount",
        "to_signed_amount",
        "overflow",
        "signed_overflow",
        "to_address",
    ],
)
def test_a_missing_word_is_null(evaluate: Evaluate, macro: str) -> None:
    assert evaluate(f"{{{{ word_{macro}('a') }}}}", [(word(1),), (None,)])[1] is None


def test_an_address_fills_20_bytes_of_its_word(evaluate: Evaluate) -> None:
    address = "a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
    rows = [("0" * 24 + address,), ("0" * 64,), ("0" * 23 + "1" + address,), ("f" * 64,)]
    assert evaluate("{{ word_to_address('a') }}", rows) == [
        f"0x{address}",
        "0x" + "0" * 40,
        None,
        None,
    ]


def test_units_are_exact_or_null(evaluate: Evaluate) -> None:
    dice = random.Random(3)
    amounts = [0, 1, 9, 10**18, 10**20 - 1, 10**20, 10**37, MAX_AMOUNT - 1, MAX_AMOUNT]
    amounts += [dice.randrange(10**10) * 10 ** dice.randrange(28) for _ in range(20)]
    rows = [
        (sign * amount, decimals)
        for amount in amounts
        for sign in (1, -1)
        for decimals in [*range(78), 255, -1]
    ]

    def expected(raw: int, decimals: int) -> int | None:
        exact = Fraction(raw * 10**18) / Fraction(10) ** decimals
        fits = decimals >= 0 and exact.denominator == 1 and abs(exact) <= MAX_AMOUNT
        return int(exact) if fits else None

    found = evaluate("{{ to_units('a::decimal(38,0)', 'b') }}", rows)
    assert [unscaled(value) for value in found] == [expected(*row) for row in rows]
    assert None in found


def test_units_of_unknown_decimals_are_null(evaluate: Evaluate) -> None:
    assert evaluate("{{ to_units('a', 'b') }}", [(1, 0), (1, None), (None, 18)]) == [
        Decimal(1),
        None,
        None,
    ]


def exact_price(root: int, decimals0: int, decimals1: int) -> int | None:
    """The price in units of its last digit, rounded half up, from fractions."""
    if root >= 2**160 or not 0 <= decimals0 <= 77 or not 0 <= decimals1 <= 77:
        return None
    price = Fraction(root, 2**96) ** 2 * Fraction(10) ** (decimals0 - decimals1)
    rounded = (price * 10**18 * 2 + 1) // 2
    return rounded if rounded <= MAX_AMOUNT else None


def test_price_of_the_whole_domain(evaluate: Evaluate) -> None:
    """Every pair of decimals matters only by its difference; roots of all sizes, and the edges."""
    dice = random.Random(4)
    lowest, highest = 4295128739, 1461446703485210103287273052203988822378723970342
    roots = [0, 1, 2**48 - 1, 2**48, 2**95, 2**96 - 1, 2**96, 2**96 + 1, 2**159, 2**160 - 1]
    roots += [lowest, highest, 2**160, 2**256 - 1]
    rows = [
        (word(root), max(difference, 0), max(-difference, 0))
        for root in roots
        for difference in range(-77, 78)
    ]
    rows += [
        (word(dice.getrandbits(dice.randrange(1, 161))), dice.randrange(78), dice.randrange(78))
        for _ in range(5000)
    ]
    rows += [
        (
            word(dice.randrange(lowest, highest)),
            dice.choice((0, 2, 6, 8, 18, 24)),
            dice.choice((0, 2, 6, 8, 18, 24)),
        )
        for _ in range(2000)
    ]
    rows += [(word(2**96), 78, 78), (word(2**96), -1, 0), (word(2**96), 0, 255)]
    found = evaluate("{{ sqrt_price_to_price('a', 'b', 'c') }}", rows)
    expected = [exact_price(int(root, 16), d0, d1) for root, d0, d1 in rows]
    assert [unscaled(value) for value in found] == expected
    assert len({value for value in expected if value}) > 2000


def test_price_is_rounded_half_away_from_zero(evaluate: Evaluate) -> None:
    """(2^95 / 2^96)^2 = 0.25, whose digits move to the last place and beyond it."""
    assert [
        unscaled(value)
        for value in evaluate(
            "{{ sqrt_price_to_price('a', '0', 'b') }}",
            [
                *((word(2**95), decimals) for decimals in (16, 17, 18, 19)),
                # 0.5625 and 2.25: quotients by a power of ten that end in a five or not
                *((word(3 * 2**94), decimals) for decimals in (17, 18, 19)),
                *((word(3 * 2**95), decimals) for decimals in (17, 18, 19)),
            ],
        )
    ] == [25, 3, 0, 0, 6, 1, 0, 23, 2, 0]


def test_largest_price_that_fits(evaluate: Evaluate) -> None:
    """With 18 decimals more, 10^20 is reached between two roots."""
    root = next(
        root
        for root in range(79228162514264337593543950336 * 10**10 - 5, 2**160)
        if exact_price(root + 1, 0, 0) is None
    )
    rows = [(word(root), 0, 0), (word(root + 1), 0, 0), (word(2**96 * 10), 18, 0)]
    found = evaluate("{{ sqrt_price_to_price('a', 'b', 'c') }}", rows)
    assert unscaled(found[0]) == exact_price(root, 0, 0)
    assert found[1:] == [None, None]


def test_price_of_two_known_tokens(evaluate: Evaluate) -> None:
    """USDC (6 decimals) in WETH (18) at 2,000 USDC per WETH."""
    root = word(1771595571142957166518320255467520)
    assert evaluate("{{ sqrt_price_to_price('a', '6', '18') }}", [(root,)]) == [Decimal("0.0005")]


def test_price_is_null_without_decimals_or_root(evaluate: Evaluate) -> None:
    rows = [(word(2**96), 1, 1), (word(2**96), None, 1), (word(2**96), 1, None), (None, 1, 1)]
    assert evaluate("{{ sqrt_price_to_price('a', 'b', 'c') }}", rows) == [1, None, None, None]


def test_topics_are_the_hashes_of_their_signatures(evaluate: Evaluate) -> None:
    source = Path(PROJECT, "macros", "evm.sql").read_text()
    assert set(re.findall(r"'(\w+)': '[0-9a-f]{64}'", source)) == set(EVENTS)
    listed = ", ".join(f"{{{{ topic0('{event}') }}}}" for event in EVENTS)
    assert evaluate(f"[{listed}]", [(1,)])[0] == [
        keccak256(signature.encode()) for signature in EVENTS.values()
    ]


def test_an_event_that_is_not_listed_is_an_error(
    warehouse: Warehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    result = warehouse.dbt("compile", "--inline", "select {{ topic0('uniswap_v9_swap') }}")
    assert not result.success
    assert "No event is named uniswap_v9_swap" in capsys.readouterr().out


def test_quotients_of_units_are_exact_or_null(evaluate: Evaluate) -> None:
    """Amounts of all sizes in units of their last digit, against fractions."""
    dice = random.Random(5)
    limit = 17 * 10**34
    edges = [0, 1, 2, 3, 10**18, limit - 1, limit, MAX_AMOUNT]
    rows = [(n, d) for n in edges for d in edges]
    rows += [
        (dice.randrange(10 ** dice.randrange(1, 39)), dice.randrange(10 ** dice.randrange(1, 39)))
        for _ in range(3000)
    ]

    def expected(numerator: int, denominator: int) -> int | None:
        if not 0 < denominator < limit:
            return None
        rounded = (Fraction(numerator * 10**18, denominator) * 2 + 1) // 2
        return rounded if rounded <= MAX_AMOUNT else None

    # Decimals 18 make of an integer the decimal with those digits.
    found = evaluate("{{ divide_units(to_units('a', '18'), to_units('b', '18')) }}", rows)
    assert [unscaled(value) for value in found] == [expected(*row) for row in rows]
