{#- Which blocks a run rebuilds. As with days, selecting, deleting and testing all ask `in_range`. A
    run is over blocks of one chain, the var `chain`; `blocks` lists the first and the last of each
    stretch of them. -#}

{#- True for rows of the blocks that this run rebuilds; without the var `chain`, for all. -#}
{% macro in_range(chain_column='chain', block_column='block_number') -%}
    {%- if window('chain') == '' -%}
        true
    {%- else -%}
        {{ chain_column }} = '{{ window('chain') }}'
        and (
        {%- for first, last in window('blocks') %}
            {{ 'or ' if not loop.first }}{{ block_column }} between {{ first }} and {{ last }}
        {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}

{#- Incremental strategy `replace_ranges`: the blocks of this run are deleted and written anew in one
    transaction. -#}
{% macro get_incremental_replace_ranges_sql(arg_dict) -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    delete from {{ arg_dict['target_relation'] }} where {{ in_range() }};

    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }};
{%- endmacro %}
