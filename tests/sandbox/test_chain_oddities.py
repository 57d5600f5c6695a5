"""What is odd among the swaps of the sandbox chain: that it is there, and what it is."""

from __future__ import annotations

from collections import Counter, defaultdict

from .chain_events import OF_MAINNET, USDC, in_first_range, is_genuine, named, pair


def test_everything_odd_is_there_in_the_first_thousand_blocks() -> None:
    swaps = [one for one in in_first_range(named("V2Swap")) if is_genuine(one.address)]
    filled = Counter(sum(value > 0 for value in one.values[1:5]) for one in swaps)
    assert filled[4] >= 2, "two-sided"
    assert filled[3] >= 2, "a fee on transfer that flows back"
    lent = [one for one in swaps if (one.values[1] and one.values[3] and not one.values[2])
            or (one.values[2] and one.values[4] and not one.values[1])]  # fmt: skip
    assert len(lent) >= 2, "flash swaps"
    assert len(in_first_range(named("Flash"))) >= 2
    every = in_first_range(named("V2Swap", "V3Swap", "V4Swap"))
    per_transaction = Counter(one.transaction for one in every)
    assert sum(count > 1 for count in per_transaction.values()) >= 2
    huge = [abs(value) for one in in_first_range(named("V3Swap")) for value in one.values[2:4]]
    assert sum(value >= 2**128 for value in huge) >= 2
    assert sum(10**38 <= value < 2**128 for value in huge) >= 2
    assert sum(2**64 < value < 10**38 for value in huge) >= 2
    transfers = [one.values[2] for one in in_first_range(named("Transfer"))]
    assert {10**38 - 1, 10**38, 2**128 - 1, 2**128, 2**256 - 1} <= set(transfers)
    imitated = [one for one in every if one.name != "V4Swap"
                and one.address not in OF_MAINNET and pair(one.address)[0] == USDC]  # fmt: skip
    assert len({one.address for one in imitated}) == 3
    assert min(Counter(one.address for one in imitated).values()) >= 2


def test_a_route_goes_through_two_pools_with_the_same_amount() -> None:
    by_transaction = defaultdict(list)
    for one in in_first_range(named("V3Swap")):
        by_transaction[one.transaction].append(one)
    routes = [two for two in by_transaction.values() if len(two) == 2]
    assert len(routes) >= 60
    forth = [two for two in routes if two[0].values[3] < 0]
    assert len(forth) == len(routes) // 2
    for first, second in forth:
        assert first.values[3] == -second.values[2]
        assert first.values[2] > 0 > second.values[3]
