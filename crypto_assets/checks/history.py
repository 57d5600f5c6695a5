"""A suite over days: volume and trades beside those of the market's own recent past.

Markets have days of twenty times the usual volume, and of a twentieth; those warn. None has one of
five hundred times: that is a wrong unit, a source gone mad or an empty one, and blocks.
"""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, as_warning, is_between

_HISTORY_DAYS = 28
_LEAST_DAYS = 5
# Below it, chance alone makes a day of none.
_LEAST_TRADES = 100
# In thousandths of the median of the days before.
_POSSIBLE = (2, 500_000)
_USUAL = (50, 20_000)

_DAYS = f"""
    with market_day as (
        select venue, market, try_cast(partition as date) as day
        from raw.proofs
        where dataset = venue || '_trades' and day between $from_day and $to_day
            -- After its last day a market has a past, but nothing to hold against it.
            and status <> 'not_listed'
    ),

    history as (
        select
            market_day.venue,
            market_day.market,
            market_day.day,
            quantile_disc(candle.volume, 0.5) as volume,
            quantile_disc(candle.trade_count, 0.5) as trade_count,
        from market_day
        join markets.ohlcv_1d as candle
            on candle.venue = market_day.venue
            and candle.market = market_day.market
            and candle.opened_at >= market_day.day - {_HISTORY_DAYS}
            and candle.opened_at < market_day.day
        where candle.opened_at >= $from_day - {_HISTORY_DAYS}
        group by all
        having count(*) >= {_LEAST_DAYS}
            and quantile_disc(candle.trade_count, 0.5) >= {_LEAST_TRADES}
    ),

    beside as (
        select
            venue,
            market,
            day,
            history.volume as usual_volume,
            history.trade_count as usual_trades,
            coalesce(candle.volume, 0) as volume,
            coalesce(candle.trade_count, 0) as trade_count,
            (1000 * coalesce(candle.volume, 0)::double / history.volume)::bigint as volume_permille,
            (1000 * coalesce(candle.trade_count, 0) // history.trade_count)::bigint
                as trades_permille,
        from history
        left join (
            select *, opened_at::date as day
            from markets.ohlcv_1d
            where opened_at >= $from_day and opened_at < $to_day + 1
        ) as candle using (venue, market, day)
    )
"""
_BEFORE = f"the median of the {_HISTORY_DAYS} days before (of at least {_LEAST_DAYS} of them)"

_PLAUSIBLE = Suite(
    name="days_are_plausible",
    asset="markets/ohlcv_1d",
    description="A day's volume and number of trades are of the order of the days before.",
    claims=(
        is_between(
            "volume_permille",
            *_POSSIBLE,
            "volume_is_possible",
            f"volume is between a 500th and 500 times {_BEFORE}",
        ),
        is_between(
            "trades_permille",
            *_POSSIBLE,
            "trade_count_is_possible",
            f"the number of trades is between a 500th and 500 times {_BEFORE}",
        ),
        as_warning(
            is_between(
                "volume_permille",
                *_USUAL,
                "volume_is_usual",
                f"volume is between a 20th and 20 times {_BEFORE}",
            )
        ),
        as_warning(
            is_between(
                "trades_permille",
                *_USUAL,
                "trade_count_is_usual",
                f"the number of trades is between a 20th and 20 times {_BEFORE}",
            )
        ),
    ),
    metrics=f"{_DAYS} select venue, market, day, volume_permille, trades_permille from beside",
    offenders=f"""
        {_DAYS}

        select
            unnest(if(volume_permille between {_POSSIBLE[0]} and {_POSSIBLE[1]},
                ['volume_is_usual'], ['volume_is_possible', 'volume_is_usual'])) as claim,
            venue,
            market,
            day,
            'whole day' as place,
            'volume ' || volume as found,
            'about ' || usual_volume as expected,
        from beside
        where volume_permille not between {_USUAL[0]} and {_USUAL[1]}
        union all
        select
            unnest(if(trades_permille between {_POSSIBLE[0]} and {_POSSIBLE[1]},
                ['trade_count_is_usual'], ['trade_count_is_possible', 'trade_count_is_usual'])),
            venue,
            market,
            day,
            'whole day',
            trade_count || ' trades',
            'about ' || usual_trades || ' trades',
        from beside
        where trades_permille not between {_USUAL[0]} and {_USUAL[1]}
    """,
)

SUITES = (_PLAUSIBLE,)
