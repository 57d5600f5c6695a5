{#- amount * price_usd as DECIMAL(38,12), rounded once at the last digit, half away from zero. NULL if
    one of them is, or if the value does not fit: an amount that is absurd must not stop the day.
    amount: DECIMAL(38,18). price_usd: DECIMAL(28,12) below 10^8.
    The whole part and the fraction are multiplied apart, because 18 and 12 decimals leave a product
    room for 8 digits before the point; the first product is exact at 12 decimals. What may fail is in the
    TRY once only: DuckDB computes what is repeated before it, and out of its reach. -#}
{% macro usd_value(amount, price_usd) -%}
    try(
        (
            trunc({{ amount }})::decimal(20, 0) * {{ price_usd }}
            + (({{ amount }} - trunc({{ amount }}))::decimal(18, 18) * {{ price_usd }})::decimal(38, 12)
        )::decimal(38, 12)
    )
{%- endmacro %}
