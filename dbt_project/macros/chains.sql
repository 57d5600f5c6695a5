{#- Bytes as lower-case 0x hex; NULL stays NULL. -#}
{% macro to_hex(column) -%}
    '0x' || lower(hex({{ column }}))
{%- endmacro %}

{#- Wei, exactly, in the native token, of which they are 10^-18. -#}
{% macro wei_to_native(wei) -%}
    ({{ wei }} * 0.000000000000000001)::decimal(38, 18)
{%- endmacro %}
