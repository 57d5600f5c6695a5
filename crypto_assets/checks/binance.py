"""Suites over Binance: trades are all there, and candles built from them are Binance's own."""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, are_equal, is_zero

# Days to judge: what the catalogue lists, and whatever else is in the lake.
_MARKET_DAY = """
    market_day as (
        select market, day from market_days where venue = 'binance'
        union
        select market, try_cast(partition as date) as day from raw.proofs
        where dataset in ('binance_trades', 'binance_klines')
            and day between $from_day and $to_day
    )
"""

_PROOFS = """
    proofs as (
        select *, try_cast(partition as date) as day
        from raw.proofs
        where dataset in ('binance_trades', 'binance_klines')
            and day between $from_day and $to_day
    ),

    trades_proof as (from proofs where dataset = 'binance_trades'),

    klines_proof as (from proofs where dataset = 'binance_klines')
"""

_TRADES_BESIDE_KLINES = f"""
    with {_MARKET_DAY},

    {_PROOFS},

    trades as (
        select
            market,
            date as day,
            time_bucket(interval '1 minute', time) as minute,
            count(*) as trades,
            min(id) as first_id,
            max(id) as last_id,
        from raw.binance_trades
        where date between $from_day and $to_day
        group by all
    ),

    klines as (
        select market, date as day, open_time as minute, count as trades
        from raw.binance_klines
        where date between $from_day and $to_day and count > 0
    ),

    minutes as (
        select
            market,
            day,
            minute,
            coalesce(trades.trades, 0) as trades,
            coalesce(klines.trades, 0) as kline_trades,
        from trades
        full join klines using (market, day, minute)
        -- Klines may be fetched later than trades; then there is nothing to compare with.
        semi join klines_proof using (market, day)
    )
"""

_TRADES_ARE_COMPLETE = Suite(
    name="trades_are_complete",
    asset="raw/binance_trades",
    also_reads=("raw/binance_klines",),
    description=(
        "Every trade is there, once: the file, its proof, its ids and Binance's own candles count "
        "the same number of trades."
    ),
    claims=(
        is_zero(
            "missing_proofs",
            "listed_days_are_proven",
            "a proof exists for each market that the catalogue lists on the day",
        ),
        are_equal(
            "rows_in_file",
            "rows_proven",
            "files_hold_the_proven_rows",
            "the file holds as many rows as its proof says",
        ),
        are_equal(
            "rows_in_file",
            "rows_at_source",
            "rows_equal_source",
            "the file holds as many rows as the source counted",
        ),
        are_equal(
            "rows_in_file",
            "ids_spanned",
            "ids_leave_no_hole",
            "last id - first id + 1 is the number of rows",
        ),
        are_equal(
            "ids_spanned",
            "ids_proven",
            "ids_are_the_proven_ones",
            "the file spans as many ids as its proof says",
        ),
        are_equal(
            "rows_compared",
            "trades_in_klines",
            "klines_count_the_same_trades",
            "Binance's candles of the day count as many trades (once they are in the lake)",
        ),
        is_zero(
            "minutes_without_kline",
            "traded_minutes_have_a_kline",
            "each minute with trades has a candle of Binance that counts trades",
        ),
        is_zero(
            "minutes_without_trades",
            "counting_klines_have_trades",
            "each candle of Binance that counts trades has trades in its minute",
        ),
    ),
    metrics=f"""
        {_TRADES_BESIDE_KLINES},

        counted as (
            select
                market,
                day,
                sum(trades)::bigint as row_count,
                max(last_id) - min(first_id) + 1 as ids,
            from trades
            group by all
        ),

        compared as (
            select
                market,
                day,
                sum(trades)::bigint as trades,
                sum(kline_trades)::bigint as kline_trades,
                count(*) filter (where kline_trades = 0) as without_kline,
                count(*) filter (where trades = 0) as without_trades,
            from minutes
            group by all
        )

        select
            'binance' as venue,
            market,
            day,
            (trades_proof.day is null)::bigint as missing_proofs,
            coalesce(counted.row_count, 0) as rows_in_file,
            coalesce(trades_proof.row_count, 0) as rows_proven,
            coalesce(trades_proof.source_row_count, 0) as rows_at_source,
            coalesce(counted.ids, 0) as ids_spanned,
            coalesce(trades_proof.last_id - trades_proof.first_id + 1, 0) as ids_proven,
            coalesce(compared.trades, 0) as rows_compared,
            coalesce(compared.kline_trades, 0) as trades_in_klines,
            coalesce(compared.without_kline, 0) as minutes_without_kline,
            coalesce(compared.without_trades, 0) as minutes_without_trades,
        from market_day
        left join trades_proof using (market, day)
        left join counted using (market, day)
        left join compared using (market, day)
        order by day, market
    """,
    offenders=f"""
        {_TRADES_BESIDE_KLINES}

        select
            case
                when trades = 0 then 'counting_klines_have_trades'
                when kline_trades = 0 then 'traded_minutes_have_a_kline'
                else 'klines_count_the_same_trades'
            end as claim,
            'binance' as venue,
            market,
            day,
            minute::varchar as place,
            trades || ' trades' as found,
            kline_trades || ' trades in the kline' as expected,
        from minutes
        where trades <> kline_trades

        union all

        select
            'ids_leave_no_hole',
            'binance',
            market,
            date,
            time::varchar,
            'id ' || id || ' after ' || previous_id,
            'id ' || (previous_id + 1),
        from (
            select
                market,
                date,
                time,
                id,
                lag(id) over (partition by market, date order by id) as previous_id,
            from raw.binance_trades
            where date between $from_day and $to_day
        )
        where id <> previous_id + 1
    """,
)

# A candle's column here, and the same in Binance's kline.
_COLUMNS = {
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "quote_volume": "quote_volume",
    "trade_count": "count",
    "taker_buy_volume": "taker_buy_volume",
    "taker_buy_quote_volume": "taker_buy_quote_volume",
}


def _per_column(template: str, separator: str) -> str:
    """SQL repeated for every column that is compared."""
    return separator.join(
        template.format(ours=ours, theirs=theirs) for ours, theirs in _COLUMNS.items()
    )


_COUNT_OTHERS = _per_column(
    "count(*) filter (where candles.{ours} is distinct from klines.{theirs} "
    "and candles.opened_at = klines.opened_at) as other_{ours}",
    ", ",
)
_OTHERS = _per_column("coalesce(compared.other_{ours}, 0) as other_{ours}", ", ")
_SHOW_OTHERS = _per_column(
    "select '{ours}_equals', 'binance', market, day, opened_at::varchar, "
    "candles.{ours}::varchar, klines.{theirs}::varchar "
    "from candles join klines using (market, day, opened_at) "
    "where candles.{ours} is distinct from klines.{theirs}",
    " union all ",
)


def _candles_equal(name: str, klines: str, description: str) -> Suite:
    """Whether candles built from trades are those of a dataset of Binance's klines."""
    beside = f"""
        with proofs as (
            select *, try_cast(partition as date) as day
            from raw.proofs
            where day between $from_day and $to_day
        ),

        trades_proof as (from proofs where dataset = 'binance_trades'),

        klines_proof as (from proofs where dataset = '{klines}'),

        candles as (
            select *, opened_at::date as day
            from markets.ohlcv_1m
            where venue = 'binance' and opened_at >= $from_day and opened_at < $to_day + 1
        ),

        klines as (
            select *, open_time as opened_at, date as day
            from raw.{klines}
            where date between $from_day and $to_day and count > 0
        )
    """
    return Suite(
        name=name,
        asset="markets/ohlcv_1m",
        also_reads=(f"raw/{klines}",),
        description=description,
        claims=(
            is_zero(
                "missing_klines",
                "klines_are_there_to_compare",
                "Binance's candles are in the lake for each market and day whose trades are",
            ),
            is_zero(
                "missing_candles",
                "no_candle_is_missing",
                "each of Binance's candles that counts trades has its candle here",
            ),
            is_zero(
                "unexpected_candles",
                "no_candle_is_made_up",
                "each candle here has one of Binance that counts trades",
            ),
            *(
                is_zero(f"other_{name}", f"{name}_equals", f"{name} is Binance's own, exactly")
                for name in _COLUMNS
            ),
        ),
        metrics=f"""
        {beside},

        compared as (
            select
                market,
                day,
                count(*) filter (where candles.opened_at is null) as missing_candles,
                count(*) filter (where klines.opened_at is null) as unexpected_candles,
                {_COUNT_OTHERS},
            from candles
            full join klines using (market, day, opened_at)
            group by all
        )

        select
            'binance' as venue,
            market,
            day,
            (klines_proof.day is null)::bigint as missing_klines,
            coalesce(compared.missing_candles, 0) as missing_candles,
            coalesce(compared.unexpected_candles, 0) as unexpected_candles,
            {_OTHERS},
        -- Days without Binance's trades are other venues' business.
        from (select market, day from trades_proof)
        full join compared using (market, day)
        left join klines_proof using (market, day)
        order by day, market
    """,
        offenders=f"""
        {beside}

        select
            if(candles.opened_at is null, 'no_candle_is_missing', 'no_candle_is_made_up') as claim,
            'binance' as venue,
            market,
            day,
            opened_at::varchar as place,
            coalesce(candles.trade_count || ' trades', 'no candle') as found,
            coalesce(klines.count || ' trades', 'no trades') as expected,
        from candles
        full join klines using (market, day, opened_at)
        where candles.opened_at is null or klines.opened_at is null
        union all
        {_SHOW_OTHERS}
    """,
    )


SUITES = (
    _TRADES_ARE_COMPLETE,
    _candles_equal(
        "candles_equal_klines",
        "binance_klines",
        "Every minute candle built from Binance's trades equals the candle that Binance itself "
        "publishes beside them, to the last digit.",
    ),
    _candles_equal(
        "candles_equal_rest",
        "binance_rest_klines",
        "Every minute candle built from the trades of Binance's archive equals the candle that its "
        "REST interface gives, to the last digit.",
    ),
)
