{{ config(enabled=include_lead_changes()) }}

with versions as (
    select
        customer_id,
        id,
        stage_id,
        stage_slug,
        updated_at,
        lag(updated_at) over history is null as is_first,
        stage_id is distinct from lag(stage_id) over history as is_move
    from {{ source('mega', 'lead_changes') }}
    window history as (partition by customer_id, id order by updated_at)
),

intervals as (
    select
        customer_id,
        id,
        stage_id,
        stage_slug,
        updated_at as entered_at,
        lead(updated_at) over (partition by customer_id, id order by updated_at) as left_at,
        is_first as entered_earlier
    from versions
    where is_first or is_move
)

select
    intervals.*,
    case
        when not entered_earlier then extract(epoch from left_at - entered_at) / 86400
    end as days
from intervals
inner join {{ ref('mega__live_leads') }} as live using (customer_id, id)
