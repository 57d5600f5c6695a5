{#- numerator / denominator as an exact DECIMAL(28,12), rounded half away from zero; NULL when the
    denominator is 0. DuckDB's own `/` and `//` turn decimals into DOUBLE, which is wrong from the
    16th digit on. Here it is long division on HUGEINTs, six digits and then six more, because
    twelve at once would overflow for a volume above 8.5e13. Both arguments may have 12 digits of
    scale and must be below 8e19; what does not fit is an error. -#}
{% macro decimal_divide(numerator, denominator) -%}
    {%- set n = unscaled(numerator) -%}
    {%- set d = unscaled(denominator) -%}
    (
        (
            {{ n }} * 1000000 // {{ d }} * 1000000
            + ({{ n }} * 1000000 % {{ d }} * 2000000 + {{ d }}) // (2 * {{ d }})
        )::decimal(38, 0)
        * 0.000000000001
        * (sign({{ numerator }}) * sign({{ denominator }}))
    )::decimal(28, 12)
{%- endmacro %}

{#- The magnitude of a decimal, counted in units of 1e-12. -#}
{% macro unscaled(value) -%}
    replace(abs({{ value }})::decimal(38, 12)::varchar, '.', '')::hugeint
{%- endmacro %}
