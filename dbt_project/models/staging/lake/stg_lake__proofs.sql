with

source as (

    select * from {{ source('raw', 'proofs') }}

),

renamed as (

    select
        dataset,
        partition,
        -- A chain's partition is a block range and has no day.
        case when regexp_full_match(partition, '\d{4}-\d{2}-\d{2}') then partition::date end as day,
        venue,
        market,
        status,
        row_count,
        content_digest,
        gaps,
    from source

)

select * from renamed
