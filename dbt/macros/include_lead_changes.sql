{# Whether the table `lead_changes` exists: by default, as the variable of the tap says. #}
{% macro include_lead_changes() %}
    {% set value = var('include_lead_changes', env_var('TAP_MEGA_INCLUDE_LEAD_CHANGES', 'false')) %}
    {{ return(value | string | lower == 'true') }}
{% endmacro %}
