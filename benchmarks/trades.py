"""Made-up trades in bulk: a SELECT that gives the same rows on every machine.

The sandbox's world has more to it, and is slower; what is measured here is only how many rows there
are and that they look like Binance's: ids without a gap, whole milliseconds, eight decimals.
"""

from __future__ import annotations

from datetime import date

FIRST_ID = 3_000_000_000


def trades_query(day: date, count: int, first_id: int = FIRST_ID) -> str:
    """SELECT of one day: the columns of `raw.binance_trades` but `time_ms`, in order of id."""
    return f"""
        select
            id,
            price::decimal(18, 8) as price,
            size::decimal(28, 8) as qty,
            (price * size)::decimal(28, 8) as quote_qty,
            epoch_ms(timestamp '{day}') + nth * 86400000 // {count} as time_ms,
            hash(id) % 2 = 0 as is_buyer_maker,
            true as is_best_match,
        from (
            select
                nth,
                nth + {first_id} as id,
                -- A swing of 2 % a day, and noise of half a dollar around it.
                (4200000 + (84000 * sin(nth * 6.28 / {count}))::bigint + (hash(nth) % 100)::bigint)
                    * 0.01::decimal(3, 2) as price,
                ((hash(nth + 7) % 99991 + 1)::decimal(6, 0) * 0.00001::decimal(6, 5)) as size,
            from range({count}) as numbers (nth)
        )
        order by id
    """
