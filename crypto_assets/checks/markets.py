"""Suites over the market marts that hold for every venue: candles that no market can contradict."""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, is_zero

# Name of the claim, what it says, when a candle breaks it (NULL does), and what to show of it.
# `vwap` is rounded half away from zero in its last digit, 0.000000000001.
_CANDLE_CLAIMS = (
    (
        "low_and_high_enclose",
        "low <= open and close <= high",
        "not (low <= open and low <= close and open <= high and close <= high)",
        "'open ' || open || ' high ' || high || ' low ' || low || ' close ' || close",
    ),
    ("prices_are_positive", "low > 0", "low <= 0", "'low ' || low"),
    ("volumes_are_positive", "volume > 0", "volume <= 0", "'volume ' || volume"),
    (
        "candles_have_trades",
        "trade_count > 0, a minute without trades has no candle",
        "trade_count <= 0",
        "trade_count || ' trades'",
    ),
    (
        "takers_buy_a_part",
        "what takers bought is between zero and the whole, in base and in quote",
        "not (taker_buy_volume between 0 and volume "
        "and taker_buy_quote_volume between 0 and quote_volume)",
        "'taker ' || taker_buy_volume || ' of ' || volume || ', in quote ' "
        "|| taker_buy_quote_volume || ' of ' || quote_volume",
    ),
    (
        "vwap_is_within_low_and_high",
        "low <= vwap <= high, but for the rounding of its last digit",
        "vwap is null or not vwap between low - 0.000000000001 and high + 0.000000000001",
        "coalesce('vwap ' || vwap, 'no vwap') || ' low ' || low || ' high ' || high",
    ),
    (
        "candles_open_on_the_minute",
        "opened_at is a whole minute",
        "epoch_us(opened_at) % 60000000 <> 0",
        "opened_at::varchar",
    ),
    (
        "candles_are_unique",
        "one candle for a venue, market and minute",
        "copies > 1",
        "copies || ' candles'",
    ),
    (
        "days_are_proven",
        "trades of that market and day are proven in the lake",
        "id_rule is null",
        "trade_count || ' trades'",
    ),
    (
        "ids_span_the_trades",
        "first and last trade id leave room for trade_count trades, and for no more where the "
        "venue numbers trades without holes",
        "not (last_trade_id - first_trade_id + 1 >= trade_count) or id_rule = 'contiguous' "
        "and last_trade_id - first_trade_id + 1 <> trade_count",
        "trade_count || ' trades, ids ' || first_trade_id || ' to ' || last_trade_id",
    ),
)

_CANDLES = """
    with proven as (
        select venue, market, try_cast(partition as date) as day, any_value(id_rule) as id_rule
        from raw.proofs
        where dataset = venue || '_trades' and day between $from_day and $to_day
        group by all
    ),

    candles as (
        select
            candle.*,
            proven.id_rule,
            count(*) over (partition by venue, market, opened_at) as copies,
        from (
            select *, opened_at::date as day
            from markets.ohlcv_1m
            where opened_at >= $from_day and opened_at < $to_day + 1
        ) as candle
        left join proven using (venue, market, day)
    )
"""

_COUNTS = ", ".join(
    f"count(*) filter (where opened_at is not null and coalesce({breaks}, true)) as breaks_{name}"
    for name, _, breaks, _ in _CANDLE_CLAIMS
)

_CANDLES_ARE_VALID = Suite(
    name="candles_are_valid",
    asset="markets/ohlcv_1m",
    description="No minute candle contradicts itself, the minute grid, or the trades it is from.",
    claims=tuple(
        is_zero(f"breaks_{name}", name, meaning) for name, meaning, _, _ in _CANDLE_CLAIMS
    ),
    metrics=f"""
        {_CANDLES}

        select
            venue,
            market,
            day,
            {_COUNTS},
        from candles
        full join market_days using (venue, market, day)
        group by all
        order by all
    """,
    offenders=" union all ".join(
        f"({_CANDLES} select '{name}' as claim, venue, market, day, opened_at::varchar as place, "
        f"{shown} as found, '{meaning}' as expected from candles where coalesce({breaks}, true))"
        for name, meaning, breaks, shown in _CANDLE_CLAIMS
    ),
)

SUITES = (_CANDLES_ARE_VALID,)
