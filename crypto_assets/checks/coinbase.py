"""Suites over Coinbase: trades are all there, and its own candles know of nothing that they lack.

Coinbase says of its candles that they "may be incomplete" (Get product candles), so one of them
may be missing or hold fewer trades than there were. What it holds must be among our trades all the
same: a candle that reaches further or weighs more than ours tells of a trade that we do not have.
"""

from __future__ import annotations

from crypto_assets.checks.completeness import trades_are_complete
from crypto_assets.checks.suite import Suite, is_between, is_zero

# Coinbase adds volumes up as floats and prints their noise (0.30000000000000004).
_NOISE = "(0.000000001 + ours.volume * 0.000000000001)"
# Minutes of a day in which its candles may be missing or short of trades.
_TOLERATED = 15

# Name of the claim, what it says, and when a minute breaks it.
_CLAIMS = (
    (
        "candles_know_no_other_trades",
        "each candle of Coinbase has trades here",
        "ours.volume is null",
    ),
    (
        "candles_reach_no_further",
        "no candle of Coinbase has a higher high or a lower low than the trades",
        "theirs.high > ours.high or theirs.low < ours.low",
    ),
    (
        "candles_weigh_no_more",
        "no candle of Coinbase has more volume than the trades, but for the noise of its sums",
        f"theirs.volume > ours.volume + {_NOISE}",
    ),
    (
        "whole_candles_are_equal",
        "where volumes agree, open, high, low and close are Coinbase's own, exactly",
        f"abs(theirs.volume - ours.volume) <= {_NOISE} and (theirs.open, theirs.high, theirs.low, "
        "theirs.close) is distinct from (ours.open, ours.high, ours.low, ours.close)",
    ),
)
_IS_INCOMPLETE = f"theirs.volume is null or theirs.volume < ours.volume - {_NOISE}"
_COUNTS = ", ".join(
    f"count(*) filter (where {breaks}) as breaks_{name}" for name, _, breaks in _CLAIMS
)

_MINUTES = """
    with market_day as (
        select market, try_cast(partition as date) as day
        from raw.proofs
        where dataset = 'coinbase_trades' and day between $from_day and $to_day
    ),

    candles_proof as (
        select market, try_cast(partition as date) as day
        from raw.proofs
        where dataset = 'coinbase_candles' and day between $from_day and $to_day
    ),

    ours as (
        select *, opened_at::date as day
        from markets.ohlcv_1m
        where venue = 'coinbase' and opened_at >= $from_day and opened_at < $to_day + 1
    ),

    theirs as (
        select *, open_time as opened_at, date as day
        from raw.coinbase_candles
        where date between $from_day and $to_day
    )
"""
_JOINED = """
    ours
    full join theirs using (market, day, opened_at)
    semi join candles_proof using (market, day)
"""

_AGREE = Suite(
    name="candles_agree_with_coinbase",
    asset="markets/ohlcv_1m",
    also_reads=("raw/coinbase_candles",),
    description=(
        "The candles that Coinbase publishes hold nothing that its trades lack, and equal the "
        "candles built from them wherever they are whole."
    ),
    claims=(
        is_zero(
            "missing_candles",
            "candles_are_there_to_compare",
            "Coinbase's candles are in the lake for each market and day whose trades are",
        ),
        *(is_zero(f"breaks_{name}", name, meaning) for name, meaning, _ in _CLAIMS),
        is_between(
            "incomplete",
            0,
            _TOLERATED,
            "few_candles_are_incomplete",
            f"Coinbase's candles lack trades in at most {_TOLERATED} minutes of a day",
        ),
    ),
    metrics=f"""
        {_MINUTES},

        compared as (
            select
                market,
                day,
                count(*) filter (where {_IS_INCOMPLETE}) as incomplete,
                {_COUNTS},
            from {_JOINED}
            group by all
        )

        select
            'coinbase' as venue,
            market,
            day,
            (candles_proof.day is null)::bigint as missing_candles,
            coalesce(incomplete, 0) as incomplete,
            {", ".join(f"coalesce(breaks_{name}, 0) as breaks_{name}" for name, *_ in _CLAIMS)},
        from market_day
        left join candles_proof using (market, day)
        left join compared using (market, day)
    """,
    offenders=" union all ".join(
        f"""(
            {_MINUTES}

            select
                '{name}' as claim,
                'coinbase' as venue,
                market,
                day,
                opened_at::varchar as place,
                coalesce(
                    'open ' || ours.open || ' high ' || ours.high || ' low ' || ours.low
                        || ' close ' || ours.close || ' volume ' || ours.volume,
                    'no trades'
                ) as found,
                coalesce(
                    'open ' || theirs.open || ' high ' || theirs.high || ' low ' || theirs.low
                        || ' close ' || theirs.close || ' volume ' || theirs.volume,
                    'no candle'
                ) as expected,
            from {_JOINED}
            where {breaks}
        )"""
        for name, breaks in (
            *((name, breaks) for name, _, breaks in _CLAIMS),
            ("few_candles_are_incomplete", _IS_INCOMPLETE),
        )
    ),
)

SUITES = (trades_are_complete("coinbase"), _AGREE)
