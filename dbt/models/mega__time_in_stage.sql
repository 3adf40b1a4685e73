{{ config(enabled=include_lead_changes()) }}

select
    customer_id,
    stage_slug,
    count(*) as stays,
    count(days) as measured,
    avg(days) as average_days,
    percentile_cont(0.5) within group (order by days) as median_days
from {{ ref('mega__stage_intervals') }}
group by customer_id, stage_slug
