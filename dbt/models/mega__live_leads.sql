select
    -- Each column of the table but those of the loader: custom fields may have some, too.
    {% for column in adapter.get_columns_in_relation(source('mega', 'leads'))
        if not column.name.startswith('_sdc_') %}
    {{ column.quoted }},
    {% endfor %}
    current_stage ->> 'id' as stage_id,
    current_stage ->> 'slug' as stage_slug,
    current_stage ->> 'name' as stage_name,
    owner ->> 'id' as owner_id,
    owner ->> 'name' as owner_name
from {{ source('mega', 'leads') }}
where _sdc_deleted_at is null
