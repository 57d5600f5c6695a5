{#- Which days a run rebuilds. Selecting, deleting and testing all ask `in_window`, so that a run
    can neither delete a day it does not rebuild nor leave an old row beside a new one. -#}

{#- What a run rebuilds: the value of `from_day`, `to_day`, `chain` or `blocks`. Dagster's runs say it
    in the environment, as JSON in DBT_WINDOW, because dbt parses the whole project anew whenever its
    `--vars` change (6 s); what is asked only while SQL is compiled for a run is no reason to. -#}
{% macro window(name) -%}
    {%- set given = fromjson(env_var('DBT_WINDOW', '{}')) if execute else {} -%}
    {%- do return(given.get(name, var(name))) -%}
{%- endmacro %}

{#- True for rows of the days that this run rebuilds.
    column: a TIMESTAMP or DATE column (a plain column, so that files and row groups are pruned).
    days_before: also that many days earlier, for input that looks back.
    days_after: also that many days later; a model with meta.lookahead_days passes it by itself. -#}
{% macro in_window(column, days_before=0, days_after=none) -%}
    {%- set day = modules.datetime.timedelta(days=1) -%}
    {%- set after = lookahead_days() if days_after is none else days_after -%}
    {%- if should_full_refresh() -%}
        true
    {%- else -%}
        {%- set first = modules.datetime.date.fromisoformat(window('from_day') | string) - day * days_before -%}
        {%- set last = modules.datetime.date.fromisoformat(window('to_day') | string) + day * after -%}
        {{ column }} >= date '{{ first }}' and {{ column }} < date '{{ last + day }}'
    {%- endif -%}
{%- endmacro %}

{#- How many days after day D hold rows that depend on D: they are rebuilt with it. -#}
{% macro lookahead_days() -%}
    {% do return((config.get('meta') or {}).get('lookahead_days', 0)) %}
{%- endmacro %}

{#- Incremental strategy `replace_days`: the days of this run are deleted and written anew in one
    transaction. Deleting by day, not by key, also removes rows that are no longer there. -#}
{% macro get_incremental_replace_days_sql(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    delete from {{ arg_dict['target_relation'] }}
    where {{ in_window(config.require('event_time')) }};

    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }};
{%- endmacro %}

{#- dbt's hook around the relation that a generic test reads: a model with an event_time is tested
    on the days of this run only, and one by range on its blocks, so that testing day 1,000 costs what
    testing day 1 did. -#}
{% macro get_where_subquery(relation) -%}
    {%- set tested = graph.nodes.get(model.attached_node) if execute else none -%}
    {%- set conditions = [config.get('where')] if config.get('where') else [] -%}
    {%- if tested and tested.config.event_time -%}
        {%- set days_after = tested.config.meta.get('lookahead_days', 0) -%}
        {%- do conditions.append(in_window(tested.config.event_time, days_after=days_after)) -%}
    {%- elif tested and tested.config.meta.grid == 'range' -%}
        {%- do conditions.append(in_range()) -%}
    {%- endif -%}
    {%- if conditions -%}
        (select * from {{ relation }} where {{ conditions | join(' and ') }}) as tested
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}
