"""Suites over Kraken: trades are all there, and candles built from them are Kraken's own.

Kraken gives no candles but those of the newest 720 minutes (Get OHLC data), and prints one for
every minute of them; a minute for which there is none is one that nobody asked about in time.
"""

from __future__ import annotations

from crypto_assets.checks.completeness import trades_are_complete
from crypto_assets.checks.suite import Suite, is_zero

# A candle's column here, and the same in Kraken's OHLC.
_COLUMNS = {
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "trade_count": "count",
}
# Name of the claim, what it says, and when a minute that Kraken tells of breaks it. Kraken cuts its
# average price off after the decimals that it prints for the pair.
_CLAIMS = (
    (
        "no_candle_is_missing",
        "each of Kraken's candles that counts trades has its candle here",
        "theirs.count > 0 and ours.volume is null",
    ),
    (
        "no_candle_is_made_up",
        "no candle is here for a minute of which Kraken counts no trades",
        "theirs.count = 0 and ours.volume is not null",
    ),
    *(
        (
            f"{ours}_equals_kraken",
            f"{ours} is Kraken's own, exactly",
            f"theirs.count > 0 and ours.{ours} <> theirs.{theirs}",
        )
        for ours, theirs in _COLUMNS.items()
    ),
    (
        "vwap_equals_kraken",
        "vwap is Kraken's own, to the last decimal that Kraken prints",
        "theirs.count > 0 and abs(ours.vwap - theirs.vwap) * 10 ** decimals > 1",
    ),
)
_COUNTS = ", ".join(
    f"count(*) filter (where {breaks}) as breaks_{name}" for name, _, breaks in _CLAIMS
)

_MINUTES = """
    with market_day as (
        select market, try_cast(partition as date) as day
        from raw.proofs
        where dataset = 'kraken_trades' and day between $from_day and $to_day
    ),

    ohlc_proof as (
        select market, try_cast(partition as date) as day
        from raw.proofs
        where dataset = 'kraken_ohlc' and day between $from_day and $to_day
    ),

    ours as (
        select *
        from markets.ohlcv_1m
        where venue = 'kraken' and opened_at >= $from_day and opened_at < $to_day + 1
    ),

    theirs as (
        select
            *,
            open_time as opened_at,
            date as day,
            max(length(rtrim(split_part(close::varchar, '.', 2), '0')))
                over (partition by market, date) as decimals,
        from raw.kraken_ohlc
        where date between $from_day and $to_day
    )
"""
_JOINED = "theirs left join ours using (market, opened_at) semi join market_day using (market, day)"

_EQUAL = Suite(
    name="candles_equal_kraken",
    asset="markets/ohlcv_1m",
    also_reads=("raw/kraken_ohlc",),
    description=(
        "Every minute candle built from Kraken's trades equals the one that Kraken publishes, for "
        "all minutes that Kraken still knew when it was asked."
    ),
    claims=(
        is_zero(
            "missing_ohlc",
            "ohlc_is_there_to_compare",
            "Kraken was asked for its candles of each market and day whose trades are in the lake",
        ),
        *(is_zero(f"breaks_{name}", name, meaning) for name, meaning, _ in _CLAIMS),
    ),
    metrics=f"""
        {_MINUTES},

        compared as (
            select
                market,
                day,
                {_COUNTS},
            from {_JOINED}
            group by all
        )

        select
            'kraken' as venue,
            market,
            day,
            (ohlc_proof.day is null)::bigint as missing_ohlc,
            {", ".join(f"coalesce(breaks_{name}, 0) as breaks_{name}" for name, *_ in _CLAIMS)},
        from market_day
        left join ohlc_proof using (market, day)
        left join compared using (market, day)
    """,
    offenders=" union all ".join(
        f"""(
            {_MINUTES}

            select
                '{name}' as claim,
                'kraken' as venue,
                market,
                day,
                opened_at::varchar as place,
                coalesce(
                    'open ' || ours.open || ' high ' || ours.high || ' low ' || ours.low
                        || ' close ' || ours.close || ' vwap ' || ours.vwap
                        || ' volume ' || ours.volume || ', ' || trade_count || ' trades',
                    'no candle'
                ) as found,
                'open ' || theirs.open || ' high ' || theirs.high || ' low ' || theirs.low
                    || ' close ' || theirs.close || ' vwap ' || theirs.vwap
                    || ' volume ' || theirs.volume || ', ' || count || ' trades' as expected,
            from {_JOINED}
            where {breaks}
        )"""
        for name, _, breaks in _CLAIMS
    ),
)

SUITES = (trades_are_complete("kraken"), _EQUAL)
