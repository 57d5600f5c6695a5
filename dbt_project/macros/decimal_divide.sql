{#- numerator / denominator with `digits` decimals, rounded once, half away from zero; NULL when the
    denominator is 0. DuckDB's own `/` and `//` turn decimals into DOUBLE, which is wrong from the
    16th digit on. Here it is long division on HUGEINTs: the whole part first and then the digits
    that the scales leave open, because all at once would overflow. The numerator has at most
    `scale` decimals, of which `digits` + `denominator_scale` is not less; the denominator has at most
    `denominator_scale`, and of it 2 * 10 ** (digits + denominator_scale - scale) must fit (8.5e21 by
    default). What does not fit is an error. -#}
{% macro decimal_divide(numerator, denominator, scale=20, digits=12, denominator_scale=12) -%}
    {%- set n = unscaled(numerator, scale) -%}
    {%- set d = unscaled(denominator, denominator_scale) -%}
    {%- set shift = 10 ** (digits + denominator_scale - scale) -%}
    (
        (
            {{ n }} // {{ d }} * {{ shift }}
            + ({{ n }} % {{ d }} * {{ 2 * shift }} + {{ d }}) // (2 * {{ d }})
        )::decimal(38, 0)
        * {{ '0.%0*d' % (digits, 1) }}
        * (sign({{ numerator }}) * sign({{ denominator }}))
    )::decimal(28, {{ digits }})
{%- endmacro %}

{#- The magnitude of a decimal, counted in units of its last digit at that scale. -#}
{% macro unscaled(value, scale) -%}
    replace(abs({{ value }})::decimal(38, {{ scale }})::varchar, '.', '')::hugeint
{%- endmacro %}
