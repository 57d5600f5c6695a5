-- depends_on: {{ ref('stg_lake__proofs') }}
{{ config(materialized='view') }}

select
    suite,
    asset,
    partition,
    expectation,
    passed,
    severity,
    blocking,
    observed,
    unexpected_count,
    evaluated_at,
    run_id,
from {{ source('raw', 'check_results') }}
