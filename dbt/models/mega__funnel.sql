select
    customer_id,
    stage_slug,
    min(stage_name) as stage_name,
    count(*) as leads,
    count(*) filter (where status = 'active') as active,
    count(*) filter (where status = 'won') as won,
    count(*) filter (where status = 'lost') as lost
from {{ ref('mega__live_leads') }}
group by customer_id, stage_slug
