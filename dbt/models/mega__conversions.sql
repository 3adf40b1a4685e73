select
    customer_id,
    source_platform,
    owner_id,
    min(owner_name) as owner_name,
    count(*) as leads,
    count(*) filter (where status = 'won') as won,
    count(*) filter (where status = 'lost') as lost,
    round(100.0 * count(*) filter (where status = 'won') / count(*), 1) as won_percent
from {{ ref('mega__live_leads') }}
group by customer_id, source_platform, owner_id
