"""The lending market of the sandbox chain: what users do, rates and indexes."""

from __future__ import annotations

from collections import Counter

from .chain_events import NOBODY, USDC, USDT, WETH, Event, events, in_first_range, named

POOL = "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"
RAY, YEAR = 10**27, 365 * 86_400
RESERVES = {
    WETH: "0x4d5f47fa6a74757f35c14fd3a6ef8e3c9bc514e8",
    USDC: "0x98c23e9d8f34fefb1b7bd6a91b7ff122f4e16f5c",
    USDT: "0x23878914efe38d27c4d67ab83ed1b93a74d4086a",
}
ACTIONS = (
    "Supply", "Withdraw", "Borrow", "Repay", "LiquidationCall", "DeficitCreated", "FlashLoan",
)  # fmt: skip


def of_pool(*names: str) -> list[Event]:
    return named(*names, of=POOL)


def test_everything_happens_more_than_once_in_the_first_range() -> None:
    found = in_first_range(of_pool(*ACTIONS))
    seen = Counter(one.name for one in found)
    assert {*seen} == {*ACTIONS}
    assert min(seen.values()) >= 2
    assert 250 < sum(seen.values()) < 500
    repaid = Counter(one.values[4] for one in found if one.name == "Repay")
    liquidated = Counter(one.values[6] for one in found if one.name == "LiquidationCall")
    flash = Counter(one.values[4] for one in found if one.name == "FlashLoan")
    for kinds in (repaid, liquidated):
        assert {*kinds} == {True, False}
        assert min(kinds.values()) >= 2
    assert {*flash} == {0, 2}
    assert {one.values[0] for one in found if one.name == "Supply"} == {*RESERVES}


def test_every_action_updates_its_reserve_in_the_same_transaction() -> None:
    updated = {(one.transaction, one.values[0]) for one in of_pool("ReserveDataUpdated")}
    for one in of_pool(*ACTIONS):
        reserve = one.values[1] if one.name in ("LiquidationCall", "DeficitCreated") else (
            one.values[2] if one.name == "FlashLoan" else one.values[0])  # fmt: skip
        assert (one.transaction, reserve) in updated
        if one.name == "LiquidationCall":
            assert ((one.transaction, one.values[0]) in updated) == (not one.values[6])


def test_indexes_grow_by_the_rates_in_between() -> None:
    last: dict[str, Event] = {}
    grown = 0
    for one in of_pool("ReserveDataUpdated"):
        reserve, supply_rate, stable_rate, borrow_rate, supply_index, borrow_index = one.values
        assert stable_rate == 0
        assert RAY // 100 < supply_rate < borrow_rate < RAY // 10
        before = last.get(reserve)
        last[reserve] = one
        if before is None:
            continue
        passed = one.time - before.time
        assert passed >= 0
        if passed == 0:
            assert before.values == one.values
            continue
        linear = before.values[4] * before.values[1] * passed // (YEAR * RAY)
        assert abs(supply_index - before.values[4] - linear) <= linear // 10**6
        # As Aave does it: three terms of the binomial series, with a rate per second.
        rate = before.values[3] // YEAR
        series = rate * passed + passed * (passed - 1) // 2 * rate**2 // RAY
        compounded = before.values[5] * series // RAY
        assert abs(borrow_index - before.values[5] - compounded) <= compounded // 10**6
        assert supply_index > before.values[4]
        assert borrow_index > before.values[5]
        grown += 1
    assert {*last} == {*RESERVES}
    assert grown > 500


def test_what_is_moved_is_what_is_said() -> None:
    moved = {(one.transaction, one.address, *one.values) for one in named("Transfer")}
    checked = Counter[str]()
    for one in of_pool("Supply", "Withdraw", "Borrow", "Repay", "LiquidationCall"):
        reserve, user = one.values[:2]
        receipt = RESERVES[reserve]
        match one.name:
            case "Supply":
                expected = (reserve, user, receipt, one.values[3])
            case "Withdraw":
                expected = (reserve, receipt, user, one.values[3])
            case "Borrow":
                expected = (reserve, receipt, user, one.values[3])
            case "Repay" if one.values[4]:
                expected = (receipt, user, NOBODY, one.values[3])
            case "Repay":
                expected = (reserve, one.values[2], receipt, one.values[3])
            case _:
                _, debt, borrower, covered, seized, liquidator, takes_receipt = one.values
                assert (one.transaction, debt, liquidator, RESERVES[debt], covered) in moved
                expected = (receipt, borrower, liquidator, seized) if takes_receipt else (
                    reserve, receipt, liquidator, seized)  # fmt: skip
        assert (one.transaction, *expected) in moved, one
        checked[one.name] += 1
    assert len(checked) == 5


def test_a_flash_loan_costs_a_premium_or_opens_a_debt() -> None:
    borrowed = {(one.transaction, one.values[0], one.values[3]) for one in of_pool("Borrow")}
    for one in of_pool("FlashLoan"):
        _, _, asset, amount, mode, premium, _ = one.values
        assert ((one.transaction, asset, amount) in borrowed) == (mode == 2)
        assert premium == (0 if mode == 2 else -(-amount * 5 // 10_000))


def test_one_transaction_has_one_deficit_and_it_is_less_than_the_debt() -> None:
    covered = {one.transaction: one for one in of_pool("LiquidationCall")}
    for one in of_pool("DeficitCreated"):
        call = covered[one.transaction]
        assert one.values[:2] == (call.values[2], call.values[1])
        assert 0 < one.values[2] < call.values[3]
    assert all(one.address == POOL for one in events() if one.name in ACTIONS)
