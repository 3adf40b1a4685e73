{{ config(enabled=include_lead_changes()) }}

with versions as (
    select
        customer_id,
        id,
        owner_id,
        status,
        updated_at,
        lag(status) over (partition by customer_id, id order by updated_at) as status_before
    from {{ source('mega', 'lead_changes') }}
)

select versions.customer_id, versions.id, versions.owner_id, versions.updated_at as won_at
from versions
inner join {{ ref('mega__live_leads') }} as live using (customer_id, id)
where versions.status = 'won' and versions.status_before <> 'won'
