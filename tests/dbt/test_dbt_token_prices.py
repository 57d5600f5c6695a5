"""Prices of tokens by the minute against the method of their docs page, worked out in Python."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from chain_logs import ChainTables
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"
MEME = "0x00000000000000000000000000000000000000aa"
OTHER = "0x00000000000000000000000000000000000000bb"
NO_HOOKS = "0x" + "00" * 20
ASSETS = {USDC: "USDC", WETH: "ETH", DAI: None}
STABLECOINS = {USDC, DAI}
DECIMALS = {USDC: 6, WETH: 18, DAI: 18, MEME: 9, OTHER: 0}
SYMBOLS = {USDC: "USDC", WETH: "WETH", DAI: "DAI", MEME: "MEME", OTHER: "OTHER"}
WORTH = {USDC: Fraction(1), WETH: Fraction(2000), DAI: Fraction(1), MEME: Fraction(3, 10**5)}

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(4)]
MINUTE = timedelta(minutes=1)
INDEX_AGE, POOL_AGE = 15 * MINUTE, 60 * MINUTE
DEPTH, TURNOVER = 50_000, 100
FACTOR, STABLE_FACTOR = Decimal(2), Decimal("1.05")
MODELS = ("stg_chain__blocks", "stg_chain__transactions", "blocks_daily", "token_prices_1m")
ALL_PRICES = "select * from defi.token_prices_1m order by opened_at, chain, token_address"


@dataclass(frozen=True)
class Pool:
    name: str
    token0: str
    token1: str
    protocol: str = "uniswap_v3"
    is_genuine: bool = True
    contract: str | None = None
    hooks: str | None = None

    @property
    def contract_address(self) -> str:
        return self.contract or self.name


POOLS = [
    Pool("0xp1", USDC, WETH),
    Pool("0xp2", DAI, USDC),
    Pool("0xp3", MEME, WETH, "uniswap_v2"),
    Pool("0xp4", MEME, USDC),
    Pool("0xp5", MEME, DAI),
    Pool("0xp6", MEME, WETH, is_genuine=False),
    # Two pool managers may have a pool of one id.
    Pool("0xp7", MEME, USDC, "uniswap_v4", contract="0xm1", hooks=NO_HOOKS),
    Pool("0xp7", MEME, USDC, "uniswap_v4", contract="0xm2", hooks=NO_HOOKS),
    Pool("0xp8", MEME, USDC, "uniswap_v4", contract="0xm1", hooks="0x" + "00" * 19 + "c0"),
]


@dataclass(frozen=True)
class Swap:
    pool: Pool
    at: datetime
    # What went into the pool and out of it, of token0 and of token1.
    amounts: tuple[int, int, int, int]
    # Of a V2 pool, after the swap.
    reserves: tuple[int, int]


@dataclass(frozen=True)
class IndexPrice:
    asset: str
    at: datetime
    price: Decimal
    is_contested: bool


def some_swaps(seed: int, days: Sequence[date], count: int) -> list[Swap]:
    """Mostly at a fair price, now and then absurd or tiny; some take part of an amount back."""
    dice = random.Random(seed)
    swaps = []
    for _ in range(count):
        pool = dice.choice(POOLS)
        at = midnight(dice.choice(days)) + timedelta(seconds=dice.randrange(86_400))
        usd = Fraction(10 ** dice.randrange(1, 6) * dice.randrange(1, 10))
        skew = Fraction(dice.choice([980, 1000, 1000, 1040, 1060, 1900, 2100, 30_000]), 1000)
        raw0, raw1 = (
            int(usd * share / WORTH[token] * 10 ** DECIMALS[token])
            for token, share in ((pool.token0, Fraction(1)), (pool.token1, skew))
        )
        back = dice.choice([0, 0, 0, raw0 // 10])
        amounts = (raw0, back, 0, raw1) if dice.random() < 0.5 else (back, raw0, raw1, 0)
        deep = dice.choice([10_000, 24_000, 26_000, 900_000])
        reserves = tuple(
            int(Fraction(deep) / WORTH[token] * 10 ** DECIMALS[token])
            for token in (pool.token0, pool.token1)
        )
        swaps.append(Swap(pool, at, amounts, (reserves[0], reserves[1])))
    return sorted(swaps, key=lambda swap: swap.at)


def some_index(seed: int, days: Sequence[date], count: int) -> list[IndexPrice]:
    """Prices in a few minutes of each day, some of them contested."""
    dice = random.Random(seed)
    rows = []
    for asset, worth in (("USDC", 1), ("ETH", 2000)):
        minutes = dice.sample(range(1440 * len(days)), count)
        for number in minutes:
            at = midnight(days[number // 1440]) + number % 1440 * MINUTE
            price = Decimal(worth * dice.randrange(990_000, 1_010_000)).scaleb(-6)
            rows.append(IndexPrice(asset, at, price, dice.random() < 0.1))
    return rows


def midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time())


def rounded(value: Fraction) -> Decimal:
    with localcontext(prec=90):
        exact = Decimal(value.numerator) / value.denominator
        return exact.quantize(Decimal("1e-12"), ROUND_HALF_UP)


@dataclass(frozen=True)
class Found:
    """A usable price of a pool in a minute."""

    at: datetime
    price: Decimal
    pool: Pool
    reference: str
    liquidity: Decimal
    turnover: Decimal

    @property
    def depth(self) -> tuple[bool, Decimal, str, str]:
        is_v2 = self.pool.protocol == "uniswap_v2"
        return is_v2, self.liquidity, self.pool.name, self.pool.contract_address


def deepest(found: Sequence[Found]) -> list[Found]:
    """The deepest pool of each minute."""
    best: dict[datetime, Found] = {}
    for one in found:
        if one.at not in best or one.depth > best[one.at].depth:
            best[one.at] = one
    return list(best.values())


class Method:
    """The page docs/token_prices.md, without regard to speed."""

    def __init__(
        self, covered: Sequence[date], swaps: Sequence[Swap], index: Sequence[IndexPrice]
    ) -> None:
        self.covered = set(covered)
        self.index = {(row.asset, row.at): row.price for row in index if not row.is_contested}
        self.found: dict[str, list[Found]] = defaultdict(list)
        self.refused: dict[str, list[datetime]] = defaultdict(list)
        self._judge([swap for swap in swaps if swap.at.date() in self.covered])

    def index_price(
        self, token: str, at: datetime, since: datetime
    ) -> tuple[datetime, Decimal] | None:
        asset = ASSETS.get(token)
        minute = at
        while asset and minute >= max(at - INDEX_AGE, since):
            if (asset, minute) in self.index:
                return minute, self.index[asset, minute]
            minute -= MINUTE
        return None

    def _judge(self, swaps: Sequence[Swap]) -> None:
        sums: dict[tuple[Any, ...], list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 2)
        reserves: dict[tuple[Pool, datetime], tuple[int, int]] = {}
        for swap in swaps:
            minute = swap.at.replace(second=0)
            reserves[swap.pool, minute] = swap.reserves
            tokens = (swap.pool.token0, swap.pool.token1)
            in0, out0, in1, out1 = swap.amounts
            nets = [
                Fraction(net, 10 ** DECIMALS[token])
                for token, net in zip(tokens, (in0 - out0, in1 - out1), strict=True)
            ]
            is_hooked = swap.pool.hooks not in {None, NO_HOOKS}
            if not swap.pool.is_genuine or is_hooked or nets[0] * nets[1] >= 0:
                continue
            for side in (0, 1):
                price = self.index_price(tokens[1 - side], minute, midnight(minute.date()))
                if price:
                    key = (swap.pool, minute, side, price[1])
                    amount, reference = sums[key]
                    sums[key] = [amount + abs(nets[side]), reference + abs(nets[1 - side])]
        turnovers = {
            (pool, minute, side): rounded(reference * Fraction(price))
            for (pool, minute, side, price), (_, reference) in sums.items()
        }
        candidates: dict[tuple[str, date], list[Found]] = defaultdict(list)
        traded: dict[str, set[datetime]] = defaultdict(set)
        for (pool, minute, side, price), (amount, _) in sums.items():
            tokens = (pool.token0, pool.token1)
            turnover = turnovers[pool, minute, side]
            if pool.protocol == "uniswap_v2":
                reserve = Fraction(
                    reserves[pool, minute][1 - side], 10 ** DECIMALS[tokens[1 - side]]
                )
                depth = 2 * rounded(reserve * Fraction(price))
            else:
                depth = sum(
                    (
                        of_minute
                        for (other, at, of_side), of_minute in turnovers.items()
                        if (other, at.date(), of_side) == (pool, minute.date(), side)
                    ),
                    Decimal(0),
                )
            found = rounded(Fraction(turnover) / amount)
            traded[tokens[side]].add(minute)
            if found > 0 and depth >= DEPTH and turnover >= TURNOVER:
                candidates[tokens[side], minute.date()].append(
                    Found(minute, found, pool, tokens[1 - side], depth, turnover)
                )
        for (token, _), of_day in candidates.items():
            prices = sorted(one.price for one in deepest(of_day))
            usual = prices[(len(prices) - 1) // 2]
            factor = STABLE_FACTOR if token in STABLECOINS else FACTOR
            used = [one for one in of_day if usual <= factor * one.price <= factor**2 * usual]
            self.found[token] += deepest(used)
        for token, minutes in traded.items():
            self.refused[token] = sorted(minutes - {one.at for one in self.found[token]})

    def pool_price(self, token: str, at: datetime) -> Found | None:
        known = [one for one in self.found[token] if at - POOL_AGE <= one.at <= at]
        return max(known, key=lambda one: one.at, default=None)

    def rows(self) -> list[tuple[Any, ...]]:
        return [
            row
            for day in sorted(self.covered)
            for number in range(1440)
            for token in sorted(SYMBOLS)
            if (row := self._row(token, midnight(day) + number * MINUTE))
        ]

    def _row(self, token: str, at: datetime) -> tuple[Any, ...] | None:
        head = ("ethereum", token, SYMBOLS[token], at)
        price = self.index_price(token, at, at - INDEX_AGE)
        if price:
            age = (at - price[0]) // MINUTE
            detail = ("venue_index", ASSETS[token], None, price[0], age, 3, None, None, None)
            return (*head, price[1], *detail)
        found = self.pool_price(token, at)
        if found:
            age = (at - found.at) // MINUTE
            of_pool = ("dex_pool", found.pool.name, found.reference, found.at, age)
            return (*head, found.price, *of_pool, None, found.liquidity, found.turnover, None)
        if token not in ASSETS:
            return None
        is_refused = any(at - POOL_AGE <= minute <= at for minute in self.refused[token])
        reason = "pool_refused" if is_refused else "no_pool_price"
        return (*head, *(None,) * 9, "no_index_price" if ASSETS[token] else reason)


@pytest.fixture
def new_tables(manifest: Manifest, tmp_path: Path) -> Callable[[str], ChainTables]:
    def made(name: str) -> ChainTables:
        tables = ChainTables(Warehouse(tmp_path / name / "warehouse.duckdb", manifest), manifest)
        tables.add_token(USDC, "USDC", 6, "stablecoin", "USDC")
        tables.add_token(WETH, "WETH", 18, "wrapped_native", "ETH")
        tables.add_token(DAI, "DAI", 18, "stablecoin")
        return tables

    return made


def add_world(
    tables: ChainTables, swaps: Sequence[Swap], index: Sequence[IndexPrice]
) -> ChainTables:
    tables.add_named(
        "intermediate.int_dex_swaps",
        (
            {
                "chain": "ethereum",
                "block_range": "r",
                "contract_address": swap.pool.contract_address,
                "pool": swap.pool.name,
                "protocol": swap.pool.protocol,
                "is_genuine": swap.pool.is_genuine,
                "is_empty": False,
                "is_amount_overflow": False,
                "block_time": swap.at,
                "block_number": number,
                "log_index": 1,
                "token0_address": swap.pool.token0,
                "token1_address": swap.pool.token1,
                "token0_symbol": SYMBOLS[swap.pool.token0],
                "token1_symbol": SYMBOLS[swap.pool.token1],
                "token0_decimals": DECIMALS[swap.pool.token0],
                "token1_decimals": DECIMALS[swap.pool.token1],
                "amount0_in_raw": Decimal(swap.amounts[0]),
                "amount0_out_raw": Decimal(swap.amounts[1]),
                "amount1_in_raw": Decimal(swap.amounts[2]),
                "amount1_out_raw": Decimal(swap.amounts[3]),
            }
            for number, swap in enumerate(swaps)
        ),
    )
    tables.add_named(
        "intermediate.int_dex_pools",
        (
            {
                "chain": "ethereum",
                "block_range": "r",
                "contract_address": pool.contract_address,
                "pool": pool.name,
                "hooks_address": pool.hooks,
            }
            for pool in {swap.pool: None for swap in swaps}
        ),
    )
    tables.add_named(
        "intermediate.int_dex_reserves",
        (
            {
                "chain": "ethereum",
                "pool": swap.pool.name,
                "block_time": swap.at,
                "block_number": number,
                "log_index": 0,
                "reserve0_raw": Decimal(swap.reserves[0]),
                "reserve1_raw": Decimal(swap.reserves[1]),
            }
            for number, swap in enumerate(swaps)
            if swap.pool.protocol == "uniswap_v2"
        ),
    )
    tables.add_named(
        "raw.published_index_prices_1m",
        (
            {
                "asset": row.asset,
                "opened_at": row.at,
                "price_usd": row.price,
                "is_contested": row.is_contested,
                "venue_count": 3,
            }
            for row in index
        ),
    )
    return tables


SWAPS = some_swaps(7, DAYS, 900)
INDEX = some_index(8, DAYS, 400)


def test_prices_follow_the_method_in_whatever_order_days_are_built(
    new_tables: Callable[[str], ChainTables],
) -> None:
    for order in ([0, 1, 2, 3], [3, 1, 2]):
        tables = add_world(new_tables(str(order)), SWAPS, INDEX)
        built: list[date] = []
        for number in order:
            built = sorted([*built, DAYS[number]])
            tables.cover(DAYS[number])
            tables.run_days([DAYS[number]], *MODELS)
        assert tables.warehouse.query(ALL_PRICES) == Method(built, SWAPS, INDEX).rows()
    counts = dict(
        tables.warehouse.query(
            "select coalesce(source, unpriced_reason), count(*) "
            "from defi.token_prices_1m group by 1"
        )
    )
    assert counts.keys() == {
        "venue_index",
        "dex_pool",
        "no_index_price",
        "no_pool_price",
        "pool_refused",
    }
    # A gap opens: nothing is carried out of the day any more.
    tables.cover()
    tables.run_days([DAYS[2]], *MODELS)
    remaining = [DAYS[1], DAYS[3]]
    assert tables.warehouse.query(ALL_PRICES) == Method(remaining, SWAPS, INDEX).rows()


def test_absurd_amounts_and_prices_stop_nothing(new_tables: Callable[[str], ChainTables]) -> None:
    """Whatever a swap says, the day is built, and what cannot be said exactly has no price."""
    most = 10**38 - 1
    index = [
        IndexPrice("USDC", midnight(DAYS[0]) + number * MINUTE, Decimal(1), False)
        for number in range(1440)
    ]
    dear = [
        IndexPrice("ETH", midnight(DAYS[0]) + number * MINUTE, Decimal(10**16 - 1), False)
        for number in range(60)
    ]
    meme_usdc = Pool("0xp4", MEME, USDC)
    meme_weth = Pool("0xp3", MEME, WETH, "uniswap_v2")
    amounts = [
        (pool, amount0, amount1)
        for pool in (meme_usdc, meme_weth)
        for amount0 in (1, 10**9, 10**25 - 1, 10**25, most)
        for amount1 in (1, 10**11, 10**22 - 1, 10**34 - 1, most)
    ]
    swaps = [
        Swap(pool, midnight(DAYS[0]) + place * MINUTE, (amount0, 0, 0, amount1), (most, most))
        for place, (pool, amount0, amount1) in enumerate(amounts)
    ]
    tables = add_world(new_tables("one"), swaps, [*index, *dear])
    tables.cover(DAYS[0])
    tables.run_days(DAYS[:1], *MODELS)
    found = tables.warehouse.query(
        "select opened_at, price_usd, turnover_usd from defi.token_prices_1m "
        f"where token_address = '{MEME}' and age_minutes = 0 order by opened_at"
    )
    assert found
    by_minute = {swap.at: swap for swap in swaps}
    for opened_at, price, turnover in found:
        swap = by_minute[opened_at]
        reference = swap.pool.token1
        worth = 1 if reference == USDC else 10**16 - 1
        paid = Fraction(swap.amounts[3] * worth, 10 ** DECIMALS[reference])
        assert turnover == rounded(paid)
        assert price == rounded(Fraction(turnover) / Fraction(swap.amounts[0], 10**9))


def test_however_many_huge_swaps_there_are_the_day_is_built(
    new_tables: Callable[[str], ChainTables],
) -> None:
    """In a V3 pool of a worthless token anyone may swap any amount at any price, for gas."""
    noon = midnight(DAYS[0]) + timedelta(hours=12)
    index = [
        IndexPrice("USDC", noon, Decimal(1), False),
        IndexPrice("ETH", noon, Decimal(3000), False),
    ]
    hoard = Pool("0xp5", MEME, USDC)
    vault = Pool("0xp6", MEME, WETH)
    real = Pool("0xp4", MEME, USDC)
    # Just below what counts; and 10^16 units, of which no sum has room for so many.
    amounts = [
        (hoard, 10**23 - 1, 10**20 - 1),
        (vault, 10**23 - 1, 10**32 - 1),
        (real, 10**25 - 1, 10**22 - 1),
    ]
    swaps = [
        Swap(pool, noon, (amount0, 0, 0, amount1), (0, 0))
        for pool, amount0, amount1 in amounts
        for _ in range(20_000)
    ]
    swaps.append(Swap(real, noon, (10**14, 0, 0, 10**11), (0, 0)))
    tables = add_world(new_tables("one"), swaps, index)
    tables.cover(DAYS[0])
    tables.run_days(DAYS[:1], *MODELS)
    found = tables.warehouse.query(
        "select price_usd, source_detail, liquidity_usd, turnover_usd from defi.token_prices_1m "
        f"where token_address = '{MEME}' and opened_at = timestamp '{noon}'"
    )
    assert found == [(1, real.name, 100_000, 100_000)]


def test_a_pool_that_can_be_bought_for_gas_is_no_deeper_than_one_that_has_something(
    new_tables: Callable[[str], ChainTables],
) -> None:
    """Turnover of a million does not win over reserves of 60,000, nor outvotes them."""
    noon = midnight(DAYS[0]) + timedelta(hours=12)
    index = [IndexPrice("USDC", noon + place * MINUTE, Decimal(1), False) for place in range(3)]
    real, bought = Pool("0xp3", MEME, USDC, "uniswap_v2"), Pool("0xp4", MEME, USDC)
    others = [Pool(f"0xq{number}", MEME, USDC) for number in range(5)]
    swaps = []
    for place in range(3):
        at = noon + place * MINUTE
        reserves = (0, 30_000 * 10**6)
        swaps.append(Swap(real, at, (10**12, 0, 0, 10**9), reserves))
        swaps += [Swap(pool, at, (10**14, 0, 0, 3 * 10**11), (0, 0)) for pool in (bought, *others)]
    # Alone in a minute, at three times the price.
    swaps.append(Swap(bought, noon + 3 * MINUTE, (10**14, 0, 0, 3 * 10**11), (0, 0)))
    tables = add_world(new_tables("one"), swaps, index)
    tables.cover(DAYS[0])
    tables.run_days(DAYS[:1], *MODELS)
    found = tables.warehouse.query(
        "select price_usd, source_detail, age_minutes from defi.token_prices_1m "
        f"where token_address = '{MEME}' order by opened_at limit 4"
    )
    assert found == [(1, real.name, 0)] * 3 + [(1, real.name, 1)]


def test_a_minute_has_one_vote_and_a_stablecoin_little_room(
    new_tables: Callable[[str], ChainTables],
) -> None:
    """Usable is what is within the factor of the median minute, in which the deepest pool votes."""
    noon = midnight(DAYS[0]) + timedelta(hours=12)
    index = [IndexPrice("USDC", noon, Decimal(1), False)]
    deep, dai = Pool("0xp4", MEME, USDC), Pool("0xp2", DAI, USDC)
    usd = 10**6

    def swap(pool: Pool, place: int, amount: int, dollars: int) -> Swap:
        raw = amount * 10 ** DECIMALS[pool.token0]
        return Swap(pool, noon + place * MINUTE, (raw, 0, 0, dollars * usd), (0, 0))

    swaps = [swap(Pool(f"0xq{n}", MEME, USDC), 0, 30_000, 60_000) for n in range(6)]
    paid = [70_000, 70_000, 70_000, 140_000, 140_070, 34_999, 35_000]
    swaps += [swap(deep, place, 70_000, dollars) for place, dollars in enumerate(paid)]
    paid = [100_000, 105_000, 106_000, 94_000]
    swaps += [swap(dai, place, 100_000, dollars) for place, dollars in enumerate(paid)]
    # Pools of one id, of two pool managers, neither of which trades enough.
    swaps += [
        swap(Pool("0xtwo", OTHER, USDC, "uniswap_v4", contract=manager), 0, 30_000, 30_000)
        for manager in ("0xm1", "0xm2")
    ]
    tables = add_world(new_tables("one"), swaps, index)
    tables.cover(DAYS[0])
    tables.run_days(DAYS[:1], *MODELS)
    found = tables.warehouse.query(
        "select token_address, minute(opened_at), price_usd from defi.token_prices_1m "
        "where source_detail like '0x%' and age_minutes = 0 order by all"
    )
    assert found == [
        *((MEME, place, Decimal(price)) for place, price in ((0, 1), (1, 1), (2, 1), (3, 2))),
        (MEME, 6, Decimal("0.5")),
        (DAI, 0, Decimal(1)),
        (DAI, 1, Decimal("1.05")),
    ]
