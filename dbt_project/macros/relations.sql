{#- Compiled SQL names no database, so that the text of a view works in any file that has the same
    schemas: crypto.duckdb is made of these views. -#}
{% macro ref() -%}
    {% do return(builtins.ref(*varargs, **kwargs).include(database=false)) %}
{%- endmacro %}

{% macro source() -%}
    {% do return(builtins.source(*varargs, **kwargs).include(database=false)) %}
{%- endmacro %}
